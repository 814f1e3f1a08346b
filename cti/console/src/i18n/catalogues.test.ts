import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';
import en from './en.json';
import fr from './fr.json';

const ROOT = join(import.meta.dirname, '..');
const catalogues: Record<string, Record<string, string>> = { fr, en };

function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (/\.(svelte|ts)$/.test(entry.name) && !entry.name.endsWith('.test.ts')) yield path;
  }
}
const files = [...sources(ROOT)].map((path) => ({ path: path.slice(ROOT.length + 1), text: readFileSync(path, 'utf8') }));

describe('the catalogues', () => {
  it('have the same keys, each with words', () => {
    expect(Object.keys(en).sort()).toEqual(Object.keys(fr).sort());
    for (const [language, words] of Object.entries(catalogues)) {
      for (const [key, text] of Object.entries(words)) expect(text.trim(), `${language} ${key}`).not.toBe('');
    }
  });

  it('name the same arguments in every language', () => {
    const names = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map((found) => found[1]!).sort();
    for (const key of Object.keys(fr) as (keyof typeof fr)[]) expect(names(en[key]), key).toEqual(names(fr[key]));
  });

  it('hold every key that the page asks for, and none that nobody asks for', () => {
    const asked = new Set<string>();
    const groups = new Set(['language', 'exit', 'notice', 'problem', 'refused']);
    for (const { text } of files) {
      for (const [, key] of text.matchAll(/['`]([a-z][a-z_0-9]*(?:\.[a-z_A-Z0-9]+)+)['`]/g)) asked.add(key!);
      for (const [, group] of text.matchAll(/word\('([a-z_0-9.]+)'/g)) groups.add(group!);
      for (const [, group] of text.matchAll(/t\(`([a-z_.]+)\.\$\{/g)) groups.add(group!);
      for (const [, key] of text.matchAll(/\bn\('([a-z_.]+)'/g)) {
        asked.add(`${key}.one`);
        asked.add(`${key}.other`);
      }
      for (const [, key] of text.matchAll(/\b[tn]\('([a-z_.0-9]+)'/g)) {
        expect(key! in fr || `${key}.one` in fr, `${key} is in the catalogue`).toBe(true);
      }
    }
    if (files.some(({ text }) => text.includes("word(mine && mine.work !== 'idle' ? 'work' : 'presence'"))) groups.add('work').add('presence');
    const dead = Object.keys(fr).filter((key) => !asked.has(key) && ![...groups].some((group) => key.startsWith(`${group}.`)));
    expect(dead).toEqual([]);
  });

  it('are the only place with words: no component holds literal text', () => {
    const found: string[] = [];
    const spoken = new Set(['aria-label', 'title', 'placeholder', 'alt', 'aria-valuetext', 'aria-roledescription']);
    for (const { path, text } of files.filter((one) => one.path.endsWith('.svelte'))) {
      const visit = (node: unknown): void => {
        if (Array.isArray(node)) return node.forEach(visit);
        if (!node || typeof node !== 'object') return;
        const it = node as { type?: string; data?: string; name?: string; value?: unknown };
        if (it.type === 'Text' && /\p{L}{2,}/u.test(it.data ?? '')) found.push(`${path}: ${it.data!.trim()}`);
        if (it.type === 'Attribute') {
          const parts = Array.isArray(it.value) ? (it.value as { type: string; data?: string }[]) : [];
          if (spoken.has(it.name ?? '') && parts.some((part) => part.type === 'Text' && /\p{L}{2,}/u.test(part.data ?? ''))) {
            found.push(`${path}: ${it.name}=${parts[0]?.data}`);
          }
          return;
        }
        for (const [name, value] of Object.entries(node)) if (name !== 'metadata' && name !== 'css') visit(value);
      };
      visit(parse(text, { modern: true }).fragment);
    }
    expect(found).toEqual([]);
  });
});
