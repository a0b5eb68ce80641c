// Pictures of every page at three sizes, light and dark, from the mock: node dev/screenshots.mjs OUT_FOLDER [URL]

import { mkdirSync } from 'node:fs';
import { launch, signIn, SIZES } from '../../tests/browser/browser.js';

const [out = '/tmp/rollcall-screens', url = 'http://127.0.0.1:8180'] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const told = (path, body = {}) => fetch(`${url}/mock/${path}`, { method: 'POST', body: JSON.stringify(body) });

const minutes = (count) => Date.now() + count * 60_000;
for (let n = 0; n < 24; n += 1) await told('scan', { student: n, ts: minutes(n < 21 ? -9 + n * 0.3 : 3) });
await told('scan', { student: 3, dir: 'out' });

const browser = await launch();
const problems = [];
async function shots(role, name, prepare = async () => {}, path = null) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ['light', 'dark']) {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'no-preference', hasTouch: size !== 'projector' });
      const page = await context.newPage();
      page.on('console', (line) => line.type() === 'error' && problems.push(line.text()));
      page.on('pageerror', (error) => problems.push(String(error)));
      if (role === null) await page.goto(`${url}/sign-in`);
      else await signIn(page, url, { email: `${role}@mock.example`, password: 'x' });
      if (path) await page.goto(url + path);
      if (role) await page.locator('[data-link=live]').waitFor();
      await page.evaluate(() => document.fonts.ready);
      await prepare(page);
      await page.screenshot({ path: `${out}/${name}-${size}-${colorScheme}.png` });
      await context.close();
    }
  }
}
const wanted = (process.env.ONLY ?? 'sign-in,board,lost,sheet,school,evacuation,family,district,devices').split(',');
const pages = {
  'sign-in': () => shots(null, 'sign-in'),
  board: () => shots('teacher', 'board', async (page) => {
    await page.locator('.tile .main').nth(4).click();
    await page.locator('.tile .main').nth(6).focus();
    await page.getByRole('button', { name: 'Undo' }).last().waitFor();
    await page.locator('[data-pending]').waitFor({ state: 'detached' });
  }),
  lost: () => shots('teacher', 'lost', async (page) => {
    await page.context().setOffline(true);
    await told('cut');
    await page.locator('[data-link=lost]').waitFor();
  }),
  sheet: () => shots('teacher', 'sheet', async (page) => {
    await page.locator('.tile .more').nth(4).click();
    await page.locator('dialog[open] ol').waitFor();
  }),
  school: () => shots('office', 'school', (page) => page.locator('[data-person]').first().waitFor()),
  evacuation: () => shots('office', 'evacuation', (page) => page.locator('tbody tr').first().waitFor(), '/school/00000000-0000-4000-8002-000000000001/evacuation'),
  family: () => shots('guardian', 'family', (page) => page.locator('[data-arrival]').first().waitFor()),
  district: () => shots('analyst', 'district', (page) => page.locator('[data-school]').first().waitFor()),
  devices: () => shots('it', 'devices', (page) => page.locator('[data-device]').first().waitFor()),
};
await told('gate', { connected: process.env.GATE !== 'off' });
for (const name of wanted) await pages[name]();
await browser.close();
console.log(problems.length === 0 ? 'no error in the console' : [...new Set(problems)].join('\n'));
