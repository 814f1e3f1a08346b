// A call, then three threads, by keyboard alone, with a reload in the middle: node preview/keys.mjs.
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
  await tell(port, { scene: 'threads', quiet: true });
  await page.reload();
  await page.waitForSelector('#reply');
  expect('the title counts what is unread', /^\(2\)/.test(await page.title()));
  await page.keyboard.press('r');
  await page.keyboard.type('Je regarde, un instant');
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await page.waitForSelector('.work li:nth-child(2) button[aria-current]');
  await page.waitForFunction(() => globalThis.document.querySelector('#reply')?.value === '');
  expect('J goes to the next thread, whose reply is its own', await page.locator('.work li:nth-child(1) .draft').count() === 1);
  await tell(port, { hears: 'Are you there?' });
  await page.waitForFunction(() => globalThis.document.querySelector('.timeline')?.textContent.includes('Are you there?'));
  await page.keyboard.press('k');
  await page.waitForFunction(() => globalThis.document.querySelector('#reply')?.value === 'Je regarde, un instant');
  expect('K goes back, and nothing typed is lost', true);
  await page.reload();
  await page.waitForFunction(() => globalThis.document.querySelector('#reply')?.value === 'Je regarde, un instant');
  expect('nor by a reload', true);
  await page.keyboard.press('r');
  await page.keyboard.press('Control+Enter');
  await page.waitForFunction(() => globalThis.document.querySelector('#reply')?.value === '' && globalThis.document.querySelector('.timeline')?.textContent.includes('Je regarde, un instant'));
  expect('Ctrl+Enter sends it', true);
  await page.keyboard.type('/merci');
  await page.waitForSelector('#templates li.at');
  await page.keyboard.press('Enter');
  expect('a template is found and put in by keys', (await page.inputValue('#reply')).startsWith('Merci de votre confiance'));
  await page.keyboard.press('Escape');
  for (const [key, what] of [['c', '#close-code'], ['v', '#archive-reason'], ['t', '.panel .choose'], ['q', '#ask-text'], ['o', '.panel .choose'], ['u', '.ways .choose'], ['g', '.panel .choose'], ['m', '#merge-into']]) {
    await page.keyboard.press(key);
    await page.waitForSelector(`.panel ${what.replace('.panel ', '')}`);
    await page.waitForFunction(() => globalThis.document.querySelector('section.panel')?.contains(globalThis.document.activeElement));
    await page.keyboard.press('Escape');
    await page.waitForSelector('section.panel', { state: 'detached' });
  }
  expect('C V T Q O U G M open what they ask, with the focus in it; Escape closes it', true);
  const { heard: frames } = await (await fetch(`http://127.0.0.1:${port}/preview`, { method: 'POST', body: '{}' })).json();
  expect('colleagues are told who looks, and the answer to that tells nobody anything', frames.filter((text) => text.includes('"viewing"')).length < 40);
  await page.keyboard.press('i');
  await page.waitForSelector('a[data-row]');
  await page.keyboard.press('j');
  await page.keyboard.press('t');
  await page.waitForSelector('.already');
  expect('T takes, and says who was first', (await page.innerText('.already')).includes('Karim'));
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('t');
  await page.waitForSelector('.work button[aria-current]');
  expect('T takes what is free, and the desk shows it', true);

  await page.keyboard.press('?');
  await page.waitForSelector('dialog[open]');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog[open]', { state: 'detached' });
  expect('? shows the keys, Escape closes them', true);
};

const complaints = await each([{ name: 'keys', scene: 'idle', hash: '', then: run }], { desktop: SCREENS.desktop }, '', async () => {});
const told = complaints.filter((line) => !line.includes('409')); // the browser names the refusal that is asked for
for (const line of told) console.log(line);
process.exit(found.length || told.length ? 1 : 0);
