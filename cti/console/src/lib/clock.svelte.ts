/** The server's time, second by second: everything that counts in place reads `clock.now`. */

let offset = 0; // server minus this machine, ms
let tick = $state(Date.now());

export const clock = {
  get now(): number {
    return tick;
  },
  /** A frame told the server's time; small differences are the network's. */
  heard(iso: string | undefined): void {
    if (!iso) return;
    const difference = new Date(iso).getTime() - Date.now();
    if (Math.abs(difference - offset) > 1_500) offset = difference;
    tick = Date.now() + offset;
  },
  start(): () => void {
    const timer = setInterval(() => (tick = Date.now() + offset), 1_000);
    return () => clearInterval(timer);
  },
};

/** Whole seconds since `iso`. */
export function since(iso: string | null | undefined): number | null {
  return iso ? Math.max(0, (tick - new Date(iso).getTime()) / 1000) : null;
}

/** Seconds until `iso`, never below zero. */
export function until(iso: string | null | undefined): number | null {
  return iso ? Math.max(0, Math.ceil((new Date(iso).getTime() - tick) / 1000)) : null;
}
