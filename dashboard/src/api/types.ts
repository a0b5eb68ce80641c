// The shapes that the pages use. What the API answers comes from its OpenAPI document (`npm run types`); the values of
// the live topics that no route answers are written here.

import type { components } from './schema.d.ts';

type Schemas = components['schemas'];

export type Id = string;
/** RFC 3339, UTC. */
export type Instant = string;

export type Role = Schemas['RoleName'];
export type Status = Schemas['StatusName'];
export type MarkStatus = Schemas['NewMarkStatus'];
export type Counts = Partial<Record<Status, number>>;

export type Session = Schemas['SessionInfo'];
export type School = Schemas['SchoolInfo'];
export type Section = Schemas['SectionInfo'];
/** A student, or with `kind` anybody of a school. */
export type Person = Schemas['StudentName'];
export type StatusDetail = Schemas['Detail'];
export type MarkDetail = Schemas['DecidingMark'];
/** One student of a section's board. */
export type Entry = Schemas['BoardEntry'];
export type StudentDay = Schemas['StudentDay'];
/** A day in a list of days. */
export type DayLine = Schemas['DayLine'];
/** What a device said on one date. */
export type DeviceDay = Schemas['DeviceDayLine'];
export type DeadLetter = Schemas['DeadLetterInfo'];
export type Mark = Schemas['MarkInfo'];

/** Which lesson a board shows; empty until the first snapshot. */
export type Meeting = Partial<Omit<Schemas['BoardMeeting'], 'state'>> & { state?: 'before' | 'running' | 'over' | 'none' };

/** One window of a section's engagement. */
export type EngagementWindow = Schemas['EngagementEntry'];
/** Which lesson a strip shows; empty until the first snapshot. */
export type EngagementMeta = Partial<Schemas['EngagementMeta']>;

export interface SectionLine {
  title: string;
  room?: string | null;
  period?: Id | null;
  period_name?: string | null;
  state?: Meeting['state'];
  counts: Counts;
  roll_taken: boolean;
}

export interface FeedEntry {
  person: Id;
  device: Id;
  ts: Instant;
  received: Instant;
  dir: 'in' | 'out' | 'auto';
  offline: boolean;
}

export interface BuildingEntry {
  since: Instant;
  device?: Id | null;
}

export interface DeviceEntry {
  name: string;
  kind: string;
  school?: Id;
  disabled?: boolean;
  connected?: boolean | null;
  last_seen?: Instant | null;
  queued?: number | null;
  battery?: number | null;
  behind_since?: Instant | null;
  behind_reason?: string | null;
  never_seen?: boolean;
}

export interface SchoolLine {
  name: string;
  counts: Counts;
  /** `null`: withheld, with the counts. */
  in_building: number | null;
  /** Numbers are multiples of it: 10 for who may see groups only. */
  rounded_to: number;
}

/** The one collection of a student's topic. */
export interface Day {
  date?: string;
  /** IANA zone of the school. */
  zone?: string;
  status?: Status | null;
  rule?: string | null;
  arrival?: Instant | null;
  departure?: Instant | null;
  inside_since?: Instant | null;
  detail?: StatusDetail | null;
}

export interface Page<Item> {
  items: Item[];
  next?: string | null;
}
