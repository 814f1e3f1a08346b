/** Where a key leads in a grid of `count` things, `columns` in a row; null: the key is not for the grid. */
export function stepIn(at: number, key: string, count: number, columns: number): number | null {
  const inside = (to: number): number => (to >= 0 && to < count ? to : at);
  switch (key) {
    case 'ArrowRight': return (at + 1) % count;
    case 'ArrowLeft': return (at + count - 1) % count;
    case 'ArrowDown': return inside(at + columns);
    case 'ArrowUp': return inside(at - columns);
    case 'Home': return 0;
    case 'End': return count - 1;
    default: return null;
  }
}
