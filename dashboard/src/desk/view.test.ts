import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cell, numeric } from './cell.ts';
import { EMPTY, fromSearch, toSearch } from './view.ts';

test('a view comes back from its link as it was', () => {
  const view = { sql: "SELECT *\nFROM scans -- a & b = 'ü'", chart: 'heat', x: 'week', y: 'rate', series: 'school name' } as const;
  assert.deepEqual(fromSearch(toSearch(view)), view);
  assert.deepEqual(fromSearch(toSearch(EMPTY)), EMPTY);
});

test('an address with nonsense is no view', () => {
  assert.deepEqual(fromSearch('?chart=pie&z=1'), EMPTY);
  assert.equal(fromSearch(`?sql=${'x'.repeat(50_000)}`).sql.length, 20_000);
});

test('values read as what they are, and no value is never a number', () => {
  assert.equal(cell(null, 'number'), null);
  assert.equal(cell(0, 'number'), '0');
  assert.equal(cell(9007199254740993n, 'number'), '9007199254740993');
  assert.equal(cell(0.1 + 0.2, 'number'), '0.3');
  assert.equal(cell(Date.UTC(2026, 10, 20, 6, 58, 3, 412), 'instant'), '2026-11-20 06:58:03.412');
  assert.equal(cell(Date.UTC(2026, 10, 20), 'date'), '2026-11-20');
  assert.equal(cell(false, 'truth'), 'false');
  assert.equal(numeric('12'), null);
  assert.equal(numeric(12n), 12);
});
