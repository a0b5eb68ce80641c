import assert from 'node:assert/strict';
import { test } from 'node:test';
import { why } from '../text/behind.ts';
import type { AttendanceLine } from './overview.ts';
import { amount, isLate, isReplaced, type MarkBehind, partOf, path, type Question } from './why.ts';

const question: Question = { figure: 'absent', of: 'Algebra & more', from: '2026-03-01', to: '2026-03-31', as_of: '2026-04-01T08:00:00Z', section: 'c1' };

test('a figure is asked for as the report had it, page after page', () => {
  const asked = new URL(path(question, 'tardy', null), 'http://here');
  assert.equal(asked.pathname, '/reports/explain');
  assert.deepEqual(Object.fromEntries(asked.searchParams), {
    figure: 'tardy', limit: '50', from: '2026-03-01', to: '2026-03-31', as_of: '2026-04-01T08:00:00Z', section: 'c1',
  });
  assert.equal(new URL(path({ ...question, grade: '09' }, 'absent', 'b/2=='), 'http://here').searchParams.get('cursor'), 'b/2==');
});

test('a line is asked about by what it names, a lack of a grade by its own name, and a total by nothing', () => {
  const line = { school: 's1', grade: '09', section: 'c1', week: '2026-03-02' } as AttendanceLine;
  const bare = { school: null, grade: null, section: null, week: null } as unknown as AttendanceLine;
  assert.deepEqual((['school', 'grade', 'section', 'week'] as const).map((by) => partOf(by, line, false)), [{ school: 's1' }, { grade: '09' }, { section: 'c1' }, { week: '2026-03-02' }]);
  assert.deepEqual([partOf('grade', bare, false), partOf('grade', bare, true), partOf('school', bare, true)], [{ no_grade: true }, {}, {}]);
  const asked = (part: Partial<Question>) => new URL(path({ ...question, ...part }, 'tardy', null), 'http://here').searchParams;
  assert.equal(asked({ no_grade: true }).get('no_grade'), 'true');
  assert.deepEqual([asked({ late_from: 0 }).get('late_from'), asked({ late_from: 'unknown' }).get('late_from'), asked({}).get('late_from')], ['0', 'unknown', null]);
});

test('halves are said as people say them', () => {
  assert.deepEqual([1, 2, 3, 4, 25].map(why.days), ['½ day', '1 day', '1½ days', '2 days', '12½ days']);
  assert.deepEqual([2, 4].map(why.lessons), ['1 lesson', '2 lessons']);
});

test('nothing stands behind a zero or what is withheld', () => {
  const line = { absent_half_days: 3, unknown_half_days: 0, tardies: null } as unknown as AttendanceLine;
  assert.deepEqual([amount(line, 'absent'), amount(line, 'unknown'), amount(line, 'tardy')], [3, null, null]);
});

test('a mark that another one supersedes is replaced, and only that one', () => {
  const marks = [{ id: 'a', supersedes: null }, { id: 'b', supersedes: 'a' }] as unknown as MarkBehind[];
  assert.deepEqual(marks.map((mark) => isReplaced(mark, marks)), [true, false]);
});

test('a scan that came long after it happened is late, also from a scanner that does not say so', () => {
  const scan = { offline: false, ts: '2026-03-09T13:50:00Z', received: '2026-03-09T13:50:02Z' } as Parameters<typeof isLate>[0];
  assert.deepEqual([isLate(scan), isLate({ ...scan, offline: true }), isLate({ ...scan, received: '2026-03-20T12:00:00Z' })], [false, true, true]);
});
