import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { RETRY_FIRST_MS, RETRY_MAX_MS, retryDelayMs } from './backoff.ts';
import { LiveClient, OPEN_WITHIN_MS, PING_EVERY_MS, PONG_WITHIN_MS, SUBSCRIPTIONS_MAX, type LinkState, type Socket } from './client.ts';
import { applied, fromSnapshot, type Collections } from './collections.ts';

class FakeSocket implements Socket {
  sent: Record<string, unknown>[] = [];
  closed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: (() => void) | null = null;
  onerror: (() => void) | null = null;
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.closed = true;
  }
  say(message: object): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
  asked(): Record<string, unknown>[] {
    return this.sent.filter((message) => message['op'] === 'subscribe');
  }
}

class World {
  now = 1_000;
  sockets: FakeSocket[] = [];
  timers: { at: number; run: () => void }[] = [];
  open(): Socket {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  }
  random(): number {
    return 0;
  }
  after(ms: number, run: () => void): () => void {
    const timer = { at: this.now + ms, run };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }
  pass(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const due = this.timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.timers = this.timers.filter((timer) => timer !== due);
      this.now = Math.max(this.now, due.at);
      due.run();
    }
    this.now = end;
  }
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket);
    return socket;
  }
}

let world: World;
let states: LinkState[];
let refused: number;
let client: LiveClient;
let seen: Collections[];
const listener = { changed: (state: Collections) => void seen.push(state) };

beforeEach(() => {
  world = new World();
  states = [];
  seen = [];
  refused = 0;
  const around = { open: () => world.open(), now: () => world.now, random: () => world.random(), after: world.after.bind(world) };
  client = new LiveClient(around, (state) => states.push(state), () => (refused += 1));
});

function connected(): FakeSocket {
  client.subscribe('section/a/attendance', listener);
  world.socket.onopen?.();
  world.socket.say({ op: 'snapshot', id: 1, version: 5, data: { students: { a: 1 } } });
  return world.socket;
}

describe('collections', () => {
  test('a delta changes and removes keys, and leaves the rest as it was', () => {
    const kept = { status: 'present' };
    const held: Collections = { students: { a: kept, b: 1 }, counts: { present: 1 } };
    const next = applied(held, { students: { b: null, c: 2 }, meta: { state: 'over' } });
    assert.deepEqual(next, { students: { a: kept, c: 2 }, counts: { present: 1 }, meta: { state: 'over' } });
    assert.equal(next['students']?.['a'], kept);
    assert.equal(next['counts'], held['counts']);
    assert.deepEqual(held['students'], { a: kept, b: 1 });
  });
  test('a snapshot and the deltas that lead to it say the same', () => {
    const steps = [{ s: { a: 1, b: 2 } }, { s: { a: null } }, { s: { a: 3 }, t: { x: 1 } }, { t: { x: null } }];
    const held = steps.reduce<Collections>((state, step) => applied(state, step), {});
    assert.deepEqual(held, fromSnapshot({ s: { a: 3, b: 2 }, t: {} }));
  });
  test('what is no object changes nothing', () => {
    assert.deepEqual(applied({ a: { b: 1 } }, [1]), { a: { b: 1 } });
    assert.deepEqual(applied({ a: { b: 1 } }, { a: 'x' }), { a: { b: 1 } });
  });
});

describe('backoff', () => {
  test('doubles, is jittered and bounded', () => {
    assert.equal(retryDelayMs(0, 0), RETRY_FIRST_MS / 2);
    assert.equal(retryDelayMs(1, 0), RETRY_FIRST_MS);
    assert.equal(retryDelayMs(1000, 1), RETRY_MAX_MS);
    assert.ok(retryDelayMs(3, 0.9) > retryDelayMs(3, 0.1));
  });
});

describe('live client', () => {
  test('is live only after the server answered', () => {
    client.subscribe('section/a/attendance', listener);
    assert.deepEqual(states, []);
    world.socket.onopen?.();
    assert.deepEqual(states, []);
    world.socket.say({ op: 'pong' });
    assert.deepEqual(states, [{ kind: 'live' }]);
  });

  test('applies deltas in order, merged ones too', () => {
    const socket = connected();
    socket.say({ op: 'delta', id: 1, from: 5, version: 6, data: { students: { b: 2 } } });
    socket.say({ op: 'delta', id: 1, from: 6, version: 9, data: { students: { a: null } } });
    assert.deepEqual(seen.at(-1), { students: { b: 2 } });
    assert.equal(socket.asked().length, 1);
  });

  test('asks for a snapshot when a delta does not fit', () => {
    const socket = connected();
    socket.say({ op: 'delta', id: 1, from: 7, version: 8, data: { students: { b: 2 } } });
    assert.deepEqual(seen.at(-1), { students: { a: 1 } });
    assert.deepEqual(socket.asked().at(-1), { op: 'subscribe', id: 2, topic: 'section/a/attendance' });
    socket.say({ op: 'delta', id: 1, from: 8, version: 9, data: { students: { z: 2 } } });
    socket.say({ op: 'snapshot', id: 2, version: 9, data: { students: { c: 3 } } });
    assert.deepEqual(seen.at(-1), { students: { c: 3 } });
  });

  test('resumes with the version it holds', () => {
    const first = connected();
    first.onclose?.();
    assert.deepEqual(states.at(-1), { kind: 'lost', since: 1_000 });
    world.pass(RETRY_FIRST_MS);
    assert.equal(world.sockets.length, 2);
    world.socket.onopen?.();
    assert.deepEqual(world.socket.asked(), [{ op: 'subscribe', id: 1, topic: 'section/a/attendance', since: 5 }]);
    world.socket.say({ op: 'delta', id: 1, from: 5, version: 7, data: { students: { b: 2 } } });
    assert.deepEqual(seen.at(-1), { students: { a: 1, b: 2 } });
    assert.deepEqual(states.at(-1), { kind: 'live' });
  });

  test('a question goes with its subscription, is asked anew at the next connection, and its refusal has a place', () => {
    const refusals: unknown[] = [];
    client.subscribe('sql', { ...listener, refused: (...said) => void refusals.push(said) }, 'SELECT 1');
    const asked = { op: 'subscribe', id: 1, topic: 'sql', sql: 'SELECT 1' };
    world.socket.onopen?.();
    world.socket.say({ op: 'snapshot', id: 1, version: 5, data: { rows: { a: [1] } } });
    assert.deepEqual(world.socket.asked(), [asked]);
    world.socket.onclose?.();
    world.pass(RETRY_FIRST_MS);
    world.socket.onopen?.();
    assert.deepEqual(world.socket.asked(), [asked]);
    world.socket.say({ op: 'error', id: 1, code: 'sql_invalid', message: 'there is no column dri', line: 1, column: 8 });
    assert.deepEqual(refusals, [['sql_invalid', 'there is no column dri', { line: 1, column: 8, hint: null }]]);
  });

  test('a silent connection is given up, and an old socket is not listened to', () => {
    const first = connected();
    world.pass(PING_EVERY_MS);
    assert.deepEqual(first.sent.at(-1), { op: 'ping' });
    world.pass(PONG_WITHIN_MS);
    assert.equal(first.closed, true);
    assert.deepEqual(states.at(-1), { kind: 'lost', since: 1_000 });
    const before = seen.length;
    first.say({ op: 'snapshot', id: 1, version: 99, data: { students: {} } });
    assert.equal(seen.length, before);
  });

  test('a pong keeps the connection', () => {
    const socket = connected();
    for (let turn = 0; turn < 5; turn += 1) {
      world.pass(PING_EVERY_MS);
      socket.say({ op: 'pong' });
    }
    assert.equal(world.sockets.length, 1);
    assert.deepEqual(states, [{ kind: 'live' }]);
  });

  test('a connection that never opens is given up and tried again ever more slowly', () => {
    client.subscribe('section/a/attendance', listener);
    world.pass(OPEN_WITHIN_MS);
    assert.deepEqual(states.at(-1), { kind: 'lost', since: null });
    for (let turn = 0; turn < 12; turn += 1) {
      const count = world.sockets.length;
      world.pass(RETRY_MAX_MS);
      assert.ok(world.sockets.length > count);
      world.socket.onclose?.();
    }
    assert.ok(refused > 0);
    const count = world.sockets.length;
    world.pass(RETRY_MAX_MS / 2 - 1);
    assert.equal(world.sockets.length, count);
  });

  test('the browser says offline and online: lost at once, tried at once', () => {
    connected();
    client.sleep();
    assert.equal(states.at(-1)?.kind, 'lost');
    client.wake();
    assert.equal(world.sockets.length, 2);
    world.pass(RETRY_MAX_MS / 4);
    assert.equal(world.sockets.length, 2);
  });

  test('an ended subscription is told, and forgotten keys stay away after unsubscribing', () => {
    const codes: string[] = [];
    const stop = client.subscribe('section/a/attendance', { ...listener, refused: (code) => void codes.push(code) });
    world.socket.onopen?.();
    world.socket.say({ op: 'error', id: 1, code: 'forbidden', message: 'no' });
    assert.deepEqual(codes, ['forbidden']);
    stop();
    assert.deepEqual(world.socket.sent.at(-1), { op: 'unsubscribe', id: 1 });
    world.socket.say({ op: 'snapshot', id: 1, version: 1, data: {} });
    assert.equal(seen.length, 0);
  });

  test('topics are bounded', () => {
    for (let count = 0; count < SUBSCRIPTIONS_MAX; count += 1) client.subscribe(`t/${count}`, listener);
    assert.throws(() => client.subscribe('t/more', listener));
  });

  test('closing ends everything', () => {
    const socket = connected();
    client.close();
    assert.equal(socket.closed, true);
    world.pass(RETRY_MAX_MS * 4);
    assert.equal(world.sockets.length, 1);
    assert.equal(world.timers.length, 0);
  });
});
