// The states that people meet, and the screens they meet them on.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';
export const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const common = { locale: 'fr-FR', timezoneId: 'Europe/Paris', reducedMotion: 'reduce' };
export const SCREENS = {
  desktop: { ...common, viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
  dark: { ...common, viewport: { width: 1280, height: 800 }, colorScheme: 'dark' },
  wide: { ...common, viewport: { width: 1920, height: 1080 }, colorScheme: 'light' },
  phone: { ...common, viewport: { width: 390, height: 844 }, colorScheme: 'light', hasTouch: true },
  english: { ...common, locale: 'en-GB', viewport: { width: 1280, height: 800 }, colorScheme: 'light' },
};
export async function tell(port, body) {
  await fetch(`http://127.0.0.1:${port}/preview`, { method: 'POST', body: JSON.stringify(body) });
}
const scene = (name, then) => ({ scene: name, then });
export const STATES = [
  { name: 'signin', signedOut: true, hash: '' },
  { name: 'idle', ...scene('idle'), hash: '' },
  { name: 'empty', ...scene('empty'), hash: '', only: ['desktop', 'phone'] },
  { name: 'offer', ...scene('offer'), hash: '' },
  { name: 'ambiguous', ...scene('ambiguous'), hash: '', only: ['desktop', 'dark', 'phone'] },
  { name: 'call', ...scene('call'), hash: '' },
  { name: 'held', ...scene('held', async (page, port) => tell(port, { quality: 'caller_not_heard' })), hash: '', only: ['desktop'] },
  { name: 'wrapup', ...scene('wrapup', async (page) => { await page.click('#wrapup-code'); await page.keyboard.type('re'); }), hash: '' },
  { name: 'offline', ...scene('call', async (page, port) => { await tell(port, { scene: 'offline', quiet: true }); await tell(port, { drop: true }); await page.waitForSelector('footer.lost'); }), hash: '', only: ['desktop', 'phone'] },
  { name: 'keys', ...scene('call', async (page) => { await page.keyboard.press('?'); }), hash: '', only: ['desktop', 'dark'] },
  { name: 'menu', ...scene('idle', async (page) => { await page.keyboard.press('p'); }), hash: '', only: ['desktop', 'phone'] },
  { name: 'threads', ...scene('threads', async (page) => { await page.waitForSelector('article.message'); }), hash: '' },
  { name: 'mail', ...scene('threads', async (page) => { await page.click('.work li >> nth=2'); await page.waitForSelector('.message.mail'); await page.click('.message.mail button >> nth=0'); await page.click('.message.mail details.brought summary >> nth=0'); }), hash: '', only: ['desktop', 'dark', 'phone'] },
  { name: 'gone', ...scene('threads', async (page) => { await page.click('.work li >> nth=1'); await page.waitForSelector('.away'); }), hash: '', only: ['desktop', 'english', 'dark', 'phone'] },
  { name: 'tag', ...scene('tag', async (page) => { await page.waitForSelector('#reply'); await page.fill('#reply', ''); await page.type('#reply', '/pas'); await page.waitForSelector('#templates li.at'); }), hash: '', only: ['desktop', 'english', 'dark'] },
  { name: 'shut', ...scene('shut', async (page) => { await page.waitForSelector('.shut'); await page.keyboard.press('u'); await page.waitForSelector('.ways .btn'); }), hash: '', only: ['desktop', 'phone', 'dark'] },
  { name: 'conflict', ...scene('beside', async (page) => { await page.waitForSelector('#reply'); await page.type('#reply', 'Pas de conflit : le livreur repasse demain.'); await page.keyboard.press('Control+Enter'); await page.waitForSelector('.conflict'); }), hash: '', only: ['desktop', 'dark', 'phone'] },
  { name: 'noting', ...scene('threads', async (page) => { await page.waitForSelector('#reply'); await page.keyboard.press('n'); await page.keyboard.type('Il rappelle demain.'); }), hash: '', only: ['desktop', 'dark'] },
  { name: 'closing', ...scene('threads', async (page) => { await page.waitForSelector('#reply'); await page.keyboard.press('c'); await page.waitForSelector('#close-code'); }), hash: '', only: ['desktop', 'phone'] },
  { name: 'asking', ...scene('threads', async (page) => { await page.waitForSelector('#reply'); await page.keyboard.press('q'); await page.waitForSelector('#ask-text'); }), hash: '', only: ['desktop', 'dark'] },
  { name: 'merging', ...scene('threads', async (page) => { await page.waitForSelector('#reply'); await page.keyboard.press('m'); await page.waitForSelector('.panel li .btn'); }), hash: '', only: ['desktop', 'english'] },
  { name: 'chat', ...scene('chat', async (page) => { await page.waitForSelector('.offer article'); }), hash: '' },
  { name: 'inbox', ...scene('threads', async (page) => { await page.waitForSelector('a[data-row]'); await page.keyboard.press('j'); }), hash: '#/inbox' },
  { name: 'inbox-all', ...scene('chat', async (page) => { await page.waitForSelector('a[data-row]'); await page.keyboard.press('j'); await page.keyboard.press('j'); }), hash: '#/inbox?view=all&channel=messenger', only: ['desktop', 'phone'] },
  { name: 'inbox-empty', ...scene('empty', async (page) => { await page.waitForSelector('.empty'); }), hash: '#/inbox?view=unassigned', only: ['desktop', 'phone'] },
  { name: 'statistics', ...scene('idle', async (page) => { await page.waitForSelector('.uplot'); }), hash: '#/statistics' },
  { name: 'counted-statistics', ...scene('idle', async (page) => { await page.waitForSelector('tbody td'); }), hash: '#/statistics/list?figure=answered&queue=care', only: ['desktop', 'phone'] },
  { name: 'accounts', ...scene('broken', async (page) => { await page.waitForSelector('.hooks tbody td'); }), hash: '#/admin/accounts/page', only: ['desktop', 'dark', 'phone'] },
  { name: 'search', ...scene('idle'), hash: '#/search?q=martin' },
  { name: 'contact', ...scene('idle'), hash: '#/contacts/p-claire' },
  { name: 'case', ...scene('idle'), hash: '#/cases/c-4521', only: ['desktop', 'dark', 'phone'] },
  { name: 'board', ...scene('idle'), hash: '#/board' },
  { name: 'counted', ...scene('idle'), hash: '#/counted/billing/voice/waiting', only: ['desktop', 'phone'] },
  { name: 'kiosk', ...scene('idle'), hash: '#/board/kiosk', only: ['wide', 'dark', 'desktop'] },
  { name: 'trees', ...scene('idle', async (page) => { await page.waitForSelector('.svelte-flow__node'); await page.click('[role=treeitem] >> nth=3'); }), hash: '#/trees/accueil' },
  { name: 'queues', ...scene('idle'), hash: '#/admin/queues/billing', only: ['desktop', 'dark', 'phone'] },
  { name: 'advisors', ...scene('idle', async (page) => { await page.click('form .row.wrap .btn >> nth=1'); await page.waitForSelector('.secret'); }), hash: '#/admin/advisors/karim', only: ['desktop', 'phone'] },
  { name: 'site', ...scene('idle'), hash: '#/admin/site', only: ['desktop', 'english'] },
];
/** Visits each state on each screen and lets `see` look at it; gives what the browser complained of. */
export async function each(states, screens, only, see) {
  const server = spawn(process.execPath, [fileURLToPath(new URL('./server.mjs', import.meta.url)), '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise((done) => server.stdout.once('data', (data) => done(String(data))));
  const port = Number(/:(\d+)\//.exec(line)[1]);
  const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
  const complaints = [];
  try {
    for (const state of states) {
      for (const [screen, look] of Object.entries(screens)) {
        const name = `${state.name}-${screen}`;
        if ((state.only && !state.only.includes(screen)) || !name.includes(only)) continue;
        const context = await browser.newContext(look);
        if (look.locale.startsWith('en')) await context.addInitScript(() => localStorage.setItem('monofil.language', 'en'));
        const page = await context.newPage();
        page.setDefaultTimeout(8000);
        page.on('console', (message) => {
          const expected = state.signedOut || state.name === 'offline' || state.name === 'conflict'; // a 401, a lost socket, a 409: the browser says so itself
          if (message.type() === 'error' && !(expected && /401|409|WebSocket/.test(message.text()))) complaints.push(`${name}: ${message.text()}`);
        });
        page.on('pageerror', (error) => complaints.push(`${name}: ${error.message}`));
        try {
          await open(page, port, state);
          await see(page, name);
        } catch (error) {
          complaints.push(`${name}: ${error.message.split('\n')[0]}`);
        }
        await context.close();
      }
    }
  } finally {
    await browser.close();
    server.kill();
  }
  return complaints;
}

/** Opens the page in a state and waits until it has settled. */
export async function open(page, port, state) {
  await tell(port, { signedIn: !state.signedOut });
  await tell(port, { scene: state.scene ?? 'idle', quiet: true });
  await page.goto(`http://127.0.0.1:${port}/${state.hash}`);
  if (state.signedOut) await page.waitForSelector('form');
  else await page.waitForSelector('main h1, main h2, main article');
  await page.waitForLoadState('networkidle');
  await state.then?.(page, port);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}
