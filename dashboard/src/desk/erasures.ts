// Students who have left, and erasing what devices said about them.

import { ask, list } from '../api/client.ts';
import type { components } from '../api/schema.d.ts';

type Schemas = components['schemas'];

export type FormerStudent = Schemas['FormerStudent'];
export type Erasure = Schemas['ErasureInfo'];

/** Rows of one request: the most that the server gives. */
const PAGE_ROWS = 1000;

export const erasures = {
  students: () => list<FormerStudent>(`/former-students?limit=${PAGE_ROWS}`),
  erase: (student: string) => ask<Erasure>('PUT', `/students/${student}/erasure`),
  state: (student: string) => ask<Erasure>('GET', `/students/${student}/erasure`),
};

/** Whether what was typed is the name, without regard to case and to spaces around and between its parts. */
export function isTyped(typed: string, name: string): boolean {
  const plain = (text: string) => text.normalize('NFC').trim().split(/\s+/).join(' ').toLocaleLowerCase();
  return plain(typed) !== '' && plain(typed) === plain(name);
}
