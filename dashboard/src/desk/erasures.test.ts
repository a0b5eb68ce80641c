import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTyped } from './erasures.ts';

test('only the whole name confirms', () => {
  assert.ok(isTyped('  zoë  de la Cruz ', 'Zoë de la Cruz'));
  assert.ok(isTyped('Zoe\u0308 Li', 'Zo\u00eb Li'));
  for (const typed of ['', 'Zoë', 'Zoë de la', 'Zoe de la Cruz', 'Zoë de la Cruz x']) assert.ok(!isTyped(typed, 'Zoë de la Cruz'), typed);
  assert.ok(!isTyped(' ', ''), 'who has no name is not confirmed by nothing');
});
