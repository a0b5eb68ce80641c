// The shapes that the pages use: of the API's answers and of the live topics' values.

export type Id = string;
/** RFC 3339, UTC. */
export type Instant = string;

export type Role = 'teacher' | 'office' | 'analyst' | 'guardian' | 'it';
export type Status = 'expected' | 'present' | 'tardy' | 'absent' | 'early_departure' | 'unknown';
export type MarkStatus = 'present' | 'tardy' | 'absent_unexcused' | 'absent_excused' | 'early_departure';
export type Counts = Partial<Record<Status, number>>;

export interface Session {
  account: { id: Id; email: string; role: Role; person?: Id | null; school?: Id | null };
  district: { id: Id; name: string };
}

export interface School {
  id: Id;
  name: string;
  zone?: string;
}

export interface Section {
  id: Id;
  title: string;
  room?: string | null;
  school: Id;
  school_name?: string;
  teachers?: { id: Id; name: string }[];
  meets_now?: boolean;
  period_name?: string | null;
  starts?: Instant | null;
  ends?: Instant | null;
}

export interface Person {
  id: Id;
  given: string;
  family: string;
  grade?: string | null;
  kind?: string;
}

export interface Evidence {
  device: Id;
  seq: number;
  ts: Instant;
  received: Instant;
  dir: 'in' | 'out' | 'auto';
  offline: boolean;
}

export interface MarkDetail {
  id: Id;
  status: MarkStatus | 'cleared';
  authority: 'teacher' | 'office';
  reason?: string | null;
  recorded: Instant;
  at?: Instant | null;
}

export interface StatusDetail {
  evidence: Evidence[];
  mark: MarkDetail | null;
  behind: { device: Id; reason: string; since?: Instant | null }[];
  flags: string[];
  present_min: number;
  scheduled_min: number;
  arrival?: Instant | null;
  departure?: Instant | null;
}

/** One student of a section's board. */
export interface Entry {
  status: Status;
  since?: Instant | null;
  rule: string;
  detail: StatusDetail;
  day_status?: Status | null;
}

export interface Meeting {
  date?: string;
  state?: 'before' | 'running' | 'over' | 'none';
  period?: Id | null;
  period_name?: string | null;
  starts?: Instant | null;
  ends?: Instant | null;
}

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
  in_building: number;
}

/** The one collection of a student's topic. */
export interface Day {
  date?: string;
  status?: Status | null;
  rule?: string | null;
  arrival?: Instant | null;
  departure?: Instant | null;
  inside_since?: Instant | null;
  detail?: StatusDetail | null;
}

export interface Change {
  status: Status;
  rule: string;
  since?: Instant | null;
  recorded?: Instant;
  explanation?: string;
  detail?: StatusDetail;
}

export interface WindowStatus extends Change {
  section?: Id | null;
  period?: Id | null;
  period_name?: string | null;
  history?: Change[];
}

export interface StudentDay {
  day?: WindowStatus | null;
  periods?: WindowStatus[];
}

export interface DeadLetter {
  id?: Id | number;
  offset?: number;
  device?: Id | null;
  code: string;
  message?: string | null;
  received: Instant;
  topic?: string | null;
}

export interface Page<Item> {
  items: Item[];
  next?: string | null;
}
