/** Words, dates and figures in the reader's language. French is the source; English falls back to it. */
import en from '../i18n/en.json';
import fr from '../i18n/fr.json';
import { instant } from './days';

export type Key = keyof typeof fr;
export type Language = 'fr' | 'en';
type Args = Record<string, string | number>;

const CATALOGUES: Record<Language, Record<string, string>> = { fr, en };
const STORED = 'monofil.language';

function first(): Language {
  const stored = globalThis.localStorage?.getItem(STORED);
  if (stored === 'fr' || stored === 'en') return stored;
  return globalThis.navigator?.language?.startsWith('en') ? 'en' : 'fr';
}

let current = $state<Language>(first());

export const language = {
  get now(): Language {
    return current;
  },
  /** `chosen`: the reader asked for it, so it outlives this page. */
  set(value: string, chosen = false): void {
    if (value !== 'fr' && value !== 'en') return;
    if (!chosen && globalThis.localStorage?.getItem(STORED)) return;
    current = value;
    if (chosen) globalThis.localStorage?.setItem(STORED, value);
    if (globalThis.document) document.documentElement.lang = value;
  },
};

/** The language with its region, for dates: the browser's when it speaks this language, else the one with a 24 h clock. */
function locale(): string {
  const own = (globalThis.navigator?.languages ?? []).find((one) => one.startsWith(`${current}-`));
  return own ?? (current === 'en' ? 'en-GB' : current);
}

function fill(text: string, args?: Args): string {
  if (!args) return text;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = args[name];
    if (value === undefined) return whole;
    return typeof value === 'number' ? number(value) : value;
  });
}

export function t(key: Key, args?: Args): string {
  return fill(CATALOGUES[current][key] ?? fr[key] ?? key, args);
}

/** A counted phrase: `key.one`, `key.other` by the language's plural rules. */
export function n(key: string, count: number, args: Args = {}): string {
  const rule = new Intl.PluralRules(current).select(count) === 'one' ? 'one' : 'other';
  return t(`${key}.${rule}` as Key, { n: count, ...args });
}

/** A word of the wire (a state, an outcome) by its stable id; unknown words are shown as they came. */
export function word(group: string, id: string | null | undefined): string {
  if (!id) return '';
  return CATALOGUES[current][`${group}.${id}`] ?? id;
}

/** An exit of a node in its author's words or ours; one that is a key and has no words says no more than its key. */
export function exitWords(exit: { exit: string; key: string | null; label?: string }): string {
  if (exit.label) return exit.label;
  return exit.key === exit.exit ? '' : word('exit', exit.exit);
}

// ---- figures, dates, durations ---------------------------------------------------------------------------------

export function number(value: number, options?: Intl.NumberFormatOptions): string {
  return new Intl.NumberFormat(current, options).format(value);
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined
    ? '–'
    : number(share, { style: 'percent', maximumFractionDigits: 0 });
}

/** 4:12 or 1:04:12, for what counts in place. */
export function counter(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return '–';
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value: number): string => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const rest = `${hours ? two(Math.floor((whole % 3600) / 60)) : Math.floor(whole / 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

/** What counts in place for an hour, and in words when it has become long. */
export function long(seconds: number | null | undefined): string {
  return seconds !== null && seconds !== undefined && seconds >= 3600 ? spell(seconds >= 86_400 ? seconds : Math.floor(seconds / 60) * 60) : counter(seconds);
}

/** 4 min 12 s, for what has ended. */
export function spell(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '–';
  const whole = Math.round(seconds);
  const unit = (value: number, name: string): string =>
    number(value, { style: 'unit', unit: name, unitDisplay: 'short' });
  if (whole < 60) return unit(whole, 'second');
  if (whole % 60 && whole < 600) return `${unit(Math.floor(whole / 60), 'minute')} ${unit(whole % 60, 'second')}`;
  const minutes = Math.floor(whole / 60); // never more than has been, or is left
  if (minutes < 60) return unit(minutes, 'minute');
  if (minutes < 1_440) return unit(Math.floor(minutes / 60), 'hour') + (minutes % 60 ? ` ${unit(minutes % 60, 'minute')}` : '');
  return unit(Math.floor(whole / 86_400), 'day');
}

/** 1.2 MB */
export function bytes(count: number): string {
  const [unit, by] = count < 1_000 ? ['byte', 1] : count < 1_000_000 ? ['kilobyte', 1_000] : ['megabyte', 1_000_000];
  return number(count / (by as number), { style: 'unit', unit: unit as string, unitDisplay: 'short', maximumFractionDigits: count < 1_000_000 ? 0 : 1 });
}

export function clockTime(iso: string | number): string {
  return new Intl.DateTimeFormat(locale(), { hour: '2-digit', minute: '2-digit' }).format(new Date(iso));
}

/** A day as the wire names it. */
export function dayOnly(day: string): string {
  return new Intl.DateTimeFormat(locale(), { day: 'numeric', month: 'short', year: 'numeric', timeZone: 'UTC' }).format(instant(day));
}

/** What people call the time of a zone: heure d’Europe centrale. */
export function zoneName(zone: string): string {
  const parts = new Intl.DateTimeFormat(locale(), { timeZone: zone, timeZoneName: 'longGeneric' }).formatToParts(new Date());
  return parts.find((one) => one.type === 'timeZoneName')?.value ?? zone;
}

/** For the axis of a plot: the day, with its hour where days are drawn in hours. */
export function shortTime(at: number, hours: boolean, zone: string): string {
  const options: Intl.DateTimeFormatOptions = hours ? { weekday: 'short', hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short' };
  return new Intl.DateTimeFormat(locale(), { ...options, timeZone: zone }).format(new Date(at));
}

export function fullTime(iso: string): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'full', timeStyle: 'medium' }).format(new Date(iso));
}

export function shortDate(iso: string, now: number): string {
  const date = new Date(iso);
  const days = daysBetween(date.getTime(), now);
  if (days === 0) return clockTime(iso);
  if (days < 7) return `${new Intl.DateTimeFormat(locale(), { weekday: 'short' }).format(date)} ${clockTime(iso)}`;
  const year = date.getFullYear() === new Date(now).getFullYear() ? undefined : ('numeric' as const);
  return new Intl.DateTimeFormat(locale(), { day: 'numeric', month: 'short', year }).format(date);
}

export function dayName(iso: string, now: number): string {
  const days = daysBetween(new Date(iso).getTime(), now);
  if (days <= 1) {
    const word = new Intl.RelativeTimeFormat(current, { numeric: 'auto' }).format(-days, 'day');
    return word.charAt(0).toUpperCase() + word.slice(1);
  }
  return new Intl.DateTimeFormat(locale(), { weekday: 'long', day: 'numeric', month: 'long' }).format(new Date(iso));
}

function daysBetween(then: number, now: number): number {
  const midnight = (at: number): number => new Date(at).setHours(0, 0, 0, 0);
  return Math.round((midnight(now) - midnight(then)) / 86_400_000);
}

/** An E.164 number in groups that can be read aloud. */
export function phone(value: string | null | undefined): string {
  if (!value) return '';
  const french = /^\+33(\d)(\d\d)(\d\d)(\d\d)(\d\d)$/.exec(value);
  if (french) return `+33 ${french.slice(1).join(' ')}`;
  const northAmerican = /^\+1(\d{3})(\d{3})(\d{4})$/.exec(value);
  if (northAmerican) return `+1 ${northAmerican.slice(1).join(' ')}`;
  return value;
}

export function languageName(code: string | null | undefined): string {
  if (!code) return '';
  return new Intl.DisplayNames([current], { type: 'language' }).of(code) ?? code;
}
