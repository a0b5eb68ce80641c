// Today's arrivals of the district or of one school, read again while the day goes on.

import { Problem } from '../api/client.ts';
import { type ArrivalsToday, overview } from './overview.ts';

/** Shortest time between two readings while scans stream in, and the longest while none do: the clock moves the curve too. */
const READ_AT_MOST_EVERY_MS = 15_000;
const READ_AT_LEAST_EVERY_MS = 60_000;

export class Arrivals {
  /** `null` until the first answer. */
  current = $state.raw<ArrivalsToday | null>(null);
  hasFailed = $state(false);
  #school: string | undefined;
  #readAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(school?: string) {
    this.#school = school;
    void this.#read();
  }

  /** Something has changed: reads again, now or as soon as it may. */
  changed(): void {
    this.#plan(Math.max(0, this.#readAt + READ_AT_MOST_EVERY_MS - performance.now()));
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  async #read(): Promise<void> {
    this.#readAt = performance.now();
    try {
      const found = await overview.arrivals(this.#school);
      if (this.#isClosed) return;
      this.current = found;
      this.hasFailed = false;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // What is known stays; without anything the page says so.
      this.hasFailed = true;
    }
    if (!this.#isClosed) this.#plan(READ_AT_LEAST_EVERY_MS);
  }

  #plan(inMs: number): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#read(), inMs);
  }
}
