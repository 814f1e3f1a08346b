/** Who has the word in a written interaction, since when, and what keeps our last words from leaving. */
import type { AccountRow, Item, Message } from './wire';

const LOST = new Set(['failed', 'dropped']);
const LEAVING = new Set(['queued', 'sending']);

/** Does the customer expect an answer to this? What a channel or a machine tells asks nothing. */
export function asks(message: Message): boolean {
  return message.direction === 'in' && message.kind !== 'system' && !message.automatic && !message.standby;
}

/** Is this a person's word to the customer, whatever became of it? */
function isOurWord(message: Message): boolean {
  return message.direction === 'out' && ['advisor', 'elsewhere'].includes(message.author) && !message.automatic;
}

/** A person's word that was not lost on its way. */
export function answers(message: Message): boolean {
  return isOurWord(message) && !LOST.has(message.status);
}

/** The first message that nobody has answered, as the inbox counts it; null: none. Oldest first. */
export function unansweredSince(messages: readonly Message[]): string | null {
  const last = messages.findLastIndex(answers);
  return messages.slice(last + 1).find(asks)?.at ?? null;
}

export type What = 'waits' | 'failed' | 'perhaps' | 'leaving' | 'answered' | 'none';

export interface Standing {
  what: What;
  since: string | null;
}

/** Of one interaction, oldest first. `since`: from when on the customer waits, or of our last word. */
export function standing(messages: readonly Message[]): Standing {
  const ours = messages.findLastIndex(isOurWord);
  const word = messages[ours];
  if (!word || messages.slice(ours + 1).some(asks)) {
    const since = unansweredSince(messages);
    return { what: since ? 'waits' : 'none', since };
  }
  const what = LOST.has(word.status) ? 'failed' : word.status === 'perhaps' ? 'perhaps' : LEAVING.has(word.status) ? 'leaving' : 'answered';
  return { what, since: word.at };
}

/** The account that cannot send now; null: it can, or is not known. */
export function troubled(accounts: readonly AccountRow[], id: string | null | undefined): AccountRow | null {
  return accounts.find((one) => one.account === id && one.state !== 'up') ?? null;
}

/** What stopped an account, a word of `failure`; its reason begins with it. */
export function failureOf(account: AccountRow): string {
  return /^\w+/.exec(account.reason)?.[0] ?? '';
}

/** Does this message wait for its account? */
export function isKept(message: Message): boolean {
  return message.direction === 'out' && LEAVING.has(message.status);
}

/** Since when an interaction is on hold; null: nobody says. */
export function heldSince(timeline: readonly Item[], interaction: string): string | null {
  return timeline.findLast((one) => one.interaction === interaction && one.data?.event === 'interaction.held')?.at ?? null;
}

/** What the channel told without a word of the customer: the end of a key of the catalogue, told.… */
export function toldOf(message: Message): 'left' | 'referral' | 'unsupported' | 'optin' | 'account_linking' | 'other' {
  const { extra } = message;
  for (const one of ['left', 'unsupported', 'optin', 'account_linking'] as const) if (extra[one]) return one;
  return extra.referral ? 'referral' : 'other';
}
