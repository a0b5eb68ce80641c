// A tablet that a class shares: sends what happens in its learning apps by HTTP, and returns once that is durable.

import { fixture } from './fixture.js';

const { tablet, url } = fixture;
let seq = Date.now() * 1000;

/** One event for each instant of `at`, in milliseconds. */
export async function worked({ badge }, at, { kind = 'answered', resource = 'quiz:fractions-3' } = {}) {
  const answer = await fetch(`${url}/ingest/v1`, {
    method: 'POST',
    headers: { authorization: `Bearer ${tablet.id}:${tablet.token}`, 'content-type': 'application/json' },
    body: JSON.stringify(at.map((ts) => ({ type: 'activity', seq: ++seq, ts, badge, kind, resource }))),
  });
  const body = await answer.json();
  if (!answer.ok || body.accepted !== at.length) throw new Error(`the tablet was refused: ${answer.status} ${JSON.stringify(body)}`);
}
