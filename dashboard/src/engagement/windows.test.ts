import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EngagementWindow } from '../api/types.ts';
import { lengthMin, slotsOf, stateOf } from './windows.ts';

test('a meeting is cut at multiples of the window, shorter at its ends', () => {
  const meta = { state: 'running', definition: 1, window_min: 5, starts: '2026-11-20T09:02:00.000Z', ends: '2026-11-20T09:14:00.000Z' };
  assert.deepEqual(slotsOf(meta), ['2026-11-20T09:00:00.000Z', '2026-11-20T09:05:00.000Z', '2026-11-20T09:10:00.000Z']);
  assert.deepEqual(slotsOf({ ...meta, ends: '2026-11-20T09:05:00.000Z' }), ['2026-11-20T09:00:00.000Z'], 'the end is not in it');
});

test('without a meeting there is no window', () => {
  assert.deepEqual(slotsOf({}), []);
  assert.deepEqual(slotsOf({ state: 'none', definition: 1, window_min: 5 }), []);
});

test('no data is no data, and a window to come is neither', () => {
  const window = { starts: '2026-11-20T09:02:00.000Z', ends: '2026-11-20T09:05:00.000Z', data: false } as EngagementWindow;
  assert.equal(stateOf(undefined), 'ahead');
  assert.equal(stateOf(window), 'none');
  assert.equal(stateOf({ ...window, data: true }), 'data');
  assert.equal(lengthMin(window), 3);
});
