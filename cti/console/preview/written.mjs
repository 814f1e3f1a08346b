// The written channels of the stand-in: threads, messages, the inbox, figures; all invented.
const DAY = 86_400;
const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const hence = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();
const MB = 1_000_000;

const spec = (channel, extra) => ({ channel, label: channel, text_chars: null, text_bytes: null, quick_replies: 0, quick_reply_chars: 20, attachment_bytes: { image: 20 * MB, audio: 20 * MB, video: 20 * MB, file: 20 * MB }, subject: false, html: false, typing: false, ...extra });
export const channels = {
  messenger: { ...spec('messenger', { text_chars: 2000, quick_replies: 13, attachment_bytes: { image: 8 * MB, audio: 25 * MB, video: 25 * MB, file: 25 * MB }, typing: true }), seat: 'chat', labels: { fr: 'Messenger', en: 'Messenger' } },
  email: { ...spec('email', { subject: true, html: true }), seat: 'mail', labels: { fr: 'Courriel', en: 'Email' } },
  webchat: { ...spec('webchat', { text_chars: 4000, quick_replies: 10, typing: true }), seat: 'chat', labels: { fr: 'Discussion du site', en: 'Website chat' } },
};
export const accounts = [
  { account: 'page', channel: 'messenger', label: 'Messenger', name: 'Colis Express', state: 'up', reason: '', since: ago(3 * DAY), waiting: 0 },
  { account: 'contact', channel: 'email', label: 'Courriel', name: 'contact@colis.example', state: 'throttled', reason: 'too many messages: waits 40 s', since: ago(40), waiting: 12 },
  { account: 'site', channel: 'webchat', label: 'Discussion du site', name: 'www.colis.example', state: 'up', reason: '', since: null, waiting: 0 },
];
export const brokenAccounts = accounts.map((one) => (one.account === 'page' ? { ...one, state: 'down', reason: 'token revoked (code 190)', since: ago(1500), waiting: 7 } : one));

const message = (id, seq, thread, at, author, text, extra = {}) => ({
  id, seq, thread, interaction: null, case: '', account: 'page', channel: 'messenger', direction: author === 'customer' ? 'in' : 'out', author, by: author === 'advisor' ? 'lea' : null,
  by_name: author === 'advisor' ? 'Léa' : null, kind: 'text', at: ago(at), sent_at: author === 'customer' ? null : ago(at - 1), status: author === 'customer' ? 'received' : 'read', failure: null, code: '', detail: '', retryable: false,
  reply_to: null, text, subject: '', has_html: false, quoted: null, buttons: [], extra: {}, edited: false, unsent: false, reaction: '', automatic: false, standby: false, attachments: [], ...extra,
});
const file = (id, kind, name, type, bytes, state = 'stored') => ({ id, kind, name, type, bytes, state, url: `/api/v1/attachments/${id}` });
const jules = (id, seq, at, author, text, extra = {}) => message(id, seq, 't-jules', at, author, text, { interaction: 'n-5', case: 'c-4519', ...extra });
const amina = (id, seq, at, author, text, extra = {}) => message(id, seq, 't-amina', at, author, text, { interaction: 'n-6', case: 'c-4517', channel: 'webchat', account: 'site', ...extra });
const claire = (id, seq, at, author, text, extra = {}) => message(id, seq, 't-claire', at, author, text, { interaction: 'n-7', case: 'c-4521', channel: 'email', account: 'contact', ...extra });
export const messages = {
  'c-4519': [
    jules('m-1', 20, 2460, 'customer', 'Bonjour, mon colis a été livré au mauvais étage'),
    jules('m-2', 21, 2455, 'bot', 'Bonjour, je suis l’assistant automatique de Colis Express. Que souhaitez-vous ?', { buttons: [{ title: 'Suivre un colis', payload: 'track' }, { title: 'Une facture', payload: 'bill' }, { title: 'Une personne', payload: 'human' }] }),
    jules('m-3', 22, 2400, 'customer', 'Une personne', { kind: 'postback' }),
    jules('m-4', 23, 2395, 'bot', 'Je vous passe un conseiller. Vous pouvez déjà envoyer une photo.', { automatic: true }),
    jules('m-5', 24, 1500, 'customer', '', { kind: 'media', attachments: [file('a-photo', 'image', 'palier.jpg', 'image/jpeg', 812_000), file('a-pdf', 'file', 'bon-de-livraison.pdf', 'application/pdf', 184_000), file('a-big', 'video', 'hall.mp4', 'video/mp4', 9_200_000, 'fetching')] }),
    jules('m-6', 25, 900, 'advisor', 'Merci pour la photo. Je demande au livreur de repasser : demain matin vous convient ?', { reaction: '👍' }),
    jules('m-7', 26, 640, 'customer', 'Oui, avant 10 h si possible. Le gardien n’était pas là hier et le voisin du 3e n’ouvre pas.', { reply_to: 'm-6' }),
    jules('m-8', 27, 600, 'advisor', 'Je transmets.', { status: 'failed', failure: 'throttled', code: '613', detail: 'Calls to this api have exceeded the rate limit.', retryable: true }),
    jules('m-9', 28, 300, 'customer', 'Vous êtes là ?'),
  ],
  'c-4517': [
    amina('m-20', 40, 420, 'customer', 'Hello, I was promised a refund for order 77-412 five days ago.'),
    amina('m-21', 41, 300, 'advisor', 'Let me look at it with our accounts team.', { status: 'delivered' }),
    amina('m-22', 42, 75, 'customer', 'Thank you.'),
    amina('m-23', 43, 40, 'customer', 'Is it on its way?'),
  ],
  'c-4521': [
    claire('m-40', 60, 2 * DAY, 'customer', 'Bonjour,\n\nMon colis 8R123 n’est toujours pas arrivé. Pouvez-vous me dire où il est ?\n\nClaire Martin', { subject: 'Colis 8R123 non reçu', has_html: true, extra: { to: ['contact@colis.example'], cc: ['compta@atelier-martin.example'], answer_to: 'claire.perso@example.org', spf: 'pass', dkim: 'pass', dmarc: 'none' }, quoted: '> Le 12, Colis Express a écrit :\n> Votre colis est en route.' }),
    claire('m-41', 61, 2 * DAY - 5400, 'advisor', 'Bonjour Madame,\n\nIl est en transit, livraison prévue mardi.\n\nLéa', { subject: 'Re : Colis 8R123 non reçu', status: 'perhaps', detail: 'connection lost after DATA', retryable: true }),
  ],
};
const address = { jules: { id: 'a-jules', kind: 'psid', value: '24001000200030013', display: '24001000200030013' }, amina: { id: 'a-amina', kind: 'webchat', value: '0199c5d2f3a74b55', display: '0199c5d2f3a74b55' }, claire: { id: 'a3', kind: 'email', value: 'claire@example.org', display: 'claire@example.org' } };
export const threads = (scene) => ({
  'c-4519': [{ id: 't-jules', account: 'page', account_name: 'Colis Express', channel: 'messenger', address: address.jules, live: 'n-5', last_in_at: ago(300), last_out: 'm-8',
    window: scene === 'shut' ? { state: 'closed', until: ago(7 * DAY), tag_until: ago(30) } : scene === 'tag' ? { state: 'tag', until: ago(600), tag_until: hence(5 * DAY) } : { state: 'open', until: hence(21 * 3600 + 120), tag_until: hence(7 * DAY) }, composer: channels.messenger }],
  'c-4517': [{ id: 't-amina', account: 'site', account_name: 'www.colis.example', channel: 'webchat', address: address.amina, live: 'n-6', last_in_at: ago(40), last_out: 'm-21', window: { state: 'open', until: hence(1800), tag_until: null }, composer: channels.webchat }],
  'c-4521': [{ id: 't-claire', account: 'contact', account_name: 'contact@colis.example', channel: 'email', address: address.claire, live: 'n-7', last_in_at: ago(2 * DAY), last_out: 'm-41', window: { state: 'open', until: null, tag_until: null }, composer: channels.email }],
});
export const work = (interaction) => [
  interaction('n-5', 'active', { channel: 'messenger', seat: 'chat', account: 'page', thread: 't-jules', contact: 'p-jules', contact_name: 'Jules Petit', address: '24001000200030013', case: 'c-4519', case_number: 4519, queue: 'care', accepted_at: ago(1800), call: null, unread: 1 }),
  interaction('n-6', 'active', { channel: 'webchat', seat: 'chat', account: 'site', thread: 't-amina', contact: 'p-visitor', contact_name: null, address: '0199c5d2f3a74b55', case: 'c-4517', case_number: 4517, queue: 'billing', accepted_at: ago(400), call: null, unread: 2, language: 'en', gone_since: ago(35) }),
  interaction('n-7', 'active', { channel: 'email', seat: 'mail', account: 'contact', thread: 't-claire', contact: 'p-claire', contact_name: 'Claire Martin', address: 'claire@example.org', queue: 'care', accepted_at: ago(DAY), call: null }),
];
export const helps = [
  { id: 'h-1', interaction: 'n-9', case: 'c-4490', case_number: 4490, by: 'karim', of: 'lea', at: ago(130), text: 'Peut-on rembourser un colis rendu par le gardien, sans bon de retour ?', answered_at: null, answered_by: null, answer: '' },
  { id: 'h-2', interaction: 'n-5', case: 'c-4519', case_number: 4519, by: 'lea', of: 'sofia', at: ago(800), text: 'Le livreur du 11e repasse-t-il le matin ?', answered_at: ago(700), answered_by: 'sofia', answer: 'Oui, entre 8 h et 10 h, si on le demande avant 18 h.' },
];
export const viewers = [{ login: 'karim', first_name: 'Karim', doing: 'typing' }, { login: 'lea', first_name: 'Léa', doing: 'viewing' }];
export const templates = [
  { id: 'x1', title: 'Délai de remboursement', shortcut: 'remb', queues: [], text: 'Bonjour Jules, votre remboursement arrive sous 3 à 5 jours ouvrés.', missing: [] },
  { id: 'x2', title: 'Nouveau passage du livreur', shortcut: 'passage', queues: [], text: 'Bonjour Jules, le livreur repasse le {{ date }} entre {{ debut }} et {{ fin }}.', missing: ['date', 'debut', 'fin'] },
  { id: 'x3', title: 'Merci et à bientôt', shortcut: 'merci', queues: [], text: 'Merci de votre confiance. Je reste à votre disposition.', missing: [] },
];
export const ways = [
  { kind: 'call', account: null, channel: 'voice', address: { id: 'a4', kind: 'phone', value: '+33698765432', display: '+33 6 98 76 54 32' }, allowed: true, why: null },
  { kind: 'message', account: 'contact', channel: 'email', address: { id: 'a9', kind: 'email', value: 'jules.petit@example.org', display: 'jules.petit@example.org' }, allowed: true, why: null },
  { kind: 'message', account: 'page', channel: 'messenger', address: address.jules, allowed: false, why: 'window_closed' },
];
export const nodes = [{ node: 'choix', title: 'Choix' }, { node: 'suivi', title: 'Suivi de colis' }, { node: 'satisfaction', title: 'Satisfaction' }];

const inboxRow = (number, name, subject, extra) => ({ case: `c-${number}`, number, subject, state: 'open', tags: [], contact: 'p-jules', contact_name: name, vip: false, channels: ['messenger'], interaction: `i-${number}`, interaction_state: 'waiting', interaction_channel: 'messenger', queue: 'care', advisor: null, last_at: ago(300), last_text: '', last_author: 'customer', unanswered_since: ago(300), opened_at: ago(DAY), address: '24001000200030013', interaction_since: ago(300), ...extra });
const ROWS = [
  inboxRow(4519, 'Jules Petit', 'Livraison au mauvais étage', { interaction: 'n-5', interaction_state: 'active', advisor: 'lea', last_text: 'Vous êtes là ?', tags: ['livraison'] }),
  inboxRow(4526, null, 'Colis ouvert à la réception', { last_text: 'Il manque un des deux articles, je vous envoie la photo du carton.', unanswered_since: ago(5400), last_at: ago(5400), tags: ['litige'], vip: true }),
  inboxRow(4525, 'Pavel Horák', 'Zásilka / Parcel held at customs', { channels: ['email'], interaction_channel: 'email', queue: 'billing', last_text: 'Please find the invoice attached. What else do you need from me to release the parcel?', unanswered_since: ago(2600), last_at: ago(2600) }),
  inboxRow(4524, 'Amina Benali-Charpentier', 'Remboursement de la commande 77-412', { channels: ['voice', 'webchat'], interaction_channel: 'webchat', queue: 'billing', last_text: 'Is it on its way?', unanswered_since: ago(40), last_at: ago(40) }),
  inboxRow(4523, 'Thomas Nguyen', 'Changement d’adresse avant livraison', { last_text: 'Merci, c’est noté pour jeudi.', last_author: 'advisor', advisor: 'karim', interaction_state: 'active', unanswered_since: null, last_at: ago(9000), state: 'waiting' }),
  inboxRow(4521, null, '', { channels: ['voice'], interaction_channel: 'voice', interaction_state: 'active', advisor: 'karim', address: '+33 6 98 76 54 32', last_author: '', unanswered_since: null, interaction_since: ago(130), last_at: ago(200) }),
  inboxRow(4520, null, '', { channels: ['voice'], interaction_channel: 'voice', interaction_state: 'offered', advisor: 'karim', address: '+33 1 44 55 66 77', last_author: '', unanswered_since: null, interaction_since: ago(45), last_at: ago(60) }),
  inboxRow(4522, null, '', { contact: null, last_text: '', unanswered_since: ago(9), last_at: ago(9), queue: null }),
];
export function inbox(query) {
  const view = query.get('view') ?? 'all';
  const text = (query.get('text') ?? '').toLowerCase();
  const all = Array.from({ length: 60 }, (_, at) => { const one = ROWS[at % ROWS.length]; return at < ROWS.length ? one : { ...one, case: `${one.case}-${at}`, number: one.number - at, interaction: `${one.interaction}-${at}`, advisor: one.advisor === 'lea' ? 'karim' : one.advisor, last_at: ago(at * 1700), unanswered_since: one.unanswered_since && ago(at * 1700) }; });
  const of = { mine: (one) => one.advisor === 'lea', unassigned: (one) => one.advisor === null || one.interaction_state === 'offered', waiting: (one) => ['waiting', 'offered'].includes(one.interaction_state), help: () => false, all: () => true };
  const found = all.filter(of[view]).filter((one) => (!text || `${one.subject} ${one.last_text} ${one.contact_name}`.toLowerCase().includes(text)) && (!query.get('channel') || one.interaction_channel === query.get('channel')));
  const limit = Number(query.get('limit') ?? 50);
  return { items: found.slice(0, limit), next: found.length > limit ? 'more' : null, counts: Object.fromEntries(Object.entries(of).map(([name, test]) => [name, all.filter(test).length])) };
}

const clocks = (elapsed) => ({ elapsed, opening: elapsed * 0.4, opening_less_routing: elapsed * 0.36 });
const figures = (n, voice, extra = {}) => ({
  received: n, enqueued: Math.round(n * 0.7), conversations: Math.round(n * 0.7), answered: Math.round(n * 0.64), processed: Math.round(n * 0.9), left_by_key: voice ? 12 : 0, left_at_closing: voice ? 3 : 0, overflowed: voice ? 21 : 0, transferred: Math.round(n * 0.05), passed_over: 4, abandoned: voice ? Math.round(n * 0.04) : 0, short_abandoned: voice ? Math.round(n * 0.01) : 0, service_level: voice ? 0.819 : null, abandonment: voice ? 0.0476 : null,
  asa_s: voice ? 18.2 : null, within_hour: voice ? null : 0.623, within_hour_strict: voice ? null : 0.571, archived: voice ? null : Math.round(n * 0.03), automation: 0.178, automation_confirmed: 0.151,
  first_response: voice ? { per_message: { elapsed: null, opening: null, opening_less_routing: null }, per_conversation: { elapsed: null, opening: null, opening_less_routing: null } } : { per_message: clocks(2900), per_conversation: clocks(4100) },
  aht_s: voice ? 284 : 512, perhaps_sent: voice ? null : 1, failed: voice ? null : 4, ...extra,
});
export function statistics(query) {
  const from = query.get('from') ?? ago(7 * DAY);
  const times = Array.from({ length: 56 }, (_, at) => Math.floor(Date.now() / 10_800_000) * 10_800 - (55 - at) * 10_800);
  const day = (at) => Math.max(0, Math.sin((((times[at] / 3600 + 1) % 24) - 6) / 24 * 2 * Math.PI)) * 90;
  const received = times.map((_, at) => Math.round(day(at) + (at % 5)));
  return {
    from, to: query.get('to') ?? ago(0),
    formula: { service_level: 'answered <= T / (answered + abandoned after 5 s)', within_hour: 'first human responses per message with opening time <= 60 min / all first human responses sent', within_hour_strict: 'the same, with messages unanswered after 60 min of opening time counted as misses', abandonment: 'abandoned after 5 s / (enqueued - short abandons)', automation: 'closed with a bot answer, no human reply, no unserved request for a human / closed inbound conversations', automation_confirmed: 'the same, and no human contact on the case within 96 h', aht_s: '(talk + hold + wrap-up) / handled', asa_s: 'mean wait of the answered' },
    rows: [
      { queue: 'billing', channel: 'voice', figures: figures(1050, true) }, { queue: 'care', channel: 'voice', figures: figures(620, true) },
      { queue: 'care', channel: 'messenger', figures: figures(412, false) }, { queue: 'billing', channel: 'email', figures: figures(288, false) }, { queue: 'care', channel: 'webchat', figures: figures(131, false) }, { queue: null, channel: 'messenger', figures: figures(96, false, { answered: 0, aht_s: null }) },
    ],
    series: { interval_s: 10_800, times, received, answered: received.map((value, at) => Math.round(value * (0.6 + 0.2 * Math.sin(at)))), within_hour: received.map((value, at) => (value < 5 ? null : Math.min(1, 0.62 + 0.2 * Math.sin(at * 0.8)))) },
    totals: { ...figures(2597, true, { received: 2597, conversations: 1770, within_hour: 0.623, within_hour_strict: 0.571, archived: 25, perhaps_sent: 3, failed: 12 }), first_response: { per_message: clocks(2900), per_conversation: clocks(4100) } },
    note: 'Totals count distinct conversations: they may be less than the sum of the rows.',
  };
}
export const webhooks = [
  { id: 'w-3', account: 'page', at: ago(60), handled_at: ago(60), tries: 1, result: { events: 1, told: 1, known: 0 } },
  { id: 'w-2', account: 'page', at: ago(900), handled_at: null, tries: 5, result: { events: 1, told: 0, known: 0, failed: ['0: KeyError'] } },
  { id: 'w-1', account: 'page', at: ago(4000), handled_at: ago(3999), tries: 1, result: { events: 3, told: 1, known: 1, unknown: ['message_context'] } },
];
export const proposals = { 'p-jules': [{ contact: 'p-x', name: 'J. Petit', why: 'same_email', value: 'jules.petit@example.org' }] };
export const html = (images) => `<!doctype html><meta charset="utf-8"><title>.</title><body><h1>Colis Express</h1><p>Bonjour, mon colis <b>8R123</b> n’est toujours pas arrivé.</p>${images ? '<p>(images)</p>' : ''}</body>`;
export const picture = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 260"><rect width="400" height="260" fill="#c9b79c"/><rect x="40" y="30" width="120" height="220" fill="#6b4f36"/><rect x="190" y="150" width="150" height="90" fill="#b98a55"/><path d="M190 195h150M265 150v90" stroke="#8a6236" stroke-width="6"/></svg>';
export const newMessage = { message, jules, amina };
