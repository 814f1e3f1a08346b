// A stand-in for the server, with a morning's worth of invented people: for looking at the page, never for testing the server.
// node preview/server.mjs [port] ; what it shows is chosen by POST /preview {scene}: idle, offer, ambiguous, call, wrapup, empty, threads, tag, shut, chat, beside, broken.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as written from './written.mjs';

const DIST = join(fileURLToPath(new URL('.', import.meta.url)), '..', 'dist');
const PORT = Number(process.argv[2] ?? 17901);
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; media-src 'self'; font-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const hence = (seconds) => new Date(Date.now() + seconds * 1000).toISOString();
const DAY = 86_400;

let scene = 'idle';
let signedIn = true;
let presence = { presence: 'ready', reason: null };
let seq = 100;
let began = 0;

const me = { login: 'lea', first_name: 'Léa', last_name: 'Fontaine', roles: ['advisor', 'supervisor', 'admin'], language: 'fr', phone: { account: 'lea', registered: true } };
const codes = [
  { id: 'lost', labels: { fr: 'Colis perdu', en: 'Lost parcel' }, solves: false },
  { id: 'delay', labels: { fr: 'Retard de livraison', en: 'Late delivery' }, solves: false },
  { id: 'refund', labels: { fr: 'Remboursement accordé', en: 'Refund granted' }, solves: true },
  { id: 'invoice', labels: { fr: 'Question de facture', en: 'Invoice question' }, solves: true },
  { id: 'address', labels: { fr: 'Changement d’adresse', en: 'Change of address' }, solves: true },
  { id: 'wrong', labels: { fr: 'Erreur de numéro', en: 'Wrong number' }, solves: true },
];
const caseRow = (id, number, subject, state, who, opened, changed, channels = ['voice']) => ({
  id, number, subject, state, contact: who[0], contact_name: who[1], opened_at: ago(opened), changed_at: ago(changed), channels, tags: id === 'c-4519' ? ['livraison'] : [],
});
const CLAIRE = ['p-claire', 'Claire Martin'];
const JULES = ['p-jules', 'Jules Petit'];
const AMINA = ['p-amina', 'Amina Benali-Charpentier'];
const rows = () => scene === 'empty' ? [] : [
  caseRow('c-4521', 4521, 'Colis 8R123 non reçu', 'open', CLAIRE, 3 * DAY, 240, ['voice', 'email']),
  caseRow('c-4498', 4498, 'Facture de septembre en double', 'waiting', CLAIRE, 12 * DAY, 2 * DAY, ['email']),
  caseRow('c-4519', 4519, 'Livraison au mauvais étage, le gardien n’a pas voulu prendre le colis', 'open', JULES, 3 * DAY, 3600),
  caseRow('c-4517', 4517, 'Remboursement de la commande 77-412', 'waiting', AMINA, 5 * DAY, 5 * 3600, ['voice', 'webchat']),
  caseRow('c-4490', 4490, 'Changement d’adresse', 'solved', JULES, 14 * DAY, 9 * DAY),
  caseRow('c-4377', 4377, 'Colis endommagé', 'closed', CLAIRE, 60 * DAY, 52 * DAY),
];
const past = [
  { id: 'i1', channel: 'voice', direction: 'in', at: ago(2 * DAY), advisor: 'karim', outcome: 'served', code: 'delay', case_number: 4521 },
  { id: 'i2', channel: 'email', direction: 'in', at: ago(3 * DAY), advisor: 'lea', outcome: 'served', code: null, case_number: 4521 },
  { id: 'i3', channel: 'voice', direction: 'out', at: ago(9 * DAY), advisor: 'lea', outcome: 'no_answer', code: null, case_number: 4498 },
  { id: 'i4', channel: 'voice', direction: 'in', at: ago(52 * DAY), advisor: 'sofia', outcome: 'served', code: 'refund', case_number: 4377 },
  { id: 'i5', channel: 'voice', direction: 'in', at: ago(60 * DAY), advisor: null, outcome: 'abandoned', code: null, case_number: 4377 },
];
const path = [
  { tree: 'accueil', version: 12, node: 'Bienvenue', exit: 'done', keys: '', seconds: 6 },
  { tree: 'accueil', version: 12, node: 'Choix', exit: 'key_2', keys: '2', seconds: 9 },
  { tree: 'accueil', version: 12, node: 'Numéro de colis', exit: 'ok', keys: '8R••3#', seconds: 14 },
  { tree: 'accueil', version: 12, node: 'Suivi', exit: 'ok', keys: '', seconds: 1 },
];
const contacts = () => ({
  'p-claire': { id: 'p-claire', name: 'Claire Martin', company: 'Atelier Martin', vip: true, language: 'fr', addresses: [{ id: 'a1', kind: 'phone', value: '+33612345678', display: '+33 6 12 34 56 78' }, { id: 'a2', kind: 'phone', value: '+33145556677', display: '+33 1 45 55 66 77' }, { id: 'a3', kind: 'email', value: 'claire@example.org', display: 'claire@example.org' }], cases: rows().filter((one) => one.contact === 'p-claire'), last_interactions: past, merged_from: [{ merge: 'm1', contact: 'p-x', name: 'C. Martin', reason: 'même numéro', at: ago(20 * DAY) }] },
  'p-jules': { id: 'p-jules', name: 'Jules Petit', company: null, vip: false, language: 'fr', addresses: [{ id: 'a4', kind: 'phone', value: '+33698765432', display: '+33 6 98 76 54 32' }], cases: rows().filter((one) => one.contact === 'p-jules'), last_interactions: [], merged_from: [] },
  'p-visitor': { id: 'p-visitor', name: '', company: null, vip: false, language: 'en', addresses: [{ id: 'a-amina', kind: 'webchat', value: '0199c5d2f3a74b55', display: '0199c5d2f3a74b55' }], cases: [], last_interactions: [], merged_from: [] },
  'p-amina': { id: 'p-amina', name: 'Amina Benali-Charpentier', company: 'Benali & Fils', vip: false, language: 'en', addresses: [{ id: 'a5', kind: 'phone', value: '+33698765432', display: '+33 6 98 76 54 32' }], cases: rows().filter((one) => one.contact === 'p-amina'), last_interactions: past.slice(0, 2), merged_from: [] },
});

const interaction = (id, state, extra = {}) => ({
  id, channel: 'voice', direction: 'in', state, held: false, case: 'c-4521', case_number: 4521, contact: 'p-claire', contact_name: 'Claire Martin',
  address: '+33612345678', queue: 'billing', advisor: 'lea', priority: 0, opened_at: ago(230), enqueued_at: ago(200), offered_at: ago(160), accepted_at: null,
  ended_at: null, wrapup_until: null, call: 'call-9f2', recording: false, language: 'fr', tree: { id: 'accueil', version: 12 }, outcome: null, code: null, seat: 'voice', account: null, thread: null, lent_to: null, unread: 0, ...extra,
});
const pop = (id, extra = {}) => ({
  interaction: id, call: 'call-9f2', case: { id: 'c-4521', number: 4521, subject: 'Colis 8R123 non reçu', state: 'open' }, received_number: '0612345678', e164: '+33612345678',
  attestation: 'A', trunk: 'op1', persons: [{ contact: 'p-claire', name: 'Claire Martin', company: 'Atelier Martin', vip: true, why: 'number', sure: 'certain' }],
  queue: { id: 'billing', name: 'Facturation' }, priority: 5, waited_s: 100, path, language: 'fr', facts: { colis: '8R123', 'état du colis': 'en transit depuis mardi' },
  open_cases: rows().filter((one) => one.contact === 'p-claire'), last_interactions: past, last_advisor: 'karim', kind: 'repeat', transfer: null, url: 'https://crm.example/?phone=+33612345678', ...extra,
});
const WRITTEN = ['threads', 'tag', 'shut', 'chat', 'beside', 'broken'];
function offers() {
  if (scene === 'chat') return [{ id: 'o-3', interaction: interaction('n-8', 'offered', { advisor: null, channel: 'messenger', seat: 'chat', account: 'page', contact: null, contact_name: 'Nadège Roussel', address: 'Nadège R.', queue: 'care', call: null, case: 'c-4490', case_number: 4490 }), made_at: ago(3), deadline: hence(42), pop_at: 'ring', pop: pop('n-8', { call: null, waited_s: 74, e164: null, persons: [], last_messages: [{ ...written.newMessage.jules('m-90', 90, 74, 'customer', 'Bonjour, mon colis est arrivé ouvert et il manque un article, que dois-je faire ?'), case: 'c-4490', interaction: 'n-8' }] }) }];
  if (scene === 'offer') return [{ id: 'o-1', interaction: interaction('n-1', 'offered', { advisor: null }), made_at: ago(3), deadline: hence(12), pop: pop('n-1'), pop_at: 'ring' }];
  if (scene === 'ambiguous')
    return [{ id: 'o-2', interaction: interaction('n-2', 'offered', { advisor: null, contact: null, contact_name: null, address: '+33698765432', case: 'c-4519', case_number: 4519 }), made_at: ago(3), deadline: hence(12), pop_at: 'ring',
      pop: pop('n-2', { e164: '+33698765432', case: null, attestation: 'C', persons: [
        { contact: 'p-jules', name: 'Jules Petit', company: null, vip: false, why: 'number', sure: 'possible' },
        { contact: 'p-amina', name: 'Amina Benali-Charpentier', company: 'Benali & Fils', vip: true, why: 'number', sure: 'possible' }] }) }];
  return [];
}
function mine() {
  if (WRITTEN.includes(scene)) return written.work(interaction);
  const mail = interaction('n-3', 'active', { channel: 'email', seat: 'mail', account: 'contact', unread: 0, contact: 'p-jules', contact_name: 'Jules Petit', case: 'c-4519', case_number: 4519, accepted_at: ago(310), queue: 'care' });
  if (scene === 'call') return [interaction('n-1', 'active', { accepted_at: ago(151), recording: true }), mail];
  if (scene === 'held') return [interaction('n-1', 'active', { accepted_at: ago(151), recording: true, held: true }), mail];
  if (scene === 'wrapup') return [interaction('n-1', 'wrapup', { accepted_at: ago(351), ended_at: ago(4), wrapup_until: hence(56) }), mail];
  if (scene === 'out') return [interaction('n-4', 'opened', { direction: 'out', opened_at: ago(6), enqueued_at: null, queue: null })];
  return [];
}
const work = () => ({ offer: 'ringing', ambiguous: 'ringing', call: 'talking', held: 'held', wrapup: 'wrapup', out: 'talking' })[scene] ?? 'idle';
const myPresence = () => ({ advisor: 'lea', first_name: 'Léa', last_name: 'Fontaine', ...presence, work: work(), since: ago(scene === 'call' ? 151 : 252 - began), phone_registered: scene !== 'nophone', interactions: mine().map((one) => one.id), queues: ['billing', 'care'], misses: 0 });
const person = (advisor, first, last, state, workNow, since, extra = {}) => ({ advisor, first_name: first, last_name: last, presence: state, reason: null, work: workNow, since: ago(since), phone_registered: state !== 'offline', interactions: [], queues: ['billing'], misses: 0, ...extra });
function board() {
  if (scene === 'empty') return { at: ago(0), rows: [], advisors: [myPresence()] };
  const spark = (base, amount, seed) => Array.from({ length: 32 }, (_, at) => (at < 3 ? null : Math.min(1, Math.max(0, base + amount * Math.sin(at * 0.7 + seed) + 0.05 * Math.cos(at * 2.1)))));
  const formula = 'répondus ≤ T / (répondus + abandonnés après 5 s)';
  const row = (queue, name, channel, extra) => ({ queue, name, channel, waiting: 0, longest_wait_s: null, estimate_s: null, service_level: 0.92, target: { share: 0.8, seconds: 20 }, answered: 120, abandoned: 4, short_abandoned: 0, advisors: { ready: 1, ringing: 0, talking: 2, wrapup: 0, pause: 1, offline: 1 }, breach_in_s: null, spark: spark(0.9, 0.08, 1), formula, ...extra });
  return {
    at: ago(0),
    rows: [
      row('billing', 'Facturation', 'voice', { waiting: 7, longest_wait_s: 100, estimate_s: [120, 240], service_level: 0.74, answered: 312, abandoned: 21, short_abandoned: 5, advisors: { ready: 0, ringing: 1, talking: 4, wrapup: 1, pause: 2, offline: 3 }, breach_in_s: 240, spark: spark(0.78, 0.15, 0) }),
      row('care', 'Service clients', 'voice', { waiting: 1, longest_wait_s: 8, estimate_s: [10, 30], service_level: 0.91 }),
      row('care', 'Service clients', 'email', { waiting: 14, longest_wait_s: 2480, estimate_s: [1800, 3600], service_level: 0.83, target: { share: 0.9, seconds: 3600 }, answered: 64, abandoned: 0, spark: spark(0.85, 0.1, 2) }),
      row('tracking', 'Suivi de colis', 'voice', { service_level: 0.97, answered: 1204, abandoned: 12, advisors: { ready: 3, ringing: 0, talking: 2, wrapup: 0, pause: 0, offline: 2 }, spark: spark(0.95, 0.04, 3) }),
      row('night', 'Astreinte de nuit', 'voice', { service_level: null, answered: 0, abandoned: 0, advisors: { ready: 0, ringing: 0, talking: 0, wrapup: 0, pause: 0, offline: 4 }, spark: [] }),
    ],
    advisors: [
      myPresence(), person('karim', 'Karim', 'Haddad', 'ready', 'talking', 1520), person('sofia', 'Sofia', 'Rossi', 'ready', 'idle', 95),
      person('noe', 'Noé', 'Leroy', 'ready', 'idle', 12, { phone_registered: false }), person('ines', 'Inès', 'Garcia', 'ready', 'wrapup', 214),
      person('tom', 'Tom', 'Wagner', 'pause', 'idle', 400, { reason: 'lunch' }), person('zoe', 'Zoé', 'Marchand-Delacroix', 'ready', 'ringing', 5, { misses: 2 }),
      person('paul', 'Paul', 'Weber', 'pause', 'idle', 1900, { reason: 'training' }), person('maya', 'Maya', 'Silva', 'ready', 'talking', 44),
      person('hugo', 'Hugo', 'Blanc', 'offline', 'idle', 20_000), person('lina', 'Lina', 'Moreau', 'offline', 'idle', 40_000), person('eva', 'Eva', 'Nowak', 'ready', 'talking', 311),
    ],
  };
}
const snapshot = () => ({
  me: { ...me, phone: { account: 'lea', registered: scene !== 'nophone' } }, presence: myPresence(), offers: offers(), interactions: mine(), pops: (WRITTEN.includes(scene) ? [] : mine()).slice(0, 1).map((one) => pop(one.id)), colleagues: [...board().advisors.map((one) => ({ login: one.advisor, first_name: one.first_name }))], board: board(), version: '7', wrapup_codes: codes, pause_reasons: ['lunch', 'break', 'training'],
  queues: [['billing', 'Facturation'], ['care', 'Service clients'], ['tracking', 'Suivi de colis']].map(([id, name]) => ({ id, name, wrapup_codes: [] })), site: { name: 'Colis Express', languages: ['fr', 'en'], time_zone: 'Europe/Paris' },
  accounts: scene === 'broken' ? written.brokenAccounts : written.accounts, channels: written.channels, tags: ['livraison', 'litige', 'retour'], archive_reasons: ['spam', 'duplicate', 'no_answer_needed'], helps: WRITTEN.includes(scene) ? written.helps : [],
});
const timeline = [
  { at: ago(3 * DAY), kind: 'state', interaction: null, advisor: null, text: null, data: { event: 'case.opened', number: 4521 }, seq: 1 },
  { at: ago(3 * DAY - 20), kind: 'tree', interaction: 'i0', advisor: null, text: null, data: { tree: 'accueil', version: 11, path: path.slice(0, 2) }, seq: 2 },
  { at: ago(3 * DAY - 300), kind: 'call', interaction: 'i0', advisor: 'karim', text: null, data: { direction: 'in', duration_s: 252, wait_s: 41, held_s: 30, outcome: 'served', code: 'delay', recording: { id: 'r-1', duration_ms: 252_000 } }, seq: 3 },
  { at: ago(3 * DAY - 360), kind: 'note', interaction: null, advisor: 'karim', text: 'Le transporteur annonce une livraison mardi matin.\nRappeler si rien mercredi.', data: {}, seq: 4 },
  { at: ago(DAY + 3600), kind: 'call', interaction: 'i9', advisor: 'lea', text: null, data: { direction: 'out', duration_s: 0, wait_s: null, held_s: 0, outcome: 'no_answer', code: null, recording: null }, seq: 5 },
  { at: ago(DAY + 3500), kind: 'state', interaction: null, advisor: 'lea', text: null, data: { event: 'case.changed', state: 'waiting', by: 'lea' }, seq: 6 },
  { at: ago(230), kind: 'state', interaction: null, advisor: null, text: null, data: { event: 'case.reopened', by: 'interaction', state: 'open' }, seq: 7 },
  { at: ago(200), kind: 'tree', interaction: 'n-1', advisor: null, text: null, data: { tree: 'accueil', version: 12, path }, seq: 8 },
  { at: ago(199), kind: 'event', interaction: 'n-1', advisor: null, text: null, data: { event: 'interaction.enqueued', queue: 'billing' }, seq: 9 },
  { at: ago(190), kind: 'offer', interaction: 'n-1', advisor: 'sofia', text: null, data: { event: 'offer.ended', how: 'missed' }, seq: 10 },
];
const node = (id, kind, title, words, exits, inside = 0, marks = []) => ({ id, kind, title, words, exits: exits.map(([exit, key, to]) => ({ exit, key, to })), inside, marks });
const trees = {
  accueil: {
    id: 'accueil', version: 12, published_at: ago(2 * DAY), author: 'lea', languages: ['fr', 'en'],
    nodes: [
      node('bienvenue', 'say', 'Bienvenue', 'Bonjour, bienvenue chez Colis Express.', [['done', null, 'langue']], 2),
      node('langue', 'language', 'Langue', 'Pour le français, tapez 1. For English, press 2.', [['done', null, 'horaires']], 1),
      node('horaires', 'hours', 'Ouvert ?', '', [['open', null, 'choix'], ['closed', null, 'ferme'], ['holiday', null, 'ferme']]),
      node('choix', 'menu', 'Choix', 'Pour une facture, tapez 1. Pour suivre un colis, tapez 2. Pour un conseiller, tapez 0.', [['1', '1', 'facturation'], ['2', '2', 'numero'], ['0', '0', 'clients'], ['error', null, 'clients'], ['no_input', null, 'clients'], ['no_match', null, 'choix']], 9),
      node('numero', 'collect', 'Numéro de colis', 'Tapez votre numéro de colis, puis dièse.', [['ok', null, 'suivi'], ['no_input', null, 'clients']], 4, ['sensitive']),
      node('suivi', 'lookup', 'Suivi', '', [['ok', null, 'annonce'], ['empty', null, 'clients'], ['timeout', null, 'clients']], 1),
      node('annonce', 'say', 'État du colis', 'Votre colis {{ colis }} est {{ etat }}.', [['done', null, 'fin']], 3),
      node('facturation', 'queue', 'Facturation', 'Un conseiller va vous répondre.', [['left', '9', 'fin'], ['full', null, 'fin']], 7),
      node('clients', 'queue', 'Service clients', 'Un conseiller va vous répondre.', [['left', '9', 'fin'], ['full', null, 'fin']], 1),
      node('ferme', 'say', 'Fermé', 'Nous sommes ouverts du lundi au samedi, de 8 à 20 heures.', [['done', null, 'fin']]),
      node('fin', 'hangup', 'Au revoir', 'Merci, à bientôt.', []),
    ],
  },
  suivi: { id: 'suivi', version: 3, published_at: ago(30 * DAY), author: 'karim', languages: ['fr'], nodes: [node('debut', 'say', 'Début', 'Bonjour.', [['done', null, 'fin']]), node('fin', 'hangup', 'Fin', '', [])] },
};
const queue = (id, name, extra = {}) => ({ id, name, needs: [{ any_of: [['fr', 2]] }], priority: 0, ageing_per_minute: 1, hours: 'semaine', at_closing: 'serve', prefer: 'longest_idle', targets: { voice: { share: 0.8, seconds: 20 } }, offer_s: { voice: 15, chat: 60, mail: 60 }, related_hold_s: { voice: 30, chat: 900, mail: 900 }, wrapup_max_s: 60, wrapup_extension_s: 60, wrapup_codes: ['delay', 'refund'], pop: 'ring', music: 'music.wav', announce_every_s: 30, announce_place: true, leave_key: null, max_waiting: 500, overflow_after_s: null, overflow_to: null, record: true, after_misses: 3, ...extra });
const advisor = (id, first, last, roles = ['advisor']) => ({ id, first_name: first, last_name: last, roles, skills: { fr: 5, en: 3 }, seats: { voice: 1, chat: 3, mail: 5 }, queues: null, language: 'fr', phone: id, shift_ends: null });

const said = structuredClone(written.messages);
function write(interaction, body) {
  const of = mine().find((one) => one.id === interaction);
  const thread = Object.values(written.threads(scene)).flat().find((one) => one.live === interaction);
  const made = { ...written.newMessage.message(body.message, ++seq, thread?.id ?? 't-new', 0, 'advisor', body.text), interaction, case: of?.case ?? 'c-4519', channel: of?.channel ?? 'email', status: 'queued', sent_at: null, subject: body.subject ?? '', buttons: body.buttons ?? [] };
  (said[made.case] ??= []).push(made);
  setTimeout(() => tell('message.changed', { message: Object.assign(made, { status: 'sent', sent_at: ago(0) }) }), 30);
  return made;
}
function answer(method, url, body) {
  const [, , , what, id, verb, more] = url.pathname.split('/');
  const is = (wanted, pattern) => method === wanted && pattern.test(url.pathname.slice('/api/v1'.length));
  if (is('GET', /^\/session$/)) return signedIn ? { csrf: 'x', me } : 401;
  if (is('POST', /^\/session$/)) {
    if (body.password === 'non') return 401;
    signedIn = true;
    return { csrf: 'x', me };
  }
  if (is('DELETE', /^\/session$/)) { signedIn = false; return 204; }
  if (is('PUT', /^\/me\/presence$/)) { presence = { presence: body.presence, reason: body.reason ?? null }; began = 252; return myPresence(); }
  if (what === 'interactions' && verb === 'why') return { sentences: [url.searchParams.get('lang') === 'en' ? 'You have been idle the longest (4 min 12 s) among 3 who speak French.' : 'Vous êtes libre depuis le plus longtemps (4 min 12 s) parmi 3 qui parlent français.', '…'], explanations: [] };
  if (is('GET', /^\/interactions$/)) {
    const items = Array.from({ length: 7 }, (_, at) => interaction(`w-${at}`, url.searchParams.get('figure') === 'waiting' ? 'waiting' : 'ended', { advisor: at % 2 ? 'karim' : null, opened_at: ago(400 - 40 * at), enqueued_at: ago(380 - 40 * at), accepted_at: url.searchParams.get('figure') === 'waiting' ? null : ago(300 - 40 * at) }));
    return { items, total: items.length };
  }
  if (what === 'inbox') return scene === 'empty' ? { items: [], next: null, counts: { mine: 0, unassigned: 0, waiting: 0, help: 0, all: 0 } } : written.inbox(url.searchParams);
  if (what === 'templates') return { items: written.templates };
  if (what === 'ways') return { items: written.ways };
  if (what === 'accounts') return { items: scene === 'broken' ? written.brokenAccounts : written.accounts };
  if (what === 'webhooks') return method === 'POST' ? 204 : { items: written.webhooks };
  if (what === 'statistics') return id === 'list' ? { items: Array.from({ length: 7 }, (_, at) => interaction(`s-${at}`, 'ended', { ended_at: ago(100), accepted_at: ago(300) })), total: 7 } : written.statistics(url.searchParams);
  if (what === 'contacts' && verb === 'proposals') return { items: written.proposals[id] ?? [] };
  if (what === 'interactions' && verb === 'nodes') return { items: written.nodes };
  if (what === 'helps' && verb === 'answer') return 204;
  if (what === 'interactions' && verb === 'messages') {
    if (body.text.includes('conflit') && !body.consent) return { status: 409, type: 'https://monofil.example/problems/newer-reply', title: 'newer reply', who: 'karim', text: 'Bonjour, je m’en occupe : le livreur repasse demain avant 10 h.', message: 'm-99' };
    return write(id, body);
  }
  if (what === 'cases' && verb === 'messages') return write(null, body);
  if (what === 'interactions' && verb === 'take') return id === 'i-4526' ? { status: 409, type: 'taken', title: 'taken', holder: 'karim' } : interaction(id, 'active', { channel: 'messenger', seat: 'chat', case: 'c-4519', case_number: 4519, contact: 'p-jules', contact_name: 'Jules Petit', accepted_at: ago(0) });
  if (what === 'interactions' && ['typing', 'seen', 'help', 'close', 'transfer', 'hand-back'].includes(verb)) return 204;
  if (what === 'interactions' && method === 'POST') {
    if (verb === 'hold') change('held'); else if (verb === 'resume') change('call'); else if (verb === 'hangup') change('wrapup');
    else if (verb === 'wrapup' && !more) change('idle');
    return mine()[0] ?? 204;
  }
  if (what === 'offers') { change(scene === 'chat' ? 'threads' : verb === 'refuse' ? 'idle' : 'call'); return 204; }
  if (is('GET', /^\/cases$/)) {
    const text = (url.searchParams.get('text') ?? '').toLowerCase();
    const state = url.searchParams.get('state');
    return { items: rows().filter((one) => (!state || one.state === state) && (!text || `${one.subject} ${one.number} ${one.contact_name}`.toLowerCase().includes(text))), next: null };
  }
  if (is('GET', /^\/cases\/[^/]+$/)) {
    const row = rows().find((one) => one.id === id);
    return row ? { ...row, timeline: row.id === 'c-4521' ? timeline : [{ ...timeline[0], data: { event: 'case.opened', number: row.number } }, ...(row.id === 'c-4519' ? [{ ...timeline[8], at: ago(2390), interaction: 'n-5', data: { event: 'interaction.enqueued', queue: 'care' } }, { ...timeline[3], at: ago(1200), text: 'Le livreur habituel est absent cette semaine.', seq: 24 }] : [])], interactions: row.id === 'c-4490' ? [interaction('n-8', 'waiting', { advisor: null, channel: 'messenger', seat: 'chat', case: 'c-4490', case_number: 4490 })] : mine().filter((one) => one.case === row.id), notes_count: 1, follows: null, merged_into: null,
      merges: row.id === 'c-4517' ? [{ merge: 'cm-1', case: 'c-4400', number: 4400, at: ago(DAY), by: 'karim' }] : [], messages: said[row.id] ?? [], threads: WRITTEN.includes(scene) ? (written.threads(scene)[row.id] ?? []) : [], helps: written.helps.filter((one) => one.case === row.id), viewers: scene === 'beside' && row.id === 'c-4519' ? written.viewers : [] } : 404;
  }
  if (is('POST', /^\/cases\/[^/]+\/notes$/)) { timeline.push({ at: ago(0), kind: 'note', interaction: null, advisor: 'lea', text: body.text, data: {}, seq: ++seq }); return 204; }
  if (is('POST', /\/call$/)) { change('out'); return { interaction: 'n-4' }; }
  if (is('PATCH', /^\/cases\//)) return { ...rows().find((one) => one.id === id), ...body };
  if (is('GET', /^\/contacts$/)) {
    const text = (url.searchParams.get('text') ?? '').toLowerCase();
    return { items: Object.values(contacts()).filter((one) => one.name.toLowerCase().includes(text)).map(({ id: one, name, company, vip, language, addresses }) => ({ id: one, name, company, vip, language, addresses })) };
  }
  if (is('GET', /^\/contacts\/[^/]+$/)) return contacts()[id] ?? 404;
  if (is('GET', /^\/trees$/)) return Object.values(trees).map((one) => ({ id: one.id, version: one.version, published_at: one.published_at, inside: 0 }));
  if (is('GET', /^\/trees\//)) return trees[id] ?? 404;
  if (is('GET', /^\/queues$/)) return [queue('billing', 'Facturation'), queue('care', 'Service clients', { needs: [] }), queue('tracking', 'Suivi de colis')];
  if (is('PUT', /^\/queues\//)) return body.after_misses < 1 || body.name === '' ? 422 : body;
  if (is('GET', /^\/advisors$/)) return [advisor('lea', 'Léa', 'Fontaine', ['advisor', 'supervisor', 'admin']), advisor('karim', 'Karim', 'Haddad'), advisor('sofia', 'Sofia', 'Rossi', ['advisor', 'supervisor'])];
  if (is('POST', /\/phone-password$/)) return { account: id, password: 'kT4-wuvi-9aRe-zoLb', server: 'sip.example.org' };
  if (is('POST', /\/password$/)) return { password: 'mure-castor-87-plaine' };
  if (is('GET', /^\/site$/)) return { yaml: 'organisation: colis\nname: Colis Express\ntime_zone: Europe/Paris\nlanguages: [fr, en]\nqueues:\n  - id: billing\n    name: Facturation\n', version: 7 };
  if (is('POST', /^\/site\/check$/)) return { mistakes: body.yaml.includes('!!') ? [{ line: 5, where: 'queues', message: 'a list is expected', cure: 'start each queue with a dash' }] : [] };
  return method === 'GET' ? 404 : 204;
}

// ---- the WebSocket, by RFC 6455: one text frame at a time is enough here
const pages = new Set();
function frame(text) {
  const bytes = Buffer.from(text);
  const head = bytes.length < 126 ? Buffer.from([0x81, bytes.length])
    : bytes.length < 65_536 ? Buffer.from([0x81, 126, bytes.length >> 8, bytes.length & 255])
    : Buffer.from([0x81, 127, 0, 0, 0, 0, bytes.length >>> 24, (bytes.length >> 16) & 255, (bytes.length >> 8) & 255, bytes.length & 255]);
  return Buffer.concat([head, bytes]);
}
const tell = (type, data) => pages.forEach((socket) => socket.write(frame(JSON.stringify({ seq: ++seq, id: null, type, time: ago(0), subject: null, data }))));
const heard = [];
function change(to) {
  const before = offers();
  scene = to;
  if (to === 'offer' || to === 'ambiguous') tell('offer.made', offers()[0]);
  else for (const offer of before) tell('offer.ended', { offer: offer.id, how: to === 'call' ? 'accepted' : 'refused', reason: null, interaction: offer.interaction.id });
  for (const one of mine()) tell('interaction.changed', one);
  if (!mine().length) tell('interaction.changed', interaction('n-1', 'ended'));
  if (to === 'bad') tell('call.quality', { interaction: 'n-1', what: 'caller_not_heard', since: ago(3) });
  tell('presence.changed', myPresence());
  tell('board.changed', board());
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    let body = {};
    try { body = JSON.parse(Buffer.concat(chunks).toString() || '{}'); } catch { /* not ours */ }
    if (url.pathname === '/preview') {
      if (body.quiet) scene = body.scene;
      else if (body.quality) tell('call.quality', { interaction: 'n-1', what: body.quality, since: ago(3) });
      else if (body.hears) { const made = { ...written.newMessage.amina(`m-${++seq}`, seq, 0, 'customer', body.hears), at: ago(0) }; said['c-4517'].push(made); tell('message.added', { message: made }); }
      else if (body.tell) tell(body.tell, body.data);
      else if (body.drop) pages.forEach((socket) => socket.destroy());
      else if (body.signedIn !== undefined) signedIn = body.signedIn;
      else if (body.scene) change(body.scene);
      if (body.presence) presence = { presence: body.presence, reason: null };
      response.setHeader('Content-Type', 'application/json');
      return response.end(JSON.stringify({ scene, heard, pages: pages.size }));
    }
    if (url.pathname.startsWith('/api/v1/attachments/') && request.method === 'GET') { response.setHeader('Content-Type', 'image/svg+xml'); return response.end(written.picture); }
    if (/^\/api\/v1\/messages\/[^/]+\/html$/.test(url.pathname)) { response.setHeader('Content-Type', 'text/html; charset=utf-8'); response.setHeader('Content-Security-Policy', "sandbox; default-src 'none'; frame-ancestors 'self'"); return response.end(written.html(url.searchParams.get('images') === '1')); }
    if (url.pathname === '/api/v1/attachments') { response.statusCode = 201; response.setHeader('Content-Type', 'application/json'); return response.end(JSON.stringify({ id: `up-${++seq}`, kind: 'file', name: 'x', type: '', bytes: 1 })); }
    if (url.pathname.startsWith('/api/')) {
      const told = answer(request.method, url, body);
      response.setHeader('Content-Type', 'application/json');
      if (told === 422) { response.statusCode = 422; return response.end(JSON.stringify({ title: 'invalid', status: 422, detail: '', errors: [{ field: 'after_misses', expected: '1 or more', got: 0 }] })); }
      if (told.status === 409) { response.statusCode = 409; return response.end(JSON.stringify(told)); }
      if (typeof told === 'number') { response.statusCode = told; return response.end(told === 204 ? '' : JSON.stringify({ title: String(told), status: told, detail: '' })); }
      return response.end(JSON.stringify(told));
    }
    const path = join(DIST, normalize(url.pathname === '/' ? '/index.html' : url.pathname));
    if (!path.startsWith(DIST) || !existsSync(path) || !statSync(path).isFile()) { response.statusCode = 404; return response.end(); }
    response.setHeader('Content-Type', TYPES[extname(path)] ?? 'application/octet-stream');
    response.setHeader('Content-Security-Policy', CSP);
    if (extname(path) === '.html') return response.end(readFileSync(path));
    return createReadStream(path).pipe(response);
  });
});
server.on('upgrade', (request, socket) => {
  if (!signedIn || scene === 'offline') return socket.destroy();
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  pages.add(socket);
  socket.on('close', () => pages.delete(socket));
  socket.on('error', () => pages.delete(socket));
  socket.on('data', (bytes) => {
    if ((bytes[0] & 15) === 8) return socket.end();
    const length = bytes[1] & 127;
    if (length > 125) return;
    const mask = bytes.subarray(2, 6);
    const text = Buffer.from(bytes.subarray(6, 6 + length)).map((byte, at) => byte ^ mask[at % 4]).toString();
    heard.push(text);
    if (text.includes('"viewing"')) { const { case: of, doing } = JSON.parse(text); tell('case.viewers', { case: of, viewers: doing === 'none' ? [] : [{ login: 'lea', first_name: 'Léa', doing }, ...(scene === 'beside' ? written.viewers.slice(0, 1) : [])] }); }
    if (text.includes('"ping"')) socket.write(frame(JSON.stringify({ seq, type: 'pong' })));
  });
  socket.write(frame(JSON.stringify({ seq, id: null, type: 'snapshot', time: ago(0), subject: null, data: snapshot() })));
});
server.listen(PORT, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
