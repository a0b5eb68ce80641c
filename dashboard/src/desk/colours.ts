// The page's colours for what the chart library draws: it cannot read them from the style sheet itself.

import type { Colours } from './chart.ts';

/** Of the page's own size. */
const FONT_SHARE = 0.85;

export function pageColours(): Colours {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    font: of('--font'), fontPx: Math.round(FONT_SHARE * Number.parseFloat(style.fontSize)), ink: of('--ink'), soft: of('--soft'), line: of('--line'), card: of('--raised'), low: of('--accent-wash'),
    scale: [of('--scale-low'), of('--scale-high')],
    marks: [of('--accent'), of('--tardy-bar'), of('--present-bar'), of('--left-bar'), of('--absent-bar'), of('--unknown-bar')],
  };
}
