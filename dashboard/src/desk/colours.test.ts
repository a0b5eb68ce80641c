import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

/** How much lighter one colour is than another: 1 for the same, 21 for white and black. */
function contrast(one: string, other: string): number {
  const [lighter = 0, darker = 0] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (lighter + 0.05) / (darker + 0.05);
}

function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((from) => {
    const share = Number.parseInt(colour.slice(from, from + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

test('both ends of the scale of colours are told from paper and from each other, by day and by night', () => {
  const sheet = readFileSync(new URL('../../src/styles/base.css', import.meta.url), 'utf8');
  const all = (name: string) => [...sheet.matchAll(new RegExp(`--${name}: (#[0-9a-f]{6});`, 'g'))].map((found) => found[1] ?? '');
  const [cards, inks, lows, highs] = [all('card'), all('ink'), all('scale-low'), all('scale-high')];
  // By day, by night as the system wishes, and by night as the person chose.
  assert.deepEqual([cards, inks, lows, highs].map((found) => found.length), [3, 3, 3, 3]);
  for (const [place, card] of cards.entries()) {
    const [ink = '', low = '', high = ''] = [inks[place], lows[place], highs[place]];
    assert.ok(contrast(card, low) >= 3 && contrast(card, high) >= 3, `${low} and ${high} on ${card}`);
    assert.ok(contrast(low, high) >= 3, `${low} beside ${high}`);
    assert.ok(contrast(card, ink) >= 4.5, `${ink} on ${card}`);
  }
});
