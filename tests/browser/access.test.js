// Every page through axe-core: WCAG 2.2 A and AA, light and dark. A violation prints its rule and its elements.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import axe from 'axe-core';
import { launch, open, signIn, SIZES } from './browser.js';
import { fixture } from './fixture.js';

const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const { url, section, school } = fixture;

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
  ['report of its office', 'schoolOffice', '/district', '[aria-labelledby=grades] button.figure'],
  ['erasures', 'office', '/district/erasures', '[data-former]'],
  ['devices', 'it', '/devices', '[data-device]'],
];

/** What is pressed on a page, and what has come then. */
const OPENED = { 'report of its office': ['[aria-labelledby=grades] button.figure', '[data-why]'], erasures: ['[data-former] button', 'form'] };

let browser;
/** One session a role: somebody who signs in time and again is held up. */
const sessions = new Map();
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

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
          await signIn(page, url, fixture[role]);
          sessions.set(role, await context.storageState());
        }
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
