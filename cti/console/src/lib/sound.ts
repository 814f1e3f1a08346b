/** Two soft notes when an offer comes, one when a message does, two falling ones when a colleague asks; silent where the reader or the browser says so. */

const STORED = { offer: 'monofil.sound', message: 'monofil.sound.message', help: 'monofil.sound.help' };
const HERTZ = { offer: [587, 880], message: [698], help: [784, 587] };
export type Sound = keyof typeof STORED;
let context: AudioContext | null = null;

export function soundOn(what: Sound): boolean {
  return globalThis.localStorage?.getItem(STORED[what]) !== 'off';
}

export function setSound(what: Sound, on: boolean): void {
  globalThis.localStorage?.setItem(STORED[what], on ? 'on' : 'off');
}

export function chime(what: Sound): void {
  if (!soundOn(what) || typeof AudioContext === 'undefined') return;
  context ??= new AudioContext();
  if (context.state === 'suspended') void context.resume().catch(() => {});
  const start = context.currentTime;
  for (const [index, hertz] of HERTZ[what].entries()) {
    const tone = context.createOscillator();
    const gain = context.createGain();
    const at = start + index * 0.18;
    tone.frequency.value = hertz;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(0.12, at + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.001, at + 0.35);
    tone.connect(gain).connect(context.destination);
    tone.start(at);
    tone.stop(at + 0.4);
  }
}
