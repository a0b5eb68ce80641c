// A gate: sends scans by HTTP, or with mosquitto_pub, a client that is not ours. Both return once the scan is durable.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { fixture } from './fixture.js';

const { gate, mqtt, url } = fixture;
// Grows through all test files and runs, as a gate's number does.
let seq = Date.now() * 1000;

function event({ badge }, dir, ts) {
  return { seq: ++seq, ts, badge, dir, method: 'qr' };
}

/** Several students in one request, by the fixture's gate or another; `ts` in milliseconds. */
export async function scanned(students, { dir = 'in', ts, by = gate }) {
  const answer = await fetch(`${url}/ingest/v1`, {
    method: 'POST',
    headers: { authorization: `Bearer ${by.id}:${by.token}`, 'content-type': 'application/json' },
    body: JSON.stringify(students.map((student) => ({ type: 'scan', ...event(student, dir, ts) }))),
  });
  const body = await answer.json();
  if (!answer.ok || body.accepted !== students.length) throw new Error(`the gate was refused: ${answer.status} ${JSON.stringify(body)}`);
}

export async function scannedByMosquitto(student, { dir = 'in', ts }) {
  const { host, port } = mqtt;
  const client = ['-h', host, '-p', String(port), '-V', 'mqttv311', '-i', gate.id, '-u', gate.id, '-P', gate.token];
  await promisify(execFile)('mosquitto_pub', [...client, '-q', '1', '-t', 'v1/scan', '-m', JSON.stringify(event(student, dir, ts))]);
}
