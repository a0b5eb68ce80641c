import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Entry, MarkDetail } from '../api/types.ts';
import { here, matches, shownInstant, statusOf, tapped, total } from './status.ts';

const entry = (over: Partial<Entry>, detail: Partial<Entry['detail']> = {}): Entry => ({
  status: 'present',
  since: '2026-11-20T08:03:00.000Z',
  rule: 'arrived_by_grace',
  ...over,
  detail: { evidence: [], mark: null, behind: [], flags: [], present_min: 0, scheduled_min: 50, grace_min: 5, tardy_cutoff_min: 20, ...detail },
});
const mark = (at: string | null): MarkDetail => ({ id: 'm', status: 'present', authority: 'teacher', author: 'x', recorded: '2026-11-20T08:10:00.000Z', at });

test('a tap says the opposite of what is shown', () => {
  assert.equal(tapped('present'), 'absent_unexcused');
  assert.equal(tapped('tardy'), 'absent_unexcused');
  for (const status of ['absent', 'expected', 'unknown', 'early_departure', null] as const) assert.equal(tapped(status), 'present');
});

test('both absences are absent', () => {
  assert.equal(statusOf('absent_excused'), 'absent');
  assert.equal(statusOf('absent_unexcused'), 'absent');
  assert.equal(statusOf('early_departure'), 'early_departure');
});

test('the time shown is the arrival by scan, else what the mark states, and never the moment of marking', () => {
  assert.deepEqual(shownInstant(entry({}, { arrival: '2026-11-20T07:58:00.000Z' })), { kind: 'arrived', at: '2026-11-20T07:58:00.000Z' });
  assert.deepEqual(shownInstant(entry({}, { mark: mark('2026-11-20T08:09:00.000Z') })), { kind: 'arrived', at: '2026-11-20T08:09:00.000Z' });
  assert.equal(shownInstant(entry({}, { mark: mark(null) })), null);
  assert.equal(shownInstant(entry({ status: 'absent' })), null);
  assert.equal(shownInstant(entry({ status: 'early_departure' }, { departure: '2026-11-20T09:00:00.000Z' }))?.kind, 'left');
});

test('counts', () => {
  assert.equal(total({ present: 3, tardy: 1, early_departure: 1, unknown: 2 }), 7);
  assert.equal(here({ present: 3, tardy: 1, early_departure: 1 }), 4);
});

test('names are found by any of their parts, without accents', () => {
  assert.ok(matches('Zoë Núñez', 'nunez zo'));
  assert.ok(matches('Ana', ''));
  assert.ok(!matches('Ana Ruiz', 'ben'));
});
