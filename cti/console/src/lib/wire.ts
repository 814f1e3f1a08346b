/** The shapes that travel between the server and this page. Times are ISO 8601 in UTC; null where unknown. */

export type PresenceWord = 'ready' | 'pause' | 'offline';
export type Work = 'idle' | 'ringing' | 'talking' | 'held' | 'wrapup';
export type State =
  | 'opened' | 'qualifying' | 'waiting' | 'offered' | 'active' | 'wrapup' | 'ended' | 'abandoned' | 'interrupted';
export type Seat = 'voice' | 'chat' | 'mail';
export type CaseState = 'open' | 'waiting' | 'solved' | 'closed';

export interface Me {
  login: string;
  first_name: string;
  last_name: string;
  roles: string[];
  language: string;
  phone: { account: string | null; registered: boolean } | null;
}

export interface Presence {
  advisor: string;
  first_name: string;
  last_name: string;
  presence: PresenceWord;
  reason: string | null;
  work: Work;
  since: string;
  phone_registered: boolean;
  interactions: string[];
  /** How many of them are written. */
  written: number;
  queues: string[];
  misses: number;
}

export interface Interaction {
  id: string;
  channel: string;
  direction: 'in' | 'out';
  state: State;
  held: boolean;
  case: string | null;
  case_number: number | null;
  contact: string | null;
  contact_name: string | null;
  address: string | null;
  queue: string | null;
  advisor: string | null;
  priority: number;
  opened_at: string;
  enqueued_at: string | null;
  offered_at: string | null;
  accepted_at: string | null;
  ended_at: string | null;
  wrapup_until: string | null;
  call: string | null;
  recording: boolean;
  language: string | null;
  tree: { id: string; version: number } | null;
  outcome: string | null;
  code: string | null;
  seat: Seat;
  account: string | null;
  thread: string | null;
  /** The call that has this interaction's seat until it is over. */
  lent_to: string | null;
  /** Messages of the customer that nobody has seen. */
  unread: number;
  /** Since when no page of a visitor is open. */
  gone_since: string | null;
}

/** How one message may look on its channel; null and 0: no limit, none. */
export interface Composer {
  channel: string;
  label: string;
  text_chars: number | null;
  text_bytes: number | null;
  quick_replies: number;
  quick_reply_chars: number;
  attachment_bytes: Record<string, number>;
  subject: boolean;
  html: boolean;
  typing: boolean;
}

export interface Channel extends Composer {
  seat: Seat;
  labels: Record<string, string>;
}

export interface Attachment {
  id: string;
  kind: string;
  name: string;
  type: string;
  bytes: number;
  state: 'fetching' | 'stored' | 'failed' | 'quarantined';
  url: string;
}

export type Delivery =
  | 'received' | 'queued' | 'sending' | 'perhaps' | 'sent' | 'delivered' | 'read' | 'failed' | 'dropped';

export interface Message {
  id: string;
  seq: number;
  thread: string;
  interaction: string | null;
  case: string;
  account: string;
  channel: string;
  direction: 'in' | 'out';
  author: 'customer' | 'advisor' | 'bot' | 'system' | 'elsewhere';
  by: string | null;
  by_name: string | null;
  kind: 'text' | 'media' | 'sticker' | 'postback' | 'location' | 'system';
  at: string;
  sent_at: string | null;
  status: Delivery;
  failure: string | null;
  code: string;
  detail: string;
  /** Of one that needs several parts and did not go whole. */
  parts: { sent: number; of: number } | null;
  retryable: boolean;
  reply_to: string | null;
  text: string;
  subject: string;
  has_html: boolean;
  /** What the mail repeats of earlier ones. */
  quoted: string | null;
  buttons: { title: string; payload: string }[];
  extra: Record<string, unknown>;
  edited: boolean;
  unsent: boolean;
  reaction: string;
  automatic: boolean;
  standby: boolean;
  attachments: Attachment[];
}

/** Until when may we write? `until`: freely; `tag_until`: a person may, marked as one. Both null: always. */
export interface Window {
  state: 'open' | 'tag' | 'closed';
  until: string | null;
  tag_until: string | null;
}

export interface Thread {
  id: string;
  account: string;
  account_name: string;
  channel: string;
  address: Address;
  live: string | null;
  last_in_at: string | null;
  last_out: string | null;
  window: Window;
  composer: Composer;
}

export interface Help {
  id: string;
  interaction: string;
  case: string;
  case_number: number;
  by: string;
  /** Whom it is asked of; null: everybody. */
  of: string | null;
  at: string;
  text: string;
  answered_at: string | null;
  answered_by: string | null;
  answer: string;
}

export interface Viewer {
  login: string;
  first_name: string;
  doing: 'viewing' | 'typing';
}

export interface Template {
  id: string;
  title: string;
  shortcut: string;
  queues: string[];
  text: string;
  /** Variables that are not known here; they stand in the text as {{ name }}. */
  missing: string[];
}

export interface AccountRow {
  account: string;
  channel: string;
  label: string;
  name: string;
  state: 'up' | 'throttled' | 'down';
  reason: string;
  since: string | null;
  /** Messages that have not left yet. */
  waiting: number;
}

export interface Way {
  kind: 'call' | 'message';
  account: string | null;
  channel: string;
  address: Address;
  allowed: boolean;
  why: string | null;
}

export type View = 'mine' | 'unassigned' | 'waiting' | 'help' | 'all';

export interface InboxRow {
  case: string;
  number: number;
  subject: string;
  state: CaseState;
  tags: string[];
  contact: string | null;
  contact_name: string | null;
  vip: boolean;
  channels: string[];
  interaction: string | null;
  interaction_state: State | null;
  interaction_channel: string | null;
  queue: string | null;
  advisor: string | null;
  last_at: string;
  last_text: string;
  last_author: Message['author'] | null;
  unanswered_since: string | null;
  opened_at: string;
  /** Where the customer writes or calls from, in a form to read. */
  address?: string | null;
  /** Since when its interaction waits, talks, or is over. */
  interaction_since?: string | null;
}

export interface Inbox {
  items: InboxRow[];
  next: string | null;
  counts: Partial<Record<View, number>>;
}

export interface Proposal {
  contact: string;
  name: string | null;
  why: string;
  value: string;
}

export interface Webhook {
  id: string;
  account: string;
  at: string;
  handled_at: string | null;
  tries: number;
  result: unknown;
}

/** Median seconds to the first human answer, by the clock that is asked for. */
export interface Clocks {
  elapsed: number | null;
  opening: number | null;
  opening_less_routing: number | null;
}

export interface Figures {
  received: number | null;
  enqueued: number | null;
  conversations: number | null;
  answered: number | null;
  abandoned: number | null;
  short_abandoned: number | null;
  processed: number | null;
  left_by_key: number | null;
  left_at_closing: number | null;
  overflowed: number | null;
  transferred: number | null;
  passed_over: number | null;
  service_level: number | null;
  abandonment: number | null;
  asa_s: number | null;
  within_hour: number | null;
  within_hour_strict: number | null;
  archived: number | null;
  automation: number | null;
  automation_confirmed: number | null;
  first_response: { per_message: Clocks; per_conversation: Clocks };
  aht_s: number | null;
  perhaps_sent: number | null;
  failed: number | null;
}

export interface Statistics {
  from: string;
  to: string;
  formula: Record<string, string>;
  rows: { queue: string | null; channel: string | null; figures: Figures }[];
  series: {
    interval_s: number; times: number[];
    received: (number | null)[]; answered: (number | null)[]; within_hour: (number | null)[];
  };
  totals: Figures;
  note: string | null;
}

export interface PathStep {
  tree: string;
  version: number;
  node: string;
  title: string | null;
  exit: string;
  keys: string;
  seconds: number;
}

export interface Person {
  contact: string;
  name: string | null;
  company: string | null;
  vip: boolean;
  why: 'number' | 'case' | 'chosen';
  sure: 'certain' | 'likely' | 'possible';
}

export interface CaseRow {
  id: string;
  number: number;
  subject: string;
  state: CaseState;
  contact: string | null;
  contact_name: string | null;
  opened_at: string;
  changed_at: string;
  channels: string[];
  tags: string[];
}

export interface PastInteraction {
  id: string;
  channel: string;
  direction: 'in' | 'out';
  at: string;
  advisor: string | null;
  outcome: string | null;
  code: string | null;
  case_number: number | null;
}

export interface Pop {
  interaction: string;
  call: string | null;
  case: { id: string; number: number; subject: string; state: CaseState } | null;
  received_number: string | null;
  e164: string | null;
  attestation: string | null;
  trunk: string | null;
  persons: Person[];
  queue: { id: string; name: string } | null;
  priority: number;
  waited_s: number | null;
  path: PathStep[];
  language: string | null;
  facts: Record<string, unknown>;
  open_cases: CaseRow[];
  last_interactions: PastInteraction[];
  last_advisor: string | null;
  kind: 'first' | 'repeat' | 'callback';
  transfer: { by?: string; queue?: string; note?: string } | null;
  url: string | null;
  /** Of a written interaction: what was said last. */
  last_messages?: Message[];
}

export interface Offer {
  id: string;
  interaction: Interaction;
  deadline: string;
  made_at: string;
  pop: Pop | null;
  /** When the page opens the pop: ring, answer, end, button, never. */
  pop_at?: string;
}

export interface Item {
  at: string;
  kind: 'call' | 'note' | 'message' | 'tree' | 'offer' | 'state' | 'recording' | 'event';
  interaction: string | null;
  advisor: string | null;
  text: string | null;
  data: Record<string, unknown> | null;
  seq: number;
}

export interface Case extends CaseRow {
  timeline: Item[];
  interactions: Interaction[];
  notes_count: number;
  follows: string | null;
  /** There are messages from before those. */
  earlier?: boolean;
  merged_into: string | null;
  merges: { merge: string; case: string; number: number; at: string; by: string | null }[];
  messages: Message[];
  threads: Thread[];
  helps: Help[];
  viewers: Viewer[];
}

export interface Address {
  id: string;
  kind: string;
  value: string;
  display: string;
}

export interface Contact {
  id: string;
  name: string | null;
  company: string | null;
  vip: boolean;
  language: string | null;
  addresses: Address[];
  cases: CaseRow[];
  last_interactions: PastInteraction[];
  merged_from: { merge: string; contact: string; name: string | null; reason: string; at: string }[];
}

export interface BoardRow {
  queue: string;
  name: string;
  channel: string;
  waiting: number;
  longest_wait_s: number | null;
  estimate_s: [number, number] | null;
  service_level: number | null;
  target: { share: number; seconds: number } | null;
  answered: number;
  abandoned: number;
  short_abandoned: number;
  advisors: Record<'ready' | 'ringing' | 'talking' | 'writing' | 'wrapup' | 'pause' | 'offline', number>;
  breach_in_s: number | null;
  spark: (number | null)[];
  formula: string | null;
}

export interface Board {
  at: string;
  rows: BoardRow[];
  advisors: Presence[];
}

export interface TreeExit {
  exit: string;
  label?: string;
  key: string | null;
  to: string | null;
}

export interface TreeNode {
  id: string;
  kind: string;
  title: string | null;
  words: string | Record<string, string> | null;
  exits: TreeExit[];
  inside: number;
  /** What is special about the node: legal, sensitive, queue:ID, tree:ID. */
  marks: string[];
}

export interface Tree {
  id: string;
  version: number;
  published_at: string | null;
  author: string | null;
  nodes: TreeNode[];
  languages: string[];
}

export interface QueueRow {
  id: string;
  name: string;
  wrapup_codes: string[];
}

export interface WrapupCode {
  id: string;
  labels: Record<string, string>;
  solves: boolean;
}

export interface Snapshot {
  me: Me;
  presence: Presence | null;
  offers: Offer[];
  interactions: Interaction[];
  /** Of `interactions`: a new page knows as much as the one that saw the offer. */
  pops: Pop[];
  colleagues: { login: string; first_name: string }[];
  board: Board | null;
  version: string | number | null;
  wrapup_codes: WrapupCode[];
  pause_reasons: string[];
  /** `wrapup_codes`: those it asks for; none named: any. */
  queues: QueueRow[];
  site: { name: string; languages: string[]; time_zone: string };
  accounts: AccountRow[];
  channels: Record<string, Channel>;
  tags: string[];
  archive_reasons: string[];
  helps: Help[];
}

export interface Frame {
  seq: number;
  id?: string | null;
  type: string;
  time?: string;
  subject?: string | null;
  data: unknown;
}

export interface Mistake {
  line: number;
  where: string;
  message: string;
  cure: string;
}

export interface FieldError {
  field: string;
  expected?: string;
  got?: unknown;
}

export interface QueueSettings {
  id: string;
  name: string;
  needs: { any_of: [string, number][] }[];
  priority: number;
  ageing_per_minute: number;
  hours: string | null;
  at_closing: string;
  prefer: string;
  targets: Record<string, { share: number; seconds: number }>;
  offer_s: Record<string, number>;
  related_hold_s: Record<string, number>;
  wrapup_max_s: number;
  wrapup_extension_s: number;
  wrapup_codes: string[];
  pop: string;
  music: string;
  announce_every_s: number;
  announce_place: boolean;
  leave_key: string | null;
  max_waiting: number;
  overflow_after_s: number | null;
  overflow_to: string | null;
  record: boolean;
  after_misses: number;
}

export interface AdvisorSettings {
  id: string;
  first_name: string;
  last_name: string;
  roles: string[];
  skills: Record<string, number>;
  seats: Record<string, number>;
  queues: string[] | null;
  language: string;
  phone: string | null;
  shift_ends: string | null;
}
