/** What goes on in a case of the inbox, and why it cannot be taken from there. */
import type { InboxRow } from './wire';

export type Going = 'tree' | 'waits' | 'offered' | 'talking' | 'answered' | 'wrapup' | 'over' | 'abandoned';
export type WhyNot = 'offered' | 'held' | 'call' | 'over';

const OVER = new Set(['ended', 'abandoned', 'interrupted']);

function isOver(row: InboxRow): boolean {
  return row.interaction_state === null || OVER.has(row.interaction_state);
}

/** A call is told by what it does; writing by who has the word. `since`: how long already. */
export function going(row: InboxRow): { what: Going; since: string | null } {
  const since = row.interaction_since ?? null;
  const waits = row.unanswered_since ?? since;
  switch (row.interaction_state) {
    case 'opened':
    case 'qualifying':
      return { what: 'tree', since };
    case 'waiting':
      return { what: 'waits', since: waits };
    case 'offered':
      return { what: 'offered', since: waits };
    case 'active':
      if (row.interaction_channel === 'voice') return { what: 'talking', since };
      return row.unanswered_since ? { what: 'waits', since: waits } : { what: 'answered', since: row.last_at };
    case 'wrapup':
      return { what: 'wrapup', since };
    case 'abandoned':
      return { what: 'abandoned', since };
    default:
      if (row.unanswered_since) return { what: 'waits', since: row.unanswered_since };
      return { what: row.last_author && row.last_author !== 'customer' && row.interaction_channel !== 'voice' ? 'answered' : 'over', since };
  }
}

/** Null: who asks may take it. */
export function whyNotTake(row: InboxRow): WhyNot | null {
  if (row.interaction === null || isOver(row)) return 'over';
  if (row.interaction_channel === 'voice') return 'call';
  if (row.interaction_state === 'offered') return 'offered';
  return row.advisor === null ? null : 'held';
}
