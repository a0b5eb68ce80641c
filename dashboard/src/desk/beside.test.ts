import assert from 'node:assert/strict';
import { test } from 'node:test';
import { beside, type Edges } from './beside.ts';

const edges = (left: number, top: number, width: number, height: number): Edges => ({ left, right: left + width, top, bottom: top + height });

test('words about a suggestion stand at the side that has the room, beside what they are about', () => {
  const [screen, words] = [edges(0, 0, 1920, 1080), edges(0, 0, 400, 120)];
  const placed = (left: number, top: number) => beside(edges(left, 280, 300, 200), edges(left, top, 300, 25), words, screen);
  assert.deepEqual(placed(200, 305), { style: 'top: 25px; max-width: 400px', class: 'cm-completionInfo-right' });
  assert.deepEqual(placed(1500, 305), { style: 'top: 25px; max-width: 400px', class: 'cm-completionInfo-left' });
  const low = beside(edges(200, 800, 300, 200), edges(200, 975, 300, 25), words, screen);
  assert.equal(low.style, 'top: 160px; max-width: 400px', 'all of them is seen');
  const tablet = beside(edges(175, 220, 252, 160), edges(175, 220, 252, 22), words, edges(0, 0, 820, 1180));
  assert.deepEqual(tablet, { style: 'top: 0px; max-width: 385px', class: 'cm-completionInfo-right' });
});

test('where no side has the room they stand under the list or over it, within the screen', () => {
  const [phone, words] = [edges(0, 0, 390, 844), edges(0, 0, 374, 80)];
  const placed = (top: number) => beside(edges(138, top, 252, 160), edges(138, top, 252, 22), words, phone);
  assert.deepEqual(placed(208), { style: 'top: 100%; left: -130px; max-width: 374px', class: '' });
  assert.deepEqual(placed(660), { style: 'bottom: 100%; left: -130px; max-width: 374px', class: '' });
  const short = beside(edges(138, 208, 252, 160), edges(138, 208, 252, 22), edges(0, 0, 200, 30), phone);
  assert.deepEqual(short, { style: 'top: 100%; left: 0px; max-width: 374px', class: '' });
});
