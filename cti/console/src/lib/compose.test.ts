import { describe, expect, it } from 'vitest';
import {
  findTemplates, fuzzy, hindrances, lengthOf, refusedFile, shortcutAt, Typing, unknownVariables, usable, uuid7, windowAt,
} from './compose';
import type { Composer, Template } from './wire';

const NOW = Date.parse('2026-03-02T10:00:00Z');
const at = (hours: number): string => new Date(NOW + hours * 3_600_000).toISOString();
const MESSENGER: Composer = {
  channel: 'messenger', label: 'Messenger', text_chars: 2000, text_bytes: null, quick_replies: 13, quick_reply_chars: 20,
  attachment_bytes: { image: 8_000_000, file: 25_000_000 }, subject: false, html: false, typing: true,
};
const EMAIL: Composer = { ...MESSENGER, channel: 'email', text_chars: null, subject: true };
const written = (text: string, extra: object = {}): { text: string; subject: string; files: [] } => ({ text, subject: '', files: [], ...extra });

describe('the window', () => {
  it.each([
    // until, tag_until, then the state and the seconds left
    [null, null, 'open', null],
    [at(21), at(165), 'open', 21 * 3600],
    [at(0), at(144), 'tag', 144 * 3600],
    [at(-1), at(2), 'tag', 2 * 3600],
    [at(-1), null, 'closed', null],
    [at(-150), at(-1), 'closed', null],
    [null, at(1), 'tag', 3600],
  ])('until %s, for a person until %s: %s, %s s left', (until, tag_until, state, seconds) => {
    const left = windowAt({ state: 'open', until, tag_until }, NOW);
    expect([left.state, left.seconds]).toEqual([state, seconds]);
  });

  it('closes by itself while the page stands open, whatever the server said first', () => {
    const window = { state: 'open' as const, until: at(1), tag_until: null };
    expect(windowAt(window, NOW).state).toBe('open');
    expect(windowAt(window, NOW + 3_600_000).state).toBe('closed');
  });
});

describe('what may be sent', () => {
  it('counts what the reader sees, or bytes where the provider counts those', () => {
    expect(lengthOf('é👍', MESSENGER)).toEqual({ used: 2, most: 2000, unit: 'chars' });
    expect(lengthOf('é👍', { text_chars: null, text_bytes: 1000 })).toMatchObject({ used: 6, unit: 'bytes' });
    expect(lengthOf('a'.repeat(9000), EMAIL).most).toBeNull();
  });

  it.each([
    ['hello', MESSENGER, 'open', []],
    ['hello', MESSENGER, 'tag', []],
    ['hello', MESSENGER, 'closed', ['closed']],
    ['  ', MESSENGER, 'open', ['empty']],
    ['on {{ date }}', MESSENGER, 'open', ['variable']],
    ['a'.repeat(2_000), MESSENGER, 'open', []],
    ['a'.repeat(2_001), MESSENGER, 'open', ['too_long']],
  ] as const)('%.14s… on a channel that is %s', (text, spec, state, expected) => {
    expect(hindrances(written(text), spec, state)).toEqual(expected);
  });

  it('asks a first mail for its subject, an answer not', () => {
    expect(hindrances(written('x'), EMAIL, 'open', true)).toEqual(['subject']);
    expect(hindrances(written('x'), EMAIL, 'open')).toEqual([]);
  });

  it('waits for files, and needs no words with one', () => {
    expect(hindrances({ text: '', subject: '', files: [{ state: 'there' }] }, MESSENGER, 'open')).toEqual([]);
    expect(hindrances({ text: 'x', subject: '', files: [{ state: 'going' }, { state: 'failed' }] }, MESSENGER, 'open')).toEqual(['uploading', 'upload_failed']);
  });

  it('refuses a file by its kind and its weight', () => {
    expect(refusedFile({ type: 'image/png', size: 9_000_000 }, MESSENGER)).toEqual({ why: 'size', most: 8_000_000 });
    expect(refusedFile({ type: 'application/pdf', size: 9_000_000 }, MESSENGER)).toBeNull();
    expect(refusedFile({ type: 'audio/ogg', size: 1 }, MESSENGER)).toEqual({ why: 'kind', most: 0 });
  });
});

describe('templates', () => {
  const template = (shortcut: string, title: string, extra: Partial<Template> = {}): Template => ({ id: shortcut, title, shortcut, queues: [], text: title, missing: [], ...extra });
  const all = [template('merci', 'Merci et à bientôt'), template('remb', 'Délai de remboursement'), template('passage', 'Nouveau passage')];

  it('opens at a slash that begins a word, never inside an address', () => {
    expect(shortcutAt('Bonjour /re', 11)).toEqual({ start: 8, query: 're' });
    expect(shortcutAt('/', 1)).toEqual({ start: 0, query: '' });
    expect(shortcutAt('https://re', 10)).toBeNull();
    expect(shortcutAt('/re mb', 6)).toBeNull();
  });

  it('finds by beginnings first, by letters in their order then, accents or not', () => {
    expect(findTemplates(all, 're').map((one) => one.id)[0]).toBe('remb');
    expect(findTemplates(all, 'delai').map((one) => one.id)).toEqual(['remb']);
    expect(findTemplates(all, 'psg').map((one) => one.id)).toEqual(['passage']);
    expect(findTemplates(all, 'zzz')).toEqual([]);
    expect(fuzzy('ba', 'ab')).toBeNull();
  });

  it('blocks on a variable that nobody filled, in the text and in the template', () => {
    expect(unknownVariables('le {{ date }} entre {{début}} et {{ date }}')).toEqual(['date', 'début']);
    expect(unknownVariables('{% if vip %}100 %')).toEqual(['{% if vip %}']);
    expect(usable(template('a', 'A', { text: 'le {{ date }}', missing: ['date'] }))).toBe(true);
    expect(usable(template('a', 'A', { text: 'le ', missing: ['date'] }))).toBe(false);
  });
});

describe('typing', () => {
  it('is told at the first letter, again every five seconds, and once when it stops', () => {
    const typing = new Typing();
    expect([0, 1_000, 4_900, 5_000, 5_100].map((now) => typing.letter(now))).toEqual([true, false, false, true, false]);
    expect([6_000, 11_100, 12_000].map((now) => typing.stopped(now))).toEqual([false, true, false]);
    expect(typing.letter(20_000)).toBe(true);
    expect([typing.end(), typing.end()]).toEqual([true, false]);
  });
});

describe('an id', () => {
  it('is a UUIDv7 of its time (RFC 9562 5.7)', () => {
    const id = uuid7(0x017f22e279b0, new Uint8Array(10).fill(0xff));
    expect(id).toBe('017f22e2-79b0-7fff-bfff-ffffffffffff');
  });
});
