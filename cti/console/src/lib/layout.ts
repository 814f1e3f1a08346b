/** Where each node of a tree is drawn: ranks from left to right, sizes as TreeCard draws them. */
import dagre from '@dagrejs/dagre';
import type { Tree, TreeNode } from './wire';

export const CARD_WIDTH = 216;
const HEAD = 52;
const WORDS = 34;
const EXIT = 24;
export const ERROR = 'error';

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

/** The nodes as a caller meets them: those that no other leads to come first. */
export function inOrder(tree: Tree): TreeNode[] {
  const led = new Set(tree.nodes.flatMap((node) => node.exits.filter((exit) => exit.to !== node.id).map((exit) => exit.to)));
  return [...tree.nodes.filter((node) => !led.has(node.id)), ...tree.nodes.filter((node) => led.has(node.id))];
}

export function layout(tree: Tree): Layout {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: 'LR', nodesep: 24, ranksep: 56, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const node of inOrder(tree)) graph.setNode(node.id, { width: CARD_WIDTH, height: height(node) });
  const known = new Set(tree.nodes.map((node) => node.id));
  const reached = new Set<string>();
  for (const node of tree.nodes) {
    for (const exit of node.exits) {
      if (!exit.to || !known.has(exit.to) || exit.exit === ERROR) continue;
      graph.setEdge(node.id, exit.to, { weight: exit.key ? 3 : 1 }, exit.exit);
      reached.add(exit.to);
    }
  }
  // Every node fails to the same place: one way there is enough to give that place its rank.
  for (const node of tree.nodes) {
    for (const exit of node.exits) {
      if (exit.exit !== ERROR || !exit.to || !known.has(exit.to) || reached.has(exit.to)) continue;
      graph.setEdge(node.id, exit.to, { weight: 0 }, exit.exit);
      reached.add(exit.to);
    }
  }
  dagre.layout(graph);
  const places = new Map<string, Point>();
  const ways = new Map<string, Point[]>();
  for (const node of tree.nodes) {
    const at = graph.node(node.id);
    places.set(node.id, { x: at.x - CARD_WIDTH / 2, y: at.y - height(node) / 2 });
    for (const exit of node.exits) {
      if (exit.to && known.has(exit.to)) ways.set(`${node.id} ${exit.exit}`, graph.edge(node.id, exit.to, exit.exit)?.points ?? []);
    }
  }
  return { places, ways };
}
