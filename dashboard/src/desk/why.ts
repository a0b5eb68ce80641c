// What a figure was made of: which part of a report is asked about, and how its rows read. Pure but for the request.

import { ask, REPORT_WITHIN_MS } from '../api/client.ts';
import type { components } from '../api/schema.d.ts';
import type { AttendanceLine, By, ChronicLine } from './overview.ts';

type Schemas = components['schemas'];

export type Explained = Schemas['Explained'];
export type ExplainedRow = Schemas['ExplainedRow'];
export type MarkBehind = Schemas['MarkBehind'];
export type Figure = Schemas['Figure'];

/** Those between which a person changes. */
export const FIGURES = ['attended', 'absent', 'unexplained', 'unknown', 'tardy'] as const satisfies readonly Figure[];
/** Rows that are asked for at a time: some screens full. */
export const PAGE_ROWS = 50;

/** The part of a report that a line is about. */
export interface Part {
  readonly school?: string;
  readonly grade?: string;
  /** Those without a grade. */
  readonly no_grade?: true;
  readonly section?: string;
  readonly week?: string;
}

/** A figure that somebody asks about. */
export interface Question extends Part {
  readonly figure: Figure;
  /** Whose figure it is, in words. */
  readonly of: string;
  readonly from: string;
  readonly to: string;
  /** When the report was made, so that the sum is the figure that was pressed. Without it: now. */
  readonly as_of?: string;
  readonly student?: string;
  /** Late arrivals of the class that begins at this minute only. */
  readonly late_from?: number | 'unknown';
}

/** What a line of a report names; a line of grades that names none is about those who have none, and a total is about everybody. */
export function partOf(by: By, line: AttendanceLine | ChronicLine, isTotal: boolean): Part {
  const { school, grade, section, week } = line;
  if (isTotal) return {};
  if (by === 'grade') return grade ? { grade } : { no_grade: true };
  if (by === 'section') return section ? { section } : {};
  if (by === 'week') return week ? { week } : {};
  return school ? { school } : {};
}

/** The path under /api/v1 of a page of rows. */
export function path(question: Question, figure: Figure, cursor: string | null): string {
  const { figure: _, of: __, ...part } = question;
  const query = new URLSearchParams({ figure, limit: String(PAGE_ROWS) });
  for (const [key, value] of Object.entries(part)) if (value !== undefined) query.set(key, String(value));
  if (cursor !== null) query.set('cursor', cursor);
  return `/reports/explain?${query}`;
}

export function explain(question: Question, figure: Figure, cursor: string | null): Promise<Explained> {
  return ask<Explained>('GET', path(question, figure, cursor), undefined, undefined, REPORT_WITHIN_MS);
}

/** How much of a figure there is in a line of a report, in what `explain` adds up; `null`: nothing can stand behind it. */
export function amount(line: AttendanceLine, figure: Figure): number | null {
  const found = {
    enrolled: line.enrolled_half_days, attended: line.attended_half_days, absent: line.absent_half_days, excused: line.excused_half_days,
    unexcused: line.unexcused_half_days, unexplained: line.unexplained_half_days, unknown: line.unknown_half_days, tardy: line.tardies,
  }[figure];
  return typeof found === 'number' && found > 0 ? found : null;
}

/** Whether a mark holds no more, because one that is listed with it takes its place. */
export function isReplaced(mark: MarkBehind, marks: readonly MarkBehind[]): boolean {
  return marks.some((other) => other.supersedes === mark.id);
}

/** A scan that the server got so much later than it happened was not sent at once, whatever the scanner says. */
const LATE_FROM_MS = 5 * 60_000;

export function isLate({ offline, ts, received }: ExplainedRow['scans'][number]): boolean {
  return offline || Date.parse(received) - Date.parse(ts) > LATE_FROM_MS;
}
