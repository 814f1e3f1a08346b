import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Case, Interaction, Message, Offer, Pop, Presence, Snapshot } from './wire';

vi.stubGlobal('fetch', () => Promise.reject(new Error('no network in this test')));
const { desk } = await import('./desk.svelte');

const interaction = (id: string, state: string, extra: object = {}): Interaction =>
  ({ id, state, channel: 'voice', direction: 'in', advisor: 'lea', queue: 'billing', contact: null, case: null, held: false, ...extra }) as unknown as Interaction;
const offer = (id: string, of: string, extra: object = {}): Offer =>
  ({ id, interaction: interaction(of, 'offered', { advisor: null }), deadline: '2026-01-01T10:00:15Z', made_at: '2026-01-01T10:00:00Z', pop: { interaction: of } as Pop, pop_at: 'ring', ...extra }) as Offer;
const snapshot = (extra: Partial<Snapshot> = {}): Snapshot =>
  ({
    me: { login: 'lea', first_name: 'Léa', last_name: 'F', roles: ['advisor'], language: 'fr', phone: { account: 'lea', registered: true } },
    presence: { advisor: 'lea', presence: 'ready', phone_registered: true } as Presence,
    offers: [], interactions: [], board: null, version: 1, wrapup_codes: [], pause_reasons: [], queues: [], site: { name: 'S', languages: ['fr'], time_zone: 'Europe/Paris' }, ...extra,
  }) as Snapshot;
const hear = (type: string, data: unknown): void => desk.apply({ seq: 1, type, data });

describe('the desk', () => {
  beforeEach(() => {
    desk.chosen = null;
    hear('snapshot', snapshot());
  });

  it('shows the call again after a reload', () => {
    hear('snapshot', snapshot({ interactions: [interaction('a', 'active')] }));
    expect(desk.shown?.id).toBe('a');
  });

  it('shows an offer at once, and what follows when it is accepted', () => {
    hear('offer.made', offer('o', 'a'));
    expect(desk.shown?.id).toBe('a');
    hear('offer.ended', { offer: 'o', how: 'accepted', reason: null, interaction: 'a' });
    hear('interaction.changed', interaction('a', 'active'));
    expect(desk.offers).toEqual([]);
    expect(desk.shown?.state).toBe('active');
    expect(desk.pops.a?.interaction).toBe('a');
  });

  it('keeps to the queue that does not want the pop at ring', () => {
    hear('offer.made', offer('o', 'a', { pop_at: 'button' }));
    expect(desk.offers).toHaveLength(1);
    expect(desk.shown).toBeNull();
  });

  it('goes back to what was there when an offer is refused or missed', () => {
    hear('snapshot', snapshot({ interactions: [interaction('mail', 'active', { channel: 'mail' })] }));
    hear('offer.made', offer('o', 'a'));
    expect(desk.shown?.id).toBe('a');
    hear('offer.ended', { offer: 'o', how: 'missed', reason: null, interaction: 'a' });
    expect(desk.shown?.id).toBe('mail');
  });

  it('lets go of an interaction that has ended or is somebody else’s', () => {
    hear('snapshot', snapshot({ interactions: [interaction('a', 'wrapup'), interaction('b', 'active')] }));
    hear('interaction.changed', interaction('a', 'ended'));
    hear('interaction.changed', interaction('b', 'active', { advisor: 'karim' }));
    expect(desk.interactions).toEqual([]);
  });

  it('adds an item to a timeline once, however often it is told', () => {
    desk.cases = { c: { id: 'c', timeline: [] } as never };
    const item = { at: '2026-01-01T10:00:00Z', kind: 'note', interaction: null, advisor: 'lea', text: 'x', data: {}, seq: 7 };
    hear('timeline.added', { case: 'c', item });
    hear('timeline.added', { case: 'c', item });
    expect(desk.cases.c?.timeline).toHaveLength(1);
  });

  it('warns of a call that is not heard until it is heard again', () => {
    hear('call.quality', { interaction: 'a', what: 'caller_not_heard', since: '2026-01-01T10:00:00Z' });
    expect(desk.quality.a?.what).toBe('caller_not_heard');
    hear('call.quality', { interaction: 'a', what: 'ok', since: '2026-01-01T10:00:00Z' });
    expect(desk.quality.a).toBeUndefined();
  });

  it('ignores news that it does not know', () => {
    expect(() => hear('something.else', {})).not.toThrow();
  });
});

describe('written work', () => {
  const chat = (id: string, extra: object = {}): Interaction => interaction(id, 'active', { channel: 'messenger', seat: 'chat', case: `case-${id}`, thread: `thread-${id}`, unread: 0, ...extra });
  const message = (id: string, of: string, extra: object = {}): Message =>
    ({ id, seq: 1, interaction: of, case: `case-${of}`, thread: `thread-${of}`, direction: 'in', author: 'customer', text: 'hello', kind: 'text', at: '2026-01-01T10:00:00Z', status: 'received', attachments: [], ...extra }) as unknown as Message;
  const file = (id: string, extra: object = {}): Case => ({ id, timeline: [], messages: [], threads: [], helps: [], viewers: [], merges: [], ...extra }) as unknown as Case;

  beforeEach(() => {
    desk.chosen = null;
    desk.cases = {};
    hear('snapshot', snapshot({ interactions: [chat('a'), chat('b')] }));
    desk.cases = { 'case-a': file('case-a'), 'case-b': file('case-b') };
  });

  it('counts what is new once, however it is told, until it is seen', () => {
    hear('message.added', { message: message('m1', 'b') });
    hear('message.added', { message: message('m1', 'b') });
    hear('interaction.changed', chat('b', { unread: 1 }));
    expect([desk.unread(desk.interactions[0]!), desk.unread(desk.interactions[1]!)]).toEqual([0, 1]);
    expect([desk.cases['case-b']?.messages.length, desk.lastWords.b?.text]).toEqual([1, 'hello']);
    desk.seen(desk.interactions[1]!);
    expect(desk.unread(desk.interactions[1]!)).toBe(0);
  });

  it('tells what became of a message in its own place', () => {
    hear('message.added', { message: message('m2', 'a', { direction: 'out', author: 'advisor', by: 'lea', status: 'queued' }) });
    hear('message.changed', { message: message('m2', 'a', { direction: 'out', author: 'advisor', by: 'lea', status: 'perhaps' }) });
    expect(desk.cases['case-a']?.messages.map((one) => one.status)).toEqual(['perhaps']);
    expect(desk.unread(desk.interactions[0]!)).toBe(0);
  });

  it('never lets a written offer take the place of what is being worked on', () => {
    hear('offer.made', { id: 'o', interaction: chat('c', { state: 'offered', advisor: null }), deadline: '', made_at: '', pop: null, pop_at: 'ring' });
    expect(desk.shown?.id).toBe('a');
    hear('offer.made', offer('p', 'd'));
    expect(desk.shown?.id).toBe('d');
  });

  it('shows who is beside me, and help that is asked of me or of all, not by me', () => {
    hear('case.viewers', { case: 'case-a', viewers: [{ login: 'karim', first_name: 'Karim', doing: 'typing' }] });
    expect(desk.cases['case-a']?.viewers[0]?.doing).toBe('typing');
    const help = (id: string, by: string, of: string | null, extra: object = {}): object => ({ help: { id, case: 'case-a', by, of, text: '?', answered_at: null, ...extra } });
    for (const [id, by, of] of [['1', 'karim', 'lea'], ['2', 'karim', null], ['3', 'karim', 'sofia'], ['4', 'lea', null]] as const) hear('help.changed', help(id, by, of));
    expect(desk.asked.map((one) => one.id)).toEqual(['1', '2']);
    hear('help.changed', help('1', 'karim', 'lea', { answered_at: '2026-01-01T10:00:00Z' }));
    expect(desk.asked.map((one) => one.id)).toEqual(['2']);
  });

  it('knows the thread of its work, and follows its window', () => {
    const thread = { id: 'thread-a', live: 'a', address: { display: 'A' }, window: { state: 'open', until: null, tag_until: null } };
    hear('thread.changed', { thread });
    hear('thread.changed', { thread: { ...thread, window: { state: 'closed', until: null, tag_until: null } } });
    expect(desk.threadOf(desk.interactions[0]!)?.window.state).toBe('closed');
  });

  it('lets go of a day of threads, never of those that are at work', () => {
    for (let n = 0; n < 300; n += 1) hear('message.added', { message: message(`x${n}`, `gone-${n}`) });
    hear('message.added', { message: message('m9', 'a') });
    expect(Object.keys(desk.lastWords).length).toBeLessThan(210);
    expect(desk.lastWords.a?.id).toBe('m9');
  });

  it('goes back to the thread that lent its seat when nobody answers the call, and says why', () => {
    hear('interaction.changed', interaction('call', 'opened', { direction: 'out', case: 'case-b' }));
    hear('interaction.changed', chat('b', { lent_to: 'call' }));
    desk.chosen = 'call';
    hear('interaction.changed', chat('b'));
    hear('interaction.changed', interaction('call', 'ended', { direction: 'out', case: 'case-b', outcome: 'no_answer' }));
    expect(desk.shown?.id).toBe('b');
    hear('notice', { level: 'warning', code: 'call_failed', args: { reason: 'no_answer' } });
    expect(desk.notice?.text).toMatch(/: (sans réponse|no answer)\.$/);
    hear('notice', { level: 'warning', code: 'call_failed', args: { reason: 'something_new' } });
    expect(desk.notice?.text).not.toContain('something_new');
  });

  it('stays where the reader is when the call that ends is not before the eyes', () => {
    hear('interaction.changed', interaction('call', 'active', { case: 'case-b' }));
    desk.chosen = 'a';
    hear('interaction.changed', interaction('call', 'ended', { case: 'case-b' }));
    expect(desk.shown?.id).toBe('a');
  });

  it('waits since the first message that nobody has answered, with and without the case', () => {
    desk.cases = { 'case-b': file('case-b') };
    for (const id of ['a', 'b']) {
      hear('message.added', { message: message(`${id}1`, id, { at: '2026-01-01T10:00:00Z' }) });
      hear('message.added', { message: message(`${id}2`, id, { at: '2026-01-01T10:05:00Z' }) });
    }
    expect(desk.interactions.map((one) => desk.standing(one))).toEqual(Array(2).fill({ what: 'waits', since: '2026-01-01T10:00:00Z' }));
    for (const id of ['a', 'b']) {
      hear('message.added', { message: message(`${id}3`, id, { direction: 'out', author: 'advisor', by: 'lea', status: 'queued', at: '2026-01-01T10:06:00Z' }) });
      hear('message.changed', { message: message(`${id}3`, id, { direction: 'out', author: 'advisor', by: 'lea', status: 'failed', at: '2026-01-01T10:06:00Z' }) });
    }
    expect(desk.interactions.map((one) => desk.standing(one).what)).toEqual(['failed', 'failed']);
    expect(desk.undelivered.map((one) => one.id)).toEqual(['a', 'b']);
  });

  it('calls a person by a new name everywhere at once', async () => {
    hear('snapshot', snapshot({ interactions: [chat('a', { contact: 'p', contact_name: null })], offers: [offer('o', 'x', { interaction: chat('x', { contact: 'p', contact_name: null }) })] }));
    desk.cases = { 'case-a': file('case-a', { contact: 'p', contact_name: null }) };
    desk.nameAll({ id: 'p', name: 'Sophie' } as never);
    expect([desk.interactions[0]?.contact_name, desk.offers[0]?.interaction.contact_name, desk.cases['case-a']?.contact_name]).toEqual(['Sophie', 'Sophie', 'Sophie']);
    expect(desk.knows('p')).toBe(true);
    expect(desk.knows('q')).toBe(false);
  });

  it('answers keys with the offer in focus, else with the one before the eyes, which is the oldest', () => {
    hear('snapshot', snapshot());
    for (const id of ['1', '2', '3']) hear('offer.made', { id, interaction: chat(`n${id}`, { state: 'offered', advisor: null }), deadline: '', made_at: '', pop: null, pop_at: 'ring' });
    expect([desk.shown?.id, desk.atKeys?.id]).toEqual(['n1', '1']);
    desk.chosen = 'n3';
    expect(desk.atKeys?.id).toBe('3');
    desk.focused = '2';
    expect(desk.atKeys?.id).toBe('2');
    hear('offer.ended', { offer: '2', how: 'missed', interaction: 'n2' });
    expect(desk.atKeys?.id).toBe('3');
    desk.focused = null;
  });

  it('says which account keeps words from leaving until it works again', () => {
    const row = { account: 'page', channel: 'messenger', label: '', name: 'Page', state: 'down', reason: 'token 190: expired', since: null, waiting: 1 };
    hear('account.changed', { account: row });
    expect(desk.stopped('page')?.reason).toBe('token 190: expired');
    hear('account.changed', { account: { ...row, state: 'up', reason: '' } });
    expect(desk.stopped('page')).toBeNull();
  });
});
