// The teacher's hand: marks shown at once, kept as "saving" until the server confirmed them, taken back when it did not.
//
// A mark on its way lies over the live entry. It is lifted when the live entry carries the mark itself, so that the
// tile never falls back to the old status in between.

import { api, Problem, writeKey } from '../api/client.ts';
import type { Entry, Id, Mark, MarkStatus, Meeting } from '../api/types.ts';

/** Most steps that can be taken back. */
export const UNDO_MAX = 30;
/** A confirmed mark that the live board does not show by then was overruled: what the board shows is right. */
const SHOWN_WITHIN_MS = 4_000;
/** Undoing a whole class asks this many at a time. */
const UNDO_AT_ONCE = 6;

interface Pending {
  /** `null`: a mark is being taken back; the shown status stays until the server says what holds. */
  readonly status: MarkStatus | null;
  readonly mark: Id | null;
  readonly token: number;
}

interface Step {
  readonly students: readonly Id[];
  readonly saved: Promise<Mark[]>;
}

export type Outcome =
  | { kind: 'refused'; students: readonly Id[]; problem: Problem; again: () => void }
  | { kind: 'saved'; students: readonly Id[] }
  | { kind: 'undone'; students: readonly Id[] }
  | { kind: 'undo_refused'; problem: Problem }
  | { kind: 'overruled'; student: Id };

export class MarkDesk {
  pending = $state.raw<Readonly<Record<Id, Pending>>>({});
  steps = $state.raw<readonly Step[]>([]);
  #section: Id;
  #meeting: () => Meeting;
  #entries: () => Readonly<Record<Id, Entry>>;
  #told: (outcome: Outcome) => void;
  #token = 0;

  constructor(
    section: Id,
    meeting: () => Meeting,
    entries: () => Readonly<Record<Id, Entry>>,
    told: (outcome: Outcome) => void,
  ) {
    this.#section = section;
    this.#meeting = meeting;
    this.#entries = entries;
    this.#told = told;
  }

  get canMark(): boolean {
    const { period, date } = this.#meeting();
    return Boolean(period && date);
  }

  /** `at`: since when it holds, for tardy and early departure. */
  mark(student: Id, status: MarkStatus, extra: { reason?: string; at?: string } = {}): void {
    const { period, date } = this.#meeting();
    if (!period || !date) return;
    const request = { section: this.#section, period, date, student, status, ...extra };
    this.#write([student], status, (key) => api.mark(request, key).then((page) => page.items));
  }

  /** Marks present whoever the server does not know to be here; `students` are those shown as pending meanwhile. */
  wholeClass(students: readonly Id[]): void {
    const { period, date } = this.#meeting();
    if (!period || !date) return;
    this.#write(students, 'present', (key) =>
      api.wholeClassPresent(this.#section, period, date, key).then((page) => page.items),
    );
  }

  async undo(): Promise<void> {
    const step = this.steps.at(-1);
    if (step === undefined) return;
    this.steps = this.steps.slice(0, -1);
    const saved = await step.saved.catch(() => null);
    if (saved === null) return;
    if (!(await this.#withdraw(step.students, saved))) this.steps = [...this.steps, step].slice(-UNDO_MAX);
  }

  /** Takes back a mark that stands, whoever of the class's teachers made it and whenever. */
  takeBack(student: Id, mark: Id): void {
    void this.#withdraw([student], [{ id: mark }]);
  }

  /** Whether it was done; told either way. */
  async #withdraw(students: readonly Id[], marks: readonly { readonly id: Id }[]): Promise<boolean> {
    const token = this.#cover(students, null, null);
    try {
      for (let from = 0; from < marks.length; from += UNDO_AT_ONCE) {
        await Promise.all(marks.slice(from, from + UNDO_AT_ONCE).map((mark) => api.undoMark(mark.id)));
      }
      this.#told({ kind: 'undone', students });
      setTimeout(() => this.#lift(students, token), SHOWN_WITHIN_MS);
      return true;
    } catch (error) {
      this.#lift(students, token);
      this.#told({ kind: 'undo_refused', problem: asProblem(error) });
      return false;
    }
  }

  /** To be called after every change of the live entries: lifts the marks that they now carry. */
  settle(changed: Iterable<Id>): void {
    const lifted = [...changed].filter((student) => {
      const pending = this.pending[student];
      if (pending === undefined) return false;
      const mark = this.#entries()[student]?.detail.mark?.id ?? null;
      return pending.status === null ? true : pending.mark !== null && mark === pending.mark;
    });
    if (lifted.length > 0) this.#lift(lifted);
  }

  #write(students: readonly Id[], status: MarkStatus, send: (key: string) => Promise<Mark[]>, key = writeKey()): void {
    const token = this.#cover(students, status, null);
    const saved = send(key);
    const step: Step = { students, saved };
    this.steps = [...this.steps, step].slice(-UNDO_MAX);
    saved.then(
      (marks) => this.#confirmed(students, status, marks, token),
      (error: unknown) => {
        this.steps = this.steps.filter((other) => other !== step);
        this.#lift(students, token);
        // The same key: should the first try have been saved after all, the second changes nothing.
        const again = () => this.#write(students, status, send, key);
        this.#told({ kind: 'refused', students, problem: asProblem(error), again });
      },
    );
  }

  #confirmed(students: readonly Id[], status: MarkStatus, marks: readonly Mark[], token: number): void {
    const next = { ...this.pending };
    for (const student of students) {
      if (next[student]?.token !== token) continue;
      const mark = marks.find((mark) => mark.student === student);
      const isShown = mark !== undefined && this.#entries()[student]?.detail.mark?.id === mark.id;
      if (mark === undefined || isShown) delete next[student];
      else next[student] = { status, mark: mark.id, token };
    }
    this.pending = next;
    this.#told({ kind: 'saved', students });
    setTimeout(() => {
      const late = students.filter((student) => this.pending[student]?.token === token);
      this.#lift(late, token);
      for (const student of late) {
        if (this.#entries()[student]?.detail.mark?.authority === 'office') this.#told({ kind: 'overruled', student });
      }
    }, SHOWN_WITHIN_MS);
  }

  #cover(students: readonly Id[], status: MarkStatus | null, mark: Id | null): number {
    const token = ++this.#token;
    const over = Object.fromEntries(students.map((student) => [student, { status, mark, token }]));
    this.pending = { ...this.pending, ...over };
    return token;
  }

  /** Without a token whatever lies over them, with one only what was laid then. */
  #lift(students: readonly Id[], token?: number): void {
    const next = { ...this.pending };
    for (const student of students) {
      if (token === undefined || next[student]?.token === token) delete next[student];
    }
    this.pending = next;
  }
}

function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, 'error', String(error));
}
