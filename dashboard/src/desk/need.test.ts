import assert from 'node:assert/strict';
import { test } from 'node:test';
import { came, inNeed, sum } from './need.ts';
import type { AttendanceLine, ChronicLine } from './overview.ts';

const school = (id: string, counts: Record<string, number>) => ({ id, name: `School ${id}`, counts });
const usual = (id: string, rate: number | null, days = 20) => 
  ({ school: id, rate, days_in_session: days, suppressed: rate === null, enrolled_half_days: rate === null ? null : 1_000, unknown_half_days: 0, absent_half_days: rate === null ? null : Math.round(1_000 * (1 - rate)), tardies: null }) as AttendanceLine;
const chronic = (id: string, often: number | null, students: number | null) => ({ school: id, chronic: often, students }) as ChronicLine;

test('missing evidence comes before absence, absence before what has long been so', () => {
  const found = inNeed(
    [
      school('a', { present: 95, absent: 5 }),
      school('b', { present: 80, absent: 20 }),
      school('c', { present: 60, unknown: 40 }),
      school('d', { present: 98, absent: 2 }),
    ],
    [usual('a', 0.95), usual('b', 0.95), usual('c', 0.95), usual('d', 0.95)],
    [chronic('d', 30, 100), chronic('a', 5, 100)],
  );
  assert.deepEqual(found.map((need) => [need.id, need.reasons.map((reason) => reason.kind)]), [['c', ['unknown']], ['b', ['absent']], ['d', ['chronic']]]);
});

test('what is usual for a school is not what it is looked at for', () => {
  const counts = { present: 86, absent: 14 };
  assert.deepEqual(inNeed([school('a', counts)], [usual('a', 0.87)], []), []);
  assert.equal(inNeed([school('a', counts)], [usual('a', 0.95)], [])[0]?.reasons[0]?.kind, 'absent');
  // Withheld, or too few days: then a tenth is much.
  for (const line of [usual('a', null), usual('a', 0.87, 3)]) {
    const [need] = inNeed([school('a', counts)], [line], []);
    assert.deepEqual(need?.reasons, [{ kind: 'absent', share: 0.14, usual: null, days: line.days_in_session }]);
  }
});

test('before the bell nobody is absent, and a handful of students is no share', () => {
  assert.deepEqual(inNeed([school('a', { expected: 100 })], [], []), []);
  assert.deepEqual(inNeed([school('a', { present: 5, absent: 4, expected: 91 })], [], []), []);
  assert.deepEqual(inNeed([school('a', {})], [], [chronic('a', null, null)]), []);
});

test('who came and has left again came', () => {
  const counts = { present: 3, tardy: 2, early_departure: 1, absent: 4, expected: 5 };
  assert.deepEqual([came(counts), sum(counts)], [6, 15]);
});

test('tardies are compared with what is usual for the school', () => {
  const counts = { present: 80, tardy: 20 };
  const line = (tardies: number) => ({ ...usual('a', 1), tardies, enrolled_half_days: 4_000 }) as AttendanceLine;
  assert.deepEqual(inNeed([school('a', counts)], [line(380)], []), []);
  assert.deepEqual(inNeed([school('a', counts)], [line(100)], [])[0]?.reasons, [{ kind: 'tardy', share: 0.2, usual: 0.05 }]);
});

test('no school is named for what rounding may have added', () => {
  const rounded = (counts: Record<string, number>) => ({ ...school('a', counts), rounded_to: 10 });
  assert.deepEqual(inNeed([rounded({ present: 90, absent: 10 })], [], []), []);
  assert.deepEqual(inNeed([rounded({ present: 80, absent: 20 })], [], [])[0]?.reasons, [{ kind: 'absent', share: 0.2, usual: null, days: 0 }]);
  assert.deepEqual(inNeed([rounded({ present: 90, unknown: 10 })], [], [])[0]?.reasons, [{ kind: 'unknown', count: 10, of: 100 }]);
  assert.deepEqual(inNeed([rounded({ present: 190, unknown: 10 })], [], []), []);
});

test('days of which nothing is known are not usual days', () => {
  const unknown = { ...usual('a', 0), absent_half_days: 0, unknown_half_days: 1_000 } as AttendanceLine;
  const [need] = inNeed([school('a', { present: 85, absent: 15 })], [unknown], []);
  assert.deepEqual(need?.reasons, [{ kind: 'absent', share: 0.15, usual: null, days: 20 }]);
});
