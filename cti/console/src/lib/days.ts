/** Days as people name them (2026-11-22), where the site is: a reader elsewhere asks for the same days. */

/** The day that it is now in a time zone. */
export function today(now: number, zone: string): string {
  const parts = new Intl.DateTimeFormat('en-CA', { timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit' }).formatToParts(new Date(now));
  const of = (type: Intl.DateTimeFormatPartTypes): string => parts.find((one) => one.type === type)?.value ?? '';
  return `${of('year')}-${of('month')}-${of('day')}`;
}

/** So many days later, or earlier. */
export function shifted(day: string, days: number): string {
  const at = instant(day);
  at.setUTCDate(at.getUTCDate() + days);
  return at.toISOString().slice(0, 10);
}

/** Whether this is a day of the calendar, and not only looks like one. */
export function isDay(text: string): boolean {
  return /^\d{4}-\d\d-\d\d$/.test(text) && Number.isFinite(instant(text).getTime()) && shifted(text, 0) === text;
}

/** Noon of it in UTC, to be written out in UTC. */
export function instant(day: string): Date {
  return new Date(`${day}T12:00:00Z`);
}
