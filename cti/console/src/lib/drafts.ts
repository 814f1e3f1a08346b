/** What is being typed, kept through a reload and a lost connection (this tab only: sessionStorage). */

const PREFIX = 'monofil.draft.';

export function readDraft<A>(name: string, empty: A): A {
  const text = globalThis.sessionStorage?.getItem(PREFIX + name);
  if (!text) return empty;
  try {
    return JSON.parse(text) as A;
  } catch {
    return empty;
  }
}

export function keepDraft(name: string, value: unknown): void {
  globalThis.sessionStorage?.setItem(PREFIX + name, JSON.stringify(value));
}

export function dropDraft(name: string): void {
  globalThis.sessionStorage?.removeItem(PREFIX + name);
}
