// The journeys that matter, in a real Chromium against a real server. They share one server and go in this order.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { boxes, launch, open, signIn, SIZES, stayed, tileOf } from './browser.js';
import { fixture } from './fixture.js';
import { scanned, scannedByMosquitto } from './gate.js';
import { wire } from './proxy.js';
import { worked } from './tablet.js';

const { url, section, students, teacher, office, guardian, analyst, it, school } = fixture;
const [child, byMosquitto, absentee, tapped, whileCut, refused, ...others] = students;

let browser;
let page;
let early;
/** Within the lesson. */
let late;

async function fresh(options = {}) {
  const context = await browser.newContext({ viewport: SIZES.tablet, ...options });
  context.setDefaultTimeout(15_000);
  return context.newPage();
}

/** The board of the section, wherever the person signed in has landed. */
async function board(where, at = url) {
  if (!where.url().endsWith(`/board/${section.id}`)) await open(where, `${at}/board/${section.id}`);
  await where.locator('[data-link=live]').waitFor();
  // With its status: names come by one way, statuses by another.
  await where.locator(`[data-student="${students[0].id}"][data-status]`).waitFor();
}

const present = (where, student) => where.locator(`[data-student="${student.id}"][data-status=present]:not([data-pending])`).waitFor();
const saved = (where) => where.locator('[data-pending]').first().waitFor({ state: 'detached' });

before(async () => {
  browser = await launch();
  page = await fresh();
});
after(() => browser?.close());

describe('journeys', { concurrency: 1 }, () => {
  test('a wrong password is told, the right one opens the section that meets now', async () => {
    await open(page, `${url}/`);
    await page.getByLabel('E-mail').fill(teacher.email);
    await page.getByLabel('Password').fill('wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('The e-mail or the password is not right.').waitFor();
    await signIn(page, url, teacher);
    await page.waitForURL(`**/board/*`);
    const sections = (await (await page.request.get(`${url}/api/v1/sections`)).json()).items;
    const opened = sections.find(({ id }) => page.url().endsWith(id));
    assert.equal(opened?.meets_now, true);
    await board(page);
    await page.getByRole('heading', { level: 1, name: section.title }).waitFor();
    assert.equal(await page.locator('[data-student]').count(), students.length);
    // Scans from before the bell are present whenever this test happens to run.
    const starts = Date.parse(sections.find(({ id }) => id === section.id).starts);
    early = starts - 5 * 60_000;
    late = starts + 30_000;
  });

  test('arrivals appear without a reload, from HTTP and from mosquitto_pub', async () => {
    const same = await stayed(page);
    await scanned([child], { ts: early });
    await present(page, child);
    await scannedByMosquitto(byMosquitto, { ts: early });
    await present(page, byMosquitto);
    assert.match(await tileOf(page, byMosquitto).innerText(), /\d\d:\d\d/);
    await same();
  });

  test('nothing moves while the rest of the class arrives', async () => {
    const phone = await fresh({ viewport: SIZES.phone, storageState: await page.context().storageState() });
    await board(phone);
    await phone.evaluate(() => {
      globalThis.shift = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) globalThis.shift += entry.value;
      }).observe({ type: 'layout-shift', buffered: false });
    });
    const before = await boxes(phone);
    for (const student of others) await scanned([student], { ts: early });
    for (const student of others) await present(phone, student);
    assert.deepEqual(await boxes(phone), before);
    assert.ok((await phone.evaluate(() => globalThis.shift)) < 0.005, 'the layout shifted');
    await phone.context().close();
  });

  test('work on a tablet moves the strip, and late work corrects it, without a layout jump', async () => {
    const strip = page.locator('[data-engagement=running]');
    await strip.waitFor();
    await strip.locator('[data-state=none]').first().waitFor();
    await strip.getByText('No data').first().waitFor({ state: 'attached' });
    const before = await boxes(page);
    const [first, second] = others;
    // Windows stand on the clock's five minutes. One that ends within the first minute and a half of the lesson would part these events.
    const [bell, window] = [early + 5 * 60_000, 5 * 60_000];
    const edge = Math.ceil(bell / window) * window;
    const starts = edge - bell < 95_000 ? edge : bell;
    await worked(first, [starts + 1_000, starts + 61_000]);
    const bar = strip.locator('[data-state=data]').first();
    await bar.waitFor();
    await bar.locator(`text=/data of 1 of \\d+/`).waitFor({ state: 'attached' });
    const height = () => bar.locator('i').evaluate((mark) => mark.style.height);
    const low = parseFloat(await height());
    assert.ok(low > 0);
    await worked(second, [starts + 1_000, starts + 61_000]);
    await bar.locator(`text=/data of 2 of \\d+/`).waitFor({ state: 'attached' });
    // The same minute once more, sent late: the active time grows.
    await worked(first, [starts + 91_000], { kind: 'interacted', resource: 'reader' });
    await page.waitForFunction((low) => parseFloat(document.querySelector('[data-engagement] [data-state=data] i').style.height) > low, low);
    assert.deepEqual(await boxes(page), before);
  });

  test('a tap marks, the server confirms, undo takes it back', async () => {
    const tile = tileOf(page, tapped);
    const status = await tile.getAttribute('data-status');
    assert.notEqual(status, 'present');
    await tile.locator('.main').click();
    await present(page, tapped);
    await page.getByText(`Marked present: ${tapped.given} ${tapped.family}`).waitFor();
    await page.reload();
    await present(page, tapped);
    await tile.getByText('marked').waitFor();
    await tile.locator('.main').click();
    await page.locator(`[data-student="${tapped.id}"][data-status=absent]:not([data-pending])`).waitFor();
    await page.getByRole('status').getByRole('button', { name: 'Undo' }).click();
    await page.getByText(`Taken back: ${tapped.given} ${tapped.family}`).waitFor();
    await present(page, tapped);
  });

  test('keys mark and undo on the focused tile, arrows move', async () => {
    const tile = tileOf(page, absentee);
    const status = await tile.getAttribute('data-status');
    await tile.locator('.main').focus();
    await page.keyboard.press('a');
    await page.locator(`[data-student="${absentee.id}"][data-status=absent]:not([data-pending])`).waitFor();
    await page.keyboard.press('t');
    await page.locator(`[data-student="${absentee.id}"][data-status=tardy]:not([data-pending])`).waitFor();
    await page.keyboard.press('u');
    await page.locator(`[data-student="${absentee.id}"][data-status=absent]:not([data-pending])`).waitFor();
    await page.keyboard.press('u');
    await page.locator(`[data-student="${absentee.id}"][data-status=${status}]:not([data-pending])`).waitFor();
    await page.keyboard.press('Home');
    await page.keyboard.press('ArrowRight');
    const focused = await page.evaluate(() => document.activeElement?.closest('[data-student]')?.dataset.student);
    assert.equal(focused, await page.locator('[data-student]').nth(1).getAttribute('data-student'));
  });

  test('the sheet says why, with the evidence', async () => {
    await tileOf(page, child).locator('.more').click();
    const sheet = page.getByRole('dialog');
    await sheet.getByText(`${child.given} ${child.family}`).waitFor();
    await sheet.getByText(/Arrived \d\d:\d\d/).first().waitFor();
    await sheet.getByText(/^\d\d:\d\d:\d\d$/).first().waitFor();
    await page.keyboard.press('Escape');
    await sheet.waitFor({ state: 'detached' });
  });

  test('a cut network is shown, loses no arrival and needs no reload', async (t) => {
    const line = await wire(url);
    t.after(() => line.close());
    const cut = await fresh();
    await signIn(cut, line.url, teacher);
    await board(cut, line.url);
    const same = await stayed(cut);
    const status = await tileOf(cut, refused).getAttribute('data-status');
    line.cut();
    await cut.locator('[data-link=lost]').waitFor();
    await cut.getByText(/Not live\. What you see is from \d\d:\d\d:\d\d/).first().waitFor();
    await tileOf(cut, refused).locator('.main').click();
    await cut.getByText(`Not saved: ${refused.given} ${refused.family}`).waitFor();
    await saved(cut);
    assert.equal(await tileOf(cut, refused).getAttribute('data-status'), status);
    await scanned([whileCut], { ts: early });
    await present(page, whileCut);
    assert.notEqual(await tileOf(cut, whileCut).getAttribute('data-status'), 'present');
    line.mend();
    await present(cut, whileCut);
    await cut.locator('[data-link=live]').waitFor();
    await same();
    await cut.context().close();
  });

  test('the whole class is marked present and taken back', async () => {
    const held = await page.locator('[data-status=present]').count();
    assert.ok(held < students.length);
    await page.getByRole('button', { name: 'Whole class present' }).click();
    await page.locator(`[data-here="${students.length}"]`).waitFor();
    await saved(page);
    await page.getByText('Everyone is here').waitFor();
    await page.locator('.dock').getByRole('button', { name: 'Undo' }).click();
    await page.locator(`[data-here="${held}"]`).waitFor();
  });

  test('a guardian sees the child leave and come back, live', async () => {
    const family = await fresh({ viewport: SIZES.phone });
    await signIn(family, url, guardian);
    const card = family.locator(`[data-child="${child.id}"]`);
    const arrival = card.locator('[data-arrival]');
    await arrival.getByText(/^\d\d:\d\d$/).waitFor();
    const same = await stayed(family);
    await scanned([child], { dir: 'out', ts: late });
    await card.locator('[data-departure]').getByText(/^\d\d:\d\d$/).waitFor();
    await scanned([child], { ts: late + 30_000 });
    await card.locator('[data-departure]').getByText('not yet').waitFor();
    await same();
    await family.context().close();
  });

  test('the office sees who is in the building, and can print the list without a network', async (t) => {
    const line = await wire(url);
    t.after(() => line.close());
    const desk = await fresh();
    await signIn(desk, line.url, office);
    await open(desk, `${line.url}/school/${school.id}`);
    await desk.getByLabel('Find a name').fill(`${whileCut.given} ${whileCut.family}`);
    await desk.locator(`[data-person="${whileCut.id}"]`).waitFor();
    await scanned([whileCut], { dir: 'out', ts: early + 60_000 });
    await desk.locator(`[data-person="${whileCut.id}"]`).waitFor({ state: 'detached' });
    await desk.getByText('Out', { exact: true }).first().waitFor();
    const inside = Number(await desk.locator('[data-inside]').getAttribute('data-inside'));
    line.cut();
    await desk.locator('[data-link=lost]').waitFor();
    await desk.getByRole('link', { name: 'Evacuation list' }).click();
    await desk.getByText('No connection: this is the last known state').waitFor();
    assert.equal(await desk.locator('tbody tr').count(), inside);
    await desk.getByText(`${others.at(-1).family}, ${others.at(-1).given}`).waitFor();
    await desk.context().close();
  });

  test('analyst and IT start on their own pages and find no names there', async () => {
    for (const [account, path, ready] of [[analyst, '/district', '[data-school]'], [it, '/devices', '[data-device]']]) {
      const other = await fresh();
      const answers = [];
      other.on('response', (response) => {
        if (response.headers()['content-type']?.startsWith('application/json')) response.text().then((body) => answers.push(body), () => {});
      });
      await signIn(other, url, account);
      await other.waitForURL(`**${path}`);
      await other.locator(ready).first().waitFor();
      await open(other, `${url}/board/${section.id}`);
      await other.waitForURL(`**${path}`);
      await other.locator(ready).first().waitFor();
      // Whole names, as pages show them: a family called Do or Le stands in many a word.
      const shown = await other.locator('body').innerText();
      const names = students.flatMap(({ given, family }) => [`${given} ${family}`, `${family}, ${given}`]);
      assert.deepEqual(names.filter((name) => shown.includes(name)), []);
      assert.deepEqual(answers.filter((answer) => /"(given|family|preferred)":/.test(answer)), []);
      await other.context().close();
    }
  });

  test('signing out ends the session', async () => {
    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByRole('button', { name: 'Sign in' }).waitFor();
    assert.equal((await page.request.get(`${url}/api/v1/session`)).status(), 401);
  });
});
