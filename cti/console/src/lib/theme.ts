/** Light, dark, or as the system says. */

export type Theme = 'auto' | 'light' | 'dark';
const STORED = 'monofil.theme';

export function theme(): Theme {
  const stored = globalThis.localStorage?.getItem(STORED);
  return stored === 'light' || stored === 'dark' ? stored : 'auto';
}

export function setTheme(value: Theme): void {
  localStorage.setItem(STORED, value);
  paint();
}

export function paint(): void {
  const value = theme();
  if (value === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}
