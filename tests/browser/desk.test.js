// The desk's editor, table and charts in a real Chromium, asked by an office: its own rights, its own school.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, open, signIn, SIZES, stayed } from './browser.js';
import { fixture } from './fixture.js';
import { scanned } from './gate.js';
import { questionsOf } from './threads.js';

const { url, school, section, earlier, analyst, office, schoolOffice } = fixture;
const ROWS = 1_000_000;
/** Runs for as long as it may. */
const ENDLESS = 'SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b WHERE a.value + b.value < 0';
/** Rows of one answer, by default. */
const ROWS_MAX = 2_000_000;
const WEEKS = "SELECT * FROM (VALUES ('Mon', 41, 5), ('Tue', 41, 7), ('Mon', 42, 9)) AS t(day, week, absent)";

let browser;
let page;

async function signedIn(account) {
  const context = await browser.newContext({ viewport: SIZES.tablet });
  // Queries run at a lower priority than everything else: on a busy machine their answers take their time.
  context.setDefaultTimeout(45_000);
  const fresh = await context.newPage();
  await signIn(fresh, url, account);
  return fresh;
}

async function typed(sql) {
  await page.getByRole('textbox', { name: 'Question in SQL' }).click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(sql);
  // What it offers to complete must not lie over the buttons.
  await page.keyboard.press('Escape');
}

before(async () => {
  browser = await launch();
  page = await signedIn(office);
});
after(() => browser?.close());

describe('the desk of an office', { concurrency: 1 }, () => {
  test('the editor completes tables and columns of the real schema', async () => {
    await open(page, `${url}/district/questions`);
    await page.locator('aside code').getByText('attendance_day', { exact: true }).waitFor();
    await page.getByRole('textbox', { name: 'Question in SQL' }).click();
    const completed = async (typed, offered) => {
      await page.keyboard.press('Control+a');
      await page.keyboard.type(typed);
      await page.locator('.cm-tooltip-autocomplete li').getByText(offered, { exact: true }).first().waitFor();
      await page.keyboard.press('Escape');
    };
    await completed('SELECT * FROM attendance_d', 'attendance_day');
    await completed('SELECT scans.rece', 'received');
  });

  test('what a column holds is said in words, in the list of tables and in the editor', async () => {
    await open(page, `${url}/district/questions`);
    const table = page.locator('aside details', { has: page.locator('summary').getByText('attendance_day', { exact: true }) });
    await table.locator('summary').click();
    const columns = await table.locator('li').allInnerTexts();
    for (const said of ['date date', 'closed yes/no', 'as_of date and time', 'absent_half_days whole number', 'absence text']) assert.ok(columns.includes(said), `${said}: ${columns}`);
    const all = await page.locator('aside li .type').evaluateAll((types) => [...new Set(types.map((type) => type.textContent))]);
    assert.deepEqual(all.filter((type) => /[A-Z(]/.test(type)), [], 'no type of any table is without a word');
    await page.getByRole('textbox', { name: 'Question in SQL' }).click();
    await page.keyboard.type('SELECT attendance_day.absent_h');
    await page.locator('.cm-tooltip-autocomplete li', { hasText: 'absent_half_days' }).locator('.cm-completionDetail').getByText('whole number', { exact: true }).waitFor();
    await page.keyboard.press('Escape');
  });

  test('an answer without figures says so, as a table and as each chart', async () => {
    const asked = (values) => open(page, `${url}/district/questions?${new URLSearchParams({ sql: `SELECT day, school, cast(rate AS double) AS rate FROM (VALUES ${values}) AS t(day, school, rate)`, chart: 'line' })}`);
    await asked("('Mon', 'North', NULL), ('Tue', 'North', NULL)");
    await page.getByText('rate is empty in all 2 rows.').waitFor();
    for (const button of ['Line', 'Bar', 'Heat map']) {
      await page.getByRole('radio', { name: button }).click();
      await page.getByText('Nothing to draw: there are no values of rate.').waitFor();
      assert.equal(await page.getByRole('img').count(), 0, 'axes without a line say nothing');
    }
    await asked("('Mon', 'North', NULL), ('Tue', 'North', 0)");
    await page.getByText('rate is empty in 1 of 2 rows.').waitFor();
    await page.getByText('Where there is no value, nothing is drawn.').waitFor();
    await asked("('Mon', 'North', 1), ('Tue', 'North', 0)");
    await page.getByRole('img').locator('svg text').first().waitFor();
    assert.equal(await page.getByText(/is empty|Where there is no value/).count(), 0);
  });

  test('a question that runs closes the list of what may be completed, and the focus stays in the editor', async () => {
    await open(page, `${url}/district/questions`);
    await page.locator('aside code').getByText('schools', { exact: true }).waitFor();
    const editor = page.getByRole('textbox', { name: 'Question in SQL' });
    const list = page.locator('.cm-tooltip-autocomplete');
    // Pressed without taking the focus, as a screen reader does; a click of a mouse takes it.
    const presses = [() => page.keyboard.press('Control+Enter'), () => page.getByRole('button', { name: /^Run/ }).dispatchEvent('click')];
    for (const [place, press] of presses.entries()) {
      await editor.click();
      await page.keyboard.press('Control+a');
      await page.keyboard.type(`SELECT value FROM generate_series(0, ${place + 1}) CROSS JOIN (SELECT count(*) FROM schools`);
      await list.getByText('schools', { exact: true }).waitFor();
      await press();
      await page.getByText(new RegExp(`^${place + 2} rows in`)).waitFor();
      assert.equal(await list.count(), 0, 'it would lie over the answer');
      assert.ok(await editor.evaluate((field) => field === document.activeElement));
    }
  });

  test('a table of a million rows is scrolled to its end', async () => {
    await open(page, `${url}/district/questions?${new URLSearchParams({ sql: `SELECT value FROM generate_series(1, ${ROWS})` })}`);
    await page.getByText(/^1,000,000 rows in/).waitFor();
    const table = page.getByRole('region', { name: 'Result' });
    assert.equal(await table.getByRole('table').getAttribute('aria-rowcount'), String(ROWS + 1));
    await table.getByRole('cell', { name: '1', exact: true }).waitFor();
    await table.evaluate((scrolled) => scrolled.scrollTo(0, scrolled.scrollHeight));
    await table.getByRole('cell', { name: String(ROWS), exact: true }).waitFor();
    assert.ok((await table.locator('tr').count()) < 100, 'only what is seen is in the document');
  });

  test('line, bar and heat map are one click each, stand above their numbers, and a link reopens exactly this view', async () => {
    await open(page, `${url}/district/questions?${new URLSearchParams({ sql: WEEKS })}`);
    await page.getByText(/^3 rows in/).waitFor();
    for (const [button, words] of [['Line', 'Line chart of'], ['Bar', 'Bar chart of'], ['Heat map', 'Heat map chart of']]) {
      await page.getByRole('radio', { name: button }).click();
      await page.getByRole('img', { name: words }).locator('svg text').first().waitFor();
      assert.equal(await page.getByRole('region', { name: 'Result' }).getByRole('cell').count(), 9);
    }
    await page.getByRole('combobox', { name: /Along/ }).selectOption('week');
    await page.getByRole('combobox', { name: /Measured/ }).selectOption('absent');
    const [link, drawn] = [page.url(), await page.getByRole('img', { name: /chart of absent by week/ }).getAttribute('aria-label')];
    const other = await page.context().newPage();
    await open(other, link);
    await other.getByText(/^3 rows in/).waitFor();
    await other.getByRole('img', { name: drawn }).locator('svg text').first().waitFor();
    assert.equal(await other.getByRole('radio', { name: 'Heat map' }).getAttribute('aria-checked'), 'true');
    assert.equal(other.url(), link);
    await other.close();
  });

  test('an empty desk offers questions to begin with, and an answer without rows says so', async () => {
    await open(page, `${url}/district/questions`);
    const offered = page.getByRole('group', { name: 'Begin with' });
    await offered.getByRole('button', { name: 'Where students are now' }).click();
    await page.getByText(/^[1-9]\d* rows? in/).waitFor();
    await page.getByRole('img', { name: /Bar chart of students/ }).locator('svg text').first().waitFor();
    assert.equal(await offered.count(), 0, 'a question is there');
    for (const name of ['Attendance by week', 'Absences by weekday']) {
      await open(page, `${url}/district/questions`);
      await page.getByRole('button', { name }).click();
      await page.getByText(/^\d+ rows? in/).waitFor();
    }
    await open(page, `${url}/district/questions?${new URLSearchParams({ sql: 'SELECT * FROM schools WHERE false', chart: 'heat' })}`);
    await page.getByText('The answer has no rows.').waitFor();
    assert.equal(await page.getByRole('img').count(), 0, 'nothing is drawn of nothing');
  });

  test('an error is shown at its place', async () => {
    await open(page, `${url}/district/questions?${new URLSearchParams({ sql: 'SELECT dri\nFROM scans' })}`);
    await page.getByRole('alert').getByText('Line 1, column 8').waitFor();
  });

  test('a question is followed: its answer changes by itself, and what it is not is said', async () => {
    // Scans of the other district: in this one nobody has come yet.
    const other = await signedIn(earlier.office);
    const context = other.context();
    // The server's words for a question that it ends for the sake of boards; they are rare.
    let press;
    await other.routeWebSocket('**/live/v1', (socket) => {
      const server = socket.connectToServer();
      socket.onMessage((said) => {
        const { topic, id } = JSON.parse(said);
        if (topic === 'sql') press = () => socket.send(JSON.stringify({ op: 'error', id, code: 'sql_pressed', message: 'boards come first' }));
        server.send(said);
      });
    });
    const sql = 'SELECT count(*) AS scans, max(received) AS newest FROM scans';
    await open(other, `${url}/district/questions?${new URLSearchParams({ sql })}`);
    const cell = other.getByRole('region', { name: 'Result' }).locator('tbody tr:not([aria-hidden]) td').first();
    await cell.waitFor();
    const before = Number(await cell.innerText());
    const follow = other.getByRole('button', { name: 'Follow' });
    const state = (is) => other.locator(`[data-follow=${is}]`).waitFor();
    await follow.click();
    await state('live');
    const same = await stayed(other);
    await scanned(earlier.students.slice(0, 1), { ts: Date.now() - 1_000, by: earlier.gate });
    await cell.getByText(String(before + 1), { exact: true }).waitFor();
    await other.getByText(/^1 row, last answer \d\d:\d\d:\d\d$/).waitFor();

    await context.setOffline(true);
    await state('lost');
    await other.getByText(/^Not live. What you see is from \d/).last().waitFor();
    await context.setOffline(false);
    await state('live');
    await same();
    // A link to it follows too.
    assert.match(other.url(), /[?&]follow=true/);
    await open(other, other.url());
    await state('live');
    await cell.getByText(String(before + 1), { exact: true }).waitFor();

    press();
    await other.getByText('The server has paused this: live boards come first.').waitFor();
    assert.equal(await follow.getAttribute('aria-pressed'), 'false');
    await follow.click();
    await state('live');
    await other.getByRole('textbox', { name: 'Question in SQL' }).click();
    await other.keyboard.press('Control+a');
    await other.keyboard.insertText('SELECT dri FROM scans');
    await other.keyboard.press('Escape');
    await other.getByText('No longer followed. Below is the last answer.').waitFor();
    assert.doesNotMatch(other.url(), /follow/);
    await follow.click();
    await other.getByRole('alert').getByText('Line 1, column 8').waitFor();
    await context.close();
  });

  test('Stop ends a question on the server too, and so does leaving the page', async () => {
    const questions = await questionsOf(url);
    await open(page, `${url}/district/questions`);
    const run = page.getByRole('button', { name: /^Run/ });
    await typed(ENDLESS);
    await run.click();
    await page.getByRole('status').getByText('Running…').waitFor();
    await questions.untilBusy();
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    await page.getByRole('status').getByText('Stopped.').waitFor();
    await questions.untilIdle();
    assert.equal(await page.getByRole('alert').count(), 0, 'what was wished is no failure');

    await typed('SELECT 1');
    await run.click();
    await page.getByText(/^1 row in/).waitFor();
    await typed(ENDLESS);
    await page.getByRole('button', { name: 'CSV', exact: true }).click();
    await questions.untilBusy();
    await page.getByRole('button', { name: 'Stop saving' }).click();
    await questions.untilIdle();
    await run.click();
    await questions.untilBusy();
    await page.getByRole('link', { name: 'Today' }).click();
    await questions.untilIdle();
  });

  test('a file that is refused or breaks off is not saved, and it is said why', async () => {
    await open(page, `${url}/district/questions?${new URLSearchParams({ sql: 'SELECT 1' })}`);
    await page.getByText(/^1 row in/).waitFor();
    let downloads = 0;
    page.on('download', () => (downloads += 1));
    const refused = async (sql, said) => {
      await typed(sql);
      await page.getByRole('button', { name: 'CSV', exact: true }).click();
      await page.getByRole('alert').getByText(said).waitFor();
    };
    await refused('SELECT dri\nFROM scans', 'Line 1, column 8');
    // The rows end at a limit after the first of them have come.
    await refused(`SELECT value FROM generate_series(1, ${ROWS_MAX + 1})`, 'rollcall.csv was not saved. The answer broke off before it was whole');
    assert.equal(downloads, 0, 'a part of a file is none');
    await typed('SELECT 1');
    assert.equal(await page.getByRole('alert').count(), 0, 'what was said is about another text');
  });
});

describe('the desk of an analyst', { concurrency: 1 }, () => {
  test('a saved file comes with what to know of it', async () => {
    const other = await signedIn(analyst);
    await open(other, `${url}/district/questions?${new URLSearchParams({ sql: 'SELECT count(*) AS students FROM students' })}`);
    await other.getByText(/^1 row in/).waitFor();
    const saved = other.waitForEvent('download');
    await other.getByRole('button', { name: 'CSV', exact: true }).click();
    assert.equal((await saved).suggestedFilename(), 'rollcall.csv');
    await other.getByText(/^About rollcall\.csv: Figures about students are given with a small uncertainty/).waitFor();
    await other.context().close();
  });
});

describe('the report of one school', { concurrency: 1 }, () => {
  test('its office opens it from the live page, and its sections, and no other place of the district', async () => {
    const own = await signedIn(schoolOffice);
    await own.waitForURL(`**/school/${school.id}`);
    await own.getByRole('link', { name: 'Attendance report' }).click();
    await own.getByRole('heading', { name: 'By grade' }).waitFor();
    await own.locator('[data-came]').waitFor();
    await own.locator(`a[href="/district/section/${section.id}"]`).click();
    await own.getByRole('heading', { level: 1, name: section.title }).waitFor();
    await own.getByRole('navigation', { name: 'Where you are' }).getByRole('link').click();
    await own.waitForURL(`**/district/school/${school.id}`);
    await own.getByRole('navigation', { name: 'Views' }).getByRole('link', { name: 'Attendance report' }).click();
    await own.getByRole('heading', { name: 'By grade' }).waitFor();
    assert.equal(await own.locator('[data-school]').count(), 0, 'the district is not its');
    const foreign = await own.request.get(`${url}/api/v1/overview/arrivals`);
    assert.equal(foreign.status(), 403);
    await own.context().close();
  });
});
