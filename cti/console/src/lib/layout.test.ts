import { describe, expect, it } from 'vitest';
import { CARD_WIDTH, height, layout } from './layout';
import type { Tree } from './wire';

const node = (id: string, exits: [string, string | null][]) => ({
  id, kind: 'say', title: id, words: 'x', inside: 0, marks: [], exits: exits.map(([exit, to]) => ({ exit, key: null, to })),
});
const tree = (nodes: ReturnType<typeof node>[]): Tree => ({ id: 't', version: 1, published_at: null, author: null, languages: [], nodes });

describe('the layout of a tree', () => {
  it('goes from left to right and puts no card on another', () => {
    const one = tree([node('a', [['1', 'b'], ['2', 'c'], ['3', 'd']]), node('b', [['done', 'd']]), node('c', [['done', 'd']]), node('d', [])]);
    const { places } = layout(one);
    expect(places.get('a')!.x).toBeLessThan(places.get('b')!.x);
    expect(places.get('b')!.x).toBeLessThan(places.get('d')!.x);
    for (const left of one.nodes) {
      for (const right of one.nodes) {
        if (left.id >= right.id) continue;
        const p = places.get(left.id)!;
        const q = places.get(right.id)!;
        const apart = Math.abs(p.x - q.x) >= CARD_WIDTH || p.y + height(left) <= q.y || q.y + height(right) <= p.y;
        expect(apart, `${left.id} ${right.id}`).toBe(true);
      }
    }
  });

  it('draws trees that loop, and those that name a node that is not there', () => {
    const { places } = layout(tree([node('a', [['again', 'a'], ['on', 'b']]), node('b', [['back', 'a'], ['lost', 'nowhere']])]));
    expect([...places.keys()]).toEqual(['a', 'b']);
  });
});
