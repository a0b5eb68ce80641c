import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { int64, tableFromArrays, tableToIPC } from '@uwdata/flechette';
import { Problem } from '../api/client.ts';
import { ask, file, Refusal } from './sql.ts';

const fetched = globalThis.fetch;
afterEach(() => void (globalThis.fetch = fetched));

/** The next request gets this answer. */
function answering(body: BodyInit | null, init: ResponseInit = {}): void {
  globalThis.fetch = () => Promise.resolve(new Response(body, init));
}
const saved = (signal = new AbortController().signal) => file('SELECT 1', 'csv', signal);

test('a file comes with its warnings', async () => {
  answering('a\n1\n', { headers: { 'rollcall-warnings': '["rows are missing: \\u00e4"]' } });
  const { content, warnings } = await saved();
  assert.deepEqual([await content.text(), warnings], ['a\n1\n', ['rows are missing: ä']]);
});

test('a file that breaks off is no file, and a refused one says why', async () => {
  const halves = new ReadableStream<Uint8Array>({
    start: (to) => to.enqueue(new TextEncoder().encode('a\n1\n')),
    pull: (to) => to.error(new TypeError('the connection ended')),
  });
  answering(halves);
  await assert.rejects(saved(), (error) => error instanceof Problem && error.code === 'incomplete');
  answering('{"code": "sql_invalid", "detail": "there is no column dri", "line": 1, "column": 8}', { status: 422 });
  await assert.rejects(saved(), (error) => error instanceof Refusal && error.message === 'there is no column dri' && error.column === 8);
  globalThis.fetch = () => Promise.reject(new TypeError('failed to fetch'));
  await assert.rejects(saved(), (error) => error instanceof Problem && error.isNetwork);
});

test('a file that is no longer wanted is no failure', async () => {
  const stopped = new AbortController();
  const halves = new ReadableStream<Uint8Array>({ pull: (to) => (stopped.abort(), to.error(stopped.signal.reason)) });
  answering(halves);
  await assert.rejects(saved(stopped.signal), (error) => error instanceof DOMException && error.name === 'AbortError');
});

test('a whole number of 64 bits is read to its last digit', async () => {
  const numbers = tableFromArrays({ n: [1n, 9_007_199_254_740_993n] }, { types: { n: int64() } });
  answering(new Uint8Array(tableToIPC(numbers, { format: 'stream' })!));
  const { columns } = await ask('SELECT n', new AbortController().signal);
  assert.deepEqual([0, 1].map((row) => columns[0]?.at(row)), [1n, 9_007_199_254_740_993n]);
});
