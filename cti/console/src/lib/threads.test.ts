import { describe, expect, it } from 'vitest';
import { failureOf, heldSince, standing, toldOf, troubled, unansweredSince } from './threads';
import type { AccountRow, Item, Message } from './wire';

/** A line of talk: c customer, b bot, a advisor, e elsewhere, s what the channel told; at the minute of its place. */
const SIGNS: Record<string, Partial<Message>> = {
  c: { direction: 'in', author: 'customer', kind: 'text', status: 'received' },
  s: { direction: 'in', author: 'customer', kind: 'system', status: 'received' },
  o: { direction: 'in', author: 'customer', kind: 'text', status: 'received', automatic: true },
  b: { direction: 'out', author: 'bot', kind: 'text', status: 'delivered', automatic: true },
  a: { direction: 'out', author: 'advisor', kind: 'text', status: 'delivered' },
  e: { direction: 'out', author: 'elsewhere', kind: 'text', status: 'sent' },
  f: { direction: 'out', author: 'advisor', kind: 'text', status: 'failed' },
  d: { direction: 'out', author: 'advisor', kind: 'text', status: 'dropped' },
  p: { direction: 'out', author: 'advisor', kind: 'text', status: 'perhaps' },
  q: { direction: 'out', author: 'advisor', kind: 'text', status: 'queued' },
};
const talk = (signs: string): Message[] => [...signs].map((sign, at) => ({ ...SIGNS[sign], at: String(at), extra: {} }) as unknown as Message);

describe('who has the word', () => {
  it.each([
    ['', 'none', null],
    ['c', 'waits', '0'],
    ['ccc', 'waits', '0'],
    ['cbcb', 'waits', '0'],
    ['cacc', 'waits', '2'],
    ['ca', 'answered', '1'],
    ['ce', 'answered', '1'],
    ['cas', 'answered', '1'],
    ['cao', 'answered', '1'],
    ['cab', 'answered', '1'],
    ['s', 'none', null],
    ['sc', 'waits', '1'],
    ['cq', 'leaving', '1'],
    ['cp', 'perhaps', '1'],
    ['cf', 'failed', '1'],
    ['cd', 'failed', '1'],
    ['cfa', 'answered', '2'],
    ['cafc', 'waits', '3'],
    ['cfc', 'waits', '0'],
  ])('%s: %s since %s', (signs, what, since) => expect(standing(talk(signs))).toEqual({ what, since }));

  it('counts from the first message that nobody has answered, a lost answer being none', () => {
    expect(unansweredSince(talk('cacc'))).toBe('2');
    expect(unansweredSince(talk('cf'))).toBe('0');
    expect(unansweredSince(talk('ca'))).toBeNull();
  });
});

describe('what stands in the way', () => {
  const account = (state: AccountRow['state'], reason: string): AccountRow => ({ account: 'page', channel: 'messenger', label: 'Messenger', name: 'Page', state, reason, since: null, waiting: 1 });
  it('is the account, with the reason that it tells', () => {
    expect(troubled([account('up', '')], 'page')).toBeNull();
    expect(troubled([account('down', 'token 190: expired')], 'other')).toBeNull();
    expect(failureOf(troubled([account('throttled', 'throttled 613: slow')], 'page')!)).toBe('throttled');
    expect(failureOf(account('down', ''))).toBe('');
  });
});

describe('work on hold', () => {
  it('is on hold since it was put there last', () => {
    const item = (event: string, at: string, interaction = 'i'): Item => ({ at, kind: 'event', interaction, advisor: 'lea', text: null, data: { event }, seq: 1 });
    const told = [item('interaction.held', '1'), item('interaction.resumed', '2'), item('interaction.held', '3'), item('interaction.held', '4', 'other')];
    expect(heldSince(told, 'i')).toBe('3');
    expect(heldSince([], 'i')).toBeNull();
  });
});

describe('what the channel told', () => {
  it.each([
    [{ left: true }, 'left'], [{ unsupported: true }, 'unsupported'], [{ referral: { ref: 'x' } }, 'referral'],
    [{ optin: 'one_time' }, 'optin'], [{ account_linking: 'linked' }, 'account_linking'], [{}, 'other'],
  ])('%j is %s', (extra, told) => expect(toldOf({ extra } as unknown as Message)).toBe(told));
});
