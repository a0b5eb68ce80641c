// The windows of a meeting as the strip draws them: which there are, and what is known of each.

import type { EngagementMeta, EngagementWindow } from '../api/types.ts';

/** What a place of the strip shows. */
export type WindowState = 'ahead' | 'none' | 'data';

/** The beginnings of all windows of the meeting, also of those to come: multiples of the window's length. */
export function slotsOf({ starts, ends, window_min: minutes }: EngagementMeta): string[] {
  if (!starts || !ends || !minutes) return [];
  const length = minutes * 60_000;
  const slots: string[] = [];
  for (let slot = Math.floor(Date.parse(starts) / length) * length; slot < Date.parse(ends); slot += length) slots.push(new Date(slot).toISOString());
  return slots;
}

export function stateOf(window: EngagementWindow | undefined): WindowState {
  if (!window) return 'ahead';
  return window.data ? 'data' : 'none';
}

/** The first and last window of a meeting may be shorter than the others. */
export function lengthMin(window: EngagementWindow): number {
  return (Date.parse(window.ends) - Date.parse(window.starts)) / 60_000;
}
