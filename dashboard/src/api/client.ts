// Requests to /api/v1: one place for time limits, problem documents and pages of lists.

import type { DayLine, DeadLetter, DeviceDay, Id, Mark, MarkStatus, Page, Person, School, Section, Session, StudentDay } from './types.ts';

/** A request without an answer by then is reported as "no network". */
const ANSWER_WITHIN_MS = 10_000;
/** Reports wait for their turn, because boards go before them, and read a year. */
export const REPORT_WITHIN_MS = 60_000;
/** A list longer than this many pages is cut: no page of ours shows more. */
const PAGES_MAX = 200;

/** A request that was not done. `status` 0: no answer came. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  get isNetwork(): boolean {
    return this.status === 0;
  }
}

export interface MarkRequest {
  section: Id;
  period: Id;
  date: string;
  student: Id;
  status: MarkStatus;
  reason?: string;
  at?: string;
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE' | 'PATCH';

export async function ask<Answer>(method: Method, path: string, body?: unknown, key?: string, withinMs = ANSWER_WITHIN_MS): Promise<Answer> {
  const headers: Record<string, string> = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (key !== undefined) headers['idempotency-key'] = key;
  let answer: Response;
  try {
    answer = await fetch(`/api/v1${path}`, {
      method,
      headers,
      credentials: 'same-origin',
      signal: AbortSignal.timeout(withinMs),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch (error) {
    throw new Problem(0, 'network', error instanceof Error ? error.message : String(error));
  }
  if (answer.ok) return (answer.status === 204 ? undefined : await answer.json().catch(() => undefined)) as Answer;
  const problem = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string; title?: string };
  throw new Problem(answer.status, problem.code ?? 'error', problem.detail ?? problem.title ?? answer.statusText);
}

export async function list<Item>(path: string): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null | undefined;
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const joint = path.includes('?') ? '&' : '?';
    const at = cursor ? `${joint}cursor=${encodeURIComponent(cursor)}` : '';
    const answer = await ask<Page<Item>>('GET', path + at);
    items.push(...answer.items);
    cursor = answer.next;
    if (!cursor) break;
  }
  return items;
}

/** A key that lets a repeated write count once. `randomUUID` is missing on plain HTTP, these bytes are not. */
export function writeKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export const api = {
  session: () => ask<Session>('GET', '/session'),
  signIn: (email: string, password: string) => ask<Session>('POST', '/session', { email, password }),
  signOut: () => ask<void>('DELETE', '/session'),
  schools: () => list<School>('/schools'),
  school: (id: Id) => ask<School>('GET', `/schools/${id}`),
  sections: () => list<Section>('/sections'),
  students: (section: Id) => list<Person>(`/sections/${section}/students`),
  people: (school: Id) => list<Person>(`/people?school=${school}`),
  children: () => list<Person>('/me/students'),
  studentDay: (student: Id, date: string) => ask<StudentDay>('GET', `/students/${student}/days/${date}`),
  studentDays: (student: Id, from: string, to: string) => list<DayLine>(`/students/${student}/days?from=${from}&to=${to}`),
  mark: ({ section, period, date, ...mark }: MarkRequest, key: string) =>
    ask<Page<Mark>>('POST', '/marks', { section, period, date, marks: [mark] }, key),
  wholeClassPresent: (section: Id, period: Id, date: string, key: string) =>
    ask<Page<Mark>>('POST', '/marks', { section, period, date, whole_class: 'present' }, key),
  undoMark: (id: Id) => ask<Mark>('POST', `/marks/${id}/undo`),
  deviceDays: (device: Id) => ask<Page<DeviceDay>>('GET', `/devices/${device}/days`).then((page) => page.items),
  deadLetters: () => ask<Page<DeadLetter>>('GET', '/dead-letters').then((page) => page.items),
};
