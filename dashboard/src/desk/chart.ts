// From a result to a chart: which columns it is of, and what the chart library draws. Pure, so that it is tested without a page.

import type { EChartsCoreOption } from 'echarts/core';
import { cell, numeric } from './cell.ts';
import { labels } from './labels.ts';
import type { Result, ResultColumn } from './sql.ts';
import { ONE_ONLY, type View } from './view.ts';

/** More points make no better picture, and a slow one. */
export const POINTS_MAX = 20_000;
/** More lines cannot be told apart. */
export const SERIES_MAX = 12;

export interface Axes {
  readonly x: ResultColumn;
  readonly y: ResultColumn;
  readonly series: ResultColumn | null;
}

export interface Colours {
  /** A family that the browser can measure text in. */
  readonly font: string;
  /** Size of text in pixels: larger on a projector. */
  readonly fontPx: number;
  readonly ink: string;
  readonly soft: string;
  readonly line: string;
  readonly card: string;
  readonly low: string;
  /** Of a heat map, from its lowest value to its highest. */
  readonly scale: readonly [string, string];
  readonly marks: readonly string[];
}

/** The columns of a chart: those that the view names, else the first that fit. `null`: the result has no number to draw. */
export function axes(result: Result, view: Pick<View, 'x' | 'y' | 'series' | 'chart'>): Axes | null {
  const named = (name: string) => result.columns.find((column) => column.name === name);
  const numbers = result.columns.filter((column) => column.kind === 'number');
  const y = named(view.y) ?? numbers.at(-1);
  if (y === undefined) return null;
  const rest = result.columns.filter((column) => column !== y);
  const x = named(view.x) ?? rest.find((column) => column.kind === 'instant' || column.kind === 'date') ?? rest[0];
  if (x === undefined) return null;
  if (view.series === ONE_ONLY) return { x, y, series: null };
  const others = rest.filter((column) => column !== x);
  const series = named(view.series) ?? others.find((column) => column.kind === 'text') ?? (view.chart === 'heat' ? others[0] : undefined);
  return { x, y, series: series ?? null };
}

/** Names that are longer than this altogether do not fit below upright bars; lying ones have them beside, */
const NAMES_CHARS_UPRIGHT_MAX = 30;
/** unless there are so many bars that nobody would scroll through them. */
const LYING_BARS_MAX = 80;
/** A name beside or below its axis is cut past this many letters; the reader finds all of it in the tooltip and in the table. */
const NAME_LETTERS_MAX = 24;
/** Names of more letters hide each other side by side: they stand aslant, and the picture is higher. */
const NAME_LETTERS_FLAT_MAX = 12;
const ASLANT_DEGREES = 60;
/** Beside its scale, what the colours of a heat map measure has less room. */
const SCALE_LETTERS_MAX = 18;
/** A name of the legend has a line of a phone to itself. */
const LEGEND_LETTERS_MAX = 32;

export interface Picture {
  readonly option: EChartsCoreOption;
  /** Only the first rows or lines are drawn, because there are too many. */
  readonly isCut: boolean;
  /** Bars that lie one below the other, and names that stand aslant, need a height of their own, in sizes of text. */
  readonly heightEm: number | null;
}

interface Point {
  readonly x: number;
  readonly series: number;
  readonly y: number | null;
}

/** What the library draws. */
export function option(result: Result, { x, y, series }: Axes, kind: 'line' | 'bar' | 'heat', colours: Colours): Picture {
  const rows = Math.min(result.rows, POINTS_MAX);
  const along = new Places();
  const across = new Places();
  const points: Point[] = [];
  for (let row = 0; row < rows; row += 1) {
    const place = along.of(cell(x.at(row), x.kind) ?? '–');
    const line = across.of(series === null ? y.name : (cell(series.at(row), series.kind) ?? '–'));
    points.push({ x: place, series: line, y: numeric(y.at(row)) });
  }
  const isCut = rows < result.rows || (kind !== 'heat' && across.names.length > SERIES_MAX);
  const axis = { axisLabel: { color: colours.soft, fontFamily: colours.font, fontSize: colours.fontPx, hideOverlap: true }, axisLine: { lineStyle: { color: colours.line } }, splitLine: { lineStyle: { color: colours.line } } };
  // The time of an instant stands below its date.
  const below = x.kind === 'instant' ? (name: string) => name.replace(' ', '\n') : cutTo(NAME_LETTERS_MAX, along.names);
  const letters = Math.max(0, ...along.names.flatMap((name) => below(name).split('\n')).map((line) => line.length));
  const isLong = x.kind === 'text' && along.names.join('').length > NAMES_CHARS_UPRIGHT_MAX;
  const isAslant = isLong && letters > NAME_LETTERS_FLAT_MAX;
  const uprightEm = isAslant ? 15 + 0.4 * letters : null;
  const base = {
    animation: false,
    textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx },
    // The last name stands with its half beyond the end of its axis.
    grid: { left: 12, right: isAslant ? 18 : Math.max(18, (letters * colours.fontPx) / 4), top: 44, bottom: 12, containLabel: true },
    tooltip: { trigger: 'axis', ...tooltip(colours) },
    xAxis: { type: 'category', data: along.names, ...axis, axisLabel: { ...axis.axisLabel, formatter: below, ...(isAslant ? { rotate: ASLANT_DEGREES } : { lineHeight: 1.25 * colours.fontPx }) } },
  };
  if (kind === 'heat') return { isCut, heightEm: uprightEm, option: { ...base, grid: { ...base.grid, top: 14, bottom: 5.6 * colours.fontPx }, ...heat(points, along.names, across.names, y.name, axis, colours) } };
  const names = across.names.slice(0, SERIES_MAX);
  const drawn = names.map((name, line) => {
    // Where a line has no value there is a hole, not a zero.
    const data: (number | null)[] = along.names.map(() => null);
    for (const point of points) if (point.series === line) data[point.x] = point.y;
    return { name, type: kind, data, connectNulls: false, showSymbol: along.names.length < 60, symbolSize: 6, ...(kind === 'bar' ? { barMaxWidth: 4 * colours.fontPx } : {}) };
  });
  const legend = { type: 'scroll', top: 4, formatter: cutTo(LEGEND_LETTERS_MAX, names), textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx } };
  const upright = { ...base, color: [...colours.marks], legend, yAxis: { type: 'value', scale: kind === 'line', ...axis }, series: drawn };
  const isLying = kind === 'bar' && isLong && along.names.length * names.length <= LYING_BARS_MAX;
  if (!isLying) return { isCut, heightEm: uprightEm, option: upright };
  const lying = {
    ...upright,
    grid: { ...base.grid, right: 24 },
    tooltip: { ...base.tooltip, axisPointer: { type: 'shadow' } },
    xAxis: { type: 'value', splitNumber: 3, ...axis },
    // The first row on top, as in the table, and no name left out.
    yAxis: { ...base.xAxis, inverse: true, axisLabel: { ...base.xAxis.axisLabel, hideOverlap: false, interval: 0, rotate: 0 } },
  };
  return { isCut, heightEm: 7 + along.names.length * (0.8 + 0.9 * names.length), option: lying };
}

/** Long names go on in the next line, and nothing of them stands beyond the edge of a phone. */
function tooltip(colours: Colours) {
  return { confine: true, extraCssText: 'white-space: normal; max-width: 22em;', backgroundColor: colours.card, textStyle: { color: colours.ink } };
}

/** How names are written where the library cuts none: its tooltip has the whole name. */
function cutTo(lettersMax: number, names: readonly string[]): (name: string) => string {
  const cut = labels(names, lettersMax);
  const labelOf = new Map(names.map((name, place) => [name, cut[place] ?? name]));
  return (name) => labelOf.get(name) ?? name;
}

/** A heat map: a row for each of the names, Monday on top, and the scale of its colours below. */
function heat(points: readonly Point[], columns: readonly string[], names: readonly string[], measured: string, axis: { readonly axisLabel: object }, colours: Colours): EChartsCoreOption {
  const lines = inOrder(names);
  const values = points.map((point) => point.y).filter((value) => value !== null);
  // Without a value there is nothing to scale.
  const [min, max] = values.length === 0 ? [0, 1] : [Math.min(...values), Math.max(...values)];
  return {
    tooltip: { trigger: 'item', ...tooltip(colours) },
    yAxis: { type: 'category', data: lines, inverse: true, ...axis, axisLabel: { ...axis.axisLabel, formatter: cutTo(NAME_LETTERS_MAX, lines) } },
    visualMap: {
      min, max, precision: digits(max - min || Math.abs(max)), calculable: true, orient: 'horizontal', left: 'center', bottom: 8, itemWidth: 1.4 * colours.fontPx, itemHeight: 10 * colours.fontPx,
      // What the colours measure.
      text: [labels([measured], SCALE_LETTERS_MAX)[0], ''], inRange: { color: [...colours.scale] }, textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx },
      // A pointer on the map would fade the numbers at the ends; its tooltip says the value.
      handleStyle: { borderColor: colours.ink }, hoverLink: false,
    },
    series: [{
      type: 'heatmap',
      // Days beside each other with the same value stay two days.
      itemStyle: { borderColor: colours.card, borderWidth: 2 },
      data: points.flatMap(({ x, series, y }) => {
        const [column, line] = [columns[x] ?? '', names[series] ?? ''];
        return y === null ? [] : [{ name: `${column}, ${line}`, value: [x, lines.indexOf(line), y] }];
      }),
    }],
  };
}

/** How many digits after the point tell the values of a range apart. */
function digits(range: number): number {
  return range > 0 ? Math.min(20, Math.max(0, 1 - Math.floor(Math.log10(range)))) : 0;
}

const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];

/** Days of the week from Monday on, whichever came first; other names as they came. */
export function inOrder(names: readonly string[]): string[] {
  const day = (name: string) => (/^(mon|tues?|wed(nes)?|thu(rs)?|fri|satur|sat|sun)(day)?$/i.test(name) ? WEEKDAYS.indexOf(name.slice(0, 3).toLowerCase()) : -1);
  return names.every((name) => day(name) >= 0) ? [...names].sort((a, b) => day(a) - day(b)) : [...names];
}

/** Names in the order in which they came, each once. */
class Places {
  readonly names: string[] = [];
  #places = new Map<string, number>();

  of(name: string): number {
    const known = this.#places.get(name);
    if (known !== undefined) return known;
    this.#places.set(name, this.names.length);
    return this.names.push(name) - 1;
  }
}
