// What the page tells the person: one toast at a time, and one quiet voice for screen readers.

/** Long enough to read and to reach the button. */
const TOAST_MS = 9_000;
/** Statuses that change within this time are announced together. */
const ANNOUNCE_EVERY_MS = 3_000;

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly tone: 'plain' | 'bad';
  readonly action?: { label: string; run: () => void };
}

class Notices {
  toast = $state.raw<Toast | null>(null);
  /** The text of the polite live region. */
  spoken = $state('');
  #nextId = 1;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #speech: ReturnType<typeof setTimeout> | undefined;
  #compose: (() => string) | null = null;

  show(text: string, options: { tone?: Toast['tone']; action?: Toast['action'] } = {}): void {
    clearTimeout(this.#timer);
    const id = this.#nextId++;
    this.toast = { id, text, tone: options.tone ?? 'plain', ...(options.action ? { action: options.action } : {}) };
    this.#timer = setTimeout(() => this.hide(id), TOAST_MS);
  }

  hide(id?: number): void {
    if (id === undefined || this.toast?.id === id) this.toast = null;
  }

  /** Speaks at most once in ANNOUNCE_EVERY_MS; `compose` is asked for the words when it is time. */
  speak(compose: () => string): void {
    this.#compose = compose;
    this.#speech ??= setTimeout(() => {
      this.#speech = undefined;
      this.spoken = this.#compose?.() ?? '';
    }, ANNOUNCE_EVERY_MS);
  }
}

export const notices = new Notices();
