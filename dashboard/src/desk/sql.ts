// Questions in SQL: asked over HTTP, answered as an Arrow stream, kept in columns so that a million rows stay cheap.

import { type Column, type Table, tableFromIPC, Type } from '@uwdata/flechette';
import { Problem } from '../api/client.ts';
import type { FileFormat } from './saved.ts';

export interface CatalogColumn {
  readonly name: string;
  readonly type: string;
  readonly documentation?: string | null;
}

export interface CatalogTable {
  readonly name: string;
  readonly documentation?: string | null;
  readonly columns: readonly CatalogColumn[];
}

/** What a column's values are to a reader, whatever their width. */
export type Kind = 'number' | 'text' | 'instant' | 'date' | 'truth' | 'other';

export interface ResultColumn {
  readonly name: string;
  readonly kind: Kind;
  /** Rows without a value. */
  readonly empty: number;
  at(row: number): unknown;
}

export interface Result {
  readonly columns: readonly ResultColumn[];
  readonly rows: number;
  readonly warnings: readonly string[];
  readonly tookMs: number;
}

/** A question that was refused, with the place in its text if there is one. Line and column count from 1. */
export class Refusal extends Problem {
  constructor(
    status: number,
    code: string,
    message: string,
    readonly line: number | null,
    readonly column: number | null,
    readonly hint: string | null,
  ) {
    super(status, code, message);
  }
}

interface ProblemDocument {
  code?: string;
  title?: string;
  detail?: string;
  line?: number | null;
  column?: number | null;
  hint?: string | null;
}

async function answered(path: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(`/api/v1${path}`, { credentials: 'same-origin', ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Problem(0, 'network', error instanceof Error ? error.message : String(error));
  }
  if (answer.ok) return answer;
  const problem = (await answer.json().catch(() => ({}))) as ProblemDocument;
  const message = problem.detail ?? problem.title ?? answer.statusText;
  throw new Refusal(answer.status, problem.code ?? 'error', message, problem.line ?? null, problem.column ?? null, problem.hint ?? null);
}

export async function catalog(): Promise<readonly CatalogTable[]> {
  const answer = await answered('/sql/catalog', { headers: { accept: 'application/json' } });
  return ((await answer.json()) as { tables: CatalogTable[] }).tables;
}

/** Asks; `signal` cancels the question on the server too, because the connection ends. */
export async function ask(sql: string, signal: AbortSignal): Promise<Result> {
  const started = performance.now();
  const answer = await posted(sql, 'application/vnd.apache.arrow.stream', signal);
  // A whole number past 2^53 is none that the page could count with, but it reads as it is.
  const rows = await whole(answer, signal, async () => columnsOf(tableFromIPC(new Uint8Array(await answer.arrayBuffer()), { useBigInt: true })));
  return { ...rows, warnings: warningsOf(answer.headers), tookMs: performance.now() - started };
}

const FILE_TYPES: Record<FileFormat, string> = { csv: 'text/csv', parquet: 'application/vnd.apache.parquet' };

/**
 * The whole answer as a file, with what to know of it: a file without its last rows is none. What is found only while the rows
 * come is not among the warnings, because a page cannot read trailers.
 */
export async function file(sql: string, format: FileFormat, signal: AbortSignal): Promise<{ content: Blob; warnings: readonly string[] }> {
  const answer = await posted(sql, FILE_TYPES[format], signal);
  return { content: await whole(answer, signal, () => answer.blob()), warnings: warningsOf(answer.headers) };
}

function posted(sql: string, accept: string, signal: AbortSignal): Promise<Response> {
  return answered('/sql', { method: 'POST', headers: { 'content-type': 'application/json', accept }, body: JSON.stringify({ sql }), signal });
}

/** What an answer holds, if all of it came: one that ends early at a limit or a fault breaks off. */
async function whole<Held>(answer: Response, signal: AbortSignal, read: () => Promise<Held>): Promise<Held> {
  try {
    return await read();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Problem(answer.status, 'incomplete', error instanceof Error ? error.message : String(error));
  }
}

function warningsOf(headers: Headers): string[] {
  const text = headers.get('rollcall-warnings');
  return text === null ? [] : (JSON.parse(text) as string[]);
}

function columnsOf(table: Table): Pick<Result, 'columns' | 'rows'> {
  const columns = table.schema.fields.map((field, place) => {
    const values = table.getChildAt(place) as Column<unknown>;
    const kind = kindOf(field.type);
    return { name: field.name, kind, empty: values.nullCount, at: (row: number) => values.at(row) };
  });
  return { columns, rows: table.numRows };
}

function kindOf(type: { typeId: number; dictionary?: { typeId: number } }): Kind {
  switch (type.typeId) {
    case Type.Dictionary:
      return type.dictionary === undefined ? 'other' : kindOf(type.dictionary);
    case Type.Int:
    case Type.Float:
    case Type.Decimal:
      return 'number';
    case Type.Utf8:
    case Type.LargeUtf8:
    case Type.Utf8View:
      return 'text';
    case Type.Timestamp:
      return 'instant';
    case Type.Date:
      return 'date';
    case Type.Bool:
      return 'truth';
    default:
      return 'other';
  }
}
