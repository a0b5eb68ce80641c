// What the district's pages read over REST beside the live topic. Figures come from the reports, so that every page says
// the same; what is withheld stays null here and is said in words there.

import { ask, REPORT_WITHIN_MS } from '../api/client.ts';
import type { components } from '../api/schema.d.ts';
import { type Who, whoPath } from './tiers.ts';

type Schemas = components['schemas'];

export type ArrivalsToday = Schemas['ArrivalsToday'];
export type ArrivalPoint = Schemas['ArrivalPoint'];
export type AttendanceReport = Schemas['AttendanceReport'];
export type AttendanceLine = Schemas['AttendanceLine'];
export type ChronicReport = Schemas['ChronicReport'];
export type ChronicLine = Schemas['ChronicLine'];
export type ChronicStudent = Schemas['ChronicStudent'];
export type TierStudents = Schemas['TierStudents'];
export type TardyReport = Schemas['TardyReport'];
export type LateReport = Schemas['LateReport'];
export type LateLine = Schemas['LateLine'];
export type UnexplainedReport = Schemas['UnexplainedReport'];

export type By = 'school' | 'grade' | 'section' | 'week';

/** Which part of the district, and since when; without a day the last thirty. */
export interface Part {
  readonly by: By;
  readonly school?: string;
  readonly section?: string;
  readonly from?: string | undefined;
}

function report<Report>(name: string, part: Part): Promise<Report> {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(part)) if (value !== undefined) query.set(key, value);
  return ask<Report>('GET', `/reports/${name}?${query}`, undefined, undefined, REPORT_WITHIN_MS);
}

export const overview = {
  arrivals: (school?: string) => ask<ArrivalsToday>('GET', `/overview/arrivals${school === undefined ? '' : `?school=${school}`}`),
  attendance: (part: Part) => report<AttendanceReport>('attendance', part),
  chronic: (part: Part) => report<ChronicReport>('chronic-absence', part),
  who: (who: Who, cursor: string | null) => ask<TierStudents>('GET', whoPath(who, cursor), undefined, undefined, REPORT_WITHIN_MS),
  tardies: (part: Part) => report<TardyReport>('tardies', part),
  late: (part: Part) => report<LateReport>('late-arrivals', part),
  unexplained: (part: Part) => report<UnexplainedReport>('unexplained-absences', part),
};
