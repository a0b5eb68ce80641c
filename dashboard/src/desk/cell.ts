// How one value reads in the result table and on a chart's axis.

import type { Kind } from './sql.ts';

const PRECISE = new Intl.NumberFormat('en-GB', { maximumSignificantDigits: 7, useGrouping: false });
/** Of a larger number, seven digits would not reach the point. */
const LARGE = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 2, useGrouping: false });
const LARGE_FROM = 100_000;

/** The text of a value; `null` for no value, which is shown as such and never as 0 or as an empty text. */
export function cell(value: unknown, kind: Kind): string | null {
  if (value === null || value === undefined) return null;
  switch (kind) {
    case 'number':
      if (typeof value !== 'number' || Number.isInteger(value)) return String(value);
      return (Math.abs(value) < LARGE_FROM ? PRECISE : LARGE).format(value);
    case 'instant':
      return iso(value)?.slice(0, 23).replace('T', ' ').replace(/\.000$/, '') ?? String(value);
    case 'date':
      return iso(value)?.slice(0, 10) ?? String(value);
    case 'truth':
      return value === true ? 'true' : 'false';
    default:
      return typeof value === 'object' ? JSON.stringify(value, written) : String(value);
  }
}

/** Lists of numbers come as arrays of their type, and whole numbers of 64 bits as such: JSON writes neither. */
function written(_: string, part: unknown): unknown {
  if (ArrayBuffer.isView(part)) return Array.from(part as unknown as ArrayLike<unknown>);
  return typeof part === 'bigint' ? (Number.isSafeInteger(Number(part)) ? Number(part) : String(part)) : part;
}

/** A number for an axis; `null` for what is none. */
export function numeric(value: unknown): number | null {
  if (typeof value === 'bigint') return Number(value);
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function iso(value: unknown): string | null {
  const date = value instanceof Date ? value : new Date(Number(value));
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}
