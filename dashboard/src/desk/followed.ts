// A live answer as a result: the topic `sql` has `result` (columns, warnings, and the order of the rows where the text asks for
// one) and `rows` by key. Pure.

import type { Collections } from '../live/collections.ts';
import type { Kind, Result, ResultColumn } from './sql.ts';

/** Bytes of a question that can be followed: the connection ends at a message of 16 KiB. */
const SQL_BYTES_MAX = 15 * 1024;

/** Whether a question is short enough, as it is written into a message. */
export function fits(sql: string): boolean {
  return new TextEncoder().encode(JSON.stringify(sql)).length <= SQL_BYTES_MAX;
}

interface Column {
  readonly name: string;
  readonly type: string;
}

/** The answer as it stands; `null` before there is one. */
export function resultOf(state: Collections): Result | null {
  const about = state['result'];
  const columns = about?.['columns'] as readonly Column[] | undefined;
  if (columns === undefined) return null;
  const held = (state['rows'] ?? {}) as Readonly<Record<string, readonly unknown[]>>;
  const order = (about?.['order'] as readonly string[] | undefined) ?? Object.keys(held);
  const rows = order.flatMap((key) => (held[key] === undefined ? [] : [held[key]]));
  const made = columns.map(({ name, type }, place): ResultColumn => {
    const kind = kindOf(type);
    const empty = rows.filter((row) => row[place] === null || row[place] === undefined).length;
    return { name, kind, empty, at: (row) => valueOf(rows[row]?.[place], kind) };
  });
  return { columns: made, rows: rows.length, warnings: (about?.['warnings'] as readonly string[] | undefined) ?? [], tookMs: 0 };
}

/** What the values of an Arrow type, as the server names it, are to a reader. */
function kindOf(type: string): Kind {
  if (/^(U?Int|Float|Decimal)\d/.test(type)) return 'number';
  if (/^(Large)?Utf8/.test(type)) return 'text';
  if (type.startsWith('Timestamp')) return 'instant';
  if (/^Date\d/.test(type)) return 'date';
  return type === 'Boolean' ? 'truth' : 'other';
}

/** Instants and dates come as text, and are milliseconds in a result; without a zone they are UTC. */
function valueOf(value: unknown, kind: Kind): unknown {
  if (typeof value !== 'string' || (kind !== 'instant' && kind !== 'date')) return value;
  const isWhole = kind === 'date' || /(Z|[+-]\d\d:?\d\d)$/.test(value);
  const instant = Date.parse(isWhole ? value : `${value}Z`);
  return Number.isNaN(instant) ? value : instant;
}
