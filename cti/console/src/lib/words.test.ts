import { beforeEach, describe, expect, it } from 'vitest';
import { counter, dayName, exitWords, language, n, percent, phone, spell, t, word } from './words.svelte';

const plain = (text: string): string => text.replace(/[\u00a0\u202f]/g, ' ');

describe('words and figures', () => {
  beforeEach(() => language.set('fr'));

  it.each([
    [0, '0:00'], [9.9, '0:09'], [71, '1:11'], [3599, '59:59'], [3600, '1:00:00'], [3_661, '1:01:01'], [-5, '0:00'], [null, '–'],
  ])('counts %s seconds as %s', (seconds, text) => expect(counter(seconds)).toBe(text));

  it('spells what has ended in the reader’s language', () => {
    expect(plain(spell(252))).toBe('4 min 12 s');
    expect(plain(spell(5))).toBe('5 s');
    expect(plain(spell(59 * 60 + 40))).toBe('59 min');
    expect(plain(spell(23 * 3_600 + 59 * 60 + 40))).toBe('23 h 59 min');
    expect(plain(spell(86_400))).toBe('1 j');
    expect(plain(spell(5_400))).toBe('1 h 30 min');
    expect(plain(spell(2 * 86_400))).toBe('2 j');
    language.set('en');
    expect(plain(spell(252))).toBe('4 min 12 sec');
  });

  it('groups numbers so that they can be read aloud, and leaves unknown ones alone', () => {
    expect(phone('+33612345678')).toBe('+33 6 12 34 56 78');
    expect(phone('+15145550123')).toBe('+1 514 555 0123');
    expect(phone('+4930123456')).toBe('+4930123456');
    expect(phone(null)).toBe('');
  });

  it('counts by the plural rules of the language', () => {
    expect(plain(n('trees.inside', 1))).toBe('1 personne dedans');
    expect(plain(n('trees.inside', 3))).toBe('3 personnes dedans');
    expect(plain(n('trees.inside', 0))).toBe('0 personne dedans');
    language.set('en');
    expect(n('trees.inside', 0)).toBe('0 persons inside');
  });

  it('shows a word of the wire that it does not know as it came', () => {
    expect(word('outcome', 'abducted')).toBe('abducted');
    expect(word('outcome', null)).toBe('');
  });

  it('names near days by their distance', () => {
    const now = new Date(2026, 2, 10, 12).getTime();
    expect(dayName(new Date(2026, 2, 10, 1).toISOString(), now)).toBe('Aujourd’hui');
    expect(dayName(new Date(2026, 2, 9, 23).toISOString(), now)).toBe('Hier');
  });

  it('fills arguments, and shows a share only when there is one', () => {
    expect(t('case.number', { number: '4521' })).toBe('Dossier 4521');
    expect(percent(null)).toBe('–');
  });

  it('does not say a key twice', () => {
    expect(exitWords({ exit: '2', key: '2' })).toBe('');
    expect(exitWords({ exit: 'closed', key: null })).toBe('fermé');
  });
});
