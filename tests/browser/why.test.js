// What a figure was made of, in a real Chromium: from a school's figure, a student's row and a student's day down to scans and marks.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, open, signIn, SIZES } from './browser.js';
import { fixture } from './fixture.js';
import { scanned } from './gate.js';

const { url, earlier } = fixture;
// These two have no conclusion on record about the day: it is worked out from what is sent here.
const [ill, late] = earlier.students.slice(-2);
const CAME = earlier.bell + 9 * 60_000;

let browser;
let page;

/** A request of the page's own. */
async function rest(path, body) {
  const answer = await page.evaluate(
    async ([path, body]) => {
      const options = body ? { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : {};
      const answer = await fetch(`/api/v1${path}`, options);
      return { status: answer.status, body: await answer.json() };
    },
    [path, body],
  );
  assert.ok(answer.status < 300, `${path}: ${JSON.stringify(answer)}`);
  return answer.body;
}

before(async () => {
  browser = await launch();
  const context = await browser.newContext({ viewport: SIZES.tablet });
  context.setDefaultTimeout(45_000);
  page = await context.newPage();
  await signIn(page, url, earlier.office);
  const mark = { student: ill.id, status: 'absent_excused', reason: 'Fever since Tuesday' };
  await rest('/marks', { date: earlier.date, marks: [mark] });
  await scanned([late], { ts: CAME, by: earlier.gate });
  // Both are in the report once the database has them.
  const part = `from=${earlier.date}&to=${earlier.date}&school=${earlier.school.id}`;
  for (const figure of ['excused', 'tardy']) {
    const deadline = Date.now() + 45_000;
    while ((await rest(`/reports/explain?figure=${figure}&${part}`)).sum === 0) assert.ok(Date.now() < deadline, `nothing is ${figure}`);
  }
});
after(() => browser?.close());

const sheet = () => page.getByRole('dialog');
const sum = async () => Number(await sheet().locator('[data-sum]').getAttribute('data-sum'));
/** The time of day that a scanner's instant has in the school's zone. */
const local = async (instant) => {
  const { zone } = await rest(`/schools/${earlier.school.id}`);
  return new Intl.DateTimeFormat('en-GB', { timeZone: zone, hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' }).format(instant);
};

describe('why a number', { concurrency: 1 }, () => {
  test('the total of a school opens into days with their mark, and adds up to the figure', async () => {
    await open(page, `${url}/district/school/${earlier.school.id}`);
    const grades = page.getByRole('region', { name: 'Grade', exact: true });
    await grades.getByRole('button', { name: /^Absent, All: .* Why this number\?$/ }).focus();
    await page.keyboard.press('Enter');
    await sheet().locator('[data-why]').first().waitFor();
    const report = await rest(`/reports/attendance?by=grade&school=${earlier.school.id}`);
    assert.equal(await sum(), report.total.absent_half_days);
    const row = sheet().locator(`[data-why="${earlier.date}"]`).filter({ hasText: 'Fever since Tuesday' });
    await row.getByText('decides').waitFor();
    await row.getByText('Excused, by the office at').waitFor();
    const { given, family } = await rest(`/students/${ill.id}`);
    await row.getByText(`${family}, ${given}`, { exact: true }).waitFor();
    await row.getByText('No scan on this day.').waitFor();
  });

  test('another figure is chosen by keyboard and shows the scan with the local time and the scanner', async () => {
    await sheet().getByRole('button', { name: 'Tardy', exact: true }).focus();
    await page.keyboard.press('Enter');
    const row = sheet().locator(`[data-why="${earlier.date}"]`);
    await row.first().waitFor();
    assert.deepEqual([await sum(), await row.count()], [1, 1]);
    await row.getByText(await local(CAME), { exact: true }).waitFor();
    await row.getByText('Gate 1 · sent later').waitFor();
    await row.getByText('Scanned in after the bell and its grace.').waitFor();
    await page.keyboard.press('Escape');
    await sheet().waitFor({ state: 'detached' });
    // Back to where it was opened.
    assert.match((await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))) ?? '', /^Absent, All: /);
  });

  test('pages of a long list go on to its end', async () => {
    await page.getByRole('region', { name: 'Grade', exact: true }).getByRole('button', { name: /^Attendance, All: / }).click();
    await sheet().locator('[data-why]').first().waitFor();
    const more = sheet().getByRole('button', { name: 'Show more days' });
    for (let pages = 0; (await more.count()) > 0; pages += 1) {
      assert.ok(pages < 40, 'there is no end');
      const shown = await sheet().locator('[data-why]').count();
      await more.click();
      await page.waitForFunction((shown) => document.querySelectorAll('dialog [data-why]').length > shown, shown);
      await sheet().locator('[data-busy=false]').waitFor();
    }
    const report = await rest(`/reports/attendance?by=grade&school=${earlier.school.id}`);
    assert.equal(await sum(), report.total.attended_half_days);
    assert.ok((await sheet().locator('[data-why]').count()) >= report.total.attended_half_days / 2);
    await page.keyboard.press('Escape');
  });

  test("a section's figure opens into its lessons", async () => {
    const lesson = (await rest(`/reports/attendance?by=section&school=${earlier.school.id}`)).items.find((line) => line.attended_half_days > 0);
    await open(page, `${url}/district/section/${lesson.section}`);
    await page.getByRole('button', { name: 'Why this number? Attendance' }).click();
    await sheet().locator('[data-why]').first().waitFor();
    assert.equal(await sum(), lesson.attended_half_days);
    await sheet().getByText(/^Attended: .* lessons?$/).waitFor();
    await page.keyboard.press('Escape');
    await sheet().waitFor({ state: 'detached' });
  });

  test('the line of those without a grade opens like any other', async () => {
    await open(page, `${url}/district/school/${earlier.school.id}`);
    const grades = page.getByRole('region', { name: 'Grade', exact: true });
    await grades.getByRole('button', { name: /^Tardies, No grade: 1\. / }).click();
    await sheet().getByText(/^No grade, /).waitFor();
    assert.deepEqual([await sum(), await sheet().locator('[data-why]').count()], [1, 1]);
    const { given, family } = await rest(`/students/${late.id}`);
    await sheet().getByText(`${family}, ${given}`, { exact: true }).waitFor();
    await page.keyboard.press('Escape');
  });

  test('a class of late arrivals opens into the lessons of which it was counted', async () => {
    const report = await rest(`/reports/late-arrivals?by=section&school=${earlier.school.id}`);
    const section = report.items.find((line) => line.arrivals > 0);
    const { from_min: from, to_min: to, arrivals } = section.classes.find((of) => of.arrivals > 0);
    await open(page, `${url}/district/section/${section.section}`);
    await page.getByText('As a table. Press a number to see the lessons').click();
    await page.getByRole('button', { name: `Minutes after the bell, ${from}–${to - 1}: ${arrivals}. Why this number?` }).click();
    await sheet().locator('[data-why]').first().waitFor();
    assert.deepEqual([await sum(), await sheet().locator('[data-why]').count()], [arrivals, arrivals]);
    await sheet().getByText(/ · 9 min late$/).first().waitFor();
    // A class is of tardies only: there is nothing to change to.
    assert.equal(await sheet().getByRole('group', { name: 'Figure' }).count(), 0);
    await page.keyboard.press('Escape');
  });

  test('a count of chronic absence opens into its students, and each of them into the days', async () => {
    await open(page, `${url}/district/school/${earlier.school.id}`);
    await page.getByText('As a table. Press a number to see the students').click();
    const { total } = await rest(`/reports/chronic-absence?by=grade&school=${earlier.school.id}`);
    await page.getByRole('button', { name: `Students, All: ${total.students}. Who is behind this number?` }).click();
    await sheet().locator('[data-chronic]').first().waitFor();
    assert.deepEqual([await sheet().locator('[data-sum]').getAttribute('data-sum'), await sheet().locator('[data-chronic]').count()], [String(total.students), total.students]);
    // The one who was ill has missed that day.
    const one = sheet().locator(`[data-chronic="${ill.id}"]`);
    await one.getByText(/^1 of \d+ days/).waitFor();
    await one.getByRole('button').click();
    const days = page.getByRole('dialog', { name: 'Why this number?' });
    await days.locator('[data-why]').waitFor();
    assert.equal(await days.locator('[data-sum]').getAttribute('data-sum'), '2');
    await days.getByText('Fever since Tuesday').waitFor();
    await page.keyboard.press('Escape');
    await days.waitFor({ state: 'detached' });
    // Back in the list, at the student.
    assert.equal(await one.getByRole('button').evaluate((button) => button === document.activeElement), true);
    await page.keyboard.press('Escape');
    await sheet().waitFor({ state: 'detached' });
  });

  test('an analyst has the tables without a button', async () => {
    const context = await browser.newContext({ viewport: SIZES.tablet });
    const other = await context.newPage();
    await signIn(other, url, earlier.analyst);
    await open(other, `${url}/district/school/${earlier.school.id}`);
    await other.getByRole('region', { name: 'Grade', exact: true }).getByRole('columnheader', { name: 'Attendance' }).waitFor();
    // Of grades of fourteen no tier is told.
    await other.getByRole('region', { name: 'Chronic absence', exact: true }).first().waitFor();
    assert.equal(await other.getByRole('button', { name: /this number\?$/ }).count(), 0);
    await context.close();
  });

  test('it fits on three sizes', async () => {
    for (const [name, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      await open(page, `${url}/district/school/${earlier.school.id}`);
      await page.getByRole('region', { name: 'Grade', exact: true }).getByRole('button', { name: /^Absent, All: / }).click();
      await sheet().locator('[data-why]').first().waitFor();
      const wide = await sheet().evaluate((dialog) => dialog.scrollWidth - dialog.clientWidth);
      assert.equal(wide, 0, `${name}: the sheet is ${wide} px too wide`);
      await page.keyboard.press('Escape');
      await page.getByText('As a table. Press a number to see the students').click();
      await page.getByRole('button', { name: /^Students, All: / }).click();
      await sheet().locator('[data-chronic]').first().waitFor();
      const over = await sheet().evaluate((dialog) => dialog.scrollWidth - dialog.clientWidth);
      assert.equal(over, 0, `${name}: the list of students is ${over} px too wide`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), viewport.width, `${name}: nothing is scrolled sideways`);
    }
  });
});
