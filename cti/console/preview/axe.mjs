// No screen may break WCAG 2.2 AA as far as axe can tell: node preview/axe.mjs [part of a name].
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { SCREENS, STATES, each } from './states.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const { desktop, dark, phone } = SCREENS;
const found = [];
const complaints = await each(STATES, { desktop, dark, phone }, process.argv[2] ?? '', async (page, name) => {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() =>
    globalThis.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }),
  );
  for (const one of violations) found.push(`${name}: ${one.id}: ${one.help}: ${one.nodes.map((node) => node.target.join(' ')).slice(0, 4).join(' | ')}`);
});
for (const line of [...found, ...complaints]) console.log(line);
console.log(`${found.length} violations, ${complaints.length} complaints`);
process.exit(found.length || complaints.length ? 1 : 0);
