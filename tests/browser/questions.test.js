// The analyst's desk in a real Chromium: the district live, down to a section, and questions saved, shared and exported.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { fillIn, launch, open, signIn, SIZES, stayed } from './browser.js';
import { fixture } from './fixture.js';
import { scanned } from './gate.js';

const { url, school, section, students, analyst, office } = fixture;
const SQL = 'SELECT name, zone FROM schools';

let browser;
let page;

before(async () => {
  browser = await launch();
  const context = await browser.newContext({ viewport: SIZES.tablet });
  // Queries run at a lower priority than everything else: on a busy machine their answers take their time.
  context.setDefaultTimeout(45_000);
  page = await context.newPage();
  await signIn(page, url, analyst);
});
after(() => browser?.close());

async function typed(sql) {
  await page.getByRole('textbox', { name: 'Question in SQL' }).click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(sql);
}

describe('the desk', { concurrency: 1 }, () => {
  test('the district follows the gates without a reload, for an analyst in tens', async () => {
    await open(page, `${url}/district`);
    await page.locator('[data-came]').waitFor();
    await page.getByRole('heading', { name: 'Arrivals today' }).waitFor();
    await page.getByText(/No usual curve yet: it needs 3 \w+days with evidence/).waitFor();
    await page.getByText('Numbers are in tens').waitFor();
    const context = await browser.newContext({ viewport: SIZES.tablet });
    const other = await context.newPage();
    await signIn(other, url, office);
    await open(other, `${url}/district`);
    const row = `[data-school="${school.id}"] td`;
    const inside = other.locator(row).nth(1);
    await inside.waitFor();
    const same = await stayed(other);
    await scanned([students[0]], { dir: 'in', ts: Date.now() - 2_000 });
    const before = Number(await inside.innerText());
    await scanned([students[0]], { dir: 'out', ts: Date.now() });
    await inside.getByText(new RegExp(`^${before - 1}$`)).waitFor();
    await same();
    await context.close();
    const numbers = (await page.locator(row).allInnerTexts()).slice(1).map(Number);
    assert.ok(numbers.length > 3 && numbers.every((number) => number % 10 === 0), String(numbers));
  });

  test('a page that stays open reads its reports every hour, and at once on another day', async () => {
    const context = await browser.newContext({ viewport: SIZES.tablet, storageState: await page.context().storageState() });
    const other = await context.newPage();
    await other.clock.install();
    let date;
    await other.route('**/api/v1/overview/arrivals*', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: { ...(await response.json()), ...(date ? { date } : {}) } });
    });
    const read = async (what) => (await other.waitForResponse((answer) => answer.url().includes(what))).finished();
    const shown = () => other.locator('main').getByText('Loading…').first().waitFor({ state: 'detached' });
    const all = ['/overview/arrivals', '/reports/attendance?by=', '/reports/chronic-absence?by='];
    for (const [path, reports] of [['/district', all], [`/district/school/${school.id}`, all], [`/district/section/${section.id}`, ['/reports/late-arrivals?by=']]]) {
      date = undefined;
      await Promise.all([...reports.map(read), open(other, url + path)]);
      await shown();
      await Promise.all([...reports.map(read), other.clock.fastForward('01:00:01')]);
      await shown();
      // A section has no day of its own: it says from when to when.
      if (path.includes('section')) continue;
      date = '2027-01-11';
      await Promise.all([...reports.map(read), other.clock.fastForward('01:01')]);
    }
    await context.close();
  });

  test('from the district to a school and a section, by keyboard, without a name', async () => {
    await page.locator(`[data-school="${school.id}"] a`).focus();
    await page.keyboard.press('Enter');
    await page.waitForURL(`**/district/school/${school.id}`);
    await page.getByRole('heading', { name: 'By grade' }).waitFor();
    await open(page, `${url}/district/section/${section.id}`);
    await page.getByRole('button', { name: 'Last 30 days' }).waitFor();
    await page.getByText('This account sees sums only.').waitFor();
    assert.equal(await page.getByRole('button', { name: /^Why this number/ }).count(), 0);
    // Whole names, as pages show them: a family called Do or Le stands in many a word.
    const shown = await page.locator('body').innerText();
    const names = students.flatMap(({ given, family }) => [`${given} ${family}`, `${family}, ${given}`]);
    assert.deepEqual(names.filter((name) => shown.includes(name)), []);
    await page.getByRole('link', { name: 'District', exact: true }).click();
    await page.locator('[data-came]').waitFor();
  });

  test('a link to a school or a section of the school year reopens the school year', async () => {
    const chosen = (on) => on.locator('.range [aria-pressed=true]:enabled').getByText('School year').waitFor();
    const shown = (on) => on.getByRole('status').getByText(/^\d.* to \d/).waitFor();
    const { year_from } = await (await page.request.get(`${url}/api/v1/overview/arrivals`)).json();
    await open(page, `${url}/district/school/${school.id}`);
    await shown(page);
    await Promise.all([page.waitForResponse((answer) => answer.url().endsWith(`&from=${year_from}`)), page.getByRole('button', { name: 'School year' }).click()]);
    const link = page.url();
    assert.equal(link, `${url}/district/school/${school.id}?range=year`);

    const other = await page.context().newPage();
    const since = new Set();
    other.on('request', (request) => request.url().includes('/reports/') && since.add(new URL(request.url()).searchParams.get('from')));
    await open(other, link);
    await chosen(other);
    await shown(other);
    // On to a section and back it stays, and a link to the section has it too.
    await other.locator('a[href^="/district/section/"]').first().click();
    await other.waitForURL('**/district/section/*?range=year');
    await chosen(other);
    await open(other, other.url());
    await chosen(other);
    await shown(other);
    await other.getByRole('navigation', { name: 'Where you are' }).getByRole('link').last().click();
    await other.waitForURL(link);
    await chosen(other);
    assert.deepEqual([...since], [year_from], 'the last thirty days are not read meanwhile');
    await other.getByRole('button', { name: 'Last 30 days' }).click();
    await other.waitForURL(`${url}/district/school/${school.id}`);
    await other.close();
  });

  test('a question of any length is in its link, also for who has to sign in first', async () => {
    const long = `SELECT 'end' AS place -- ${'ab '.repeat(7_000)}`;
    await open(page, `${url}/district/questions`);
    await typed(long);
    await page.getByRole('button', { name: /^Run/ }).click();
    await page.getByText(/^1 row in/).waitFor();
    await page.getByRole('radio', { name: 'Table' }).waitFor();
    const link = page.url();
    const context = await browser.newContext({ viewport: SIZES.tablet });
    const other = await context.newPage();
    await open(other, link);
    await other.getByLabel('E-mail').waitFor();
    const asked = other.waitForRequest('**/api/v1/sql');
    await fillIn(other, analyst);
    assert.equal((await asked).postDataJSON().sql, long);
    await other.getByText(/^1 row in/).waitFor();
    assert.equal(other.url(), link);
    // Another one in the same tab loads nothing anew.
    await other.evaluate(() => (location.hash = new URLSearchParams({ sql: 'SELECT 1 UNION ALL SELECT 2' })));
    await other.getByText(/^2 rows in/).waitFor();
    await other.getByRole('button', { name: 'Sign out' }).click();
    await other.waitForURL(`${url}/sign-in`);
    await fillIn(other, analyst);
    await other.waitForURL(`${url}/district`);
    await context.close();
  });

  test('a question is saved, opened from its link, changed, shared and deleted', async () => {
    await page.getByRole('link', { name: 'Questions' }).click();
    await typed(SQL);
    await page.getByRole('button', { name: /^Run/ }).click();
    await page.getByText(/^1 row in/).waitFor();
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByLabel('Title').fill('Schools & zones');
    await page.keyboard.press('Enter');
    await page.getByText('Saved: Schools & zones').waitFor();
    await open(page, page.url());
    await page.locator('[data-saved][aria-current=true]').waitFor();
    await page.getByText(/^1 row in/).waitFor();

    await typed(`${SQL} ORDER BY name`);
    await page.getByText('changed, not saved').waitFor();
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByText('changed, not saved').waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Share with the district' }).click();
    await page.getByRole('button', { name: 'Stop sharing' }).waitFor();
    const listed = await (await page.request.get(`${url}/api/v1/saved-queries`)).json();
    assert.deepEqual(listed.items.map(({ title, shared, version }) => [title, shared, version]), [['Schools & zones', true, 3]]);
  });

  test('an export runs, says what it wrote, and goes with its question', async () => {
    await page.getByRole('button', { name: 'Export', exact: true }).click();
    const item = page.locator('[data-export]');
    await item.getByText('has not run yet').waitFor();
    await item.getByRole('button', { name: 'Run now' }).click();
    await page.locator('[data-outcome=done]').waitFor();
    assert.match(await item.innerText(), /Done .*1 row\s+\S+\/schools-zones-\d{8}T\d{6}Z\.csv/s);
    await page.getByRole('button', { name: 'Delete', exact: true }).first().click();
    await page.getByRole('button', { name: 'Delete for good' }).click();
    await item.waitFor({ state: 'detached' });
    await page.locator('[data-saved]').waitFor({ state: 'detached' });
  });
});
