// Drives the emulator with the official client: client.mjs <installed> <url> <token> <destination>.
//
// Prints a JSON object with the client's results as the last line.

import { createRequire } from "node:module";

const [, , installed, baseUrl, token, destination] = process.argv;
const { Client } = createRequire(`${installed}/`)("@upstash/qstash");
const client = new Client({ baseUrl, token, devMode: false });
// The SDK logs refusals, which are expected here.
console.error = () => {};

const refused = async (call) => {
  try {
    await call();
    return null;
  } catch (error) {
    return `${error.status}: ${error.message}`;
  }
};
const publish = (name, more) =>
  client.publishJSON({
    url: destination,
    body: { from: "node", name },
    headers: { Authorization: "Bearer from-node", "X-Name": name },
    deduplicationId: `node-${name}`,
    retries: 1,
    timeout: "50s",
    redact: { header: ["Authorization"] },
    ...more,
  });

const later = Math.floor(Date.now() / 1000) + 3600;
const first = await publish("kept", { notBefore: later });
const again = await publish("kept", { notBefore: later });
const other = await publish("other", { delay: "1h" });
const third = await publish("third", { notBefore: later });
const now = await publish("now");
const message = await client.messages.get(first.messageId);
await client.messages.cancel(first.messageId);
const twice = await refused(() => client.messages.cancel(first.messageId));
const many = await client.messages.cancel([other.messageId, third.messageId]);
const deadline = Date.now() + 60_000;
let logs = [];
for (;;) {
  ({ logs } = await client.logs({ messageIds: [now.messageId] }));
  if (logs.some((log) => log.state === "DELIVERED")) break;
  if (Date.now() > deadline) throw new Error(`never delivered: ${JSON.stringify(logs)}`);
  await new Promise((resolve) => setTimeout(resolve, 50));
}
const wrong = new Client({ baseUrl, token: "wrong", devMode: false });
console.log(
  JSON.stringify({
    same: first.messageId === again.messageId,
    deduplicated: [first.deduplicated ?? false, again.deduplicated ?? false],
    not_before: message.notBefore === later * 1000,
    url: message.url,
    body: message.body,
    retries: message.maxRetries,
    authorization: message.header.Authorization[0],
    cancelled_twice: twice,
    cancelled_many: many.cancelled,
    states: logs.map((log) => log.state),
    keys: null,
    wrong_token: await refused(() => wrong.messages.get(now.messageId)),
  }),
);
