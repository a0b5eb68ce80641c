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

/** In `series`: no column, though there is one that fits. */
export const ONE_ONLY = '*';

/** What stands before servers often takes 8 KiB of an address; a longer view stands behind its `#`, which is sent to no server. */
const SEARCH_CHARS_MAX = 6_000;

/** Where a view stands in an address. */
export type Ending = Pick<Location, 'search' | 'hash'>;

/** The view as the end of an address, with the saved question that it came from and whether it is followed; empty for the empty view. */
export function toAddress(view: View, saved: string | null = null, isFollowed = false): string {
  if (view.sql.trim() === '') return '';
  const params = new URLSearchParams({ sql: view.sql });
  if (saved !== null) params.set('saved', saved);
  if (isFollowed) params.set('follow', 'true');
  if (view.chart !== 'none') params.set('chart', view.chart);
  for (const key of ['x', 'y', 'series'] as const) if (view[key] !== '') params.set(key, view[key]);
  const said = params.toString();
  return (said.length <= SEARCH_CHARS_MAX ? '?' : '#') + said;
}

/** The view of an address. Nothing is cut: a text that is too long is the server's to refuse, in words. */
export function fromAddress(address: Ending): View {
  const params = paramsOf(address);
  const chart = CHARTS.find((kind) => kind === params.get('chart')) ?? 'none';
  return { sql: params.get('sql') ?? '', chart, x: params.get('x') ?? '', y: params.get('y') ?? '', series: params.get('series') ?? '' };
}

/** The saved question that an address names. Whoever opens it may not see it: the view stands in the address itself. */
export function savedIn(address: Ending): string | null {
  return paramsOf(address).get('saved');
}

/** Whether the question of an address is followed. */
export function followedIn(address: Ending): boolean {
  return paramsOf(address).get('follow') === 'true';
}

function paramsOf({ search, hash }: Ending): URLSearchParams {
  const behind = new URLSearchParams(hash.slice(1));
  return behind.has('sql') ? behind : new URLSearchParams(search);
}
