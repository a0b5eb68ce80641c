import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cell } from './cell.ts';
import { fits, resultOf } from './followed.ts';

const STATE = {
  result: { columns: [{ name: 'week', type: 'Date32' }, { name: 'at', type: 'Timestamp(ms)' }, { name: 'n', type: 'Int64' }, { name: 'share', type: 'Decimal128(5, 2)' }], warnings: ['careful'], order: ['b', 'a'] },
  rows: { a: ['2026-11-16', '2026-11-22T18:00:00', 3, 0.5], b: ['2026-11-09', '2026-11-22T12:00:00-06:00', null, 1] },
};

test('a live answer reads as any other, in its order', () => {
  const result = resultOf(STATE);
  assert.ok(result);
  const shown = [0, 1].map((row) => result.columns.map((column) => cell(column.at(row), column.kind)));
  assert.deepEqual(shown, [['2026-11-09', '2026-11-22 18:00:00', null, '1'], ['2026-11-16', '2026-11-22 18:00:00', '3', '0.5']]);
  assert.deepEqual([result.rows, result.warnings, result.columns.map((column) => column.kind)], [2, ['careful'], ['date', 'instant', 'number', 'number']]);
});

test('without an order the rows come as they are held, and a row that is gone is none', () => {
  const { order: _, ...about } = STATE.result;
  assert.equal(resultOf({ ...STATE, result: about })?.columns[2]?.at(0), 3);
  assert.equal(resultOf({ result: STATE.result, rows: { a: STATE.rows.a } })?.rows, 1);
  assert.equal(resultOf({ result: STATE.result })?.rows, 0);
  assert.equal(resultOf({}), null);
});

test('a question that would end the connection is not followed', () => {
  assert.equal(fits('x'.repeat(15_000)), true);
  assert.equal(fits('x'.repeat(16_000)), false);
  assert.equal(fits('\n'.repeat(8_000)), false, 'as it is written into the message');
});
