import { beforeEach, describe, expect, it } from 'vitest';
import { became } from './hooks';
import { language } from './words.svelte';

describe('what a provider has told', () => {
  beforeEach(() => language.set('en'));
  it.each([
    [null, []],
    [{ events: 0, told: 0, known: 0 }, ['nothing to do']],
    [{ events: 3, told: 1, known: 2 }, ['1 new', '2 known already']],
    [{ events: 1, told: 0, known: 0, waiting: [0] }, ['1 waits for a message that has not come yet']],
    [{ events: 1, unknown: ['read', 'read'] }, ['of no use here: read']],
    [{ events: 1, failed: ['0: KeyError'] }, ['failed: 0: KeyError']],
  ])('%j is said as %j', (result, words) => expect(became(result)).toEqual(words));
});
