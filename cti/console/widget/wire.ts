// The line to the server: a socket, or POST and long poll where no socket comes through. What was said is sent again until
// the server has it, under the same client id; what was shown is never asked for twice.

export interface Frame {
  seq: number | null;
  id: string;
  type: string;
  time: string;
  data: Record<string, unknown>;
}
export type Out = { type: string; client_id?: string } & Record<string, unknown>;

const SOCKETS = 3; // that never opened, then the line is POST and long poll
const FIRST_MS = 500;
const MOST_MS = 30_000;
const FINAL = new Set(['empty', 'too_long', 'client_id', 'unknown_type', 'unknown_upload', 'phone', 'email', 'seq']);

export interface Ears {
  hear(frame: Frame): void;
  state(up: boolean): void;
}

export class Wire {
  token: string | null = null;
  seq = 0;
  private waiting: Out[] = []; // said, and not known to be stored
  private socket: WebSocket | null = null;
  private up = false;
  private failures = 0;
  private never = 0;
  private polling: AbortController | null = null;
  private timer = 0;
  private over = false;

  constructor(private base: string, private hello: () => Out, private ears: Ears) {}

  /** Opens the line, once. */
  open(): void {
    this.over = false;
    if (!this.socket && !this.polling && !this.timer) this.connect();
  }

  close(): void {
    this.over = true;
    clearTimeout(this.timer);
    this.timer = 0;
    this.socket?.close();
    this.polling?.abort();
    this.polling = null;
  }

  /** Sends it now, or when the line is back; what has a client id until it is stored. */
  say(frame: Out): void {
    if (frame.client_id) this.waiting.push(frame);
    if (this.up) this.send([frame]);
  }

  async upload(file: File): Promise<{ upload_id: string } | { code: string }> {
    try {
      const answer = await fetch(`${this.base}/files?name=${encodeURIComponent(file.name)}`, { method: 'POST', body: file, headers: { Authorization: `Bearer ${this.token ?? ''}`, 'Content-Type': file.type || 'application/octet-stream' } });
      return (await answer.json()) as { upload_id: string };
    } catch {
      return { code: 'wrong' };
    }
  }

  private greeting(): Out {
    return { ...this.hello(), token: this.token };
  }

  private connect(): void {
    this.timer = 0;
    if (this.over) return;
    if (this.never >= SOCKETS || typeof WebSocket === 'undefined') {
      void this.poll();
      return;
    }
    let opened = false;
    const socket = new WebSocket(`${this.base.replace(/^http/, 'ws')}?after=${this.seq}`);
    this.socket = socket;
    socket.onopen = () => {
      opened = true;
      this.never = 0;
      socket.send(JSON.stringify(this.greeting()));
    };
    socket.onmessage = (event) => this.take(JSON.parse(String(event.data)) as Frame);
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (!opened) this.never += 1;
      this.down();
    };
  }

  private down(): void {
    this.up = false;
    this.ears.state(false);
    if (this.over || this.timer) return;
    const most = Math.min(MOST_MS, FIRST_MS * 2 ** this.failures++);
    this.timer = window.setTimeout(() => this.connect(), most * (0.5 + Math.random() / 2));
  }

  private take(frame: Frame): void {
    const id = frame.data.client_id as string | undefined;
    if (frame.seq !== null) {
      if (frame.seq <= this.seq) return;
      this.seq = frame.seq;
      this.stored(id);
    }
    if (frame.type === 'welcome') {
      this.token = frame.data.token as string;
      this.up = true;
      this.failures = 0;
      this.ears.state(true);
      if (this.waiting.length) this.send([...this.waiting]);
    } else if (frame.type === 'status') {
      this.stored(id);
    } else if (frame.type === 'error' && id) {
      if (FINAL.has(frame.data.code as string)) this.stored(id);
      else setTimeout(() => this.again(id), 1000 * ((frame.data.retry_after as number | undefined) ?? 2));
    }
    this.ears.hear(frame);
  }

  private stored(id: string | undefined): void {
    if (id) this.waiting = this.waiting.filter((one) => one.client_id !== id);
  }

  private again(id: string): void {
    const frame = this.waiting.find((one) => one.client_id === id);
    if (frame && this.up) this.send([frame]);
  }

  private send(frames: Out[]): void {
    if (this.socket) for (const frame of frames) this.socket.send(JSON.stringify(frame));
    else void this.post({ frames });
  }

  private async post(body: { hello?: Out; frames: Out[] }): Promise<boolean> {
    try {
      const headers: Record<string, string> = { 'Content-Type': 'application/json' };
      if (!body.hello) headers.Authorization = `Bearer ${this.token ?? ''}`;
      const answer = await fetch(this.base, { method: 'POST', headers, body: JSON.stringify(body) });
      if (!answer.ok) return false;
      for (const frame of ((await answer.json()) as { frames: Frame[] }).frames) this.take(frame);
      return true;
    } catch {
      return false;
    }
  }

  private async poll(): Promise<void> {
    const mine = (this.polling = new AbortController());
    if (await this.post({ hello: this.greeting(), frames: [] })) {
      try {
        while (this.polling === mine) {
          const answer = await fetch(`${this.base}?after=${this.seq}`, { headers: { Authorization: `Bearer ${this.token ?? ''}` }, signal: mine.signal });
          if (!answer.ok) break;
          for (const frame of ((await answer.json()) as { frames: Frame[] }).frames) this.take(frame);
        }
      } catch {
        // the line is down
      }
    }
    if (this.polling !== mine) return;
    this.polling = null;
    this.down();
  }
}
