/** Where we are: `#/contacts/abc?q=x` is { parts: ['contacts', 'abc'], query }. */

export interface Place {
  parts: string[];
  query: URLSearchParams;
}

export function parse(hash: string): Place {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  return { parts: path.split('/').filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

let place = $state.raw<Place>(parse(globalThis.location?.hash ?? ''));
globalThis.addEventListener?.('hashchange', () => (place = parse(location.hash)));

export const route = {
  get page(): string {
    return place.parts[0] ?? 'desk';
  },
  get id(): string | null {
    return place.parts[1] ?? null;
  },
  get parts(): string[] {
    return place.parts;
  },
  get query(): URLSearchParams {
    return place.query;
  },
};

export function go(hash: string): void {
  location.hash = hash;
}
