// How a status is shown and what a tap on it means.

import type { Counts, Entry, MarkStatus, Status } from '../api/types.ts';

/** The order in which counts and filters stand: who is here, then who needs a person. */
export const STATUSES: readonly Status[] = ['present', 'tardy', 'expected', 'absent', 'unknown', 'early_departure'];

/** In the room now, as far as is known. */
export function isHere(status: Status): boolean {
  return status === 'present' || status === 'tardy';
}

/** What a mark makes of a status. */
export function statusOf(mark: MarkStatus): Status {
  return mark === 'absent_excused' || mark === 'absent_unexcused' ? 'absent' : mark;
}

/** A tap says the opposite of what is shown: here becomes absent, anything else becomes present. */
export function tapped(shown: Status | null): MarkStatus {
  return shown !== null && isHere(shown) ? 'absent_unexcused' : 'present';
}

/** The instant that a tile shows: arrival of those who are here, departure of those who left. */
export function shownInstant(entry: Entry): { kind: 'arrived' | 'left'; at: string } | null {
  const { status, since, detail } = entry;
  const stated = detail.mark?.at;
  if (status === 'early_departure') {
    const at = stated ?? detail.departure ?? since;
    return at ? { kind: 'left', at } : null;
  }
  if (!isHere(status)) return null;
  const at = detail.arrival ?? stated ?? (detail.mark ? null : since);
  return at ? { kind: 'arrived', at } : null;
}

/** Everyone who should be here: those who left are counted, as they were expected. */
export function total(counts: Counts): number {
  return STATUSES.reduce((sum, status) => sum + (counts[status] ?? 0), 0);
}

export function here(counts: Counts): number {
  return (counts.present ?? 0) + (counts.tardy ?? 0);
}

/** Whether all that is typed occurs in the name, in any order, without regard to case and accents. */
export function matches(name: string, typed: string): boolean {
  const plain = (text: string) => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
  const whole = plain(name);
  return plain(typed).split(/\s+/).every((part) => whole.includes(part));
}
