import { describe, expect, it } from 'vitest';
import { detailsOf } from './details';
import type { Message } from './wire';

const of = (extra: Record<string, unknown>): Record<string, string> =>
  Object.fromEntries(detailsOf({ extra } as unknown as Message).map((one) => [one.name, one.value]));

describe('what a message brought along', () => {
  it('is nothing for plain words', () => expect(of({ quoted: '> x', lat: 1 })).toEqual({}));
  it('is whom a mail went to, and how sure its sender is', () =>
    expect(of({ to: ['a@x.example', 'b@x.example'], cc: [], answer_to: 'c@x.example', spf: 'pass', dmarc: 'fail' })).toEqual({
      to: 'a@x.example, b@x.example', answer_to: 'c@x.example', checks: 'SPF pass · DMARC fail',
    }));
  it('is why a mail came back', () => expect(of({ bounce: { recipient: 'a@x.example', status: '5.1.1', why: 'no such user' } })).toEqual({ bounce: 'a@x.example · 5.1.1 · no such user' }));
  it('is the advertisement that somebody came from', () => expect(of({ referral: { source: 'ADS', ref: 'r1', ads_context_data: { ad_title: 'Livraison' } } })).toEqual({ referral: 'ADS · r1 · Livraison' }));
  it('takes no odd value for words', () => expect(of({ to: { a: 1 }, spf: [1], bounce: 'x', referral: null })).toEqual({}));
});
