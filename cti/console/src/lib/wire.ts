/** The shapes that travel between the server and this page. Times are ISO 8601 in UTC; null where unknown. */

export type PresenceWord = 'ready' | 'pause' | 'offline';
export type Work = 'idle' | 'ringing' | 'talking' | 'held' | 'wrapup';
export type State =
  | 'opened' | 'qualifying' | 'waiting' | 'offered' | 'active' | 'wrapup' | 'ended' | 'abandoned' | 'interrupted';
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
  kind: 'call' | 'note' | 'tree' | 'offer' | 'state' | 'recording' | 'event';
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
  advisors: Record<'ready' | 'ringing' | 'talking' | 'wrapup' | 'pause' | 'offline', number>;
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
