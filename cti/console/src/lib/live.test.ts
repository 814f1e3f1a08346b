import { describe, expect, it } from 'vitest';
import { BACKOFF_MS, Live, PING_MS, PONG_MS, RENEW_MS, type Socket, type World } from './live';
import type { Frame } from './wire';

/** A world whose time only moves when told to, with sockets that the test holds. */
class Bench implements World {
  sockets: (Socket & { after: number | null; sent: string[]; closed: boolean })[] = [];
  timers: { at: number; act: () => void; id: number }[] = [];
  time = 0;
  private next = 1;

  open(after: number | null): Socket {
    const socket = {
      after, sent: [] as string[], closed: false,
      onopen: null, onclose: null, onmessage: null,
      send(text: string) { this.sent.push(text); },
      close() { this.closed = true; },
    };
    this.sockets.push(socket);
    return socket;
  }
  later(act: () => void, ms: number): number {
    this.timers.push({ at: this.time + ms, act, id: this.next });
    return this.next++;
  }
  forget(timer: number): void {
    this.timers = this.timers.filter((one) => one.id !== timer);
  }
  now = (): number => this.time;
  random = (): number => 0.5;

  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      const due = this.timers.filter((one) => one.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.forget(due.id);
      this.time = due.at;
      due.act();
      await Promise.resolve();
      await Promise.resolve();
    }
    this.time = end;
  }
  hear(frame: Partial<Frame>, socket = this.sockets.at(-1)!): void {
    socket.onmessage?.({ data: JSON.stringify({ data: null, ...frame }) });
  }
}

function start(mayReturn = true) {
  const bench = new Bench();
  const heard: string[] = [];
  const links: (number | null)[] = [];
  const live = new Live(bench, {
    frame: (frame) => heard.push(frame.type),
    link: (_up, since) => links.push(since),
    mayReturn: async () => mayReturn,
  });
  live.start();
  return { bench, live, heard, links };
}

describe('the live connection', () => {
  it('begins without a place in the log, and hands frames on in order', () => {
    const { bench, heard } = start();
    expect(bench.sockets[0]?.after).toBeNull();
    bench.hear({ type: 'snapshot', seq: 40 });
    bench.hear({ type: 'offer.made', seq: 41 });
    expect(heard).toEqual(['snapshot', 'offer.made']);
  });

  it('comes back after a break and asks for what came after the last number', async () => {
    const { bench, links } = start();
    bench.hear({ type: 'snapshot', seq: 40 });
    bench.hear({ type: 'presence.changed', seq: 44 });
    bench.time = 9_000;
    bench.sockets[0]!.onclose!({ code: 1006 });
    expect(links.at(-1)).toBe(9_000);
    await bench.pass(BACKOFF_MS[0]!);
    expect(bench.sockets).toHaveLength(2);
    expect(bench.sockets[1]!.after).toBe(44);
  });

  it('says since when it is lost until a frame is heard again, however often it tries', async () => {
    const { bench, links } = start();
    bench.hear({ type: 'snapshot', seq: 1 });
    bench.time = 5_000;
    bench.sockets[0]!.onclose!({ code: 1006 });
    await bench.pass(300);
    bench.sockets[1]!.onclose!({ code: 1006 });
    await bench.pass(700);
    expect(links.slice(-2)).toEqual([5_000, 5_000]);
    bench.hear({ type: 'offer.made', seq: 2 });
    expect(links.at(-1)).toBeNull();
  });

  it('waits longer after each failure, and never longer than the last step', async () => {
    const { bench } = start();
    for (const step of [...BACKOFF_MS, BACKOFF_MS.at(-1)!]) {
      const count = bench.sockets.length;
      bench.sockets.at(-1)!.onclose!({ code: 1006 });
      await bench.pass(step - 1);
      expect(bench.sockets).toHaveLength(count);
      await bench.pass(1);
      expect(bench.sockets).toHaveLength(count + 1);
    }
  });

  it('asks for life in silence, and takes no answer for a break', async () => {
    const { bench, links } = start();
    bench.hear({ type: 'snapshot', seq: 1 });
    await bench.pass(PING_MS);
    expect(bench.sockets[0]!.sent).toEqual(['{"type":"ping"}']);
    await bench.pass(PONG_MS);
    expect(bench.sockets[0]!.closed).toBe(true);
    expect(links.at(-1)).not.toBeNull();
  });

  it('goes on quietly when the answer comes', async () => {
    const { bench, heard, links } = start();
    bench.hear({ type: 'snapshot', seq: 1 });
    await bench.pass(PING_MS);
    bench.hear({ type: 'pong', seq: 1 });
    await bench.pass(PONG_MS);
    expect(bench.sockets).toHaveLength(1);
    expect(heard).toEqual(['snapshot']);
    expect(links).toEqual([null]);
  });

  it('does not send into a lost connection', () => {
    const { bench, live } = start();
    bench.hear({ type: 'snapshot', seq: 1 });
    expect(live.send({ type: 'shown', offer: 'o' })).toBe(true);
    bench.sockets[0]!.onclose!({ code: 1006 });
    expect(live.send({ type: 'shown', offer: 'o' })).toBe(false);
  });

  it('stays away when the session has ended', async () => {
    const { bench } = start(false);
    bench.hear({ type: 'snapshot', seq: 1 });
    bench.sockets[0]!.onclose!({ code: 1008 });
    await bench.pass(60_000);
    expect(bench.sockets).toHaveLength(1);
  });

  it('begins again with a snapshot when told to, and nobody sees a lost connection', async () => {
    const { bench, live, links } = start();
    bench.hear({ type: 'snapshot', seq: 5 });
    live.renew();
    live.renew();
    await bench.pass(RENEW_MS);
    expect(bench.sockets).toHaveLength(2);
    expect(bench.sockets[0]!.closed).toBe(true);
    expect(bench.sockets[1]!.after).toBe(null);
    expect(links).toEqual([null]);
  });

  it('takes the place of a new snapshot even when it is earlier (the log began anew)', async () => {
    const { bench } = start();
    bench.hear({ type: 'snapshot', seq: 900 });
    bench.hear({ type: 'snapshot', seq: 3 });
    bench.sockets[0]!.onclose!({ code: 1013 });
    await bench.pass(BACKOFF_MS[0]!);
    expect(bench.sockets[1]!.after).toBe(3);
  });
});
