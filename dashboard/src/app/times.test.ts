import assert from 'node:assert/strict';
import test from 'node:test';
import { Times } from './times.ts';

const chicago = new Times('America/Chicago');
const noon = Date.parse('2026-11-21T18:00:00Z');

test('an instant of another day says which, by the days of the zone', () => {
  assert.equal(chicago.near('2026-11-21T14:03:12Z', noon), '08:03');
  assert.equal(chicago.near('2026-11-21T05:59:00Z', noon), '20 Nov 2026, 23:59');
  assert.equal(chicago.near('2025-11-21T14:03:12Z', noon), '21 Nov 2025, 08:03');
  assert.equal(chicago.near(null, noon), '');
});

test('what is not an instant reads as nothing, and an unknown zone as the own one', () => {
  assert.equal(chicago.short('soon'), '');
  assert.match(new Times('Nowhere/Else').long(noon), /^\d\d:\d\d:\d\d$/);
});
