/** What may be written to whom, how long, until when: the rules of the composer, without a page. */
import type { Composer, Template, Window } from './wire';

/** Is a person still free to write? `seconds`: how long that lasts; null: for ever, or no more. */
export interface Left {
  state: Window['state'];
  seconds: number | null;
  /** The end of what holds now. */
  until: string | null;
}

/** The window as it is at `now` (ms), however old the server's word is. */
export function windowAt(window: Window, now: number): Left {
  const left = (iso: string): number => Math.floor((Date.parse(iso) - now) / 1000);
  if (window.until === null && window.tag_until === null) return { state: window.state, seconds: null, until: null };
  if (window.until !== null && left(window.until) > 0) return { state: 'open', seconds: left(window.until), until: window.until };
  if (window.tag_until !== null && left(window.tag_until) > 0) return { state: 'tag', seconds: left(window.tag_until), until: window.tag_until };
  return { state: 'closed', seconds: null, until: null };
}

export interface Length {
  used: number;
  most: number | null;
  unit: 'chars' | 'bytes';
}

export function lengthOf(text: string, spec: Pick<Composer, 'text_chars' | 'text_bytes'>): Length {
  const unit = spec.text_bytes !== null && spec.text_chars === null ? 'bytes' : 'chars';
  const most = unit === 'bytes' ? spec.text_bytes : spec.text_chars;
  const used = unit === 'bytes' ? new TextEncoder().encode(text).length : [...text].length;
  return { used, most, unit };
}

/** Variables that nobody has filled: what is sent with one would be read by a customer. */
export function unknownVariables(text: string): string[] {
  return [...new Set([...text.matchAll(/\{\{-?\s*([^{}]*?)\s*-?\}\}|\{%.*?%\}/gs)].map((found) => found[1] ?? found[0]))];
}

export type Hindrance = 'empty' | 'closed' | 'subject' | 'variable' | 'too_long' | 'uploading' | 'upload_failed';

export interface Written {
  text: string;
  subject: string;
  /** Of each file: has it arrived, is it on its way, did it fail? */
  files: { state: 'there' | 'going' | 'failed' }[];
}

/** Why this cannot be sent now, most pressing first; empty: it can. `fresh`: the first mail of a thread needs a subject. */
export function hindrances(it: Written, spec: Composer, state: Window['state'], fresh = false): Hindrance[] {
  const found: Hindrance[] = [];
  if (state === 'closed') found.push('closed');
  if (!it.text.trim() && !it.files.length) found.push('empty');
  if (fresh && spec.subject && !it.subject.trim()) found.push('subject');
  if (unknownVariables(it.text).length) found.push('variable');
  const { used, most } = lengthOf(it.text, spec);
  if (most !== null && used > most) found.push('too_long');
  if (it.files.some((one) => one.state === 'going')) found.push('uploading');
  if (it.files.some((one) => one.state === 'failed')) found.push('upload_failed');
  return found;
}

export type FileKind = 'image' | 'audio' | 'video' | 'file';

export function kindOf(type: string): FileKind {
  const group = type.split('/')[0];
  return group === 'image' || group === 'audio' || group === 'video' ? group : 'file';
}

/** Null: it may go. */
export function refusedFile(file: { type: string; size: number }, spec: Pick<Composer, 'attachment_bytes'>): { why: 'kind' | 'size'; most: number } | null {
  const most = spec.attachment_bytes[kindOf(file.type)];
  if (most === undefined) return { why: 'kind', most: 0 };
  return file.size > most ? { why: 'size', most } : null;
}

/** The `/word` that is being typed at `caret`: where it begins and what follows the slash; null: none. */
export function shortcutAt(text: string, caret: number): { start: number; query: string } | null {
  const found = /(?:^|\s)\/([\p{L}\p{N}_-]*)$/u.exec(text.slice(0, caret));
  return found ? { start: caret - found[1]!.length - 1, query: found[1]! } : null;
}

const plain = (text: string): string => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();

/** How well `query` is found in `text`, letters in their order; null: not. Beginnings of words count most, gaps least. */
export function fuzzy(query: string, text: string): number | null {
  const [wanted, hay] = [plain(query), plain(text)];
  if (!wanted) return 0;
  const whole = hay.indexOf(wanted);
  if (whole >= 0) return 100 - whole + (whole === 0 ? 100 : /[\s_-]/.test(hay[whole - 1] ?? '') ? 50 : 0);
  let at = -1;
  let score = 0;
  for (const letter of wanted) {
    const next = hay.indexOf(letter, at + 1);
    if (next < 0) return null;
    score += next === at + 1 ? 3 : /[\s_-]/.test(hay[next - 1] ?? ' ') ? 2 : -1;
    at = next;
  }
  return score;
}

export function findTemplates(all: readonly Template[], query: string): Template[] {
  return all
    .map((one) => ({ one, score: best(fuzzy(query, one.shortcut), fuzzy(query, one.title)) }))
    .filter((each) => each.score !== null)
    .sort((a, b) => b.score! - a.score! || a.one.title.localeCompare(b.one.title))
    .map((each) => each.one);
}
const best = (a: number | null, b: number | null): number | null => (a === null ? b : b === null ? a : Math.max(a, b));

/** A template that is not whole and does not show where cannot be used: what is missing would be missing silently. */
export function usable(template: Template): boolean {
  return template.missing.length === 0 || unknownVariables(template.text).length > 0;
}

/** When to tell that somebody types: at the first letter, again while it goes on, and once when it stops. */
export class Typing {
  static readonly AGAIN_MS = 5_000;
  static readonly STOP_MS = 6_000;
  private told: number | null = null;
  private last = 0;

  /** A letter at `now`; true: tell it. */
  letter(now: number): boolean {
    this.last = now;
    if (this.told !== null && now - this.told < Typing.AGAIN_MS) return false;
    this.told = now;
    return true;
  }
  /** Asked now and then; true: tell that it has stopped. */
  stopped(now: number): boolean {
    if (this.told === null || now - this.last < Typing.STOP_MS) return false;
    this.told = null;
    return true;
  }
  /** It was sent or put away; true: tell that it has stopped. */
  end(): boolean {
    const was = this.told !== null;
    this.told = null;
    return was;
  }
  get on(): boolean {
    return this.told !== null;
  }
}

/** A UUIDv7 (RFC 9562 5.7): `random` gives 10 bytes. */
export function uuid7(now: number, random: Uint8Array): string {
  const bytes = new Uint8Array(16);
  let rest = now;
  for (let at = 5; at >= 0; at -= 1) {
    bytes[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  bytes.set(random.slice(0, 10), 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

export const newId = (): string => uuid7(Date.now(), crypto.getRandomValues(new Uint8Array(10)));
