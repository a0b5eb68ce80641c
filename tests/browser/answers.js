// Asks questions on the desk, as a person does, and prints the cells and warnings of each answer as a line of JSON: for tests
// that compare it with other ways in. Usage: node answers.js, with {"url", "email", "password", "questions": [SQL]} on standard input.

import { text } from 'node:stream/consumers';
import { launch, open, signIn, SIZES } from './browser.js';

const { url, email, password, questions } = JSON.parse(await text(process.stdin));
const browser = await launch();
try {
  const page = await (await browser.newContext({ viewport: SIZES.tablet })).newPage();
  page.setDefaultTimeout(45_000);
  await signIn(page, url, { email, password });
  for (const sql of questions) {
    await open(page, `${url}/district/questions?${new URLSearchParams({ sql })}`);
    await page.getByText(/^\d+ rows? in/).waitFor();
    const rows = page.getByRole('region', { name: 'Result' }).locator('tbody tr:not([aria-hidden])');
    const cells = await rows.evaluateAll((lines) => lines.map((line) => [...line.cells].map((cell) => cell.textContent)));
    console.log(JSON.stringify({ rows: cells, warnings: await page.locator('.desk .warning').allInnerTexts() }));
  }
} finally {
  await browser.close();
}
