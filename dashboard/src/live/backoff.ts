// How long to wait before the next attempt to connect.

export const RETRY_FIRST_MS = 250;
export const RETRY_MAX_MS = 15_000;

/**
 * Doubles from the first delay to the longest. Half of it is random, so that a thousand boards which lost the same
 * server do not come back in the same instant. `random` is in [0, 1).
 */
export function retryDelayMs(failures: number, random: number): number {
  const ceiling = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures, 10));
  return Math.round(ceiling / 2 + (ceiling / 2) * random);
}
