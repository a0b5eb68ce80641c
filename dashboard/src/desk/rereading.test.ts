import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Problem } from '../api/client.ts';
import { READ_EVERY_MS, Rereading, RETRY_AFTER_MS } from './rereading.ts';

describe('reports of a page that stays open', () => {
  let shown: (number | null)[];
  let failures: number;
  let answers: { resolve(held: number): void; reject(error: Error): void }[];
  let reading: Rereading<number>;

  beforeEach(() => {
    [shown, failures, answers] = [[], 0, []];
    mock.timers.enable({ apis: ['setTimeout'] });
    reading = new Rereading<number>({
      read: () => new Promise((resolve, reject) => void answers.push({ resolve, reject })),
      show: (held) => void shown.push(held),
      failed: () => void (failures += 1),
    });
  });
  afterEach(() => mock.timers.reset());

  async function answered(held: number | Problem): Promise<void> {
    const answer = answers.at(-1);
    assert.ok(answer);
    if (held instanceof Problem) answer.reject(held);
    else answer.resolve(held);
    await setImmediate();
  }

  test('they are read every hour', async () => {
    void reading.again();
    await answered(1);
    mock.timers.tick(READ_EVERY_MS - 1);
    assert.equal(answers.length, 1);
    mock.timers.tick(1);
    await answered(2);
    assert.deepEqual(shown, [1, 2]);
  });

  test("at another date yesterday's go at once, and today's come", async () => {
    void reading.again();
    reading.heard('2026-11-20');
    await answered(1);
    reading.heard('2026-11-20');
    assert.deepEqual([shown, answers.length], [[1], 1]);
    reading.heard('2026-11-21');
    assert.deepEqual([shown, answers.length], [[1, null], 2]);
    await answered(2);
    assert.deepEqual(shown, [1, null, 2]);
  });

  test('what was asked yesterday and comes today is not shown', async () => {
    void reading.again();
    reading.heard('2026-11-20');
    const [late] = answers;
    reading.heard('2026-11-21');
    await answered(2);
    late?.resolve(1);
    await setImmediate();
    assert.deepEqual(shown, [null, 2]);
  });

  test('after a failure what is shown stays, and it is tried again soon', async () => {
    void reading.again();
    await answered(1);
    mock.timers.tick(READ_EVERY_MS);
    await answered(new Problem(0, 'network', 'gone'));
    assert.deepEqual([shown, failures], [[1], 1]);
    mock.timers.tick(RETRY_AFTER_MS);
    await answered(2);
    assert.deepEqual(shown, [1, 2]);
  });

  test('a page that is gone reads nothing', async () => {
    void reading.again();
    reading.close();
    await answered(1);
    mock.timers.tick(2 * READ_EVERY_MS);
    assert.deepEqual([shown, answers.length], [[], 1]);
  });
});
