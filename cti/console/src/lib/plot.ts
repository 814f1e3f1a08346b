/** Where a line over time has one value alone: no line can be drawn from it, so a point must stand there. */
export function lonely(values: readonly (number | null | undefined)[]): number[] {
  const there = (at: number): boolean => values[at] !== null && values[at] !== undefined;
  return values.flatMap((_, at) => (there(at) && !there(at - 1) && !there(at + 1) ? [at] : []));
}
