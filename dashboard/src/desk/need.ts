// Which schools to look at, and why. Pure, so that the order is tested without a page.

import type { Counts } from '../api/types.ts';
import type { AttendanceLine, ChronicLine } from './overview.ts';

/** Shares from which a reason is worth a person's look; below them a school is as schools are. */
const UNKNOWN_FROM = 0.05;
const ABSENT_OVER_USUAL_FROM = 0.03;
const ABSENT_FROM = 0.1;
const TARDY_OVER_USUAL_FROM = 0.05;
const TARDY_FROM = 0.1;
const CHRONIC_FROM = 0.2;
/** A share of fewer students than this says nothing. */
const STUDENTS_MIN = 10;
/** Days that "usual" must rest on. */
const DAYS_MIN = 5;

export interface Today {
  readonly id: string;
  readonly name: string;
  readonly counts: Counts;
  /** The counts are the nearest multiples of it. */
  readonly rounded_to?: number;
}

export type Reason =
  | { readonly kind: 'unknown'; readonly count: number; readonly of: number }
  | { readonly kind: 'absent'; readonly share: number; readonly usual: number | null; readonly days: number }
  | { readonly kind: 'tardy'; readonly share: number; readonly usual: number | null }
  | { readonly kind: 'chronic'; readonly share: number };

export interface Need {
  readonly id: string;
  readonly name: string;
  /** The weightiest first. */
  readonly reasons: readonly Reason[];
}

const RANK: Record<Reason['kind'], number> = { unknown: 3, absent: 2, chronic: 1, tardy: 0 };

export function sum(counts: Counts): number {
  return Object.values(counts).reduce((all, count) => all + (count ?? 0), 0);
}

/** Students who came, late or not, and whether or not they have left again. */
export function came(counts: Counts): number {
  return (counts.present ?? 0) + (counts.tardy ?? 0) + (counts.early_departure ?? 0);
}

/** What was usual over the days of a report, of what is known; `null`: withheld, too few days, or mostly unknown. */
function before30(usual: AttendanceLine | undefined): { days: number; absent: number | null; tardy: number | null } {
  const days = usual?.days_in_session ?? 0;
  const [enrolled, unknown, absent, tardies] = [usual?.enrolled_half_days ?? 0, usual?.unknown_half_days ?? 0, usual?.absent_half_days ?? null, usual?.tardies ?? null];
  const known = enrolled - unknown;
  if (days < DAYS_MIN || known <= 0 || 2 * known < enrolled) return { days, absent: null, tardy: null };
  return { days, absent: absent === null ? null : absent / known, tardy: tardies === null ? null : (2 * tardies) / known };
}

function reasons(today: Today, usual: AttendanceLine | undefined, chronic: ChronicLine | undefined): Reason[] {
  const found: Reason[] = [];
  const { counts, rounded_to: multiple = 1 } = today;
  const [all, unknown] = [sum(counts), counts.unknown ?? 0];
  // What is certain of a rounded count: no school is named for what rounding may have added.
  const least = (count: number | undefined) => Math.max(0, (count ?? 0) - Math.floor(multiple / 2));
  if (unknown > 0 && least(unknown) / all >= UNKNOWN_FROM) found.push({ kind: 'unknown', count: unknown, of: all });
  // Only those about whom something is concluded: before the bell nobody is absent.
  const decided = all - unknown - (counts.expected ?? 0);
  if (decided >= STUDENTS_MIN) {
    const absent = (counts.absent ?? 0) / decided;
    const { days, absent: before, tardy: late } = before30(usual);
    const surely = least(counts.absent) / decided;
    if (before === null ? surely >= ABSENT_FROM : surely - before >= ABSENT_OVER_USUAL_FROM) found.push({ kind: 'absent', share: absent, usual: before, days });
    const tardy = (counts.tardy ?? 0) / decided;
    const surelyTardy = least(counts.tardy) / decided;
    if (late === null ? surelyTardy >= TARDY_FROM : surelyTardy - late >= TARDY_OVER_USUAL_FROM) found.push({ kind: 'tardy', share: tardy, usual: late });
  }
  const [students, often] = [chronic?.students ?? 0, chronic?.chronic ?? null];
  if (often !== null && students >= STUDENTS_MIN && often / students >= CHRONIC_FROM) found.push({ kind: 'chronic', share: often / students });
  return found.sort((a, b) => RANK[b.kind] - RANK[a.kind]);
}

/** How far a reason goes beyond what is ordinary. */
function weight(reason: Reason): number {
  switch (reason.kind) {
    case 'unknown':
      return reason.count / reason.of;
    case 'absent':
    case 'tardy':
      return reason.share - (reason.usual ?? 0);
    default:
      return reason.share;
  }
}

/** The schools with a reason, those that need somebody soonest first. */
export function inNeed(schools: readonly Today[], usual: readonly AttendanceLine[], chronic: readonly ChronicLine[]): Need[] {
  const usualOf = new Map(usual.map((line) => [line.school, line]));
  const chronicOf = new Map(chronic.map((line) => [line.school, line]));
  const found = schools
    .map((school) => ({ id: school.id, name: school.name, reasons: reasons(school, usualOf.get(school.id), chronicOf.get(school.id)) }))
    .filter((need) => need.reasons.length > 0);
  const first = (need: Need) => need.reasons[0] as Reason;
  return found.sort(
    (a, b) => RANK[first(b).kind] - RANK[first(a).kind] || weight(first(b)) - weight(first(a)) || a.name.localeCompare(b.name),
  );
}
