import assert from 'node:assert/strict';
import { test } from 'node:test';
import { absentShare, dated, days, lateName, percent, weeksOption } from './figures.ts';
import type { AttendanceLine, ChronicLine } from './overview.ts';
import { BARS_MAX, chronicShare, COUNTS, missing, option, ranked, whoPath } from './tiers.ts';

const COLOURS = { font: '', fontPx: 14, ink: '', soft: '', line: '', card: '', low: '', scale: ['', ''] as const, marks: ['#000'], tiers: ['#1', '#2', '#3', '#4'] };
const line = (school_name: string, part: Partial<ChronicLine>) => ({ school_name, suppressed: false, students: 100, satisfactory: 60, at_risk: 20, moderate: 15, severe: 5, chronic: 20, ...part }) as ChronicLine;
const name = (of: ChronicLine) => of.school_name ?? '';

test('the schools with the largest share come first, what is withheld last', () => {
  const lines = [line('Withheld', { chronic: null }), line('Low', { chronic: 5 }), line('High', { chronic: 30 }), line('Nobody', { students: 0 })];
  assert.deepEqual(ranked(lines, name).map(name), ['High', 'Low', 'Nobody', 'Withheld']);
  assert.equal(chronicShare(line('Withheld', { chronic: null })), null);
  assert.equal(chronicShare(line('Nobody', { students: 0, chronic: 0 })), null);
});

test('days of which nothing is known are no attendance', () => {
  assert.deepEqual([null, undefined, 0, 0.04, 0.05, 0.99, 1].map(missing), ['none', 'none', 'none', 'none', 'some', 'some', 'all']);
});

test('a withheld tier is a hole in the bar, not a zero, and long lists are cut', () => {
  const lines = [line('A', { severe: null }), ...Array.from({ length: 30 }, (_, place) => line(`S${place}`, {}))];
  const drawn = option(lines, name, { tiers: { satisfactory: 'a', at_risk: 'b', moderate: 'c', severe: 'd' }, withheld: 'w' }, COLOURS);
  const series = drawn['series'] as { name: string; data: (number | null)[] }[];
  assert.deepEqual(series.map((of) => of.data.at(-1)), [0.6, 0.2, 0.15, null, series.at(-1)?.data.at(-1)]);
  assert.ok(Math.abs((series.at(-1)?.data.at(-1) ?? 0) - 0.05) < 1e-9, 'the rest is what is withheld');
  const open = option([line('A', {})], name, { tiers: { satisfactory: 'a', at_risk: 'b', moderate: 'c', severe: 'd' }, withheld: 'w' }, COLOURS);
  assert.equal((open['series'] as unknown[]).length, 4, 'nothing is withheld');
  assert.equal(series[0]?.data.length, BARS_MAX);
});

test('who is behind a count is asked for as the report had it, page after page', () => {
  const who = { of: 'Grade 9 & more', from: '2026-03-01', to: '2026-03-31', as_of: '2026-04-01T08:00:00Z', school: 's1', grade: '09' };
  const asked = (count: (typeof COUNTS)[number], cursor: string | null = null) => new URL(whoPath({ ...who, count }, cursor), 'http://here');
  assert.equal(asked('at_risk').pathname, '/reports/chronic-absence/students');
  assert.deepEqual(Object.fromEntries(asked('at_risk', 'b/2==').searchParams), {
    limit: '50', tier: 'at_risk', from: '2026-03-01', to: '2026-03-31', as_of: '2026-04-01T08:00:00Z', school: 's1', grade: '09', cursor: 'b/2==',
  });
  assert.deepEqual(COUNTS.map((count) => asked(count).searchParams.get('tier')), [null, 'satisfactory', 'at_risk', 'moderate', 'severe', 'chronic']);
});

test('figures that are withheld stay nothing', () => {
  assert.deepEqual([percent(null), percent(undefined), percent(0), percent(0.9341)], [null, null, '0.0 %', '93.4 %']);
  assert.deepEqual([days(null), days(25), days(0)], [null, '12.5', '0']);
  assert.equal(absentShare({ absent_half_days: 6, enrolled_half_days: 60 } as AttendanceLine), 0.1);
  assert.equal(absentShare({ absent_half_days: 0, enrolled_half_days: 0 } as AttendanceLine), null);
  assert.equal(absentShare({ absent_half_days: 0, enrolled_half_days: 10, unknown_half_days: 10 } as AttendanceLine), null);
  assert.deepEqual([lateName({ from_min: 10, to_min: 15 }), lateName({ from_min: 60, to_min: null })], ['10–14', '60+']);
  const series = weeksOption([
    { week: '2026-03-02', rate: null },
    { week: '2026-03-09', rate: 0.9, enrolled_half_days: 10, unknown_half_days: 0 },
    { week: '2026-03-16', rate: 0, enrolled_half_days: 10, unknown_half_days: 10 },
  ] as AttendanceLine[], COLOURS)['series'] as { data: unknown[] }[];
  assert.deepEqual(series[0]?.data, [null, 0.9, null]);
  assert.equal(dated('2026-10-22'), '22 Oct 2026');
});
