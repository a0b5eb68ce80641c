// Arrivals as a chart and as a table. Pure.

import type { EChartsCoreOption } from 'echarts/core';
import type { Colours } from './chart.ts';
import type { ArrivalPoint, ArrivalsToday } from './overview.ts';

/** Minutes before the first and after the last step that are drawn. */
const MARGIN_MIN = 20;
/** One row of the table. */
const ROW_MIN = 15;

/** The share at a minute: a curve of steps. */
export function shareAt(curve: readonly ArrivalPoint[], minute: number): number {
  let share = 0;
  for (const point of curve) {
    if (point.minute > minute) break;
    share = point.share;
  }
  return share;
}

/** "07:55" of minutes after midnight. */
export function clockTime(minute: number): string {
  return `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
}

/** The minutes that the picture goes from and to; `null`: nobody has arrived, today or ever. */
export function span({ today, usual, minute }: ArrivalsToday): { from: number; to: number } | null {
  const minutes = [...today, ...(usual ?? [])].map((point) => point.minute);
  if (minutes.length === 0) return null;
  const last = Math.max(...minutes);
  // Late in the day the picture stays with the morning: it ends where the last one came.
  const to = Math.max(last, Math.min(minute, last + MARGIN_MIN)) + MARGIN_MIN;
  // From and to a quarter of an hour, as the labels are.
  return { from: Math.max(0, Math.floor((Math.min(...minutes) - MARGIN_MIN) / ROW_MIN) * ROW_MIN), to: Math.min(24 * 60, Math.ceil(to / ROW_MIN) * ROW_MIN) };
}

export interface Row {
  readonly time: string;
  /** `null`: that minute has not come yet. */
  readonly today: number | null;
  readonly usual: number | null;
}

/** The same as the picture, a row a quarter of an hour. */
export function rows(arrivals: ArrivalsToday): Row[] {
  const drawn = span(arrivals);
  if (drawn === null) return [];
  const found: Row[] = [];
  for (let minute = Math.ceil(drawn.from / ROW_MIN) * ROW_MIN; minute <= drawn.to; minute += ROW_MIN) {
    found.push({
      time: clockTime(minute),
      today: minute <= arrivals.minute ? shareAt(arrivals.today, minute) : null,
      usual: arrivals.usual ? shareAt(arrivals.usual, minute) : null,
    });
  }
  return found;
}

export function option(arrivals: ArrivalsToday, names: { today: string; usual: string }, colours: Colours): EChartsCoreOption {
  const drawn = span(arrivals) ?? { from: 0, to: 24 * 60 };
  const line = (curve: readonly ArrivalPoint[], to: number) => {
    const within = curve.filter((point) => point.minute <= to).map((point) => [point.minute, point.share]);
    return [[drawn.from, 0], ...within, [to, shareAt(curve, to)]];
  };
  const spanMin = drawn.to - drawn.from;
  const interval = spanMin > 4 * 60 ? 60 : spanMin > 2 * 60 ? 30 : 15;
  const axis = { axisLabel: { color: colours.soft, fontFamily: colours.font, fontSize: colours.fontPx, hideOverlap: true }, axisLine: { lineStyle: { color: colours.line } }, splitLine: { lineStyle: { color: colours.line } } };
  const series = [];
  if (arrivals.usual) {
    series.push({ name: names.usual, type: 'line', step: 'end', showSymbol: false, data: line(arrivals.usual, drawn.to), lineStyle: { width: 3, type: [6, 5], color: colours.soft }, itemStyle: { color: colours.soft } });
  }
  series.push({ name: names.today, type: 'line', step: 'end', showSymbol: false, data: line(arrivals.today, Math.min(arrivals.minute, drawn.to)), lineStyle: { width: 4, color: colours.marks[0] }, itemStyle: { color: colours.marks[0] }, areaStyle: { color: colours.low, opacity: 0.7 } });
  return {
    animation: false,
    textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx },
    grid: { left: 8, right: 18, top: 2.8 * colours.fontPx, bottom: 6, containLabel: true },
    legend: { top: 2, left: 0, textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx } },
    tooltip: {
      trigger: 'axis', backgroundColor: colours.card, textStyle: { color: colours.ink },
      valueFormatter: (value: unknown) => `${Math.round(100 * Number(value))} %`,
      axisPointer: { label: { formatter: ({ value }: { value: unknown }) => clockTime(Math.round(Number(value))) } },
    },
    xAxis: { type: 'value', min: drawn.from, max: drawn.to, interval, ...axis, splitLine: { show: false }, axisLabel: { ...axis.axisLabel, margin: 14, showMaxLabel: spanMin % interval === 0, formatter: (value: number) => clockTime(Math.round(value)) } },
    yAxis: { type: 'value', min: 0, max: 1, ...axis, axisLabel: { ...axis.axisLabel, formatter: (value: number) => `${Math.round(100 * value)} %` } },
    series,
  };
}
