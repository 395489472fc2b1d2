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

const receiver = new Receiver({ currentSigningKey: task.current, nextSigningKey: task.next, devMode: false });
const judged = [];
for (const { signature, body, url } of task.cases) {
  try {
    const text = Buffer.from(body, "base64").toString("utf8");
    const accepted = await receiver.verify({ signature, body: text, url: url ?? undefined });
    judged.push({ accepted, reason: null });
  } catch (error) {
    judged.push({ accepted: false, reason: `${error.name}: ${error.message}`.slice(0, 200) });
  }
}
console.log(JSON.stringify(judged));
