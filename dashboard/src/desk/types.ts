// What a column holds, in the words of somebody who asks questions, of the Arrow type by which the server names it. Pure.

import { text } from '../text/index.ts';

const { types } = text.desk;

type Word = keyof typeof types.many;

const WORDS: readonly (readonly [RegExp, Word])[] = [
  [/^(Large)?Utf8(View)?$/, 'text'],
  [/^U?Int\d+$/, 'whole'],
  [/^(Float\d+|Decimal\d+\(.*\))$/, 'number'],
  [/^Boolean$/, 'truth'],
  [/^Date\d+$/, 'date'],
  [/^Timestamp\(.*\)$/, 'instant'],
  [/^Time\d+\(.*\)$/, 'time'],
];

/** "whole number" of `Int32`, "list of dates" of `List(Date32)`, "text" of `Dictionary(UInt8, Utf8)`; another type as it is. */
export function typeName(type: string): string {
  const values = /^Dictionary\(\w+, (.*)\)$/.exec(type)?.[1];
  if (values !== undefined) return typeName(values);
  const held = /^(?:Large)?List(?:View)?\((?:non-null )?(.*?)(?:, field: '[^']*')?\)$/.exec(type)?.[1];
  const word = wordOf(held ?? type);
  if (word === undefined) return type;
  return held === undefined ? types[word] : types.listOf(types.many[word]);
}

function wordOf(type: string): Word | undefined {
  return WORDS.find(([pattern]) => pattern.test(type))?.[1];
}
