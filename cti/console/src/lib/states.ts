/** What one person does now, in the words of the board: what one does goes before what one has set. */
import type { Presence } from './wire';

export function stateOf(one: Presence): string {
  if (one.work === 'idle') return one.presence;
  return one.work === 'held' ? 'talking' : one.work;
}
