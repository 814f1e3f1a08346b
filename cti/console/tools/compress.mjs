// Writes a .gz beside each built text file; gzip's header holds no time, so the same input gives the same bytes.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

function* files(folder) {
  for (const name of readdirSync(folder).sort()) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) yield* files(path);
    else yield path;
  }
}

for (const path of files('dist')) {
  if (!/\.(html|js|css|svg|json|webmanifest)$/.test(path)) continue;
  const packed = gzipSync(readFileSync(path), { level: 9 });
  packed.fill(0, 4, 8); // the header's time
  packed[9] = 255; // the header's operating system: unknown
  writeFileSync(`${path}.gz`, packed);
}
