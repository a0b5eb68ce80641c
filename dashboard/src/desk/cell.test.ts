import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cell } from './cell.ts';

test('a number keeps its digits before the point, and reads without the noise of its last ones', () => {
  for (const [value, text] of [
    [0.1 + 0.2, '0.3'],
    [95.34567891, '95.34568'],
    [12_345_678.9, '12345678.9'],
    [-1_234_567.891, '-1234567.89'],
    [9_007_199_254_740_993n, '9007199254740993'],
  ] as const) {
    assert.equal(cell(value, 'number'), text);
  }
});

test('a list of numbers reads as a list, however wide they are', () => {
  assert.equal(cell(new BigInt64Array([1n, 2n]), 'other'), '[1,2]');
  assert.equal(cell(new Float64Array([0.5, 2]), 'other'), '[0.5,2]');
  assert.equal(cell([[1n], null], 'other'), '[[1],null]');
  assert.equal(cell([9_007_199_254_740_993n], 'other'), '["9007199254740993"]');
});
