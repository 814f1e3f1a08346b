import { expect, it } from 'vitest';
import { stepIn } from './grid';

it.each([
  [0, 'ArrowRight', 1], [9, 'ArrowRight', 0], [0, 'ArrowLeft', 9], [1, 'ArrowDown', 5], [8, 'ArrowDown', 8], [7, 'ArrowDown', 7],
  [5, 'ArrowUp', 1], [1, 'ArrowUp', 1], [4, 'Home', 0], [4, 'End', 9], [4, 'Enter', null], [4, 'a', null],
])('ten things in rows of four: at %i, %s leads to %s', (at, key, to) => expect(stepIn(at, key, 10, 4)).toBe(to));
