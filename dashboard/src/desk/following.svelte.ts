// A question that is followed: its answer as it stands, and what the server says about it.

import { link } from '../app/live.svelte.ts';
import { session } from '../app/session.svelte.ts';
import { resultOf } from './followed.ts';
import { Refusal, type Result } from './sql.ts';

/** The server ended the question because boards were behind. */
const PRESSED = 'sql_pressed';

export class Following {
  /** `null` until the first answer. */
  result = $state.raw<Result | null>(null);
  /** When the answer that is shown came, in milliseconds. */
  cameAt = $state<number | null>(null);
  /** Why it is no longer followed. */
  refusal = $state.raw<Refusal | null>(null);
  readonly sql: string;
  #stop: () => void;

  constructor(sql: string) {
    this.sql = sql;
    this.#stop = link.client.subscribe(
      'sql',
      {
        changed: (state) => {
          this.result = resultOf(state);
          this.cameAt = Date.now();
        },
        refused: (code, message, { line, column, hint }) => {
          this.refusal = new Refusal(422, code, message, line, column, hint);
          // It is not asked for again at the next connection: whoever follows decides.
          this.close();
          if (code === 'unauthenticated') void session.check();
        },
      },
      sql,
    );
  }

  /** It ended for the sake of boards, and may be followed again in a while. */
  get isPaused(): boolean {
    return this.refusal?.code === PRESSED;
  }

  close(): void {
    this.#stop();
  }
}
