// Photographs every state of the page: node preview/shots.mjs FOLDER [part of a name]. Needs the build and a Chromium.
import { mkdirSync } from 'node:fs';
import { SCREENS, STATES, each } from './states.mjs';

const folder = process.argv[2] ?? 'shots';
mkdirSync(folder, { recursive: true });
const complaints = await each(STATES, SCREENS, process.argv[3] ?? '', async (page, name) => {
  await page.screenshot({ path: `${folder}/${name}.png` });
});
for (const line of complaints) console.log(line);
console.log(`${complaints.length} complaints`);
process.exit(complaints.length ? 1 : 0);
