import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axes, type Colours, option, SERIES_MAX, inOrder } from './chart.ts';
import type { Kind, Result } from './sql.ts';
import { ONE_ONLY } from './view.ts';

const COLOURS: Colours = { font: '', fontPx: 14, ink: '', soft: '', line: '', card: '', low: '', scale: ['#fff', '#000'], marks: ['#000'] };

function result(columns: [string, Kind, unknown[]][]): Result {
  return {
    columns: columns.map(([name, kind, values]) => ({ name, kind, empty: values.filter((value) => value === null).length, at: (row: number) => values[row] })),
    rows: columns[0]?.[2].length ?? 0,
    warnings: [],
    tookMs: 1,
  };
}

const WEEKS = result([
  ['week', 'date', [Date.UTC(2026, 8, 7), Date.UTC(2026, 8, 7), Date.UTC(2026, 8, 14)]],
  ['school', 'text', ['North', 'South', 'North']],
  ['rate', 'number', [0.95, 0.91, null]],
]);

test('a time, a name and a number are a chart without being asked', () => {
  const found = axes(WEEKS, { chart: 'line', x: '', y: '', series: '' });
  assert.deepEqual([found?.x.name, found?.y.name, found?.series?.name], ['week', 'rate', 'school']);
});

test('what the view names is taken', () => {
  const found = axes(WEEKS, { chart: 'bar', x: 'school', y: 'rate', series: 'week' });
  assert.deepEqual([found?.x.name, found?.series?.name], ['school', 'week']);
});

test('one line only is drawn when that is wished, though a name is there', () => {
  assert.equal(axes(WEEKS, { chart: 'line', x: '', y: '', series: ONE_ONLY })?.series, null);
  assert.equal(axes(WEEKS, { chart: 'heat', x: '', y: '', series: ONE_ONLY })?.series, null);
});

test('without a number there is nothing to draw', () => {
  assert.equal(axes(result([['school', 'text', ['North']]]), { chart: 'line', x: '', y: '', series: '' }), null);
  assert.equal(axes(result([['count', 'number', [1]]]), { chart: 'line', x: '', y: '', series: '' }), null);
});

test('a missing value is a hole, not a zero', () => {
  const found = axes(WEEKS, { chart: 'line', x: '', y: '', series: '' });
  assert.ok(found);
  const drawn = option(WEEKS, found, 'line', COLOURS);
  const series = drawn.option['series'] as { name: string; data: (number | null)[] }[];
  assert.deepEqual(series.map((line) => [line.name, line.data]), [['North', [0.95, null]], ['South', [0.91, null]]]);
  assert.equal(drawn.isCut, false);
  const heat = option(WEEKS, found, 'heat', COLOURS).option['series'] as { data: { name: string; value: number[] }[] }[];
  assert.deepEqual(heat[0]?.data.map(({ name, value }) => [name, ...value]), [['2026-09-07, North', 0, 0, 0.95], ['2026-09-07, South', 0, 1, 0.91]]);
});

test('more lines than can be told apart are cut, and it is said', () => {
  const names = Array.from({ length: 20 }, (_, place) => `school ${place}`);
  const many = result([['week', 'text', names.map(() => 'w')], ['school', 'text', names], ['n', 'number', names.map((_, place) => place)]]);
  const found = axes(many, { chart: 'line', x: '', y: '', series: '' });
  assert.ok(found);
  const drawn = option(many, found, 'line', COLOURS);
  assert.equal((drawn.option['series'] as unknown[]).length, SERIES_MAX);
  assert.equal(drawn.isCut, true);
});

test('a heat map has Monday first, whichever day came first, and other names as they came', () => {
  assert.deepEqual(inOrder(['Thu', 'Fri', 'Sun', 'Mon']), ['Mon', 'Thu', 'Fri', 'Sun']);
  assert.deepEqual(inOrder(['Sunday', 'Monday', 'Wednesday']), ['Monday', 'Wednesday', 'Sunday']);
  assert.deepEqual(inOrder(['Sun Valley', 'Monroe']), ['Sun Valley', 'Monroe']);
});

test('bars whose names do not fit below them lie, with every name beside them', () => {
  const schools = (count: number) => {
    const names = Array.from({ length: count }, (_, place) => `School number ${place}`);
    return result([['school', 'text', names], ['n', 'number', names.map((_, place) => place)]]);
  };
  const drawn = (of: Result, kind: 'bar' | 'line') => {
    const found = axes(of, { chart: kind, x: '', y: '', series: '' });
    assert.ok(found);
    return (option(of, found, kind, COLOURS).option['yAxis'] as { type: string }).type;
  };
  assert.equal(drawn(schools(2), 'bar'), 'value');
  assert.equal(drawn(schools(12), 'bar'), 'category');
  assert.equal(drawn(schools(12), 'line'), 'value');
  assert.equal(drawn(schools(200), 'bar'), 'value', 'nobody scrolls through so many');
  assert.equal(drawn(WEEKS, 'bar'), 'value', 'weeks go from left to right');
});

test('names that hide each other side by side stand aslant in a higher picture, and an instant takes two lines', () => {
  const along = (kind: Kind, names: unknown[], chart: 'line' | 'bar' | 'heat') => {
    const of = result([['along', kind, names], ['across', 'text', names.map(() => 'all')], ['n', 'number', names.map((_, place) => place)]]);
    const found = axes(of, { chart, x: 'along', y: '', series: '' });
    assert.ok(found);
    const { option: made, heightEm } = option(of, found, chart, COLOURS);
    const { axisLabel } = (made[chart === 'bar' ? 'yAxis' : 'xAxis']) as { axisLabel: { rotate?: number; formatter: (name: string) => string } };
    return { isAslant: (axisLabel.rotate ?? 0) !== 0, isHigher: heightEm !== null, formatter: axisLabel.formatter };
  };
  const schools = Array.from({ length: 12 }, (_, place) => `Maple Hollow Middle School ${place}`);
  const months = ['September', 'October', 'November', 'December', 'January'];
  for (const [names, chart, isAslant, isHigher] of [
    [schools, 'line', true, true],
    [schools, 'heat', true, true],
    [schools, 'bar', false, true],
    [schools.slice(0, 1), 'line', false, false],
    [months, 'line', false, false],
  ] as const) {
    const made = along('text', [...names], chart);
    assert.deepEqual([made.isAslant, made.isHigher], [isAslant, isHigher], `${chart} along ${names.length} names`);
  }
  const instants = along('instant', [Date.UTC(2026, 8, 7, 8, 15), Date.UTC(2026, 8, 7, 8, 45)], 'line');
  assert.deepEqual([instants.isAslant, instants.isHigher], [false, false]);
  assert.equal(instants.formatter('2026-09-07 08:15:00'), '2026-09-07\n08:15:00');
});

test('no two names of an axis or a legend read the same, and the library gets them whole', () => {
  const names = Array.from({ length: 12 }, (_, place) => `Maple Hollow Middle School of the Lower Valley ${place + 1}`);
  const bars = result([['school', 'text', names], ['n', 'number', names.map((_, place) => place)]]);
  const lines = result([['week', 'text', names.map(() => 'w')], ['school', 'text', names], ['n', 'number', names.map((_, place) => place)]]);
  const drawn = (of: Result, kind: 'line' | 'bar' | 'heat') => {
    const found = axes(of, { chart: kind, x: '', y: '', series: '' });
    assert.ok(found);
    return option(of, found, kind, COLOURS).option as Record<string, { data: string[]; axisLabel: Written } & Written>;
  };
  interface Written {
    readonly formatter?: (name: string) => string;
  }
  const lying = drawn(bars, 'bar')['yAxis'];
  assert.deepEqual(lying?.data, names);
  for (const written of [lying?.axisLabel, drawn(bars, 'line')['xAxis']?.axisLabel, drawn(lines, 'line')['legend'], drawn(lines, 'heat')['yAxis']?.axisLabel]) {
    assert.deepEqual(names.map((name) => written?.formatter?.(name).replace(/^Maple Hollow.*… /, '')), names.map((_, place) => String(place + 1)));
  }
});

test('a heat map of nothing but holes has a scale', () => {
  const holes = result([['week', 'text', ['41']], ['day', 'text', ['Mon']], ['n', 'number', [null]]]);
  const found = axes(holes, { chart: 'heat', x: '', y: '', series: '' });
  assert.ok(found);
  const { min, max } = option(holes, found, 'heat', COLOURS).option['visualMap'] as { min: number; max: number };
  assert.deepEqual([min, max], [0, 1]);
});

test('the scale of a heat map has numbers that differ, and what it measures fits beside it on a phone', () => {
  const scaled = (values: number[], name: string) => {
    const of = result([['week', 'text', values.map(String)], ['day', 'text', values.map(() => 'Mon')], [name, 'number', values]]);
    const found = axes(of, { chart: 'heat', x: '', y: '', series: '' });
    assert.ok(found);
    const { precision, text } = option(of, found, 'heat', COLOURS).option['visualMap'] as { precision: number; text: string[] };
    return { ends: values.map((value) => value.toFixed(precision)), text: text[0] };
  };
  assert.deepEqual(scaled([5, 35], 'absent_days'), { ends: ['5', '35'], text: 'absent_days' });
  assert.deepEqual(scaled([0.005, 0.035], 'absent_share').ends, ['0.005', '0.035']);
  assert.deepEqual(scaled([91.4, 97], 'rate').ends, ['91.4', '97.0']);
  assert.deepEqual(scaled([0.95, 0.95], 'absent_share_of_the_enrolled'), { ends: ['0.95', '0.95'], text: 'absent_share_of_t…' });
});
