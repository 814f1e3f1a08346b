// A call by keyboard alone, from its offer to its wrap-up, with a reload in the middle: node preview/keys.mjs.
import { SCREENS, each, tell } from './states.mjs';

const found = [];
const expect = (what, good) => {
  console.log(`${good ? 'ok ' : 'NOT'} ${what}`);
  if (!good) found.push(what);
};

const run = async (page, port) => {
  await tell(port, { scene: 'offer' });
  await page.waitForSelector('.offer article');
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)))));
  expect('the title announces the offer', (await page.title()).startsWith('●'));
  const { heard } = await (await fetch(`http://127.0.0.1:${port}/preview`, { method: 'POST', body: '{}' })).json();
  expect('the server is told that the pop is painted', heard.some((text) => text.includes('"shown"')));
  await page.keyboard.press('x');
  await page.waitForSelector('.offer article', { state: 'detached' });
  expect('X refuses', true);

  await tell(port, { scene: 'call' });
  await page.waitForSelector('.bar.talking');
  await page.keyboard.press('h');
  await page.waitForSelector('.bar.held');
  await page.keyboard.press('h');
  await page.waitForSelector('.bar.talking');
  expect('H holds and resumes', true);
  await page.keyboard.press('n');
  await page.keyboard.type('he has the hexagon');
  expect('keys that are written do nothing else', (await page.inputValue('#note')) === 'he has the hexagon' && (await page.locator('.bar.talking').count()) === 1);
  await page.reload();
  await page.waitForSelector('.bar.talking');
  expect('a reload shows the call and keeps the draft', (await page.inputValue('#note')) === 'he has the hexagon');
  await page.keyboard.press('e');
  await page.waitForSelector('form.wrapup');
  expect('E ends', true);
  await page.keyboard.press('w');
  await page.waitForSelector('.wrapup .wrong');
  await page.keyboard.type('remb');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('form.wrapup', { state: 'detached' });
  expect('W asks for the code, typing finds it, Ctrl+Enter finishes', true);
  await page.keyboard.press('?');
  await page.waitForSelector('dialog[open]');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog[open]', { state: 'detached' });
  expect('? shows the keys, Escape closes them', true);
};

const complaints = await each([{ name: 'keys', scene: 'idle', hash: '', then: run }], { desktop: SCREENS.desktop }, '', async () => {});
for (const line of complaints) console.log(line);
process.exit(found.length || complaints.length ? 1 : 0);
