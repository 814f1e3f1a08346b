import { beforeEach, describe, expect, it, vi } from 'vitest';

const kept = new Map<string, string>();
vi.stubGlobal('sessionStorage', {
  getItem: (name: string) => kept.get(name) ?? null,
  setItem: (name: string, value: string) => void kept.set(name, value),
  removeItem: (name: string) => void kept.delete(name),
});
const { Enclosed, forgetReplies, keepDraft, replyOf } = await import('./drafts.svelte');

describe('a reply that is not sent', () => {
  beforeEach(() => {
    kept.clear();
    forgetReplies();
  });

  it('is there again after any other thread, with the file that is on its way', () => {
    const one = replyOf('reply.a');
    one.text = 'half a sent';
    one.files = [new Enclosed('a.png', 'image', 'image/png', 10)];
    replyOf('reply.b').text = 'other words';
    expect(replyOf('reply.a')).toBe(one);
    expect(replyOf('reply.a').files[0]?.state).toBe('going');
    expect(replyOf('reply.b').text).toBe('other words');
  });

  it('outlives a reload under the same id, so that sending it twice is sending it once', () => {
    const before = replyOf('reply.a');
    const file = new Enclosed('a.png', 'image', 'image/png', 10);
    file.id = 'up-1';
    before.text = 'half a sent';
    before.choices = ['Oui', 'Non'];
    before.files = [file, new Enclosed('gone.png', 'image', 'image/png', 10)];
    before.keep();
    forgetReplies();
    const after = replyOf('reply.a');
    expect([after.text, after.message, after.choices]).toEqual(['half a sent', before.message, ['Oui', 'Non']]);
    expect(after.files.map((one) => [one.name, one.state])).toEqual([['a.png', 'there']]);
  });

  it('leaves nothing behind once it is sent, and the next one is another message', () => {
    const reply = replyOf('reply.a');
    const { message } = reply;
    reply.text = 'x';
    reply.keep();
    reply.clear();
    expect([reply.empty, kept.size, reply.message === message]).toEqual([true, 0, false]);
  });

  it('keeps for the next message the file that was chosen while it was being sent', () => {
    const reply = replyOf('reply.a');
    const gone = new Enclosed('gone.png', 'image', 'image/png', 10);
    gone.id = 'up-1';
    const later = new Enclosed('later.png', 'image', 'image/png', 10);
    reply.text = 'x';
    reply.files = [gone];
    const leaving = reply.files;
    reply.files = [...reply.files, later];
    reply.clear(leaving);
    expect([reply.text, reply.files]).toEqual(['', [later]]);
  });

  it('stays in memory where the browser has no room', () => {
    vi.stubGlobal('sessionStorage', { getItem: () => null, setItem: () => { throw new Error('full'); }, removeItem: () => {} });
    expect(() => keepDraft('x', 'y')).not.toThrow();
  });
});
