// Photographs every state of the page: node preview/shots.mjs FOLDER [part of a name]. Needs the build and a Chromium.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { BROWSER, FLAGS, SCREENS, STATES, open, tell } from './states.mjs';

const folder = process.argv[2] ?? 'shots';
const only = process.argv[3] ?? '';
mkdirSync(folder, { recursive: true });
const PORT = 17911;
const server = spawn(process.execPath, [fileURLToPath(new URL('./server.mjs', import.meta.url)), String(PORT)]);
await new Promise((done) => server.stdout.once('data', done));
const browser = await chromium.launch({ executablePath: BROWSER, args: FLAGS });
const complaints = [];
for (const state of STATES) {
  for (const [screen, look] of Object.entries(SCREENS)) {
    const name = `${state.name}-${screen}`;
    if ((state.only && !state.only.includes(screen)) || !name.includes(only)) continue;
    const context = await browser.newContext(look);
    const page = await context.newPage();
    page.on('console', (message) => { if (message.type() === 'error') complaints.push(`${name}: ${message.text()}`); });
    page.on('pageerror', (error) => complaints.push(`${name}: ${error.message}`));
    await open(page, PORT, state);
    await page.screenshot({ path: `${folder}/${name}.png` });
    await context.close();
    await tell(PORT, { signedIn: true });
  }
}
await browser.close();
server.kill();
for (const line of complaints) console.log(line);
console.log(`${complaints.length} console errors`);
process.exit(complaints.length ? 1 : 0);
