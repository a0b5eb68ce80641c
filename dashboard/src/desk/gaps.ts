// Where an answer has no figure: said in words, because an empty chart and a column of "none" say nothing. Why there is none is
// the server's to say, in its warnings. Pure.

import { text } from '../text/index.ts';
import { numeric } from './cell.ts';
import { POINTS_MAX } from './chart.ts';
import type { Result, ResultColumn } from './sql.ts';

/** More columns than this are counted, not named. */
const NAMED_MAX = 3;

/** One sentence about the columns of numbers that lack values; `null` when none does. Texts often have none, and nobody draws them. */
export function gaps(result: Result): string | null {
  const lacking = result.columns.filter((column) => column.kind === 'number' && column.empty > 0);
  if (lacking.length === 0) return null;
  const named = lacking.slice(0, NAMED_MAX).map(({ name, empty }) => ({ name, empty }));
  return text.desk.empty(named, result.rows, lacking.length - named.length);
}

/** Of the rows that a chart is made of, whether all, some or none have a value to draw. */
export function drawable(result: Result, measured: ResultColumn): 'all' | 'some' | 'none' {
  const rows = Math.min(result.rows, POINTS_MAX);
  let values = 0;
  for (let row = 0; row < rows; row += 1) if (numeric(measured.at(row)) !== null) values += 1;
  return values === rows ? 'all' : values > 0 ? 'some' : 'none';
}
