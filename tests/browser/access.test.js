// Every page through axe-core: WCAG 2.2 A and AA, light and dark. A violation prints its rule and its elements.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import axe from 'axe-core';
import { launch, open, signIn, SIZES } from './browser.js';
import { fixture } from './fixture.js';

const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const { url, section, school, earlier } = fixture;
const accounts = { ...fixture, earlierOffice: earlier.office };
const asked = (sql, chart) => `/district/questions?${new URLSearchParams({ sql, chart })}`;
const WEEKS = "SELECT * FROM (VALUES ('Mon', 41, 5), ('Tue', 41, 7), ('Mon', 42, 9)) AS t(day, week, absent)";

const PAGES = [
  ['sign-in', null, '/sign-in', 'form'],
  ['board', 'teacher', `/board/${section.id}`, '[data-status]'],
  ['school', 'office', `/school/${school.id}`, '[data-inside]'],
  ['evacuation', 'office', `/school/${school.id}/evacuation`, '[data-inside]'],
  ['family', 'guardian', '/family', '[data-arrival]'],
  ['district', 'analyst', '/district', '[data-school]'],
  ['school of the district', 'analyst', `/district/school/${school.id}`, 'main:has(#grades) .range button:nth-child(2):enabled'],
  ['section of the district', 'analyst', `/district/section/${section.id}`, '.range button:nth-child(2):enabled'],
  ['questions', 'analyst', '/district/questions', '#exports'],
  ['saved questions', 'earlierOffice', '/district/questions', '[data-saved] small'],
  ['an answer', 'analyst', asked('SELECT school, count(*) AS students FROM students GROUP BY school', 'none'), '.desk .warning'],
  ['lines', 'analyst', asked(WEEKS, 'line'), '[role=img] svg text'],
  ['bars', 'analyst', asked(WEEKS, 'bar'), '[role=img] svg text'],
  ['a heat map', 'analyst', asked(WEEKS, 'heat'), '[role=img] svg text'],
  ['an answer that is followed', 'earlierOffice', `${asked('SELECT count(*) AS scans FROM scans', 'none')}&follow=true`, '[data-follow=live]'],
  ['a refused question', 'analyst', asked('SELECT dri FROM scans', 'none'), '[role=alert]'],
  ['a school with its charts', 'earlierOffice', `/district/school/${earlier.school.id}`, 'main:has([role=img] svg text) [aria-labelledby=grades] button.figure'],
  ['report of its office', 'schoolOffice', '/district', '[aria-labelledby=grades] button.figure'],
  ['erasures', 'office', '/district/erasures', '[data-former]'],
  ['devices', 'it', '/devices', '[data-device]'],
];

/** What is pressed on a page, and what has come then. */
const OPENED = { 'report of its office': ['[aria-labelledby=grades] button.figure', '[data-why]'], erasures: ['[data-former] button', 'form'] };

/** What has to be there before a page is opened. */
const PREPARED = { 'saved questions': saved };

let browser;
/** One session a role: somebody who signs in time and again is held up. */
const sessions = new Map();
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

/** A question that is shared. */
async function saved(page) {
  const wish = async (method, path, data) => {
    const answer = await page.request.fetch(`${url}/api/v1${path}`, { method, data, headers: { origin: url, 'idempotency-key': crypto.randomUUID() } });
    assert.ok(answer.ok(), await answer.text());
    return answer.json();
  };
  const { id, version } = await wish('POST', '/saved-queries', { title: 'Weeks', sql: WEEKS, view: {} });
  await wish('PATCH', `/saved-queries/${id}`, { version, shared: true });
}

async function violations(page) {
  // Injected by the debugger, because the page's security policy refuses foreign scripts.
  await page.evaluate(axe.source);
  const found = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags }), TAGS);
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target.join(' ')} (${node.any[0]?.message ?? ''})`).join('; ')}`);
}

describe('accessibility', { concurrency: 1 }, () => {
  for (const [name, role, path, ready] of PAGES) {
    test(`${name} has no violation`, async () => {
      for (const colorScheme of ['light', 'dark']) {
        const storageState = sessions.get(role);
        const context = await browser.newContext({ viewport: SIZES.tablet, colorScheme, reducedMotion: 'reduce', ...(storageState ? { storageState } : {}) });
        context.setDefaultTimeout(15_000);
        const page = await context.newPage();
        if (role && !storageState) {
          await signIn(page, url, accounts[role]);
          sessions.set(role, await context.storageState());
        }
        await PREPARED[name]?.(page);
        await open(page, url + path);
        await page.locator(ready).first().waitFor();
        assert.deepEqual(await violations(page), [], colorScheme);
        if (name === 'board') {
          await page.locator('.more').first().click();
          await page.getByRole('dialog').waitFor();
          assert.deepEqual(await violations(page), [], `sheet, ${colorScheme}`);
        }
        const opened = OPENED[name];
        if (opened) {
          await page.locator(opened[0]).first().click();
          await page.getByRole('dialog').locator(opened[1]).first().waitFor();
          assert.deepEqual(await violations(page), [], `what it opens, ${colorScheme}`);
        }
        await context.close();
      }
    });
  }
});
