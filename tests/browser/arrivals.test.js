// Today's arrivals against the usual ones, in a real Chromium: a picture, a sentence and a table that say the same, on three sizes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, open, signIn, SIZES } from './browser.js';
import { fixture } from './fixture.js';
import { scanned } from './gate.js';

const { url, earlier } = fixture;
const CAME = 20;

let browser;
let page;

before(async () => {
  browser = await launch();
  const context = await browser.newContext({ viewport: SIZES.tablet });
  context.setDefaultTimeout(45_000);
  page = await context.newPage();
  await signIn(page, url, earlier.analyst);
});
after(() => browser?.close());

const percent = (share) => `${Math.round(100 * share)} %`;

/** The panel says, draws and lists today's share against the usual one. */
async function checked(panel, arrived) {
  const points = Math.round(100 * (0.9 - arrived));
  await panel.getByText(new RegExp(`: ${Math.round(100 * arrived)} % have arrived, ${points} points below the usual 90 % \\(median of 4 ${earlier.weekday}s\\)`)).waitFor();
  const drawing = panel.getByRole('img', { name: /today and usually/ });
  await drawing.locator('svg text').getByText(`Usual ${earlier.weekday}`).waitFor();
  await drawing.locator('svg text').getByText('Today', { exact: true }).waitFor();
  assert.ok((await drawing.locator('svg path[stroke-dasharray]').count()) > 0, 'the usual curve is dashed');
  for (const [time, share] of Object.entries(earlier.usual)) {
    const row = panel.getByRole('row').filter({ has: page.getByRole('rowheader', { name: time, exact: true }) });
    assert.deepEqual(await row.getByRole('cell').allInnerTexts(), ['0 %', percent(share)], time);
  }
}

describe('arrivals against the usual ones', { concurrency: 1 }, () => {
  test('the district and its school show both curves, and follow the gate', async () => {
    await open(page, `${url}/district`);
    const panel = page.getByRole('region', { name: 'Arrivals today' });
    await panel.getByText('The same as a table').click();
    await checked(panel, 0);
    await scanned(earlier.students.slice(0, CAME), { ts: Date.now() - 1_000, by: earlier.gate });
    await checked(panel, CAME / earlier.students.length);

    await open(page, `${url}/district/school/${earlier.school.id}`);
    await panel.getByText('The same as a table').click();
    await checked(panel, CAME / earlier.students.length);
  });

  for (const [name, viewport] of Object.entries(SIZES)) {
    test(`the page fits a ${name}`, async () => {
      await page.setViewportSize(viewport);
      await open(page, `${url}/district`);
      const drawing = page.getByRole('img', { name: /today and usually/ });
      await drawing.locator('svg path[stroke-dasharray]').first().waitFor();
      const { x, width } = await drawing.boundingBox();
      assert.ok(x >= 0 && x + width <= viewport.width && width > 250, `the curve takes ${x} to ${x + width}`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width, 'nothing is scrolled sideways');
    });
  }
});
