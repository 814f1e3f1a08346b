/** What became of a provider's request, in words. */
import { n, t } from './words.svelte';

interface Result {
  events?: number;
  told?: number;
  known?: number;
  waiting?: unknown[];
  given_up?: unknown[];
  unknown?: unknown[];
  refused?: unknown[];
  failed?: unknown[];
  moved?: unknown[];
  no_account?: unknown[];
}

/** One phrase for each thing that came of it; nothing yet: none. */
export function became(result: unknown): string[] {
  if (result === null || result === undefined) return [];
  if (typeof result !== 'object') return [String(result)];
  const it = result as Result;
  const named = (list: unknown[] | undefined): string => [...new Set((list ?? []).map(String))].join(', ');
  const said: string[] = [];
  if (it.told) said.push(n('hook.told', it.told));
  if (it.known) said.push(n('hook.known', it.known));
  if (it.waiting?.length) said.push(n('hook.waiting', it.waiting.length));
  if (it.given_up?.length) said.push(n('hook.given_up', it.given_up.length));
  if (it.moved?.length) said.push(n('hook.moved', it.moved.length));
  if (it.no_account?.length) said.push(t('hook.no_account', { what: named(it.no_account) }));
  if (it.unknown?.length) said.push(t('hook.unknown', { what: named(it.unknown) }));
  if (it.refused?.length) said.push(t('hook.refused', { what: named(it.refused) }));
  if (it.failed?.length) said.push(t('hook.failed', { what: named(it.failed) }));
  return said.length ? said : [t('hook.nothing')];
}
