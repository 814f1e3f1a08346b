import { describe, expect, it } from 'vitest';
import { lonely } from './plot';

describe('a plot', () => {
  it.each([
    [[5], [0]],
    [[], []],
    [[null, null], []],
    [[1, 2, 3], []],
    [[1, null, 3, 4, null, 0], [0, 5]],
    [[null, 7, undefined], [1]],
  ])('of %j has a point at %j', (values, found) => expect(lonely(values)).toEqual(found));
});
