import { describe, expect, it } from 'vitest';
import { goesOn } from './bubbles';
import type { Message } from './wire';

const message = (more: Partial<Message>): Message => ({
  thread: 't', interaction: 'i', direction: 'in', author: 'customer', by: null, channel: 'messenger', at: '2026-11-20T09:00:00Z',
  automatic: false, standby: false, subject: '', reply_to: null, ...more,
} as Message);

describe('a bubble', () => {
  it.each([
    [{}, true],
    [{ at: '2026-11-20T09:30:00Z' }, false],
    [{ author: 'bot', direction: 'out' }, false],
    [{ channel: 'email', thread: 'u' }, false],
    [{ subject: 'Facture' }, false],
    [{ automatic: true }, false],
  ] as const)('with %j goes on: %s', (more, on) => expect(goesOn(message({}), message(more as Partial<Message>))).toBe(on));
  it('that is the first names its author', () => expect(goesOn(null, message({}))).toBe(false));
});
