import { describe, expect, it } from 'vitest';
import { levelsText, names, needsText, orNull, parseLevels, parseNeeds } from './settings';

describe('settings written as text', () => {
  it.each(['fr>=2', 'fr>=2 or en>=3', 'fr>=2\nbilling>=1'])('reads back the demands %j as they were', (text) => {
    expect(needsText(parseNeeds(text)!)).toBe(text);
  });

  it('takes a bare skill for level 1, in either language', () => {
    expect(parseNeeds('fr ou en')).toEqual([{ any_of: [['fr', 1], ['en', 1]] }]);
  });

  it.each(['fr>=9', 'fr>2', '>=3', 'fr >= '])('refuses the demand %j', (text) => expect(parseNeeds(text)).toBeNull());

  it('reads levels and refuses what is none', () => {
    expect(parseLevels('voice=1, chat=3')).toEqual({ voice: 1, chat: 3 });
    expect(levelsText({ voice: 1, chat: 3 })).toBe('voice=1 chat=3');
    expect(parseLevels('voice=')).toBeNull();
    expect(parseLevels('')).toEqual({});
  });

  it('takes an empty field for none', () => {
    expect(orNull('')).toBeNull();
    expect(orNull(0)).toBe(0);
    expect(names(' a, b  c ')).toEqual(['a', 'b', 'c']);
  });
});
