/**
 * The live connection: one WebSocket that comes back by itself and resumes where it stopped.
 *
 * Rule 1: after a break it asks for what came after the last seq; the server sends that, or a new snapshot.
 * Rule 2: silence is a break too: a ping every PING_MS, and no answer within PONG_MS closes the socket.
 * Rule 3: it knows nothing of what frames mean. Time, chance and sockets are arguments.
 */
import type { Frame } from './wire';

export const PING_MS = 15_000;
export const PONG_MS = 8_000;
export const RENEW_MS = 1_000;
export const BACKOFF_MS = [300, 700, 1_500, 3_000, 6_000, 10_000];

export interface Socket {
  onopen: ((event: never) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}

export interface World {
  open(after: number | null): Socket;
  later(act: () => void, ms: number): number;
  forget(timer: number): void;
  now(): number;
  random(): number;
}

export interface Listener {
  frame(frame: Frame): void;
  /** `since` is when the connection was lost (ms), null while it is up. */
  link(up: boolean, since: number | null): void;
  /** Called before each new attempt; false: do not try again (signed out). */
  mayReturn(): Promise<boolean>;
}

export class Live {
  private socket: Socket | null = null;
  private timer: number | null = null;
  private seq: number | null = null;
  private attempt = 0;
  private since: number | null = null;
  private stopped = true;

  constructor(
    private readonly world: World,
    private readonly listener: Listener,
  ) {}

  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    this.wait(null);
    this.drop();
    this.seq = null;
    this.since = null;
    this.attempt = 0;
  }

  /** Begins again with a snapshot, since what is in no frame has changed; not all pages in the same instant. */
  renew(): void {
    const socket = this.socket;
    this.world.later(() => {
      if (socket === null || this.socket !== socket) return;
      this.drop();
      this.seq = null;
      this.connect();
    }, RENEW_MS * this.world.random());
  }

  /** True when it left; a frame that cannot leave now is not kept: the server would learn it too late to matter. */
  send(frame: object): boolean {
    if (this.socket === null || this.since !== null) return false;
    this.socket.send(JSON.stringify(frame));
    return true;
  }

  private connect(): void {
    const socket = this.world.open(this.seq);
    this.socket = socket;
    socket.onmessage = (event) => this.heard(String(event.data));
    socket.onclose = () => this.lost(socket);
    this.wait(() => socket.close(), PONG_MS);
  }

  private heard(text: string): void {
    const frame = JSON.parse(text) as Frame;
    if (this.since !== null || this.attempt > 0 || frame.type === 'snapshot') {
      this.since = null;
      this.attempt = 0;
      this.listener.link(true, null);
    }
    if (typeof frame.seq === 'number') {
      this.seq = frame.type === 'snapshot' ? frame.seq : Math.max(this.seq ?? 0, frame.seq);
    }
    this.wait(() => this.ping(), PING_MS);
    if (frame.type !== 'pong') this.listener.frame(frame);
  }

  private ping(): void {
    const socket = this.socket;
    if (socket === null) return;
    socket.send('{"type":"ping"}');
    this.wait(() => {
      socket.close();
      this.lost(socket); // a dead network never says so
    }, PONG_MS);
  }

  private lost(socket: Socket): void {
    if (this.socket !== socket || this.stopped) return;
    this.drop();
    this.since ??= this.world.now();
    this.listener.link(false, this.since);
    const step = BACKOFF_MS[Math.min(this.attempt, BACKOFF_MS.length - 1)]!;
    this.attempt += 1;
    this.wait(() => void this.retry(), step * (0.75 + this.world.random() / 2));
  }

  private async retry(): Promise<void> {
    const may = await this.listener.mayReturn();
    if (this.stopped || this.socket !== null) return;
    if (may) this.connect();
    else this.stop();
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onopen = null;
    socket.close();
  }

  private wait(act: (() => void) | null, ms = 0): void {
    if (this.timer !== null) this.world.forget(this.timer);
    this.timer = act === null ? null : this.world.later(act, ms);
  }
}

/** The browser's own socket, clock and chance. */
export const browser: World = {
  open(after) {
    const url = new URL('/api/v1/events', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    if (after !== null) url.searchParams.set('after', String(after));
    return new WebSocket(url) as unknown as Socket;
  },
  later: (act, ms) => window.setTimeout(act, ms),
  forget: (timer) => window.clearTimeout(timer),
  now: () => Date.now(),
  random: () => Math.random(),
};
