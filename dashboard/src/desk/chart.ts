// From a result to a chart: which columns it is of, and what the chart library draws. Pure, so that it is tested without a page.

import type { EChartsCoreOption } from 'echarts/core';
import { cell, numeric } from './cell.ts';
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
  readonly high: string;
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

/** What the library draws. Only the first rows are drawn when there are too many; `isCut` says so. */
export function option(result: Result, { x, y, series }: Axes, kind: 'line' | 'bar' | 'heat', colours: Colours): { option: EChartsCoreOption; isCut: boolean } {
  const rows = Math.min(result.rows, POINTS_MAX);
  const along = new Places();
  const across = new Places();
  const points: { x: number; series: number; y: number | null }[] = [];
  for (let row = 0; row < rows; row += 1) {
    const place = along.of(cell(x.at(row), x.kind) ?? '–');
    const line = across.of(series === null ? y.name : (cell(series.at(row), series.kind) ?? '–'));
    points.push({ x: place, series: line, y: numeric(y.at(row)) });
  }
  const isCut = rows < result.rows || (kind !== 'heat' && across.names.length > SERIES_MAX);
  const axis = { axisLabel: { color: colours.soft, fontFamily: colours.font, fontSize: colours.fontPx, hideOverlap: true }, axisLine: { lineStyle: { color: colours.line } }, splitLine: { lineStyle: { color: colours.line } } };
  const base = {
    animation: false,
    textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx },
    grid: { left: 12, right: 18, top: 44, bottom: kind === 'heat' ? 80 : 12, containLabel: true },
    tooltip: { trigger: kind === 'heat' ? 'item' : 'axis', backgroundColor: colours.card, textStyle: { color: colours.ink } },
    xAxis: { type: 'category', data: along.names, ...axis },
  };
  if (kind === 'heat') {
    const lines = inOrder(across.names);
    const values = points.map((point) => point.y).filter((value) => value !== null);
    return {
      isCut,
      option: {
        ...base,
        // The first line on top, as in the table.
        yAxis: { type: 'category', data: lines, inverse: true, ...axis },
        visualMap: {
          min: Math.min(...values), max: Math.max(...values), calculable: true, orient: 'horizontal', left: 'center', bottom: 8,
          inRange: { color: [colours.low, colours.high] }, textStyle: { color: colours.soft },
        },
        series: [{ type: 'heatmap', data: points.filter((point) => point.y !== null).map((point) => [point.x, lines.indexOf(across.names[point.series] ?? ''), point.y]) }],
      },
    };
  }
  const drawn = across.names.slice(0, SERIES_MAX).map((name, line) => {
    // Where a line has no value there is a hole, not a zero.
    const data: (number | null)[] = along.names.map(() => null);
    for (const point of points) if (point.series === line) data[point.x] = point.y;
    return { name, type: kind, data, connectNulls: false, showSymbol: along.names.length < 60, symbolSize: 6 };
  });
  return { isCut, option: { ...base, color: [...colours.marks], legend: { type: 'scroll', top: 4, textStyle: { color: colours.ink, fontFamily: colours.font, fontSize: colours.fontPx } }, yAxis: { type: 'value', scale: kind === 'line', ...axis }, series: drawn } };
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
