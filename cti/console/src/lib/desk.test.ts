import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Interaction, Offer, Pop, Presence, Snapshot } from './wire';

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
