import { describe, expect, it } from 'vitest';
import { going, whyNotTake } from './inbox';
import type { InboxRow } from './wire';

const row = (more: Partial<InboxRow>): InboxRow => ({
  case: 'c', number: 1, subject: '', state: 'open', tags: [], contact: 'p', contact_name: null, vip: false, channels: ['messenger'],
  interaction: 'i', interaction_state: 'waiting', interaction_channel: 'messenger', queue: null, advisor: null, last_at: 'last',
  last_text: '', last_author: 'customer', unanswered_since: null, opened_at: 'opened', interaction_since: 'since', ...more,
});

describe('the inbox', () => {
  it.each([
    ['voice', 'qualifying', null, 'customer', 'tree', 'since'],
    ['voice', 'waiting', null, 'customer', 'waits', 'since'],
    ['voice', 'offered', null, 'customer', 'offered', 'since'],
    ['voice', 'active', null, 'customer', 'talking', 'since'],
    ['voice', 'wrapup', null, 'customer', 'wrapup', 'since'],
    ['voice', 'ended', null, 'customer', 'over', 'since'],
    ['voice', 'abandoned', null, 'customer', 'abandoned', 'since'],
    ['messenger', 'qualifying', null, 'bot', 'tree', 'since'],
    ['messenger', 'waiting', 'asked', 'customer', 'waits', 'asked'],
    ['messenger', 'active', 'asked', 'customer', 'waits', 'asked'],
    ['messenger', 'active', null, 'advisor', 'answered', 'last'],
    ['email', 'ended', null, 'advisor', 'answered', 'since'],
    ['email', 'ended', null, 'customer', 'over', 'since'],
  ] as const)('tells of %s, %s, unanswered %s, last word of %s: %s', (channel, state, unanswered, author, what, since) => {
    const told = going(row({ interaction_channel: channel, interaction_state: state, unanswered_since: unanswered, last_author: author }));
    expect(told).toEqual({ what, since });
  });

  it.each([
    [{}, null],
    [{ interaction_state: 'qualifying' }, null],
    [{ interaction_state: 'offered', advisor: 'karim' }, 'offered'],
    [{ interaction_state: 'active', advisor: 'karim' }, 'held'],
    [{ interaction_channel: 'voice' }, 'call'],
    [{ interaction_state: 'ended' }, 'over'],
    [{ interaction: null, interaction_state: null }, 'over'],
  ] as const)('says why %j cannot be taken: %s', (more, why) => expect(whyNotTake(row(more as Partial<InboxRow>))).toBe(why));
});
