// The view that a link reopens: question and chart, in the address itself, so that no server has to remember it.

export const CHARTS = ['none', 'line', 'bar', 'heat'] as const;
export type ChartKind = (typeof CHARTS)[number];

export interface View {
  readonly sql: string;
  readonly chart: ChartKind;
  /** Columns by name: along the axis, measured, and one mark a value; empty: chosen by the result's columns. */
  readonly x: string;
  readonly y: string;
  readonly series: string;
}

export const EMPTY: View = { sql: '', chart: 'none', x: '', y: '', series: '' };

/** Longest text of a question that is taken from an address, in characters. */
const SQL_CHARS_MAX = 20_000;

/** The view as the query part of an address, with the saved question that it came from; empty for the empty view. */
export function toSearch(view: View, saved: string | null = null): string {
  if (view.sql.trim() === '') return '';
  const params = new URLSearchParams({ sql: view.sql });
  if (saved !== null) params.set('saved', saved);
  if (view.chart !== 'none') params.set('chart', view.chart);
  for (const key of ['x', 'y', 'series'] as const) if (view[key] !== '') params.set(key, view[key]);
  return `?${params}`;
}

export function fromSearch(search: string): View {
  const params = new URLSearchParams(search);
  const sql = (params.get('sql') ?? '').slice(0, SQL_CHARS_MAX);
  const chart = CHARTS.find((kind) => kind === params.get('chart')) ?? 'none';
  return { sql, chart, x: params.get('x') ?? '', y: params.get('y') ?? '', series: params.get('series') ?? '' };
}

/** The saved question that an address names. Whoever opens it may not see it: the view stands in the address itself. */
export function savedIn(search: string): string | null {
  return new URLSearchParams(search).get('saved');
}
