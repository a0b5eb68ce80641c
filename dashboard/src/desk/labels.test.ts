import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labels } from './labels.ts';

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, place) => `${name} ${place + 1}`);

test('names that fit stand whole, and a beginning that tells a name from the others is enough', () => {
  assert.deepEqual(labels(['North', 'South'], 24), ['North', 'South']);
  assert.deepEqual(labels(['Riverbend Elementary School', 'North'], 24), ['Riverbend Elementary Sc…', 'North']);
});

test('names with a common beginning keep what comes where they part', () => {
  assert.deepEqual(labels(numbered('Maple Hollow Middle School', 12), 24), numbered('Maple Hollow Middle…', 12));
  const campuses = ['North', 'South'].map((side) => `Lincoln Elementary School ${side} Campus`);
  assert.deepEqual(labels(campuses, 24), ['Lincoln… North Campus', 'Lincoln… South Campus']);
  const valley = ['Maple Hollow Middle School of the Valley', 'Maple Hollow Middle School of the Valley 2'];
  assert.deepEqual(labels(valley, 24), ['Maple Hollow… Valley', 'Maple Hollow… Valley 2']);
});

test('names that part at two places keep both', () => {
  const schools = ['Middle', 'High'].flatMap((kind) => ['North', 'South'].map((side) => `Maple Hollow ${kind} School of the Valley, ${side} Campus`));
  assert.deepEqual(labels(schools, 24), ['…Middle… North Campus', '…Middle… South Campus', '…High… North Campus', '…High… South Campus']);
});

test('a cut name never reads like one that stands whole', () => {
  assert.deepEqual(labels(['Maple Ho…', 'Maple Hollow'], 9), ['Maple Ho…', '…Hollow']);
});

test('labels differ, and have no more letters than there is room for, whatever the names are', () => {
  const parts = ['Maple', 'Hollow', 'Middle', 'School', 'North', 'Campus', 'of', '1', '12', 'Elementaryschoolwithoutaspace', ' '];
  // Lehmer's generator: the same names in each run.
  let state = 20_261_122;
  const drawn = (below: number) => (state = (state * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 400; round += 1) {
    const names = [...new Set(Array.from({ length: 1 + drawn(40) }, () => Array.from({ length: 1 + drawn(9) }, () => parts[drawn(parts.length)]).join(' ')))];
    const lettersMax = 16 + drawn(16);
    const made = labels(names, lettersMax);
    assert.equal(new Set(made).size, names.length, JSON.stringify(names));
    made.forEach((label, place) => {
      assert.ok(label.length <= lettersMax, label);
      if ((names[place] ?? '').length <= lettersMax) assert.equal(label, names[place]);
    });
  }
});
