/** How an admin writes settings that have structure: demands, skills and names as short lines of text. */
import type { QueueSettings } from './wire';

export type Needs = QueueSettings['needs'];

/** `fr>=2 or en>=3` on a line: any one of these; every line must be met. */
export function needsText(needs: Needs): string {
  return needs.map((need) => need.any_of.map(([skill, level]) => `${skill}>=${level}`).join(' or ')).join('\n');
}

/** Null where a line cannot be read. */
export function parseNeeds(text: string): Needs | null {
  const needs: Needs = [];
  for (const line of text.split('\n').map((one) => one.trim()).filter(Boolean)) {
    const anyOf: [string, number][] = [];
    for (const part of line.split(/\s+(?:or|ou)\s+|\s*\|\s*/)) {
      const found = /^([\w-]+)\s*(?:(?:>=|≥)\s*([1-5]))?$/.exec(part.trim());
      if (!found) return null;
      anyOf.push([found[1]!, Number(found[2] ?? 1)]);
    }
    needs.push({ any_of: anyOf });
  }
  return needs;
}

/** `fr=5 en=3` */
export function levelsText(levels: Record<string, number>): string {
  return Object.entries(levels).map(([name, level]) => `${name}=${level}`).join(' ');
}

export function parseLevels(text: string): Record<string, number> | null {
  const levels: Record<string, number> = {};
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const found = /^([\w-]+)=(\d+)$/.exec(part);
    if (!found) return null;
    levels[found[1]!] = Number(found[2]);
  }
  return levels;
}

export function names(text: string): string[] {
  return text.split(/[\s,]+/).filter(Boolean);
}

/** An empty number field means "none". */
export function orNull(text: string | number | null | undefined): number | null {
  return text === null || text === undefined || text === '' ? null : Number(text);
}
