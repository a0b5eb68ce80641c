// When a device was heard, as it is drawn.

/** From and to of each run of ones, the second exclusive: "0110" is [[1, 3]]. */
export function stretches(heard: string): [number, number][] {
  return Array.from(heard.matchAll(/1+/g), (run) => [run.index, run.index + run[0].length]);
}
