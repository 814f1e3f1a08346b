/** What one person does now, in the words of the board: what one does goes before what one has set. */
import type { Presence } from './wire';

export function stateOf(one: Presence): string {
  if (one.work === 'idle') return one.presence;
  return one.work === 'held' ? 'talking' : one.work;
}

/** The same, with no word of a line where all of it is done in writing. */
export function doingOf(one: Presence): string {
  const state = stateOf(one);
  return state === 'talking' && one.written > 0 && one.written === one.interactions.length ? 'writing' : state;
}
