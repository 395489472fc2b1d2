// The load of a peer: jobs that are armed one by one, with a number of calls in flight.

import { setTimeout as sleep } from "node:timers/promises";

/// Between two looks at jobs that are done but not recorded, in ms.
const POLL_MS = 2;

const percentile = (sorted, percent) => sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];

/** Arms all jobs and returns the rate and the latency of the calls. */
export async function armAll(client, { prefix, agents, due_ms }, inFlight) {
  const took = new Array(due_ms.length);
  let next = 0;
  const caller = async () => {
    for (let index = next++; index < due_ms.length; index = next++) {
      const due = new Date(due_ms[index]);
      const job = { job_id: `${prefix}${index}`, fire_at: due.toISOString(), agent: index % agents };
      const start = performance.now();
      await client.arm(job, due);
      took[index] = performance.now() - start;
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: inFlight }, caller));
  const seconds = (performance.now() - start) / 1000;
  took.sort((one, other) => one - other);
  return { per_s: due_ms.length / seconds, p50_ms: percentile(took, 50), p99_ms: percentile(took, 99) };
}

/** Waits until no due job is left, and returns that time in ms since 1970, or null if it takes longer than `wait_ms`. */
export async function settledAt(client, { wait_ms }) {
  const until = Date.now() + wait_ms;
  while (Date.now() < until) {
    if (await client.isSettled()) return { settled_ms: performance.timeOrigin + performance.now() };
    await sleep(POLL_MS);
  }
  return { settled_ms: null };
}
