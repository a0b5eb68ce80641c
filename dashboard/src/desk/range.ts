// How far back the pages of a school and a section look, in the address, so that their links reopen it. Pure.

export const RANGES = ['days', 'year'] as const;
export type Range = (typeof RANGES)[number];

/** The end of an address that says a range; the last thirty days need no word. */
export function toSearch(range: Range): string {
  return range === 'days' ? '' : `?range=${range}`;
}

export function fromSearch(search: string): Range {
  const named = new URLSearchParams(search).get('range');
  return RANGES.find((range) => range === named) ?? 'days';
}

/** The day on which the school year began; `null`: there is none, `undefined`: not known yet. */
export type YearFrom = string | null | undefined;

export interface Reading {
  /** What can be shown of what the address asks for: without a school year the last thirty days. */
  readonly range: Range;
  /** The first day of the reports; `undefined`: they take the last thirty. */
  readonly from: string | undefined;
  /** Nothing is read before it is known since when. */
  readonly isKnown: boolean;
}

export function reading(asked: Range, year: YearFrom): Reading {
  if (asked === 'days' || year === null) return { range: 'days', from: undefined, isKnown: true };
  return { range: 'year', from: year, isKnown: year !== undefined };
}
