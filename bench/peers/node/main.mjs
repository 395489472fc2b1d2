// A process of a peer: main.mjs <installed> <worker|client|limits> <options>.
//
// The options are JSON: {peer, url, settings, sink, connections, in_flight}. The process reads requests from stdin and
// writes responses to stdout, one JSON object per line, and ends when stdin ends. `worker` runs due jobs and has no
// requests; `client` arms jobs and observes their outcomes; `limits` measures tokens/s, and fires/s without a scheduler.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import * as bullmq from "./bullmq.mjs";
import { firesPerSecond, firing, signsPerSecond } from "./fire.mjs";
import * as graphileWorker from "./graphile_worker.mjs";
import { armAll, settledAt } from "./load.mjs";
import * as pgBoss from "./pg_boss.mjs";

const PEERS = { bullmq, "graphile-worker": graphileWorker, "pg-boss": pgBoss };

/// From the end of stdin to the end of the process.
const LAST_MS = 5000;

const [, , installed, role, text] = process.argv;
const options = JSON.parse(text);
const require = createRequire(`${installed}/`);
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const input = createInterface({ input: process.stdin });
// From now on, so that no line is missed.
const lines = input[Symbol.asyncIterator]();
// The store may be gone while it is connected to, which would take forever.
input.once("close", () => setTimeout(() => process.exit(1), LAST_MS).unref());

async function* requests() {
  for await (const line of lines) yield JSON.parse(line);
}

async function work() {
  const fire = firing(require, options.sink, options.connections);
  const worker = await PEERS[options.peer].worker(require, options, fire);
  print({});
  for await (const request of requests()) throw new Error(`unexpected request ${Object.keys(request)}`);
  await worker.close();
}

async function arm() {
  const client = await PEERS[options.peer].client(require, options);
  print({});
  for await (const { arm, settled } of requests()) {
    print(arm ? await armAll(client, arm, options.in_flight) : await settledAt(client, settled));
  }
  await client.close();
}

async function measure() {
  const { sink, connections, seconds } = options;
  const fire = firing(require, sink, connections);
  const fires_per_s = await firesPerSecond(fire, connections, seconds);
  print({ fires_per_s, tokens_per_s: signsPerSecond(seconds) });
}

try {
  if (role === "worker") await work();
  else if (role === "client") await arm();
  else await measure();
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(1);
}
