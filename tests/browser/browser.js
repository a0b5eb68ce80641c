// Debian's Chromium, started without looking for updates or the network; nothing is ever downloaded.

import { chromium } from 'playwright-core';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export const SIZES = {
  phone: { width: 390, height: 844 },
  tablet: { width: 820, height: 1180 },
  projector: { width: 1920, height: 1080 },
};

export function launch() {
  return chromium.launch({ executablePath: process.env.ROLLCALL_CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });
}

/** Signs in by the form and waits for the role's first page. */
export async function signIn(page, url, account) {
  await open(page, `${url}/sign-in`);
  await fillIn(page, account);
}

/** The form that is on the page, and what comes then. */
export async function fillIn(page, { email, password }) {
  await page.getByLabel('E-mail').fill(email);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('main').and(page.locator('#main')).waitFor();
}

/** Goes there; the live socket keeps the network busy, so only the document is waited for. */
export function open(page, address) {
  return page.goto(address, { waitUntil: 'domcontentloaded' });
}

export function tileOf(page, student) {
  return page.locator(`[data-student="${student.id}"]`);
}

/** Where every tile stands. */
export function boxes(page) {
  return page.locator('[data-student]').evaluateAll((tiles) =>
    tiles.map((tile) => {
      const { x, y, width, height } = tile.getBoundingClientRect();
      return [tile.dataset.student, x, y, width, height];
    }),
  );
}

/** Marks the document; the returned check fails if it was loaded anew since. */
export async function stayed(page) {
  await page.evaluate(() => (globalThis.isSameDocument = true));
  return async () => {
    if (!(await page.evaluate(() => globalThis.isSameDocument === true))) throw new Error('the page was reloaded');
  };
}
