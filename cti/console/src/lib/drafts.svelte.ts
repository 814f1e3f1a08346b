/**
 * What is being typed: in memory while the page lives, so that no change of place loses a letter or a file on its way,
 * and in this tab's sessionStorage, so that a reload and a lost connection lose none either.
 */
import { newId } from './compose';

const PREFIX = 'monofil.draft.';

export function readDraft<A>(name: string, empty: A): A {
  const text = globalThis.sessionStorage?.getItem(PREFIX + name);
  if (!text) return empty;
  try {
    return JSON.parse(text) as A;
  } catch {
    return empty;
  }
}

export function keepDraft(name: string, value: unknown): void {
  try {
    globalThis.sessionStorage?.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // no room: memory still has it
  }
}

export function dropDraft(name: string): void {
  globalThis.sessionStorage?.removeItem(PREFIX + name);
}

/** A file that goes with a reply; `id` once the server has it. */
export class Enclosed {
  id = $state<string | null>(null);
  share = $state(0);
  failed = $state('');
  readonly stop = new AbortController();

  constructor(
    readonly name: string,
    readonly kind: string,
    readonly type: string,
    readonly bytes: number,
  ) {}

  get state(): 'there' | 'going' | 'failed' {
    return this.failed ? 'failed' : this.id ? 'there' : 'going';
  }
}

interface Stored {
  text: string;
  subject: string;
  message: string;
  choices?: string[];
  files: { id: string; name: string; kind: string; type: string; bytes: number }[];
}

/** A reply that is not sent yet. */
export class Reply {
  text = $state('');
  subject = $state('');
  files = $state.raw<Enclosed[]>([]);
  /** What the customer may tap instead of writing. */
  choices = $state.raw<string[]>([]);
  /** The message's id from its first letter on: sent twice, it is still one. */
  message = $state(newId());

  constructor(readonly name: string) {
    const stored = readDraft<Stored | null>(name, null);
    if (!stored) return;
    this.text = stored.text;
    this.subject = stored.subject;
    this.message = stored.message;
    this.choices = stored.choices ?? [];
    this.files = stored.files.map((one) => {
      const file = new Enclosed(one.name, one.kind, one.type, one.bytes);
      file.id = one.id;
      return file;
    });
  }

  get empty(): boolean {
    return !this.text.trim() && !this.files.length && !this.choices.length;
  }

  /** For use in $effect: what it reads is what is kept. */
  keep(): void {
    if (this.empty) return dropDraft(this.name);
    const files = this.files.filter((one) => one.id !== null).map(({ id, name, kind, type, bytes }) => ({ id: id!, name, kind, type, bytes }));
    keepDraft(this.name, { text: this.text, subject: this.subject, message: this.message, choices: this.choices, files } satisfies Stored);
  }

  /** It has left with these files: the next one is another message, and has what was added meanwhile. */
  clear(gone: readonly Enclosed[] = this.files): void {
    this.text = '';
    this.subject = '';
    this.files = this.files.filter((one) => !gone.includes(one));
    this.choices = [];
    this.message = newId();
    this.keep();
  }
}

const replies = new Map<string, Reply>();

/** The one draft of this name in this page: `reply.INTERACTION`, or `way.CASE.ACCOUNT.ADDRESS`. */
export function replyOf(name: string): Reply {
  let found = replies.get(name);
  if (!found) replies.set(name, (found = new Reply(name)));
  return found;
}

/** Lets go of a reply that holds nothing; what is typed stays. */
export function forgetReply(name: string): void {
  if (replies.get(name)?.empty) replies.delete(name);
}

export function forgetReplies(): void {
  replies.clear();
}
