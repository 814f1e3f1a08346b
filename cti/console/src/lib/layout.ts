/** Where each node of a tree is drawn: ranks from left to right, sizes as TreeCard draws them. */
import dagre from '@dagrejs/dagre';
import type { Tree, TreeNode } from './wire';

export const CARD_WIDTH = 216;
const HEAD = 52;
const WORDS = 34;
const EXIT = 24;

export function height(node: TreeNode): number {
  return HEAD + (node.words ? WORDS : 0) + node.exits.length * EXIT;
}

export interface Point {
  x: number;
  y: number;
}

export interface Layout {
  places: Map<string, Point>;
  /** By `node exit`: the way from card to card. */
  ways: Map<string, Point[]>;
}

export function layout(tree: Tree): Layout {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: 'LR', nodesep: 24, ranksep: 56, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of tree.nodes) graph.setNode(node.id, { width: CARD_WIDTH, height: height(node) });
  const known = new Set(tree.nodes.map((node) => node.id));
  for (const node of tree.nodes) {
    for (const exit of node.exits) if (exit.to && known.has(exit.to)) graph.setEdge(node.id, exit.to, { weight: exit.exit === 'error' ? 0 : exit.key ? 3 : 1 }, exit.exit);
  }
  dagre.layout(graph);
  const places = new Map<string, Point>();
  const ways = new Map<string, Point[]>();
  for (const node of tree.nodes) {
    const at = graph.node(node.id);
    places.set(node.id, { x: at.x - CARD_WIDTH / 2, y: at.y - height(node) / 2 });
    for (const exit of node.exits) {
      if (exit.to && known.has(exit.to)) ways.set(`${node.id} ${exit.exit}`, graph.edge(node.id, exit.to, exit.exit).points ?? []);
    }
  }
  return { places, ways };
}
