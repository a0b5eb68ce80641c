import assert from 'node:assert/strict';
import { test } from 'node:test';
import { typeName } from './types.ts';

test('types read as words, and one that has none as it is', () => {
  const said = {
    Utf8: 'text', LargeUtf8: 'text', Utf8View: 'text', 'Dictionary(UInt8, Utf8)': 'text',
    Int16: 'whole number', Int32: 'whole number', Int64: 'whole number', UInt64: 'whole number',
    Float32: 'number', Float64: 'number', 'Decimal128(10, 2)': 'number',
    Boolean: 'yes/no', Date32: 'date', 'Time64(ns)': 'time of day',
    'Timestamp(ms, "UTC")': 'date and time', 'Timestamp(ns)': 'date and time',
    'List(Utf8)': 'list of texts', 'List(non-null Date32)': 'list of dates', "List(Int64, field: 'element')": 'list of whole numbers',
    'List(Timestamp(ms, "UTC"))': 'list of dates and times',
    'List(List(Utf8))': 'List(List(Utf8))', 'Struct("a": Int32)': 'Struct("a": Int32)', 'Interval(MonthDayNano)': 'Interval(MonthDayNano)', Binary: 'Binary', '': '',
  };
  for (const [type, words] of Object.entries(said)) assert.equal(typeName(type), words);
});
