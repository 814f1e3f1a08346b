/** What this page knows: the snapshot, moved on by every frame. Pages read it; only `apply` and acts write it. */
import { get, post, Problem, whoAmI } from './api';
import { clock } from './clock.svelte';
import { forgetReply } from './drafts.svelte';
import { browser, Live } from './live';
import { chime } from './sound';
import { answers, asks, heldSince, standing, troubled, unansweredSince, type Standing } from './threads';
import type {
  AccountRow, Board, Case, CaseRow, Channel, Contact, Frame, Help, Interaction, Item, Me, Message, Offer, Pop, Presence,
  QueueRow, Snapshot, Thread, Viewer, Way, WrapupCode,
} from './wire';
import { language, n, phone, t, word } from './words.svelte';

const OVER = new Set(['ended', 'abandoned', 'interrupted']);

export interface Quality {
  what: string;
  since: string;
}

export interface Notice {
  text: string;
  level: 'info' | 'error';
  at: number;
}

export type Panel = 'continue' | 'close' | 'archive' | 'transfer' | 'handback' | 'ask' | 'tags' | 'merge';

class Desk {
  me = $state.raw<Me | null>(null);
  presence = $state.raw<Presence | null>(null);
  offers = $state.raw<Offer[]>([]);
  interactions = $state.raw<Interaction[]>([]);
  board = $state.raw<Board | null>(null);
  codes = $state.raw<WrapupCode[]>([]);
  pauseReasons = $state.raw<string[]>([]);
  queues = $state.raw<QueueRow[]>([]);
  site = $state.raw<Snapshot['site'] | null>(null);
  version = $state.raw<string | number | null>(null);
  phoneRegistered = $state(false);
  loaded = $state(false);
  lostSince = $state<number | null>(null);
  /** How often the page has come to the server: what it watches must be asked for anew. */
  links = $state(0);
  /** The interaction that the desk shows; null: nothing asked for, the desk chooses. */
  chosen = $state<string | null>(null);
  pops = $state.raw<Record<string, Pop>>({});
  cases = $state.raw<Record<string, Case>>({});
  contacts = $state.raw<Record<string, Contact>>({});
  quality = $state.raw<Record<string, Quality>>({});
  /** Said beside the interaction, whose own word may be older. */
  recorded = $state.raw<Record<string, boolean>>({});
  colleagues = $state.raw<Record<string, string>>({});
  inside = $state.raw<Record<string, Record<string, number>>>({});
  accounts = $state.raw<AccountRow[]>([]);
  channels = $state.raw<Record<string, Channel>>({});
  tags = $state.raw<string[]>([]);
  archiveReasons = $state.raw<string[]>([]);
  helps = $state.raw<Help[]>([]);
  /** By thread and by interaction: what the list of my work tells without the case. */
  threads = $state.raw<Record<string, Thread>>({});
  lastWords = $state.raw<Record<string, Message>>({});
  /** By interaction: the first message that nobody has answered, as far as this page has heard. */
  unanswered = $state.raw<Record<string, string | null>>({});
  /** By interaction: the customer's messages that came while nobody looked. */
  fresh = $state.raw<Record<string, string[]>>({});
  /** By interaction: since when (ms) the customer types. */
  typing = $state.raw<Record<string, number>>({});
  /** By case: the way that was chosen to continue, until its message is sent or given up. */
  ways = $state.raw<Record<string, Way | undefined>>({});
  /** The offer whose card has the focus. */
  focused = $state<string | null>(null);
  /** By call: the interaction that lends it its seat. */
  lenders: Record<string, string> = {};
  /** What is being done to the case of this id, in the place under its head. */
  panel = $state.raw<{ of: string; what: Panel } | null>(null);
  /** Moves on when the inbox is another. */
  inboxMark = $state(0);
  notice = $state.raw<Notice | null>(null);
  /** For the live regions. */
  polite = $state('');
  urgent = $state('');

  /** The interaction in the middle of the desk: an offer first unless something is being written. */
  get shown(): Interaction | null {
    const offered = this.offers.map((offer) => offer.interaction);
    const chosen = [...offered, ...this.interactions].find((one) => one.id === this.chosen);
    return chosen ?? this.offers.find((one) => this.opens(one))?.interaction ?? this.interactions[0] ?? null;
  }

  /** A call fills the page at once; a written offer does only where nothing else is at work. */
  opens(offer: Offer): boolean {
    return opensAtRing(offer) && (!isWritten(offer.interaction) || !this.interactions.length);
  }

  /** The offer that the keys answer and the title names: the one in focus, the one before the eyes, the oldest. */
  get atKeys(): Offer | null {
    const shown = this.shown?.id;
    return this.offers.find((one) => one.id === this.focused) ?? this.offers.find((one) => one.interaction.id === shown) ?? this.offers[0] ?? null;
  }

  /** Who has the word; without the case, as far as this page has heard. */
  standing(one: Interaction): Standing {
    const file = this.cases[one.case ?? ''];
    const last = this.lastWords[one.id];
    const said = file?.messages.filter((other) => other.interaction === one.id) ?? [];
    const found = standing(said.length ? said : last ? [last] : []);
    if (said.length || found.what !== 'waits') return { ...found, since: found.since ?? one.accepted_at ?? one.opened_at };
    return { ...found, since: this.unanswered[one.id] ?? found.since };
  }

  /** Since when it is on hold. */
  heldSince(one: Interaction): string | null {
    return one.held ? heldSince(this.cases[one.case ?? '']?.timeline ?? [], one.id) : null;
  }

  /** The account that keeps what is written here from leaving. */
  stopped(account: string | null | undefined): AccountRow | null {
    return troubled(this.accounts, account);
  }

  /** My threads whose last word has not arrived, or perhaps not. */
  get undelivered(): Interaction[] {
    return this.interactions.filter((one) => isWritten(one) && ['failed', 'perhaps'].includes(this.standing(one).what));
  }

  unread(one: Interaction): number {
    return Math.max(one.unread ?? 0, this.fresh[one.id]?.length ?? 0);
  }

  threadOf(one: Interaction | null): Thread | null {
    if (!one || !isWritten(one)) return null;
    const known = one.thread ? this.threads[one.thread] : undefined;
    return known ?? Object.values(this.threads).find((thread) => thread.live === one.id) ?? null;
  }

  channelName(channel: string): string {
    return this.channels[channel]?.labels[language.now] ?? word('channel', channel);
  }

  /** Help that this advisor may give. */
  get asked(): Help[] {
    return this.helps.filter((one) => !one.answered_at && one.by !== this.me?.login && (one.of === null || one.of === this.me?.login));
  }

  /** The reader has what is new before the eyes. */
  seen(one: Interaction): void {
    if (!this.unread(one)) return;
    this.fresh = { ...this.fresh, [one.id]: [] };
    this.interactions = this.interactions.map((other) => (other.id === one.id ? { ...other, unread: 0 } : other));
    void post(`/interactions/${one.id}/seen`).catch(() => {});
  }

  setMessage(message: Message): void {
    const cases = Object.values(this.cases).filter((file) =>
      file.id === message.case || file.messages.some((one) => one.id === message.id) || file.merges.some((one) => one.case === message.case),
    );
    for (const file of cases) {
      const known = file.messages.some((one) => one.id === message.id);
      const messages = known ? file.messages.map((one) => (one.id === message.id ? message : one)) : [...file.messages, message];
      this.cases = { ...this.cases, [file.id]: { ...file, messages } };
    }
    this.rememberWords([message], cases[0] ? this.cases[cases[0].id]!.messages : []);
  }

  /** `all`: the messages of the case that they are of, where it is known. */
  rememberWords(messages: readonly Message[], all: readonly Message[] = []): void {
    const last = { ...this.lastWords };
    const unanswered = { ...this.unanswered };
    for (const one of messages) {
      if (!one.interaction) continue;
      if (answers(one)) unanswered[one.interaction] = null;
      else if (asks(one)) unanswered[one.interaction] ??= one.at;
      const known = last[one.interaction];
      if (!known || known.id === one.id || known.at <= one.at) last[one.interaction] = one;
    }
    for (const id of new Set(all.map((one) => one.interaction))) if (id) unanswered[id] = unansweredSince(all.filter((one) => one.interaction === id));
    this.lastWords = last;
    this.unanswered = unanswered;
    this.forget();
  }

  /** A day's threads are many: beyond REMEMBERED, what nobody works on here is let go. */
  forget(): void {
    if (Object.keys(this.lastWords).length + Object.keys(this.threads).length < REMEMBERED) return;
    const alive = new Set(this.interactions.map((one) => one.id));
    const ofThem = <A>(known: Record<string, A>): Record<string, A> => Object.fromEntries(Object.entries(known).filter(([id]) => alive.has(id)));
    const open = new Set([...this.interactions.map((one) => one.thread), ...Object.values(this.cases).flatMap((file) => file.threads.map((one) => one.id))]);
    this.lastWords = ofThem(this.lastWords);
    this.unanswered = ofThem(this.unanswered);
    this.fresh = ofThem(this.fresh);
    this.typing = ofThem(this.typing);
    this.threads = Object.fromEntries(Object.entries(this.threads).filter(([id]) => open.has(id)));
  }

  setThreads(threads: readonly Thread[]): void {
    if (threads.length) this.threads = { ...this.threads, ...Object.fromEntries(threads.map((one) => [one.id, one])) };
  }

  setHelp(help: Help): void {
    this.helps = [...this.helps.filter((one) => one.id !== help.id), help];
    const file = this.cases[help.case];
    if (file) this.cases = { ...this.cases, [file.id]: { ...file, helps: [...file.helps.filter((one) => one.id !== help.id), help] } };
  }

  chooseWay(id: string, way: Way | undefined): void {
    this.ways = { ...this.ways, [id]: way };
  }

  /** Those who wait in the queues that this advisor serves. */
  get inLine(): number {
    const mine = this.presence?.queues ?? [];
    return (this.board?.rows ?? []).filter((row) => mine.includes(row.queue)).reduce((sum, row) => sum + row.waiting, 0);
  }

  /** Why the place for an offer is empty. */
  get noOffer(): string {
    if (this.presence?.presence !== 'ready') return t('offer.none_away');
    return this.presence.work === 'idle' && this.inLine ? n('offer.none_held', this.inLine) : t('offer.none_ready');
  }

  queueName(id: string | null): string {
    return this.queues.find((queue) => queue.id === id)?.name ?? id ?? '';
  }

  advisorName(login: string | null | undefined): string {
    if (!login) return '';
    const known = this.board?.advisors.find((one) => one.advisor === login);
    if (known) return `${known.first_name} ${known.last_name}`.trim();
    return this.colleagues[login] ?? login;
  }

  advisorFirst(login: string | null | undefined): string {
    if (!login) return '';
    return this.colleagues[login] ?? login;
  }

  /** The wrap-up codes that a queue asks for. */
  codesOf(queue: string | null): WrapupCode[] {
    const wanted = this.queues.find((one) => one.id === queue)?.wrapup_codes ?? [];
    return wanted.length ? this.codes.filter((one) => wanted.includes(one.id)) : this.codes;
  }

  codeLabel(id: string | null | undefined): string {
    if (!id) return '';
    const code = this.codes.find((one) => one.id === id);
    return code?.labels[language.now] ?? Object.values(code?.labels ?? {})[0] ?? id;
  }

  may(role: 'supervisor' | 'admin'): boolean {
    const roles = this.me?.roles ?? [];
    return roles.includes(role) || roles.includes('admin');
  }

  say(text: string, level: Notice['level'] = 'info'): void {
    this.notice = { text, level, at: Date.now() };
    if (level === 'error') this.urgent = text;
    else this.polite = text;
  }

  /** Says what went wrong in words of the reader. */
  failed(problem: unknown): void {
    this.say(explain(problem), 'error');
  }

  apply(frame: Frame): void {
    clock.heard(frame.time);
    const act = FRAMES[frame.type];
    if (act) act(this, frame.data as never);
  }

  rememberPop(pop: Pop): void {
    const alive = new Set([...this.interactions.map((one) => one.id), ...this.offers.map((one) => one.interaction.id)]);
    const kept = Object.entries(this.pops).filter(([id]) => alive.has(id));
    this.pops = { ...Object.fromEntries(kept), [pop.interaction]: pop };
  }

  setInteraction(changed: Interaction): void {
    if (changed.lent_to) this.lenders[changed.lent_to] = changed.id;
    const mine = changed.advisor === this.me?.login && !OVER.has(changed.state) && changed.state !== 'offered';
    const known = this.interactions.some((one) => one.id === changed.id);
    if (mine && known) this.interactions = this.interactions.map((one) => (one.id === changed.id ? changed : one));
    else if (mine) {
      this.interactions = [...this.interactions, changed];
      this.readMine();
    }
    else if (known) this.interactions = this.interactions.filter((one) => one.id !== changed.id);
    this.offers = this.offers.map((offer) =>
      offer.interaction.id === changed.id ? { ...offer, interaction: changed } : offer,
    );
  }

  setCase(row: CaseRow): void {
    const known = this.cases[row.id];
    if (known) this.cases = { ...this.cases, [row.id]: { ...known, ...row } };
  }

  async loadCase(id: string): Promise<void> {
    const found = whole(await get<Case>(`/cases/${encodeURIComponent(id)}`));
    this.cases = withNewest(this.cases, id, found);
    this.setThreads(found.threads);
    this.rememberWords(found.messages, found.messages);
  }

  /** The cases of my written work, so that the list tells the last words; chats first, as many as are followed. */
  readMine(): void {
    const written = this.interactions.filter((one) => isWritten(one) && one.case && !this.cases[one.case]);
    written.sort((a, b) => Number(a.seat === 'mail') - Number(b.seat === 'mail'));
    for (const one of written.slice(0, KEPT - 2)) void this.loadCase(one.case!).catch(() => {});
  }

  async loadContact(id: string): Promise<void> {
    const found = await get<Contact>(`/contacts/${encodeURIComponent(id)}`);
    this.contacts = withNewest(this.contacts, id, found);
    this.nameAll(found);
  }

  /** Is this person before the eyes anywhere? */
  knows(contact: string): boolean {
    const rows = [...this.interactions, ...this.offers.map((one) => one.interaction), ...Object.values(this.cases)];
    return contact in this.contacts || rows.some((one) => one.contact === contact);
  }

  /** A person is called the same everywhere at once: lists, bubbles, offers, title. */
  nameAll(contact: Contact): void {
    const called = <A extends { contact: string | null; contact_name: string | null }>(one: A): A =>
      one.contact === contact.id && one.contact_name !== contact.name ? { ...one, contact_name: contact.name } : one;
    this.interactions = this.interactions.map(called);
    this.offers = this.offers.map((one) => ({ ...one, interaction: called(one.interaction) }));
    this.cases = Object.fromEntries(Object.entries(this.cases).map(([id, file]) => [id, called(file)]));
  }

  /** Where to go when this interaction is over: to the thread that lent it its seat, to another of its case, else as the desk chooses. */
  after(over: Interaction): string | null {
    const lender = this.lenders[over.id];
    const back = this.interactions.find((one) => one.id === lender) ?? this.interactions.find((one) => over.case !== null && one.case === over.case);
    return back?.id ?? null;
  }
}

/** What each frame changes. A type that is not here is somebody else's news. */
const FRAMES: Record<string, (desk: Desk, data: never) => void> = {
  snapshot(desk, data: Snapshot) {
    desk.me = data.me;
    desk.presence = data.presence;
    desk.offers = data.offers ?? [];
    desk.interactions = (data.interactions ?? []).filter((one) => one.state !== 'offered' && !OVER.has(one.state));
    desk.lenders = Object.fromEntries(desk.interactions.flatMap((one) => (one.lent_to ? [[one.lent_to, one.id]] : [])));
    desk.recorded = {};
    desk.board = data.board;
    desk.codes = data.wrapup_codes ?? [];
    desk.pauseReasons = data.pause_reasons ?? [];
    desk.queues = data.queues ?? [];
    desk.site = data.site;
    desk.version = data.version;
    desk.phoneRegistered = data.presence?.phone_registered ?? data.me.phone?.registered ?? false;
    desk.colleagues = Object.fromEntries((data.colleagues ?? []).map((one) => [one.login, one.first_name]));
    desk.pops = Object.fromEntries((data.pops ?? []).map((pop) => [pop.interaction, pop]));
    for (const offer of desk.offers) if (offer.pop) desk.rememberPop(offer.pop);
    desk.accounts = data.accounts ?? [];
    desk.channels = data.channels ?? {};
    desk.tags = data.tags ?? [];
    desk.archiveReasons = data.archive_reasons ?? [];
    desk.helps = data.helps ?? [];
    desk.fresh = {};
    desk.inboxMark += 1;
    desk.readMine();
    for (const id of Object.keys(desk.cases)) void desk.loadCase(id).catch(() => {});
    desk.loaded = true;
  },
  'offer.made'(desk, offer: Offer) {
    desk.offers = [...desk.offers.filter((one) => one.id !== offer.id), offer];
    if (offer.pop) desk.rememberPop(offer.pop);
    const who = called(offer.interaction);
    desk.urgent = t('offer.announced', {
      channel: word('channel', offer.interaction.channel), who, queue: desk.queueName(offer.interaction.queue),
    });
    const waits = isWritten(offer.interaction) && desk.offers.length > 1; // behind those that came before
    if (desk.opens(offer) && !waits && !isTyping()) desk.chosen = offer.interaction.id;
    chime('offer');
  },
  'offer.ended'(desk, data: { offer: string; how: string; reason?: string; interaction?: string | Interaction }) {
    const ended = desk.offers.find((one) => one.id === data.offer);
    desk.offers = desk.offers.filter((one) => one.id !== data.offer);
    if (!ended) return;
    if (data.how === 'accepted') {
      if (typeof data.interaction === 'object' && data.interaction) desk.setInteraction(data.interaction);
      if (ended.pop_at === 'answer' && !isTyping()) desk.chosen = ended.interaction.id;
    } else {
      if (desk.chosen === ended.interaction.id) desk.chosen = null;
      const gone = isWritten(ended.interaction) ? WRITTEN_ENDS[data.how] : undefined;
      desk.say(word('offer.ended', gone ?? data.how));
    }
  },
  'interaction.changed'(desk, changed: Interaction) {
    const before = desk.interactions.find((one) => one.id === changed.id);
    const wasShown = desk.shown?.id === changed.id;
    desk.setInteraction(changed);
    if (before && before.state !== changed.state && changed.advisor === desk.me?.login) {
      desk.polite = word('state', changed.state);
    }
    if (OVER.has(changed.state)) {
      if (wasShown || desk.chosen === changed.id) desk.chosen = desk.after(changed);
      delete desk.lenders[changed.id];
      forgetReply(`reply.${changed.id}`);
    }
  },
  'presence.changed'(desk, changed: Presence) {
    if (changed.advisor === desk.me?.login) {
      if (desk.presence && desk.presence.presence !== changed.presence) {
        desk.polite = word('presence', changed.presence);
      }
      desk.presence = changed;
      desk.phoneRegistered = changed.phone_registered;
    }
    if (desk.board) {
      const advisors = desk.board.advisors.filter((one) => one.advisor !== changed.advisor);
      desk.board = { ...desk.board, advisors: [...advisors, changed] };
    }
  },
  'board.changed'(desk, board: Board) {
    desk.board = board;
  },
  'case.changed'(desk, row: CaseRow) {
    desk.setCase(row);
  },
  'timeline.added'(desk, data: { case: string; item: Item }) {
    const known = desk.cases[data.case];
    if (!known || known.timeline.some((one) => one.seq === data.item.seq && one.kind === data.item.kind)) return;
    desk.cases = { ...desk.cases, [data.case]: { ...known, timeline: [...known.timeline, data.item] } };
  },
  'message.added'(desk, data: { message: Message }) {
    const it = data.message;
    const known = desk.lastWords[it.interaction ?? '']?.id === it.id;
    desk.setMessage(it);
    const mine = desk.interactions.find((one) => one.id === it.interaction);
    if (!mine || known || it.direction !== 'in') return;
    desk.typing = { ...desk.typing, [mine.id]: 0 };
    desk.fresh = { ...desk.fresh, [mine.id]: [...(desk.fresh[mine.id] ?? []), it.id] };
    const who = called(mine);
    desk.polite = t('message.announced', { who, text: it.text || word('message.kind', it.kind) });
    chime('message');
  },
  'message.changed'(desk, data: { message: Message }) {
    const before = Object.values(desk.cases).flatMap((file) => file.messages).find((one) => one.id === data.message.id);
    desk.setMessage(data.message);
    if (before?.status === data.message.status || data.message.by !== desk.me?.login) return;
    if (data.message.status === 'failed' || data.message.status === 'perhaps') desk.urgent = word('delivery', data.message.status);
  },
  'thread.changed'(desk, data: { thread: Thread }) {
    desk.setThreads([data.thread]);
    for (const file of Object.values(desk.cases)) {
      if (!file.threads.some((one) => one.id === data.thread.id)) continue;
      const threads = file.threads.map((one) => (one.id === data.thread.id ? data.thread : one));
      desk.cases = { ...desk.cases, [file.id]: { ...file, threads } };
    }
  },
  'case.viewers'(desk, data: { case: string; viewers: Viewer[] }) {
    const file = desk.cases[data.case];
    if (file) desk.cases = { ...desk.cases, [file.id]: { ...file, viewers: data.viewers } };
  },
  'customer.typing'(desk, data: { interaction: string; on: boolean }) {
    desk.typing = { ...desk.typing, [data.interaction]: data.on ? clock.now : 0 };
  },
  'customer.gone'(desk, data: { interaction: string; since: string | null }) {
    const known = desk.interactions.find((one) => one.id === data.interaction);
    if (known) desk.setInteraction({ ...known, gone_since: data.since });
  },
  'help.changed'(desk, data: { help: Help }) {
    const known = desk.helps.find((one) => one.id === data.help.id);
    desk.setHelp(data.help);
    const name = (login: string | null): string => desk.advisorFirst(login);
    if (!known && desk.asked.some((one) => one.id === data.help.id)) {
      desk.urgent = t('help.announced', { name: name(data.help.by), text: data.help.text });
      chime('help');
    } else if (data.help.by === desk.me?.login && data.help.answered_at && !known?.answered_at) {
      desk.urgent = t('help.answered', { name: name(data.help.answered_by), text: data.help.answer });
      chime('message');
    }
  },
  'account.changed'(desk, data: { account: AccountRow }) {
    const known = desk.accounts.some((one) => one.account === data.account.account);
    desk.accounts = known ? desk.accounts.map((one) => (one.account === data.account.account ? data.account : one)) : [...desk.accounts, data.account];
  },
  'inbox.changed'(desk) {
    desk.inboxMark += 1;
  },
  'contact.changed'(desk, data: { contact: string | { id: string } }) {
    const id = typeof data.contact === 'string' ? data.contact : data.contact.id;
    desk.inboxMark += 1;
    if (desk.knows(id)) void desk.loadContact(id).catch(() => {});
  },
  'call.quality'(desk, data: Quality & { interaction: string }) {
    const rest = Object.fromEntries(Object.entries(desk.quality).filter(([id]) => id !== data.interaction));
    desk.quality = data.what === 'ok' ? rest : { ...rest, [data.interaction]: data };
    if (data.what !== 'ok') desk.urgent = word('quality', data.what);
  },
  'call.recording'(desk, data: { interaction: string; recording: boolean }) {
    desk.recorded = { ...desk.recorded, [data.interaction]: data.recording };
  },
  'trees.inside'(desk, data: { tree: string; inside: Record<string, number> }) {
    desk.inside = { ...desk.inside, [data.tree]: data.inside };
  },
  'phone.changed'(desk, data: { registered: boolean; advisor?: string }) {
    if (data.advisor && data.advisor !== desk.me?.login) return;
    desk.phoneRegistered = data.registered;
    desk.say(t(data.registered ? 'phone.back' : 'phone.gone'), data.registered ? 'info' : 'error');
  },
  notice(desk, data: { level: string; code: string; args?: Record<string, string | number> }) {
    if (data.code === 'site_applied') live.renew(); // names of queues, codes, reasons
    if (data.code === 'call_failed') return desk.say(whyNoCall(String(data.args?.reason ?? '')), 'error');
    const text = word('notice', data.code);
    const full = text.replace(/\{(\w+)\}/g, (_, name: string) => String(data.args?.[name] ?? ''));
    desk.say(full, data.level === 'error' || data.level === 'warning' ? 'error' : 'info');
  },
};

/** A day's calls are many; what was looked at last is kept, as the server follows so many cases for a page. */
const KEPT = 8;
const REMEMBERED = 200;
function withNewest<A>(known: Record<string, A>, id: string, found: A): Record<string, A> {
  const others = Object.entries(known).filter(([other]) => other !== id);
  return Object.fromEntries([...others.slice(1 - KEPT), [id, found]]);
}

/** No phone was left ringing, and nobody has hung up. */
const WRITTEN_ENDS: Record<string, string> = { missed: 'expired', cancelled: 'gone' };

/** Why nobody was reached; `advisor_…`: it was our own telephone. */
function whyNoCall(reason: string): string {
  const [whole, own, why] = /^(advisor_)?(.*)$/.exec(reason) ?? [];
  const words = word('outcome', why);
  if (!whole || words === why) return t('notice.call_failed');
  return t(own ? 'call.failed_own' : 'call.failed', { why: words });
}

/** A case of a server that knows nothing of some part of it. */
function whole(found: Case): Case {
  return { ...found, tags: found.tags ?? [], merged_into: found.merged_into ?? null, merges: found.merges ?? [], messages: found.messages ?? [],
    threads: found.threads ?? [], helps: found.helps ?? [], viewers: found.viewers ?? [] };
}

export function isWritten(one: Interaction): boolean {
  return (one.seat || one.channel) !== 'voice';
}

/** What can be read of an address: a number or a mail address is itself, the id of a channel its last signs. `kind` is of an address or of a channel. */
export function readable(kind: string, value: string | null | undefined): string {
  if (!value) return '';
  if (isSpelt(kind)) return kind === 'email' ? value : phone(value);
  return `${kind === 'webchat' ? t('who.visitor') : desk.channelName(kind === 'psid' ? 'messenger' : kind)} · ${ending(value)}`;
}

/** Whether people spell such an address to each other. */
export function isSpelt(kind: string): boolean {
  return ['phone', 'voice', 'email'].includes(kind);
}

/** The end of an id, which tells two of a channel apart. */
export function ending(value: string | null | undefined): string {
  return value ? `…${value.slice(-4)}` : '';
}

/** How we speak of a customer: by name, by what they call or write from, else as a stranger. */
export function called(one: Interaction): string {
  return one.contact_name || readable(one.channel, one.address) || t(isWritten(one) ? 'who.customer' : 'who.unknown');
}

/** When the queue says so, or says nothing; else the card alone announces the offer. */
function opensAtRing(offer: Offer): boolean {
  return offer.pop_at === undefined || offer.pop_at === 'ring';
}

/** Is something half-written under the cursor? Then nothing may take its place. */
function isTyping(): boolean {
  const focused = globalThis.document?.activeElement as (Element & { value?: string }) | null | undefined;
  return (focused?.tagName === 'TEXTAREA' || focused?.tagName === 'INPUT') && (focused.value ?? '').trim() !== '';
}

export function explain(problem: unknown): string {
  if (!(problem instanceof Problem)) return t('error.unexpected');
  if (problem.status === 0) return t('error.unreachable');
  // What the engine refuses says why by a stable word in `detail`; everything else by its kind.
  const group = problem.kind === 'refused' ? 'refused' : 'problem';
  const id = problem.kind === 'refused' ? problem.detail : problem.kind.replaceAll('-', '_');
  // A written act that is refused is told with its cure, in the reader's language, by the server.
  if (problem.kind === 'not-yours' && problem.status === 409 && problem.detail) return problem.detail;
  const words = word(group, id);
  if (words && words !== id) return words;
  if (problem.status === 403) return t('error.forbidden');
  if (problem.status === 404) return t('error.gone');
  if (problem.status >= 500) return t('error.server');
  return problem.detail || t('error.unexpected');
}

export const desk = new Desk();

export const live = new Live(browser, {
  frame: (frame) => desk.apply(frame),
  link(up, since) {
    desk.lostSince = since;
    if (up) desk.links += 1;
  },
  async mayReturn() {
    try {
      if (await whoAmI()) return true;
    } catch {
      return true; // not reachable yet: keep trying
    }
    desk.me = null;
    return false;
  },
});

/** Runs an act once at a time; what goes wrong is said, never thrown at the reader. */
export async function act(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (problem) {
    desk.failed(problem);
    return false;
  }
}

export function interactionAct(id: string, verb: string, body: unknown = {}): Promise<boolean> {
  return act(async () => {
    const changed = await post<Interaction | undefined>(`/interactions/${id}/${verb}`, body);
    if (changed && typeof changed === 'object' && 'state' in changed && 'id' in changed) desk.setInteraction(changed);
  });
}
