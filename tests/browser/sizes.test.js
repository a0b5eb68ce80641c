// The desk with an answer and each chart, a school and a section on three sizes: nothing wider than the screen, every control
// where it can be pressed, and no word of a chart cut off at its edge.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch, open, signIn, SIZES } from './browser.js';
import { fixture } from './fixture.js';

const { url, office, earlier } = fixture;

const SCHOOLS = `SELECT date '2026-08-31' + 7 * w::int AS week, 'Maple Hollow Middle School ' || s AS school, round(97 - s + sin(w * s), 1) AS attended_percent
FROM generate_series(0, 10) AS a(w) CROSS JOIN generate_series(1, 5) AS b(s) ORDER BY week, school`;
const DAYS = `SELECT 'week ' || w AS week, d AS weekday, round(20 + 15 * sin(w + ascii(d)), 0) AS absent_days
FROM generate_series(36, 47) AS a(w) CROSS JOIN (VALUES ('Mon'), ('Tue'), ('Wed'), ('Thu'), ('Fri')) AS b(d) ORDER BY w, d`;
const NOW = "SELECT 'Maple Hollow Middle School ' || s AS school, 100 - s AS students FROM generate_series(1, 12) AS b(s) ORDER BY s";
const LONG = SCHOOLS.replace('Maple Hollow Middle School ', 'Maple Hollow Middle School of the Lower Valley ');

const ANSWERS = [
  ['a table', { sql: SCHOOLS }],
  ['lines', { sql: SCHOOLS, chart: 'line' }],
  ['lines with long names', { sql: LONG, chart: 'line' }],
  ['a line along long names', { sql: NOW, chart: 'line' }],
  ['bars', { sql: DAYS, chart: 'bar', x: 'week', series: '*' }],
  ['bars with long names', { sql: NOW, chart: 'bar' }],
  ['a heat map', { sql: DAYS, chart: 'heat' }],
  ['a heat map with long names', { sql: LONG, chart: 'heat' }],
];

let browser;
/** One page for each account. */
let desk;
let report;
let section;

async function signedIn(account) {
  const page = await (await browser.newContext({ viewport: SIZES.tablet, reducedMotion: 'reduce' })).newPage();
  page.setDefaultTimeout(45_000);
  await signIn(page, url, account);
  return page;
}

before(async () => {
  browser = await launch();
  [desk, report] = [await signedIn(office), await signedIn(earlier.office)];
  const { items } = await (await report.request.get(`${url}/api/v1/reports/attendance?by=section&school=${earlier.school.id}`)).json();
  section = (items.find((line) => line.attended_half_days > 0) ?? items[0]).section;
});
after(() => browser?.close());

/** What is wrong with the page as it stands on its screen. */
function faults(page) {
  return page.evaluate(() => {
    const found = [];
    const width = innerWidth;
    if (document.documentElement.scrollWidth > width) found.push(`the page is ${document.documentElement.scrollWidth} px wide`);
    const called = (of) => `${of.tagName.toLowerCase()} "${(of.getAttribute('aria-label') ?? of.textContent ?? '').trim().slice(0, 40)}"`;
    // What stands in a region that scrolls is reached by scrolling it.
    const within = (of) => of.closest('[role=region][tabindex="0"], aside');
    for (const control of document.querySelectorAll('main :is(a, button, select, input, summary)')) {
      if (control.checkVisibility() === false) continue;
      control.scrollIntoView({ block: 'center' });
      const { left, right, top, bottom, width: wide, height } = control.getBoundingClientRect();
      if (!within(control) && (left < 0 || right > width)) found.push(`${called(control)} stands from ${left} to ${right}`);
      if (wide < 24 || height < 24) found.push(`${called(control)} is ${wide} by ${height} px small`);
      const [x, y] = [Math.min(width, Math.max(0, (left + right) / 2)), (top + bottom) / 2];
      const hit = document.elementFromPoint(x, y);
      if (!within(control) && !(hit && (control.contains(hit) || hit.contains(control)))) found.push(`${called(control)} lies under ${hit ? called(hit) : 'nothing'}`);
    }
    // The table of an answer scrolls sideways before it cuts a value.
    for (const cell of document.querySelectorAll('.result :is(td, th)')) if (cell.scrollWidth > cell.clientWidth) found.push(`${called(cell)} is cut`);
    for (const drawing of document.querySelectorAll('[role=img] svg')) {
      const box = drawing.getBoundingClientRect();
      if (box.left < 0 || box.right > width || box.width < 250) found.push(`a chart stands from ${box.left} to ${box.right}`);
      const words = [...drawing.querySelectorAll('text')].filter((word) => !word.closest('[clip-path]'));
      for (const word of words) {
        const { left, right, top, bottom } = word.getBoundingClientRect();
        if (left < box.left || right > box.right || top < box.top - 1 || bottom > box.bottom + 1) found.push(`"${word.textContent}" is cut off`);
      }
    }
    return found;
  });
}

describe('on three sizes', { concurrency: 1 }, () => {
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const [name, view] of ANSWERS) {
      test(`the desk with ${name} fits a ${size}`, async () => {
        await desk.setViewportSize(viewport);
        await open(desk, `${url}/district/questions?${new URLSearchParams(view)}`);
        await desk.getByText(/^\d+ rows in/).waitFor();
        await desk.locator('#exports').waitFor();
        if (view.chart) await desk.locator('[role=img] svg text').first().waitFor();
        assert.deepEqual(await faults(desk), []);
        if (view.sql === NOW) {
          const names = await desk.locator('[role=img] svg text').getByText(/^Maple Hollow/).allTextContents();
          assert.equal(new Set(names).size, 12, `everything drawn has a name of its own: ${names}`);
          const wide = await desk.getByRole('region', { name: 'Result' }).evaluate((region) => region.scrollWidth - region.clientWidth);
          assert.equal(wide, 0, 'a number stands beside its name');
        }
        const [answer, list] = await Promise.all([desk.locator('.result').boundingBox(), desk.getByRole('complementary').boundingBox()]);
        assert.ok(list.x > viewport.width / 2 || list.y > answer.y, 'the answer comes first');
      });
    }
    test(`the tooltip of a chart says whole names and stays on a ${size}`, async () => {
      await desk.setViewportSize(viewport);
      for (const view of [{ sql: NOW, chart: 'bar' }, { sql: LONG, chart: 'line' }, { sql: LONG, chart: 'heat' }]) {
        await open(desk, `${url}/district/questions?${new URLSearchParams(view)}`);
        const chart = desk.getByRole('img', { name: /chart of/ });
        await chart.locator('svg text').first().waitFor();
        await chart.scrollIntoViewIfNeeded();
        const { x, y, width, height } = await chart.boundingBox();
        await desk.mouse.move(x + 0.7 * width, y + height / 2);
        const tooltip = chart.getByText(view.sql === LONG ? /Maple Hollow Middle School of the Lower Valley \d/ : /^Maple Hollow Middle School \d+$/).first();
        await tooltip.waitFor();
        const box = await tooltip.boundingBox();
        assert.ok(box.x >= 0 && box.x + box.width <= viewport.width, JSON.stringify(box));
      }
    });
    test(`what is said about a suggestion lies over none on a ${size}`, async () => {
      await desk.setViewportSize(viewport);
      await open(desk, `${url}/district/questions`);
      await desk.locator('aside summary').first().waitFor();
      for (const begun of ['SELECT * FROM a', 'SELECT count(*) FROM attendance_day WHERE attendance_day.']) {
        await desk.getByRole('textbox', { name: 'Question in SQL' }).click();
        await desk.keyboard.press('Control+a');
        await desk.keyboard.type(begun);
        // It is placed after it is measured.
        const words = desk.locator('.cm-completionInfo[style*=max-width]');
        await words.waitFor();
        const [said, list] = await Promise.all([words.boundingBox(), desk.locator('.cm-tooltip-autocomplete ul').boundingBox()]);
        const isBeside = said.x >= list.x + list.width - 1 || said.x + said.width <= list.x + 1;
        assert.ok(isBeside || said.y >= list.y + list.height - 1 || said.y + said.height <= list.y + 1, `${JSON.stringify(said)} lies over ${JSON.stringify(list)}`);
        assert.ok(said.x >= 0 && said.x + said.width <= viewport.width && said.y >= 0 && said.y + said.height <= viewport.height, 'all of it is seen');
        assert.ok(isBeside || size !== 'projector', 'there is room beside the list');
        await desk.keyboard.press('Escape');
      }
    });
    test(`the tables and the buttons of the desk use the room of a ${size}`, async () => {
      await desk.setViewportSize(viewport);
      for (const view of [{}, { sql: DAYS }]) {
        await open(desk, `${url}/district/questions?${new URLSearchParams(view)}`);
        const list = desk.getByRole('complementary');
        await list.locator('summary').first().waitFor();
        if (view.sql) await desk.getByText(/^\d+ rows in/).waitFor();
        await desk.locator('#exports').waitFor();
        const box = await list.boundingBox();
        if (size === 'projector') {
          assert.ok(box.x > viewport.width / 2 && box.y + box.height <= viewport.height, 'it is seen whole');
          assert.ok(box.y + box.height > 0.9 * viewport.height, `it ends at ${box.y + box.height}`);
        } else assert.ok(box.height > 0.35 * viewport.height && box.height < 0.5 * viewport.height, `it is ${box.height} high`);
        const lowest = await list.locator('summary').evaluateAll((all) =>
          Math.max(...all.map((line) => line.firstElementChild.getClientRects()[0].top - line.getBoundingClientRect().top)),
        );
        assert.ok(lowest < 20, 'a long name begins beside its mark');
        await list.locator('summary').last().scrollIntoViewIfNeeded();
        const [run, link, save, editor] = await Promise.all(
          [/^Run/, 'Copy link', 'Parquet'].map((name) => desk.getByRole('button', { name }).boundingBox()).concat(desk.locator('.editor').boundingBox()),
        );
        if (size === 'phone') continue;
        assert.ok(Math.abs(run.y - link.y) < 1 && Math.abs(save.x + save.width - editor.x - editor.width) < 1, 'they stand in one line, under the whole editor');
      }
    });
    test(`a school and a section fit a ${size}`, async () => {
      await report.setViewportSize(viewport);
      await open(report, `${url}/district/school/${earlier.school.id}`);
      await report.locator('[aria-labelledby=grades] button.figure').first().waitFor();
      await report.getByRole('img', { name: /today and usually/ }).locator('svg text').first().waitFor();
      assert.deepEqual(await faults(report), []);
      await open(report, `${url}/district/section/${section}`);
      await report.locator('dl').waitFor();
      assert.deepEqual(await faults(report), []);
    });
  }
});
