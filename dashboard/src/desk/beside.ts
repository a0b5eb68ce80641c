// Where the words about a suggestion stand: beside the list of suggestions, and under or over it where no side has the room,
// so that they never lie over a suggestion. Pure.

/** Edges on the screen in pixels. */
export interface Edges {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** A line is read with ease up to here. */
const WIDTH_PX_MAX = 400;
/** What has less room at a side than this is better read under the list. */
const WIDTH_PX_MIN = 240;
/** What stays free at the edge of the screen. */
const MARGIN_PX = 8;

/** The place of `words`, as a style relative to `list`; `option` is the suggestion that they are about, `space` what is seen of the page. */
export function beside(list: Edges, option: Edges, words: Edges, space: Edges): { style: string; class: string } {
  const [width, height] = [words.right - words.left, words.bottom - words.top];
  const [left, right] = [list.left - space.left - MARGIN_PX, space.right - list.right - MARGIN_PX];
  const room = right >= Math.min(width, left) ? right : left;
  if (room >= Math.min(width, WIDTH_PX_MIN)) {
    const top = Math.max(space.top, Math.min(option.top, space.bottom - height)) - list.top;
    return { style: `top: ${top}px; max-width: ${Math.min(WIDTH_PX_MAX, room)}px`, class: `cm-completionInfo-${room === right ? 'right' : 'left'}` };
  }
  const widest = Math.min(WIDTH_PX_MAX, space.right - space.left - 2 * MARGIN_PX);
  const shift = Math.max(space.left + MARGIN_PX, Math.min(list.left, space.right - MARGIN_PX - Math.min(width, widest))) - list.left;
  const [under, over] = [space.bottom - list.bottom, list.top - space.top];
  const edge = under >= height || under >= over ? 'top' : 'bottom';
  return { style: `${edge}: 100%; left: ${shift}px; max-width: ${widest}px`, class: '' };
}
