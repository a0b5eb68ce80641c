// The client of /live/v1: keeps subscriptions through any loss of the network and never shows a gap as the truth.
//
// Promises: a listener holds exactly what a new snapshot would say, or is told that the link is down. A delta is
// applied only on the version it starts from; anything else asks for a new snapshot. The link counts as live only
// after the server has answered on this connection. Everything is bounded: one socket, SUBSCRIPTIONS_MAX topics, no
// queue (what cannot be sent now is said again at the next connection).

import { retryDelayMs } from './backoff.ts';
import { applied, fromSnapshot, type Collections } from './collections.ts';

export const SUBSCRIPTIONS_MAX = 64;
/** A silent connection is asked for a sign of life this often, */
export const PING_EVERY_MS = 8_000;
/** and is given up when there was none within this time. */
export const PONG_WITHIN_MS = 4_000;
/** A connection that does not open within this time is given up. */
export const OPEN_WITHIN_MS = 8_000;

export type LinkState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'live' }
  /** `since`: the last instant (ms) at which the server was heard; null: never. */
  | { readonly kind: 'lost'; readonly since: number | null };

/** What the client needs of a WebSocket; a test gives its own. */
export interface Socket {
  send(text: string): void;
  close(): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  onerror: (() => void) | null;
}

export interface Surroundings {
  open(): Socket;
  now(): number;
  random(): number;
  after(ms: number, run: () => void): () => void;
}

export interface Listener {
  /** The topic's whole state. `changes` holds what a delta changed; null after a snapshot. */
  changed(state: Collections, changes: Collections | null): void;
  /** The server refused or ended the subscription. It is asked for again at the next connection. */
  refused?(code: string, message: string, place: Place): void;
}

/** Where the text of a question is wrong, and what might be meant. Line and column count from 1. */
export interface Place {
  readonly line: number | null;
  readonly column: number | null;
  readonly hint: string | null;
}

interface Held {
  topic: string;
  /** The question of the topic `sql`. */
  sql: string | null;
  listener: Listener;
  version: number | null;
  state: Collections;
}

interface Message {
  op?: unknown;
  id?: unknown;
  version?: unknown;
  from?: unknown;
  data?: unknown;
  code?: unknown;
  message?: unknown;
  line?: unknown;
  column?: unknown;
  hint?: unknown;
}

export class LiveClient {
  state: LinkState = { kind: 'connecting' };
  #around: Surroundings;
  #onState: (state: LinkState) => void;
  #onRefused: () => void;
  #socket: Socket | null = null;
  #isOpen = false;
  #held = new Map<number, Held>();
  #nextId = 1;
  #failures = 0;
  #heardAt: number | null = null;
  #cancelTimer: () => void = () => {};
  #cancelRetry: () => void = () => {};
  #isClosed = false;

  /** `onRefused` is called when an attempt failed before it opened: the session may have ended. */
  constructor(around: Surroundings, onState: (state: LinkState) => void, onRefused: () => void = () => {}) {
    this.#around = around;
    this.#onState = onState;
    this.#onRefused = onRefused;
  }

  /** Follows a topic until the returned function is called. Connects when it is the first. The topic `sql` has its question in `sql`. */
  subscribe(topic: string, listener: Listener, sql: string | null = null): () => void {
    if (this.#held.size >= SUBSCRIPTIONS_MAX) throw new Error(`more than ${SUBSCRIPTIONS_MAX} live topics`);
    let id = this.#nextId++;
    const held: Held = { topic, sql, listener, version: null, state: {} };
    this.#held.set(id, held);
    if (this.#socket === null) this.#connect();
    else if (this.#isOpen) this.#ask(id, held);
    return () => {
      // After a resubscription the topic has another id.
      for (const [key, value] of this.#held) if (value === held) id = key;
      if (this.#held.delete(id) && this.#isOpen) this.#send({ op: 'unsubscribe', id });
    };
  }

  /** The network is said to be back, or the page is looked at again: try at once, or make sure of the connection. */
  wake(): void {
    if (this.#isClosed) return;
    if (this.#isOpen) this.#ping();
    else if (this.#socket === null && this.#held.size > 0) this.#connect();
  }

  /** The network is said to be gone. A board that might be frozen must not look live for another ping. */
  sleep(): void {
    if (this.#socket !== null) this.#lost(this.#socket);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelTimer();
    this.#cancelRetry();
    this.#held.clear();
    const socket = this.#socket;
    this.#socket = null;
    this.#isOpen = false;
    socket?.close();
  }

  #connect(): void {
    this.#cancelRetry();
    if (this.#isClosed || this.#socket !== null) return;
    let socket: Socket;
    try {
      socket = this.#around.open();
    } catch {
      this.#retry();
      return;
    }
    this.#socket = socket;
    let opened = false;
    socket.onopen = () => {
      if (socket !== this.#socket) return;
      opened = true;
      this.#isOpen = true;
      for (const [id, held] of [...this.#held]) this.#ask(id, held);
      // The answer says that the subscriptions before it were read.
      this.#ping();
    };
    socket.onmessage = (event) => {
      if (socket === this.#socket && typeof event.data === 'string') this.#heard(event.data);
    };
    socket.onerror = () => {};
    socket.onclose = () => {
      if (socket !== this.#socket) return;
      this.#lost(socket);
      if (!opened) this.#onRefused();
    };
    this.#watch(OPEN_WITHIN_MS, () => this.#lost(socket));
  }

  #lost(socket: Socket): void {
    this.#cancelTimer();
    this.#socket = null;
    this.#isOpen = false;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this.#retry();
  }

  #retry(): void {
    if (this.#isClosed) return;
    this.#become({ kind: 'lost', since: this.#heardAt });
    const delay = retryDelayMs(this.#failures, this.#around.random());
    this.#failures += 1;
    this.#cancelRetry();
    this.#cancelRetry = this.#around.after(delay, () => this.#connect());
  }

  #ask(id: number, held: Held): void {
    // An answer to a question is computed anew for who comes back: it is whole, and small.
    const since = held.version === null || held.sql !== null ? {} : { since: held.version };
    this.#send({ op: 'subscribe', id, topic: held.topic, ...since, ...(held.sql === null ? {} : { sql: held.sql }) });
  }

  #ping(): void {
    const socket = this.#socket;
    this.#send({ op: 'ping' });
    this.#watch(PONG_WITHIN_MS, () => {
      if (socket !== null && socket === this.#socket) this.#lost(socket);
    });
  }

  #watch(ms: number, run: () => void): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#around.after(ms, run);
  }

  #send(message: object): void {
    try {
      this.#socket?.send(JSON.stringify(message));
    } catch {
      // The socket closes by itself, and everything is said again on the next one.
    }
  }

  #heard(text: string): void {
    this.#heardAt = this.#around.now();
    this.#failures = 0;
    this.#watch(PING_EVERY_MS, () => this.#ping());
    let message: Message;
    try {
      message = JSON.parse(text) as Message;
    } catch {
      return;
    }
    this.#dispatch(message);
    this.#become({ kind: 'live' });
  }

  #dispatch(message: Message): void {
    if (typeof message.id !== 'number') return;
    const held = this.#held.get(message.id);
    if (held === undefined) return;
    const { op, version, data } = message;
    if (op === 'snapshot' && typeof version === 'number') {
      held.version = version;
      held.state = fromSnapshot(data);
      held.listener.changed(held.state, null);
    } else if (op === 'delta' && typeof version === 'number') {
      this.#delta(message.id, held, typeof message.from === 'number' ? message.from : version - 1, version, data);
    } else if (op === 'error') {
      held.version = null;
      const { line, column, hint } = message;
      const number = (value: unknown) => (typeof value === 'number' ? value : null);
      held.listener.refused?.(String(message.code ?? 'error'), String(message.message ?? ''), { line: number(line), column: number(column), hint: typeof hint === 'string' ? hint : null });
    }
  }

  #delta(id: number, held: Held, from: number, version: number, data: unknown): void {
    if (from !== held.version) {
      // A gap, or the version of another life of the server: only a snapshot is certain.
      this.#held.delete(id);
      this.#send({ op: 'unsubscribe', id });
      held.version = null;
      const renewed = this.#nextId++;
      this.#held.set(renewed, held);
      this.#ask(renewed, held);
      return;
    }
    held.version = version;
    held.state = applied(held.state, data);
    held.listener.changed(held.state, data as Collections);
  }

  #become(state: LinkState): void {
    if (state.kind === this.state.kind && state.kind !== 'lost') return;
    if (state.kind === 'lost' && this.state.kind === 'lost' && state.since === this.state.since) return;
    this.state = state;
    this.#onState(state);
  }
}

/** The client on a browser's own WebSocket, woken by its `online` event and by looking at the page again. */
export function browserClient(
  url: string,
  onState: (state: LinkState) => void,
  onRefused: () => void,
): { client: LiveClient; close: () => void } {
  const client = new LiveClient(
    {
      open: () => new WebSocket(url) as unknown as Socket,
      now: () => Date.now(),
      random: () => Math.random(),
      after: (ms, run) => {
        const timer = setTimeout(run, ms);
        return () => clearTimeout(timer);
      },
    },
    onState,
    onRefused,
  );
  const online = () => client.wake();
  const offline = () => client.sleep();
  const seen = () => {
    if (document.visibilityState === 'visible') client.wake();
  };
  addEventListener('online', online);
  addEventListener('offline', offline);
  document.addEventListener('visibilitychange', seen);
  const close = () => {
    removeEventListener('online', online);
    removeEventListener('offline', offline);
    document.removeEventListener('visibilitychange', seen);
    client.close();
  };
  return { client, close };
}
