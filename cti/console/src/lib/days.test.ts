import { describe, expect, it } from 'vitest';
import { isDay, shifted, today } from './days';

const at = (iso: string): number => Date.parse(iso);

describe('a day of the site', () => {
  it.each([
    ['2026-11-22T22:59:59Z', 'Europe/Paris', '2026-11-22'],
    ['2026-11-22T23:00:00Z', 'Europe/Paris', '2026-11-23'],
    ['2026-07-01T22:00:00Z', 'Europe/Paris', '2026-07-02'],
    ['2026-11-22T23:00:00Z', 'America/Montreal', '2026-11-22'],
    ['2026-11-22T23:00:00Z', 'Pacific/Auckland', '2026-11-23'],
  ])('at %s in %s is %s, wherever the reader is', (iso, zone, day) => expect(today(at(iso), zone)).toBe(day));

  it.each([
    ['2026-03-01', -1, '2026-02-28'],
    ['2026-10-24', 2, '2026-10-26'], // over the end of summer time
    ['2026-12-31', 1, '2027-01-01'],
  ])('%s shifted by %i is %s', (day, days, found) => expect(shifted(day, days)).toBe(found));

  it.each([['2026-02-30', false], ['22/11/2026', false], ['', false], ['2026-02-28', true]])('%j is one: %s', (text, is) => expect(isDay(text)).toBe(is));
});
