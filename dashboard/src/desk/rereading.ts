// Reports on a page that stays open: read again every hour, and at once when the district's date has changed, so that no page
// shows yesterday's figures as today's.

import { Problem } from '../api/client.ts';

/** Days close, marks are corrected and rosters come meanwhile. */
export const READ_EVERY_MS = 60 * 60_000;
/** After a reading that failed. */
export const RETRY_AFTER_MS = 60_000;

export interface Reports<Held> {
  read(): Promise<Held>;
  /** Shows what was read; `null`: what is shown is of another day, and what is of this one has not come yet. */
  show(held: Held | null): void;
  /** What is shown stays. */
  failed(problem: Problem): void;
}

export class Rereading<Held> {
  #reports: Reports<Held>;
  #date: string | null = null;
  #latest = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(reports: Reports<Held>) {
    this.#reports = reports;
  }

  /** Reads now; only the reading that was begun last is shown. */
  async again(): Promise<void> {
    const mine = (this.#latest += 1);
    clearTimeout(this.#timer);
    let nextMs = READ_EVERY_MS;
    try {
      const held = await this.#reports.read();
      if (mine !== this.#latest) return;
      this.#reports.show(held);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (mine !== this.#latest) return;
      this.#reports.failed(error);
      nextMs = RETRY_AFTER_MS;
    }
    this.#timer = setTimeout(() => void this.again(), nextMs);
  }

  /** The district's date, each time that it is heard. */
  heard(date: string): void {
    const hasChanged = this.#date !== null && date !== this.#date;
    this.#date = date;
    if (!hasChanged) return;
    this.#reports.show(null);
    void this.again();
  }

  close(): void {
    this.#latest += 1;
    clearTimeout(this.#timer);
  }
}
