/** Does a message go on where the one before it stopped? Then its author need not be named again. */
import type { Message } from './wire';

const PAUSE_MS = 10 * 60_000;

export function goesOn(before: Message | null, message: Message): boolean {
  if (!before || message.automatic || message.standby || message.subject || message.reply_to) return false;
  const same = (['thread', 'interaction', 'direction', 'author', 'by', 'channel'] as const).every((name) => before[name] === message[name]);
  return same && Date.parse(message.at) - Date.parse(before.at) < PAUSE_MS;
}
