/**
 * One act, one key. A key acts only outside text fields, without modifiers, and only while its act is possible.
 * The reader may change keys; what was chosen stays in this browser.
 */

export const ACTS = {
  accept: 'a', refuse: 'x', hold: 'h', end: 'e', finish: 'w', extend: 'l',
  reply: 'r', note: 'n', close: 'c', archive: 'v', transfer: 't', handback: 'o', ask: 'q', answer: 'y', continue: 'u', tags: 'g', merge: 'm',
  take: 't', down: 'j', up: 'k', presence: 'p', search: '/', desk: 'd', inbox: 'i', board: 'b', statistics: 's', help: '?',
} as const;
export type Act = keyof typeof ACTS;

/** Acts that are never possible at the same moment may have the same key. */
const PLACE: Partial<Record<Act, string>> = { take: 'inbox', transfer: 'case' };
const apart = (one: Act, other: Act): boolean => {
  const [here, there] = [PLACE[one], PLACE[other]];
  return here !== undefined && there !== undefined && here !== there;
};

const STORED = 'monofil.keys';

function stored(): Partial<Record<Act, string>> {
  try {
    return JSON.parse(globalThis.localStorage?.getItem(STORED) ?? '{}') as Partial<Record<Act, string>>;
  } catch {
    return {};
  }
}

let changed = $state<Partial<Record<Act, string>>>(stored());
const bound = new Map<Act, (() => void)[]>();

export function keyOf(act: Act): string {
  return changed[act] ?? ACTS[act];
}

/** The key as it is printed beside its act. */
export function label(act: Act): string {
  return keyOf(act).toUpperCase();
}

/** Gives `act` the key; an act that had it gets the other's old one, so no act is ever without a key. */
export function rebind(act: Act, key: string): void {
  const wanted = key.toLowerCase();
  const old = keyOf(act);
  const other = (Object.keys(ACTS) as Act[]).find((one) => one !== act && keyOf(one) === wanted && !apart(one, act));
  changed = { ...changed, [act]: wanted, ...(other ? { [other]: old } : {}) };
  globalThis.localStorage?.setItem(STORED, JSON.stringify(changed));
}

export function resetKeys(): void {
  changed = {};
  globalThis.localStorage?.removeItem(STORED);
}

/** For use in $effect: the newest binding of an act wins; returns how to let go. */
export function on(act: Act, run: () => void): () => void {
  const list = bound.get(act) ?? [];
  list.push(run);
  bound.set(act, list);
  return () => {
    const at = list.indexOf(run);
    if (at >= 0) list.splice(at, 1);
  };
}

export function isWriting(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !['checkbox', 'radio', 'range', 'button', 'submit'].includes(target.type);
}

export function pressed(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
  if (isWriting(event.target) || document.querySelector('dialog[open]')) return;
  const key = event.key.toLowerCase();
  const acts = (Object.keys(ACTS) as Act[]).filter((candidate) => keyOf(candidate) === key);
  const run = acts.map((act) => bound.get(act)?.at(-1)).find(Boolean);
  if (!run) return;
  event.preventDefault();
  run();
}
