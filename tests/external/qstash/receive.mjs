// Runs the official receiver on every case of a file, with the body as text, as an application does.
//
// Prints a JSON array of {"accepted": bool, "reason": string | null} as the last line.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , installed, file] = process.argv;
const { Receiver } = createRequire(`${installed}/`)("@upstash/qstash");
const task = JSON.parse(readFileSync(file, "utf8"));

globalThis.Date = class extends Date {
  constructor(...given) {
    super(...(given.length > 0 ? given : [task.now_ms]));
  }
  static now() {
    return task.now_ms;
  }
};

// With the keys of several regions, the receiver reads them from the environment and chooses by the delivery's region.
for (const [region, { current, next }] of Object.entries(task.regions ?? {})) {
  const prefix = region === "" ? "" : `${region}_`;
  process.env[`${prefix}QSTASH_CURRENT_SIGNING_KEY`] = current;
  process.env[`${prefix}QSTASH_NEXT_SIGNING_KEY`] = next;
}
if (task.regions) {
  process.env.QSTASH_REGION = task.publishes;
}
const keys = task.regions ? {} : { currentSigningKey: task.current, nextSigningKey: task.next };
const receiver = new Receiver({ ...keys, devMode: false });
const judged = [];
for (const { signature, body, url, region } of task.cases) {
  try {
    const text = Buffer.from(body, "base64").toString("utf8");
    const accepted = await receiver.verify({ signature, body: text, url: url ?? undefined, upstashRegion: region ?? undefined });
    judged.push({ accepted, reason: null });
  } catch (error) {
    judged.push({ accepted: false, reason: `${error.name}: ${error.message}`.slice(0, 200) });
  }
}
console.log(JSON.stringify(judged));
