/** What a message brought along beside its words: to whom else it went, how sure its sender is, where somebody came from. */
import type { Message } from './wire';

export interface Detail {
  name: string;
  value: string;
}

const CHECKS = ['spf', 'dkim', 'dmarc'] as const;

const text = (value: unknown): string => (typeof value === 'string' || typeof value === 'number' ? String(value) : '');
const record = (value: unknown): Record<string, unknown> => (value && typeof value === 'object' && !Array.isArray(value) ? (value as Record<string, unknown>) : {});

/** `name` is the end of a key of the catalogue, details.… */
export function detailsOf(message: Message): Detail[] {
  const extra = message.extra;
  const bounce = record(extra.bounce);
  const referral = record(extra.referral);
  const found: [string, string][] = [
    ...(['to', 'cc'] as const).map((name): [string, string] => [name, Array.isArray(extra[name]) ? extra[name].map(text).filter(Boolean).join(', ') : '']),
    ['answer_to', text(extra.answer_to)],
    ['checks', CHECKS.filter((one) => text(extra[one])).map((one) => `${one.toUpperCase()} ${text(extra[one])}`).join(' · ')],
    ['bounce', [text(bounce.recipient), text(bounce.status), text(bounce.why)].filter(Boolean).join(' · ')],
    ['quarantined', text(extra.quarantined)],
    ['referral', [text(referral.source), text(referral.type), text(referral.ref), text(referral.ad_id), text(record(referral.ads_context_data).ad_title)].filter(Boolean).join(' · ')],
  ];
  return found.filter(([, value]) => value).map(([name, value]) => ({ name, value }));
}
