// A real Chromium for tests that are written elsewhere: one JSON command a line on standard input, one JSON answer a line.
// {"id": 1, "page": "lea", "do": "press", "key": "h"} → {"id": 1, "value": …} or {"id": 1, "error": "…"}. It ends with its input.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';
import { BROWSER, FLAGS } from '../preview/states.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const DEADLINE_MS = Number(process.env.DEADLINE_MS ?? 20_000);
const ALONE = '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'; // no page reaches the world
const browser = await chromium.launch({ executablePath: BROWSER, args: [...FLAGS, ALONE] });
const pages = new Map();

/** Runs in the page before anything else: what it tells the server, when, and what the content policy refused. */
function watch() {
  globalThis.told = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (text) {
    const frame = JSON.parse(text);
    if (frame.type !== 'ping') globalThis.told.push({ at: Date.now() / 1000, ...frame });
    return send.call(this, text);
  };
  document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
}

async function open({ page: name, url, locale = 'fr-FR', width = 1280, height = 800, colours = 'light', timeout = DEADLINE_MS }) {
  const context = await browser.newContext({ locale, timezoneId: 'Europe/Paris', reducedMotion: 'reduce', viewport: { width, height }, colorScheme: colours });
  const page = await context.newPage();
  const complaints = [];
  const asked = [];
  const dialogs = [];
  context.on('request', (request) => request.url().startsWith(new URL(url).origin) || asked.push(request.url()));
  page.on('dialog', (dialog) => { dialogs.push(`${dialog.type()} ${dialog.message()}`); dialog.dismiss().catch(() => {}); });
  page.setDefaultTimeout(timeout);
  page.on('console', (message) => message.type() === 'error' && complaints.push(`${message.text()} ${message.location().url}`));
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.addInitScript(watch);
  pages.set(name, { page, context, complaints, asked, dialogs });
  await page.goto(url);
}

/** Asks again until it holds: the content policy forbids the page itself to evaluate. */
async function until(page, { js, timeout = DEADLINE_MS }) {
  const end = Date.now() + timeout;
  for (;;) {
    const holds = await page.evaluate(js).catch((error) => (/context|navigat/i.test(error.message) ? false : Promise.reject(error)));
    if (holds) return;
    if (Date.now() > end) throw new Error(`not so within ${timeout} ms: ${js}`);
    await new Promise((done) => setTimeout(done, 40));
  }
}

const ACTS = {
  goto: (page, { url }) => page.goto(url).then(() => null),
  reload: (page) => page.reload().then(() => null),
  press: (page, { key }) => page.keyboard.press(key),
  type: (page, { text }) => page.keyboard.type(text),
  click: (page, { selector }) => page.click(selector),
  fill: (page, { selector, text }) => page.fill(selector, text),
  wait: (page, { selector, state = 'visible' }) => page.waitForSelector(selector, { state }).then(() => null),
  until,
  text: (page, { selector }) => page.innerText(selector),
  value: (page, { selector }) => page.inputValue(selector),
  count: (page, { selector }) => page.locator(selector).count(),
  run: (page, { js }) => page.evaluate(js),
  shot: (page, { path }) => page.screenshot({ path }).then(() => null),
  size: (page, { width, height }) => page.setViewportSize({ width, height }),
  async axe(page) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate((runOnly) => globalThis.axe.run(document, { runOnly }), RULES);
    return violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.target.join(' ')).slice(0, 4).join(' | ')}`);
  },
  async figures(page) {
    const wire = await page.context().newCDPSession(page);
    await wire.send('HeapProfiler.collectGarbage');
    await wire.send('Performance.enable');
    const { metrics } = await wire.send('Performance.getMetrics');
    await wire.detach();
    return Object.fromEntries(metrics.filter(({ name }) => ['JSHeapUsedSize', 'Nodes', 'JSEventListeners'].includes(name)).map(({ name, value }) => [name, value]));
  },
};

async function obey(command) {
  if (command.do === 'open') return open(command);
  const there = pages.get(command.page);
  if (!there) throw new Error(`no page ${command.page}`);
  if (command.do === 'complaints') return there.complaints.splice(0);
  if (command.do === 'abroad') return { asked: there.asked.splice(0), dialogs: there.dialogs.splice(0), pages: there.context.pages().length };
  if (command.do === 'close') {
    pages.delete(command.page);
    return there.context.close();
  }
  return ACTS[command.do](there.page, command);
}

const answer = (about) => process.stdout.write(`${JSON.stringify(about)}\n`);
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  obey(command).then((value) => answer({ id: command.id, value: value ?? null }), (error) => answer({ id: command.id, error: String(error.message ?? error) }));
}
await browser.close();
process.exit(0);
