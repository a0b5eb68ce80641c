// Saved questions and their exports, over REST. The server checks every wish again.

import { ask, list, writeKey } from '../api/client.ts';
import type { components } from '../api/schema.d.ts';
import { CHARTS, EMPTY, type View } from './view.ts';

type Schemas = components['schemas'];

export type SavedLine = Schemas['SavedQueryLine'];
export type Saved = Schemas['SavedQueryInfo'];
export type Export = Schemas['ExportInfo'];
export type Exports = Schemas['ExportList'];
export type Rhythm = Schemas['ExportRhythm'];
export type FileFormat = Schemas['ExportFormat'];

type Shown = Omit<View, 'sql'>;

/** What is kept of a view beside its text. */
export function kept({ chart, x, y, series }: View): Shown {
  return { chart, x, y, series };
}

/** The view of a saved question; what a newer page has written into it and this one does not know is left out. */
export function viewOf({ sql, view }: { sql: string; view: unknown }): View {
  const held = (typeof view === 'object' && view !== null ? view : {}) as Partial<Record<keyof Shown, unknown>>;
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return { ...EMPTY, sql, chart: CHARTS.find((kind) => kind === held.chart) ?? 'none', x: text(held.x), y: text(held.y), series: text(held.series) };
}

/** Whether a view differs from what was saved. */
export function isChanged(saved: Saved, view: View): boolean {
  const was = viewOf(saved);
  return (Object.keys(was) as (keyof View)[]).some((key) => was[key] !== view[key]);
}

export const savedQueries = {
  list: () => list<SavedLine>('/saved-queries'),
  get: (id: string) => ask<Saved>('GET', `/saved-queries/${id}`),
  create: (title: string, view: View) => ask<Saved>('POST', '/saved-queries', { title, sql: view.sql, view: kept(view) }, writeKey()),
  change: (saved: Saved, part: { title?: string; shared?: boolean; view?: View }) => {
    const { view, ...rest } = part;
    return ask<Saved>('PATCH', `/saved-queries/${saved.id}`, { version: saved.version, ...rest, ...(view ? { sql: view.sql, view: kept(view) } : {}) });
  },
  remove: (id: string) => ask<void>('DELETE', `/saved-queries/${id}`),
};

export const exports = {
  list: () => ask<Exports>('GET', '/exports'),
  create: (query: string, rhythm: Rhythm, format: FileFormat) => ask<Export>('POST', '/exports', { query, rhythm, format }, writeKey()),
  enable: ({ id, version }: Export, enabled: boolean) => ask<Export>('PATCH', `/exports/${id}`, { version, enabled }),
  run: (id: string) => ask<Export>('POST', `/exports/${id}/run`, undefined, writeKey()),
  remove: (id: string) => ask<void>('DELETE', `/exports/${id}`),
};
