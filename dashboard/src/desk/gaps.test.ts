import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawable, gaps } from './gaps.ts';
import type { Kind, Result, ResultColumn } from './sql.ts';

function column(name: string, kind: Kind, values: readonly unknown[]): ResultColumn {
  return { name, kind, empty: values.filter((value) => value === null).length, at: (row) => values[row] };
}

function result(...columns: ResultColumn[]): Result {
  return { columns, rows: 3, warnings: [], tookMs: 1 };
}

const SCHOOL = column('school', 'text', ['North', null, 'South']);

test('a column of numbers that lacks values is named, with how many', () => {
  assert.equal(gaps(result(SCHOOL, column('rate', 'number', [0, 1, 2]))), null);
  assert.equal(gaps(result(SCHOOL, column('rate', 'number', [null, 1, 2]))), 'rate is empty in 1 of 3 rows.');
  assert.equal(gaps(result(SCHOOL, column('rate', 'number', [null, null, null]))), 'rate is empty in all 3 rows.');
  assert.equal(gaps({ ...result(column('rate', 'number', [null])), rows: 1 }), 'rate is empty in the only row.');
});

test('of many columns the first are named', () => {
  const some = (name: string) => column(name, 'number', [null, 1, null]);
  assert.equal(gaps(result(some('a'), column('b', 'number', [null, null, null]))), 'a is empty in 2 of 3 rows, b in all 3 rows.');
  assert.equal(gaps(result(...['a', 'b', 'c', 'd'].map(some))), 'a is empty in 2 of 3 rows, b in 2 of 3 rows, c in 2 of 3 rows, and 1 more column in some rows.');
});

test('what can be drawn is a number, and zero is one', () => {
  const of = (values: readonly unknown[]) => drawable(result(SCHOOL), column('rate', 'number', values));
  assert.deepEqual([of([0, 1, 2n]), of([null, 0, null]), of([null, Number.NaN, null])], ['all', 'some', 'none']);
});
