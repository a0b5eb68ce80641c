import assert from 'node:assert/strict';
import test from 'node:test';
import { months, yearBegins } from './year.ts';

test('a year begins in August', () => {
  assert.equal(yearBegins('2026-11-21'), '2026-08-01');
  assert.equal(yearBegins('2026-08-01'), '2026-08-01');
  assert.equal(yearBegins('2026-07-31'), '2025-08-01');
});

test('days come newest first and are drawn oldest first, by month', () => {
  const days = ['2026-11-02', '2026-11-01', '2026-10-30'].map((date) => ({ date }));
  assert.deepEqual(months(days), [
    { first: '2026-10-01', days: [{ date: '2026-10-30' }] },
    { first: '2026-11-01', days: [{ date: '2026-11-01' }, { date: '2026-11-02' }] },
  ]);
});
