/** The HTTP side of the wire: one function, one kind of error, a deadline on every request. */
import type { FieldError, Me } from './wire';
import { language } from './words.svelte';

export const ROOT = '/api/v1';
const DEADLINE_MS = 10_000;
const SAFE = new Set(['GET', 'HEAD']);

/** What the server (or the way to it) refused. `status` 0: the server could not be reached. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    /** A stable word: the last part of the problem's type. */
    readonly kind: string,
    readonly detail: string,
    readonly fields: FieldError[] = [],
    readonly retryAfter: number | null = null,
    /** What the problem tells besides: who, text, holder. */
    readonly more: Record<string, unknown> = {},
  ) {
    super(detail || kind);
  }
}

let csrf = '';
let onLost: () => void = () => {};

/** What to do when the session has ended behind our back. */
export function whenSignedOut(act: () => void): void {
  onLost = act;
}

export async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json', 'Accept-Language': language.now };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (!SAFE.has(method)) headers['X-CSRF-Token'] = csrf;
  let response: Response;
  try {
    response = await fetch(ROOT + path, {
      method,
      headers,
      credentials: 'same-origin',
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch {
    throw new Problem(0, 'unreachable', '');
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== '/session') onLost();
  throw problemOf(response.status, await response.text(), response.headers.get('Retry-After'));
}

function problemOf(status: number, text: string, retryAfter: string | null): Problem {
  let problem: { type?: string; detail?: string; errors?: FieldError[] } & Record<string, unknown> = {};
  try {
    problem = JSON.parse(text) as typeof problem;
  } catch {
    // a proxy's page, not ours: the status says enough
  }
  const wait = Number(retryAfter);
  return new Problem(
    status,
    problem.type?.split('/').pop() ?? '',
    problem.detail ?? '',
    problem.errors ?? [],
    Number.isFinite(wait) && wait > 0 ? wait : null,
    problem,
  );
}

/** Sends one file; `told` hears the share that has left. fetch() does not say how far an upload is, so this is its elder. */
export function upload<A>(path: string, file: File, told: (share: number) => void, signal: AbortSignal): Promise<A> {
  return new Promise((done, failed) => {
    const way = new XMLHttpRequest();
    way.open('POST', ROOT + path);
    way.setRequestHeader('Accept', 'application/json');
    way.setRequestHeader('Accept-Language', language.now);
    way.setRequestHeader('X-CSRF-Token', csrf);
    way.upload.onprogress = (event) => told(event.lengthComputable ? event.loaded / event.total : 0);
    way.onerror = way.onabort = () => failed(new Problem(0, 'unreachable', ''));
    way.onload = () => {
      if (way.status === 401) onLost();
      if (way.status >= 200 && way.status < 300) done(JSON.parse(way.responseText) as A);
      else failed(problemOf(way.status, way.responseText, way.getResponseHeader('Retry-After')));
    };
    signal.addEventListener('abort', () => way.abort());
    const form = new FormData();
    form.append('file', file, file.name);
    way.send(form);
  });
}

export async function call<A>(method: string, path: string, body?: unknown): Promise<A> {
  const response = await request(method, path, body);
  if (response.status === 204) return undefined as A;
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as A;
}

export const get = <A>(path: string): Promise<A> => call<A>('GET', path);
export const post = <A = unknown>(path: string, body: unknown = {}): Promise<A> => call<A>('POST', path, body);
export const put = <A = unknown>(path: string, body: unknown): Promise<A> => call<A>('PUT', path, body);
export const patch = <A = unknown>(path: string, body: unknown): Promise<A> => call<A>('PATCH', path, body);

/** Lists come bare or under `items`. */
export function items<A>(answer: A[] | { items: A[] }): A[] {
  return Array.isArray(answer) ? answer : answer.items;
}

interface SessionAnswer {
  csrf: string;
  me: Me;
}

function keep(answer: SessionAnswer): Me {
  csrf = answer.csrf;
  return answer.me;
}

export async function signIn(login: string, password: string): Promise<Me> {
  return keep(await call<SessionAnswer>('POST', '/session', { login, password }));
}

/** Who is signed in, or null. */
export async function whoAmI(): Promise<Me | null> {
  try {
    return keep(await get<SessionAnswer>('/session'));
  } catch (problem) {
    if (problem instanceof Problem && problem.status === 401) return null;
    throw problem;
  }
}

export async function signOut(): Promise<void> {
  await call('DELETE', '/session');
  csrf = '';
}
