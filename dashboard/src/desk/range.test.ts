import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromSearch, RANGES, reading, toSearch } from './range.ts';

test('a range comes back from its link', () => {
  for (const range of RANGES) assert.equal(fromSearch(toSearch(range)), range);
  assert.deepEqual([fromSearch(''), fromSearch('?range=decade'), toSearch('days')], ['days', 'days', '']);
});

test('a year is read from its first day, and nothing before that is known', () => {
  assert.deepEqual(reading('year', undefined), { range: 'year', from: undefined, isKnown: false });
  assert.deepEqual(reading('year', '2026-08-17'), { range: 'year', from: '2026-08-17', isKnown: true });
  for (const days of [reading('year', null), reading('days', undefined), reading('days', '2026-08-17')]) {
    assert.deepEqual(days, { range: 'days', from: undefined, isKnown: true });
  }
});
