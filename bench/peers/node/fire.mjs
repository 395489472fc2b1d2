// What every peer's job does: the fire of nas-cron, a POST with an ES256 token that is signed for this job.

import { generateKeyPairSync, randomUUID, sign, verify } from "node:crypto";

const ISSUER = "http://127.0.0.1:8080";
/// Seconds, as in nas-cron.
const TTL = 90;

const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function signing() {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const header = encoded({ alg: "ES256", typ: "JWT", kid: randomUUID() });
  const form = { key: privateKey, dsaEncoding: "ieee-p1363" };
  const token = (claims) => {
    const signed = `${header}.${encoded(claims)}`;
    return `${signed}.${sign("sha256", Buffer.from(signed), form).toString("base64url")}`;
  };
  const check = (text) => {
    const at = text.lastIndexOf(".");
    const signature = Buffer.from(text.slice(at + 1), "base64url");
    return verify("sha256", Buffer.from(text.slice(0, at)), { ...form, key: publicKey }, signature);
  };
  return { token, check };
}

function claimsOf({ job_id, fire_at, agent }) {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: ISSUER,
    aud: `agent:bench-${agent}`,
    purpose: "cron_fire",
    iat: now,
    nbf: now,
    exp: now + TTL,
    jti: randomUUID(),
    job_id,
    fire_at,
  };
}

/** Returns a function that fires a job and resolves when the sink has accepted it. */
export function firing(require, sink, connections) {
  const { Pool } = require("undici");
  const pool = new Pool(sink, { connections, pipelining: 1 });
  const { token, check } = signing();
  if (!check(token(claimsOf({ job_id: "j", fire_at: "x", agent: 0 })))) throw new Error("the token is invalid");
  return async (job) => {
    const response = await pool.request({
      method: "POST",
      path: `/a/${job.agent}/api/cron/fire`,
      headers: { "content-type": "application/json", authorization: `Bearer ${token(claimsOf(job))}` },
      body: JSON.stringify({ job_id: job.job_id, fire_at: job.fire_at }),
    });
    await response.body.dump();
    if (response.statusCode !== 202) throw new Error(`the sink returned ${response.statusCode}`);
  };
}

/** Measures tokens/s of one core. */
export function signsPerSecond(seconds) {
  const { token } = signing();
  const claims = claimsOf({ job_id: "j", fire_at: new Date().toISOString(), agent: 0 });
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < seconds * 1000) {
    token(claims);
    count += 1;
  }
  return Math.round(count / ((performance.now() - start) / 1000));
}

/** Measures fires/s of a process without a scheduler. The sink expects a one-shot `c0`. */
export async function firesPerSecond(fire, inFlight, seconds) {
  const job = { job_id: "c0", fire_at: new Date().toISOString(), agent: 0 };
  const start = performance.now();
  let count = 0;
  const caller = async () => {
    while (performance.now() - start < seconds * 1000) {
      await fire(job);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  return Math.round(count / ((performance.now() - start) / 1000));
}
