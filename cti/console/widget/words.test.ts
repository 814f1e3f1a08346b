import { expect, test } from 'vitest';
import { language, say, waiting, words } from './words';

test('the language is the first that the chat speaks', () => {
  expect(language(null, 'it', 'de-AT', 'fr')).toBe('de');
  expect(language('', undefined, 'toString')).toBe('en');
  expect(words('fr-CA').send).toBe('Envoyer');
});

test('every phrase stands in every language, with the same variables', () => {
  const named = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((one) => one[1]).sort();
  const [fr, ...others] = ['fr', 'en', 'es', 'de'].map((one) => words(one));
  for (const other of others) {
    for (const [name, text] of Object.entries(fr!)) {
      const there = other[name as keyof typeof other];
      expect(there, name).toBeTruthy();
      expect(named(there), name).toEqual(named(text));
    }
  }
  expect(say('{a} {b}', { a: 1 })).toBe('1 ');
});

test.each([
  [null, null, 'An advisor will answer you.'],
  [1, null, 'An advisor will answer you. You are next in line.'],
  [3, [120, 300], 'An advisor will answer you. You are number 3 in line. Estimated wait: 2 to 5 min.'],
  [null, [0, 60], 'An advisor will answer you. Estimated wait: less than a minute.'],
  [2, [0, 240], 'An advisor will answer you. You are number 2 in line. Estimated wait: less than 4 min.'],
])('whoever waits at place %s with %s is told so', (place, range, told) => {
  expect(waiting(words('en'), place, range as [number, number] | null)).toBe(told);
});
