// The live link as pages see it: one connection for the whole page, its state, and topics as reactive values.

import { browserClient, type LinkState } from '../live/client.ts';
import type { Collections } from '../live/collections.ts';
import { session } from './session.svelte.ts';

class Link {
  state = $state.raw<LinkState>({ kind: 'connecting' });
  #open: ReturnType<typeof browserClient> | null = null;

  get client() {
    if (this.#open === null) {
      const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/live/v1`;
      const asked = () => void session.check();
      this.#open = browserClient(url, (state) => (this.state = state), asked);
    }
    return this.#open.client;
  }

  /** Ends the connection, at sign-out. */
  close(): void {
    this.#open?.close();
    this.#open = null;
    this.state = { kind: 'connecting' };
  }
}

export const link = new Link();

export class Topic {
  /** `null` until the first snapshot. */
  state = $state.raw<Collections | null>(null);
  refusal = $state.raw<{ code: string; message: string } | null>(null);
  #stop: () => void;

  /** `changed` sees every change after it was applied; `changes` is null after a snapshot. */
  constructor(name: string, changed: (changes: Collections | null, before: Collections | null) => void = () => {}) {
    this.#stop = link.client.subscribe(name, {
      changed: (state, changes) => {
        const before = this.state;
        this.state = state;
        this.refusal = null;
        changed(changes, before);
      },
      refused: (code, message) => {
        this.refusal = { code, message };
        if (code === 'unauthenticated') void session.check();
      },
    });
  }

  /** The collection as the caller knows its values to be; {} when there is none. */
  collection<Value>(name: string): Readonly<Record<string, Value>> {
    return (this.state?.[name] ?? {}) as Readonly<Record<string, Value>>;
  }

  close(): void {
    this.#stop();
  }
}
