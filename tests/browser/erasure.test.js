// The district's office erases what devices said about a student who has left, and sees how far that is.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, open, signIn, SIZES } from './browser.js';
import { fixture } from './fixture.js';
import { scanned } from './gate.js';

const { url, left, office, schoolOffice } = fixture;
const name = `${left.given} ${left.family}`;

let browser;
let page;

async function fresh() {
  const context = await browser.newContext({ viewport: SIZES.tablet });
  context.setDefaultTimeout(45_000);
  return context.newPage();
}
before(async () => {
  browser = await launch();
  page = await fresh();
  await signIn(page, url, office);
});
after(() => browser?.close());

/** The student's scans in SQL. */
async function scans() {
  const sql = 'SELECT person, count(*) FROM scans GROUP BY person';
  const answer = await page.evaluate(async (sql) => {
    const answer = await fetch('/api/v1/sql', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ sql }) });
    return answer.json();
  }, sql);
  return answer.rows.find(([person]) => person === left.id)?.[1] ?? 0;
}

describe('an erasure', { concurrency: 1 }, () => {
  test('is confirmed by the whole name, carried out, and said to be', async () => {
    await scanned([left], { ts: Date.now() - 60_000 });
    const deadline = Date.now() + 45_000;
    while ((await scans()) !== 1) assert.ok(Date.now() < deadline, 'the scan is not in SQL');
    await open(page, `${url}/district`);
    await page.getByRole('link', { name: 'Erasure' }).click();
    const entry = page.locator(`[data-former="${left.id}"]`);
    await entry.getByText(`${left.family}, ${left.given}`, { exact: true }).waitFor();
    await page.getByLabel('Find a name').fill(name);
    await entry.getByRole('button', { name: `Erase… ${name}` }).click();
    const dialog = page.getByRole('dialog');
    const erase = dialog.getByRole('button', { name: 'Erase for good' });
    assert.ok(await erase.isDisabled());
    const field = dialog.getByLabel(`Type ${name} to go on`);
    await field.fill(left.given);
    await page.keyboard.press('Enter');
    assert.ok((await erase.isDisabled()) && (await scans()) === 1, 'half a name erases nobody');
    await field.fill(name);
    await page.keyboard.press('Enter');
    await dialog.waitFor({ state: 'detached' });
    await page.getByText(`Erased: what devices said about ${name}.`).waitFor();
    await entry.getByText('Hidden on boards, in reports and in questions').waitFor();
    await entry.locator('[data-erasure=done]').waitFor();
    await entry.getByText('Gone from the files of history since').waitFor();
    assert.equal(await scans(), 0);
    await entry.getByRole('button', { name: `Erase what came since… ${name}` }).waitFor();
  });

  test('can be thought better of, and is the office of the district’s alone', async () => {
    const entry = page.locator(`[data-former="${left.id}"]`);
    await entry.getByRole('button').click();
    await page.getByRole('dialog').getByRole('button', { name: 'Keep it' }).click();
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    const school = await fresh();
    await signIn(school, url, schoolOffice);
    await open(school, `${url}/district`);
    // Nothing is left on its way: a report that is broken off costs the next request its connection.
    await school.locator('[aria-labelledby=grades] button.figure').first().waitFor();
    assert.equal(await school.getByRole('link', { name: 'Erasure' }).count(), 0);
    await open(school, `${url}/district/erasures`);
    await school.getByText('There is no such page.').waitFor();
    await school.context().close();
  });
});
