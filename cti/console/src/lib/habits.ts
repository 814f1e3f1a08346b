/** How this reader likes to write; kept in this browser. */

const ENTER = 'monofil.enter';

export function sendsByEnter(): boolean {
  return globalThis.localStorage?.getItem(ENTER) === 'on';
}

export function setSendsByEnter(on: boolean): void {
  globalThis.localStorage?.setItem(ENTER, on ? 'on' : 'off');
}
