// Figures of reports as pictures: attendance by week, late arrivals by how late. Pure.

import type { EChartsCoreOption } from 'echarts/core';
import type { Colours } from './chart.ts';
import type { AttendanceLine, LateLine } from './overview.ts';

/** "93.4 %"; `null` stays nothing, never a zero. */
export function percent(share: number | null | undefined): string | null {
  return typeof share === 'number' ? `${(100 * share).toFixed(1)} %` : null;
}

/** The attendance rate; `null` also when of none of the days anything is known: that is no zero. */
export function rate({ rate: share, enrolled_half_days: enrolled, unknown_half_days: unknown }: AttendanceLine): number | null {
  return typeof share !== 'number' || (unknown ?? 0) >= (enrolled ?? 0) ? null : share;
}

/** Unknown half-days by enrolled ones; `null` when there are none. */
export function unknownShare({ enrolled_half_days: enrolled, unknown_half_days: unknown }: AttendanceLine): number | null {
  return typeof enrolled === 'number' && enrolled > 0 && typeof unknown === 'number' && unknown > 0 ? unknown / enrolled : null;
}

/** "22 Oct 2026" of "2026-10-22"; a week's axis needs no year. */
export function dated(date: string, isShort = false): string {
  const options: Intl.DateTimeFormatOptions = { day: 'numeric', month: 'short', timeZone: 'UTC' };
  if (!isShort) options.year = 'numeric';
  return new Intl.DateTimeFormat('en-GB', options).format(new Date(`${date}T00:00:00Z`));
}

/** Absent half-days by enrolled ones; `null` also when of none of the days anything is known: that is no zero. */
export function absentShare({ absent_half_days: absent, enrolled_half_days: enrolled, unknown_half_days: unknown }: AttendanceLine): number | null {
  return typeof absent === 'number' && typeof enrolled === 'number' && enrolled > (unknown ?? 0) ? absent / enrolled : null;
}

/** Days of half-days: "12" or "12.5". */
export function days(halfDays: number | null | undefined): string | null {
  return typeof halfDays === 'number' ? String(halfDays / 2) : null;
}

function base(colours: Colours) {
  const label = { color: colours.soft, fontFamily: colours.font, fontSize: colours.fontPx, hideOverlap: true };
  return {
    label,
    line: { lineStyle: { color: colours.line } },
    common: {
      animation: false,
      textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx },
      grid: { left: 8, right: 18, top: 14, bottom: 6, containLabel: true },
    },
  };
}

/** Attendance rates of weeks; a week that is withheld is a hole. */
export function weeksOption(lines: readonly AttendanceLine[], colours: Colours): EChartsCoreOption {
  const { label, line, common } = base(colours);
  return {
    ...common,
    tooltip: { trigger: 'axis', backgroundColor: colours.card, textStyle: { color: colours.ink }, valueFormatter: (value: unknown) => percent(value as number | null) ?? '–' },
    xAxis: { type: 'category', data: lines.map((of) => (of.week ? dated(of.week, true) : '')), axisLabel: label, axisLine: line },
    yAxis: { type: 'value', max: 1, scale: true, axisLabel: { ...label, formatter: (value: number) => `${Math.round(100 * value)} %` }, splitLine: line },
    series: [{ type: 'line', data: lines.map(rate), connectNulls: false, showSymbol: true, symbolSize: 8, lineStyle: { width: 3, color: colours.marks[0] }, itemStyle: { color: colours.marks[0] } }],
  };
}

/** "10–14" minutes after the bell, the last class without an end. */
export function lateName({ from_min: from, to_min: to }: { from_min: number; to_min?: number | null }): string {
  return typeof to === 'number' ? `${from}–${to - 1}` : `${from}+`;
}

/** Late arrivals by class; a class that is withheld is a hole. */
export function lateOption(of: LateLine, colours: Colours): EChartsCoreOption {
  const { label, line, common } = base(colours);
  return {
    ...common,
    tooltip: { trigger: 'axis', axisPointer: { type: 'shadow' }, backgroundColor: colours.card, textStyle: { color: colours.ink }, valueFormatter: (value: unknown) => (typeof value === 'number' ? String(value) : '–') },
    xAxis: { type: 'category', data: of.classes.map(lateName), axisLabel: label, axisLine: line },
    yAxis: { type: 'value', minInterval: 1, axisLabel: label, splitLine: line },
    series: [{ type: 'bar', barMaxWidth: 44, data: of.classes.map((part) => part.arrivals ?? null), itemStyle: { color: colours.marks[1] } }],
  };
}
