/** What this page knows: the snapshot, moved on by every frame. Pages read it; only `apply` and acts write it. */
import { get, post, Problem, whoAmI } from './api';
import { clock } from './clock.svelte';
import { browser, Live } from './live';
import { chime } from './sound';
import type {
  Board, Case, CaseRow, Contact, Frame, Interaction, Item, Me, Offer, Pop, Presence, QueueRow, Snapshot,
  WrapupCode,
} from './wire';
import { language, t, word } from './words.svelte';

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
  notice = $state.raw<Notice | null>(null);
  /** For the live regions. */
  polite = $state('');
  urgent = $state('');

  /** The interaction in the middle of the desk: an offer first unless something is being written. */
  get shown(): Interaction | null {
    const offered = this.offers.map((offer) => offer.interaction);
    const chosen = [...offered, ...this.interactions].find((one) => one.id === this.chosen);
    return chosen ?? this.offers.find(opensAtRing)?.interaction ?? this.interactions[0] ?? null;
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
    const mine = changed.advisor === this.me?.login && !OVER.has(changed.state) && changed.state !== 'offered';
    const known = this.interactions.some((one) => one.id === changed.id);
    if (mine && known) this.interactions = this.interactions.map((one) => (one.id === changed.id ? changed : one));
    else if (mine) this.interactions = [...this.interactions, changed];
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
    const found = await get<Case>(`/cases/${encodeURIComponent(id)}`);
    this.cases = withNewest(this.cases, id, found);
  }

  async loadContact(id: string): Promise<void> {
    const found = await get<Contact>(`/contacts/${encodeURIComponent(id)}`);
    this.contacts = withNewest(this.contacts, id, found);
  }
}

/** What each frame changes. A type that is not here is somebody else's news. */
const FRAMES: Record<string, (desk: Desk, data: never) => void> = {
  snapshot(desk, data: Snapshot) {
    desk.me = data.me;
    desk.presence = data.presence;
    desk.offers = data.offers ?? [];
    desk.interactions = (data.interactions ?? []).filter((one) => one.state !== 'offered' && !OVER.has(one.state));
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
    for (const id of Object.keys(desk.cases)) void desk.loadCase(id).catch(() => {});
    desk.loaded = true;
  },
  'offer.made'(desk, offer: Offer) {
    desk.offers = [...desk.offers.filter((one) => one.id !== offer.id), offer];
    if (offer.pop) desk.rememberPop(offer.pop);
    const who = offer.interaction.contact_name || offer.interaction.address || t('who.unknown');
    desk.urgent = t('offer.announced', {
      channel: word('channel', offer.interaction.channel), who, queue: desk.queueName(offer.interaction.queue),
    });
    if (opensAtRing(offer) && !isTyping()) desk.chosen = offer.interaction.id;
    chime();
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
      desk.say(word('offer.ended', data.how));
    }
  },
  'interaction.changed'(desk, changed: Interaction) {
    const before = desk.interactions.find((one) => one.id === changed.id);
    desk.setInteraction(changed);
    if (before && before.state !== changed.state && changed.advisor === desk.me?.login) {
      desk.polite = word('state', changed.state);
    }
    if (OVER.has(changed.state) && desk.chosen === changed.id) desk.chosen = null;
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
  'contact.changed'(desk, data: { contact: string | { id: string } }) {
    const id = typeof data.contact === 'string' ? data.contact : data.contact.id;
    if (desk.contacts[id]) void desk.loadContact(id).catch(() => {});
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
    const text = word('notice', data.code);
    const full = text.replace(/\{(\w+)\}/g, (_, name: string) => String(data.args?.[name] ?? ''));
    desk.say(full, data.level === 'error' || data.level === 'warning' ? 'error' : 'info');
  },
};

/** A day's calls are many; what was looked at last is kept, as the server follows so many cases for a page. */
const KEPT = 8;
function withNewest<A>(known: Record<string, A>, id: string, found: A): Record<string, A> {
  const others = Object.entries(known).filter(([other]) => other !== id);
  return Object.fromEntries([...others.slice(1 - KEPT), [id, found]]);
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
