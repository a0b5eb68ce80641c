import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockTime, option, rows, shareAt, span } from './curve.ts';
import type { ArrivalsToday } from './overview.ts';

const CURVE = [{ minute: 475, share: 0.25 }, { minute: 490, share: 0.9 }];
const DAY: ArrivalsToday = {
  date: '2026-11-20', zone: 'America/Chicago', minute: 480, year_from: null, in_session: true, suppressed: false, students: 40,
  today: [{ minute: 475, share: 0.5 }], usual: CURVE, usual_days: [], usual_days_min: 3,
};
const COLOURS = { font: '', fontPx: 14, ink: '', soft: '', line: '', card: '', low: '', scale: ['', ''] as const, marks: ['#000'] };

test('a curve of steps holds until its next point', () => {
  assert.deepEqual([470, 475, 489, 490, 900].map((minute) => shareAt(CURVE, minute)), [0, 0.25, 0.25, 0.9, 0.9]);
  assert.equal(clockTime(65), '01:05');
});

test('today ends now: what has not come yet is neither drawn nor zero', () => {
  assert.deepEqual(rows(DAY).map((row) => [row.time, row.today, row.usual]), [
    ['07:30', 0, 0], ['07:45', 0, 0], ['08:00', 0.5, 0.25], ['08:15', null, 0.9], ['08:30', null, 0.9],
  ]);
  const series = option(DAY, { today: 'Today', usual: 'Usual' }, COLOURS)['series'] as { name: string; data: number[][] }[];
  assert.deepEqual(series.map((line) => [line.name, line.data.at(-1)]), [['Usual', [510, 0.9]], ['Today', [480, 0.5]]]);
});

test('without evidence there is no usual curve, and without anybody no picture', () => {
  const alone = { ...DAY, usual: null };
  assert.equal((option(alone, { today: 'Today', usual: 'Usual' }, COLOURS)['series'] as unknown[]).length, 1);
  assert.deepEqual(rows(alone).map((row) => row.usual), rows(alone).map(() => null));
  assert.equal(span({ ...DAY, today: [], usual: null }), null);
  assert.deepEqual(rows({ ...DAY, today: [], usual: null }), []);
});

test('in the afternoon the picture stays with the morning', () => {
  assert.deepEqual(span({ ...DAY, minute: 900 }), { from: 450, to: 540 });
});
