/** Two soft notes when an offer comes; silent where the reader or the browser says so. */

const STORED = 'monofil.sound';
let context: AudioContext | null = null;

export function soundOn(): boolean {
  return globalThis.localStorage?.getItem(STORED) !== 'off';
}

export function setSound(on: boolean): void {
  globalThis.localStorage?.setItem(STORED, on ? 'on' : 'off');
}

export function chime(): void {
  if (!soundOn() || typeof AudioContext === 'undefined') return;
  context ??= new AudioContext();
  if (context.state === 'suspended') void context.resume().catch(() => {});
  const start = context.currentTime;
  for (const [index, hertz] of [587, 880].entries()) {
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
