// What the server works on, seen from outside: the processor time of the threads that answer questions, as Linux counts it.

import assert from 'node:assert/strict';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';

const WITHIN_MS = 30_000;
const LISTENS = '0A';

/** The process that listens at an address of this machine. */
async function pidOf(url) {
  const port = Number(new URL(url).port).toString(16).toUpperCase().padStart(4, '0');
  const sockets = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/));
  const inode = sockets.find(([, local, , state]) => local?.endsWith(`:${port}`) && state === LISTENS)?.[9];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // Processes of others, and those that have ended, show nothing.
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      if ((await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')) === `socket:[${inode}]`) return pid;
    }
  }
  throw new Error(`nobody listens at ${url}`);
}

/** In hundredths of a second. */
async function ticks(pid) {
  let sum = 0;
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const stat = await readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8').catch(() => '');
    const [, name, rest] = /\((.*)\) (.*)/s.exec(stat) ?? [];
    if (!name?.startsWith('query')) continue;
    // Fields 14 and 15 of proc(5); the rest begins with the third.
    sum += rest.split(' ').slice(11, 13).reduce((all, field) => all + Number(field), 0);
  }
  return sum;
}

export async function questionsOf(url) {
  const pid = await pidOf(url);
  async function until(what, isReached) {
    const deadline = Date.now() + WITHIN_MS;
    while (!(await isReached())) {
      assert.ok(Date.now() < deadline, what);
      await setTimeout(20);
    }
  }
  return {
    /** Waits until a question works. */
    async untilBusy() {
      const began = await ticks(pid);
      await until('no question begins to work', async () => (await ticks(pid)) > began + 20);
    },
    /** Waits until questions have used next to nothing for half a second. */
    async untilIdle() {
      let [before, since] = [await ticks(pid), Date.now()];
      await until('questions go on using the processor', async () => {
        const now = await ticks(pid);
        if (now > before + 1) [before, since] = [now, Date.now()];
        return Date.now() - since > 500;
      });
    },
  };
}
