import assert from 'node:assert/strict';
import test from 'node:test';
import { stretches } from './heard.ts';

test('runs of ones are drawn as one', () => {
  assert.deepEqual(stretches('0110001'), [
    [1, 3],
    [6, 7],
  ]);
  assert.deepEqual(stretches('000'), []);
});
