// Chronic absence by tier, as a chart and in words. Pure. A tier that is withheld is a hole in the bar, never a zero.

import type { EChartsCoreOption } from 'echarts/core';
import type { Colours } from './chart.ts';
import type { ChronicLine } from './overview.ts';
import type { Part } from './why.ts';

export const TIERS = ['satisfactory', 'at_risk', 'moderate', 'severe'] as const;
export type Tier = (typeof TIERS)[number];

/** What a line counts: its students, those of a tier, and those who are chronically absent. */
export const COUNTS = ['students', ...TIERS, 'chronic'] as const;
export type Count = (typeof COUNTS)[number];

/** Somebody asks who is behind a count. */
export interface Who extends Part {
  readonly count: Count;
  /** Whose count it is, in words. */
  readonly of: string;
  readonly from: string;
  readonly to: string;
  readonly as_of: string;
}

/** Students that are asked for at a time. */
const PAGE_STUDENTS = 50;

/** The path under /api/v1 of a page of the students behind a count. */
export function whoPath({ count, of: _, ...part }: Who, cursor: string | null): string {
  const query = new URLSearchParams({ limit: String(PAGE_STUDENTS) });
  if (count !== 'students') query.set('tier', count);
  for (const [key, value] of Object.entries(part)) if (value !== undefined) query.set(key, String(value));
  if (cursor !== null) query.set('cursor', cursor);
  return `/reports/chronic-absence/students?${query}`;
}

/** More bars are a wall; the table has all of them. */
export const BARS_MAX = 15;
/** The share of a line's students who are chronically absent; `null`: withheld, or nobody was enrolled. */
export function chronicShare({ chronic, students }: ChronicLine): number | null {
  return typeof chronic === 'number' && typeof students === 'number' && students > 0 ? chronic / students : null;
}

/** From this share on it is said that days are missing. */
const UNKNOWN_SAID_MIN = 0.05;

/** What is missing from a report: nothing to speak of, a part of the days, or all of them. */
export function missing(share: number | null | undefined): 'none' | 'some' | 'all' {
  if (typeof share !== 'number' || share < UNKNOWN_SAID_MIN) return 'none';
  return share < 1 ? 'some' : 'all';
}

/** The lines with the largest share first; those that are withheld at the end, by name. */
export function ranked(lines: readonly ChronicLine[], name: (line: ChronicLine) => string): ChronicLine[] {
  return [...lines].sort((a, b) => (chronicShare(b) ?? -1) - (chronicShare(a) ?? -1) || name(a).localeCompare(name(b)));
}

/** The share of the students whose tier is withheld. It can be told from what is shown, so showing it gives nothing away. */
function hidden(line: ChronicLine): number | null {
  if (typeof line.students !== 'number' || line.students === 0 || TIERS.every((tier) => typeof line[tier] === 'number')) return null;
  // To an analyst counts are near the true ones, so that their sum may be more than all.
  return Math.max(0, 1 - TIERS.reduce((all, tier) => all + (line[tier] ?? 0), 0) / line.students);
}

/** Widths of letters are not known here: this is a wide one's, in sizes of text. */
const LETTER_EM = 0.62;

/** Bars of shares, one a line, the first on top. */
export function option(lines: readonly ChronicLine[], name: (line: ChronicLine) => string, names: { tiers: Record<Tier, string>; withheld: string }, colours: Colours & { tiers: readonly string[] }): EChartsCoreOption {
  const shown = lines.slice(0, BARS_MAX).reverse();
  const longest = Math.max(0, ...shown.map((line) => name(line).length));
  const text = { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx };
  return {
    animation: false,
    textStyle: text,
    color: [...colours.tiers],
    grid: { left: 8, right: 18, top: 4.6 * colours.fontPx, bottom: 6, containLabel: true },
    legend: { top: 2, left: 0, textStyle: text },
    tooltip: { trigger: 'axis', axisPointer: { type: 'shadow' }, backgroundColor: colours.card, textStyle: { color: colours.ink }, valueFormatter: (value: unknown) => (typeof value === 'number' ? `${(100 * value).toFixed(1)} %` : '–') },
    xAxis: { type: 'value', min: 0, max: 1, interval: 0.5, axisLabel: { color: colours.soft, fontFamily: colours.font, fontSize: colours.fontPx, formatter: (value: number) => `${Math.round(100 * value)} %`, hideOverlap: true }, splitLine: { lineStyle: { color: colours.line } } },
    yAxis: { type: 'category', data: shown.map(name), axisLabel: { ...text, fontSize: colours.fontPx - 1, lineHeight: colours.fontPx + 1, width: Math.min(10.5, LETTER_EM * longest) * colours.fontPx, overflow: 'break' }, axisLine: { lineStyle: { color: colours.line } }, axisTick: { show: false } },
    series: [
      ...TIERS.map((tier) => ({
        name: names.tiers[tier], type: 'bar', stack: 'students', barMaxWidth: 34,
        data: shown.map((line) => (typeof line.students === 'number' && line.students > 0 && typeof line[tier] === 'number' ? line[tier] / line.students : null)),
      })),
      // Hatched, so that it is not taken for a tier.
      ...(shown.some((line) => hidden(line) !== null)
        ? [{ name: names.withheld, type: 'bar', stack: 'students', barMaxWidth: 34, data: shown.map(hidden), itemStyle: { color: colours.low, borderColor: colours.line, decal: { symbol: 'rect', dashArrayX: [1, 0], dashArrayY: [2, 5], rotation: -Math.PI / 4, color: colours.soft } } }]
        : []),
    ],
  };
}
