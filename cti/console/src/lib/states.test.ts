import { expect, it } from 'vitest';
import { doingOf } from './states';
import type { Presence } from './wire';

it.each([
  ['ready', 'idle', 0, 0, 'ready'], ['ready', 'talking', 0, 1, 'talking'], ['ready', 'held', 0, 1, 'talking'],
  ['ready', 'talking', 3, 3, 'writing'], ['ready', 'talking', 2, 3, 'talking'], ['ready', 'wrapup', 1, 1, 'wrapup'], ['offline', 'talking', 1, 1, 'writing'],
] as const)('who is %s, %s, with %i written of %i interactions is shown as %s', (presence, work, written, all, shown) => {
  expect(doingOf({ presence, work, written, interactions: Array.from({ length: all }, String) } as unknown as Presence)).toBe(shown);
});
