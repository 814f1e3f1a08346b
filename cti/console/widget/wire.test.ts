import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Wire, type Frame, type Out } from './wire';

class Socket {
  static made: Socket[] = [];
  onopen = () => {};
  onmessage: (event: { data: string }) => void = () => {};
  onclose = () => {};
  sent: Out[] = [];
  constructor(public url: string) {
    Socket.made.push(this);
  }
  send(text: string) {
    this.sent.push(JSON.parse(text) as Out);
  }
  close() {
    this.onclose();
  }
  hear(type: string, data: Record<string, unknown>, seq: number | null = null) {
    this.onmessage({ data: JSON.stringify({ seq, id: 'x', type, time: '', data }) });
  }
  welcome() {
    this.onopen();
    this.hear('welcome', { token: 't', open: true });
  }
}
const last = (): Socket => Socket.made.at(-1)!;
const kinds = (socket: Socket) => socket.sent.map((one) => one.client_id ?? one.type);

let heard: Frame[];
let wire: Wire;
beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal('WebSocket', Socket);
  vi.stubGlobal('window', globalThis);
  Socket.made = [];
  heard = [];
  wire = new Wire('https://hotline.example/chat/site', () => ({ type: 'hello' }), { hear: (frame) => heard.push(frame), state: () => {} });
});
afterEach(() => {
  wire.close();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

test('what was said is sent again until it is stored, under the same id', () => {
  wire.open();
  wire.say({ type: 'message', client_id: 'a', text: 'un' });
  last().welcome();
  wire.say({ type: 'message', client_id: 'b', text: 'deux' });
  expect(kinds(last())).toEqual(['hello', 'a', 'b']);
  last().hear('status', { client_id: 'a', state: 'received' });
  last().close();
  vi.advanceTimersByTime(60_000);
  expect(Socket.made.length).toBe(2);
  last().welcome();
  expect(kinds(last())).toEqual(['hello', 'b']);
  expect(last().sent[0]!.token).toBe('t');
});

test('the shown message settles it too, where its acknowledgement was lost', () => {
  wire.open();
  last().welcome();
  wire.say({ type: 'message', client_id: 'a', text: 'un' });
  last().hear('message', { client_id: 'a', text: 'un', author: { kind: 'visitor' } }, 5);
  last().close();
  vi.advanceTimersByTime(60_000);
  last().welcome();
  expect(kinds(last())).toEqual(['hello']);
});

test('what was shown is not asked for again, and a copy is not shown', () => {
  wire.open();
  last().welcome();
  for (const seq of [3, 7, 7, 3]) last().hear('message', { text: String(seq) }, seq);
  expect(heard.filter((one) => one.type === 'message').map((one) => one.seq)).toEqual([3, 7]);
  last().close();
  vi.advanceTimersByTime(60_000);
  expect(last().url).toBe('wss://hotline.example/chat/site?after=7');
});

test('a server that cannot store it now is asked again; what can never be is not', () => {
  wire.open();
  last().welcome();
  wire.say({ type: 'message', client_id: 'a', text: 'un' });
  wire.say({ type: 'message', client_id: 'b', text: ' ' });
  last().hear('error', { code: 'unavailable', retry_after: 2, client_id: 'a' });
  last().hear('error', { code: 'empty', client_id: 'b' });
  vi.advanceTimersByTime(2000);
  expect(kinds(last())).toEqual(['hello', 'a', 'b', 'a']);
});

test('where no socket comes through it posts and polls', async () => {
  const asked: string[] = [];
  vi.stubGlobal('fetch', (url: string, about: { method?: string; body?: string; signal?: AbortSignal }) => {
    asked.push(`${about.method ?? 'GET'} ${url} ${about.body ?? ''}`);
    const frames = asked.length === 1 ? [{ seq: null, type: 'welcome', data: { token: 't' } }] : [];
    if (asked.length > 3) return new Promise(() => {});
    return Promise.resolve({ ok: true, json: () => Promise.resolve({ frames }) });
  });
  wire.open();
  wire.say({ type: 'message', client_id: 'a', text: 'un' });
  for (let n = 0; n < 3; n++) {
    last().close();
    await vi.advanceTimersByTimeAsync(60_000);
  }
  expect(asked[0]).toContain('POST https://hotline.example/chat/site {"hello"');
  expect(asked.some((one) => one.startsWith('POST') && one.includes('"client_id":"a"'))).toBe(true);
  expect(asked.some((one) => one.startsWith('GET https://hotline.example/chat/site?after=0'))).toBe(true);
});
