// What has just happened on a board: which tiles to highlight, and one summarised sentence for screen readers.

import { SvelteSet } from 'svelte/reactivity';
import type { Entry, Id } from '../api/types.ts';
import { notices } from '../app/notices.svelte.ts';
import { text } from '../text/index.ts';
import { isHere } from './status.ts';

const FRESH_MS = 2_600;
/** The sentence names this many; more are counted. */
const NAMES_MAX = 3;

interface Scene {
  names: ReadonlyMap<Id, string>;
  here: number;
  total: number;
}

export class Arrivals {
  /** Students whose arrival is still highlighted. */
  readonly fresh = new SvelteSet<Id>();
  #scene: () => Scene;
  #arrived = new Set<Id>();
  #others = new Set<Id>();
  #timers = new Set<ReturnType<typeof setTimeout>>();

  constructor(scene: () => Scene) {
    this.#scene = scene;
  }

  changed(students: readonly Id[], before: Readonly<Record<Id, Entry>>, now: Readonly<Record<Id, Entry>>): void {
    for (const student of students) {
      const [old, fresh] = [before[student]?.status, now[student]?.status];
      if (fresh === undefined || old === fresh) continue;
      // What a person marked is no news to who marked it; only the gates' arrivals light up.
      const isMarked = Boolean(now[student]?.detail.mark);
      if (!isMarked && isHere(fresh) && (old === undefined || !isHere(old))) {
        this.#arrived.add(student);
        this.#highlight(student);
      } else {
        this.#others.add(student);
      }
    }
    if (this.#arrived.size + this.#others.size > 0) notices.speak(() => this.#sentence());
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #highlight(student: Id): void {
    this.fresh.add(student);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.fresh.delete(student);
    }, FRESH_MS);
    this.#timers.add(timer);
  }

  #sentence(): string {
    const { names, here, total } = this.#scene();
    const arrived = [...this.#arrived].map((student) => names.get(student) ?? '');
    const parts: string[] = [];
    if (arrived.length > 0) parts.push(text.board.arrivals(arrived.slice(0, NAMES_MAX).join(', '), Math.max(0, arrived.length - NAMES_MAX)));
    if (this.#others.size > 0) parts.push(text.board.others(this.#others.size));
    parts.push(text.board.here(here, total));
    this.#arrived.clear();
    this.#others.clear();
    return parts.join(' ');
  }
}
