import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cell, numeric } from './cell.ts';
import { isChanged, kept, type Saved, viewOf } from './saved.ts';
import { EMPTY, followedIn, fromAddress, savedIn, toAddress } from './view.ts';

/** What a browser says of an address that ends like this. */
const at = (end: string) => new URL(end, 'https://rollcall.example/district/questions');

test('a view comes back from its link as it was', () => {
  const view = { sql: "SELECT *\nFROM scans -- a & b = 'ü'", chart: 'heat', x: 'week', y: 'rate', series: 'school name' } as const;
  assert.deepEqual(fromAddress(at(toAddress(view))), view);
  assert.deepEqual(fromAddress(at(toAddress(EMPTY))), EMPTY);
  assert.deepEqual([followedIn(at(toAddress(view, null, true))), followedIn(at(toAddress(view)))], [true, false]);
});

test('an address with nonsense is no view', () => {
  assert.deepEqual(fromAddress(at('?chart=pie&z=1#main')), EMPTY);
});

test('a text of the greatest length that the server takes comes back whole, in an address that a server takes', () => {
  const sql = `SELECT '${'ü & '.repeat(13_000)}'`.slice(0, 64 * 1024);
  const view = { ...EMPTY, sql, chart: 'line' } as const;
  const { href, hash } = at(toAddress(view, 'id'));
  assert.deepEqual(fromAddress(at(toAddress(view, 'id'))), view);
  assert.equal(savedIn(at(toAddress(view, 'id'))), 'id');
  assert.ok(href.length - hash.length < 8_000, 'what is sent to the server');
  // Links of earlier versions have the whole text before the #.
  assert.equal(fromAddress(at(`?sql=${'x'.repeat(50_000)}`)).sql.length, 50_000);
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

test('a saved question opens as it was, whatever another version wrote into it', () => {
  const view = { sql: 'SELECT 1', chart: 'bar', x: 'a', y: 'b', series: '' } as const;
  const saved = { sql: view.sql, view: kept(view) } as unknown as Saved;
  assert.deepEqual(viewOf(saved), view);
  assert.equal(isChanged(saved, view), false);
  assert.equal(isChanged(saved, { ...view, chart: 'line' }), true);
  assert.deepEqual(viewOf({ sql: 's', view: { chart: 'pie', x: 7, zoom: 2 } }), { ...EMPTY, sql: 's' });
  assert.deepEqual(viewOf({ sql: 's', view: null }), { ...EMPTY, sql: 's' });
  assert.deepEqual([savedIn(at(toAddress(view, 'id'))), fromAddress(at(toAddress(view, 'id'))), savedIn(at(toAddress(view)))], ['id', view, null]);
});
