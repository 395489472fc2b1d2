// A complete agent: it runs the job "report" every PERIOD seconds. Needs Node 20 or newer and jose 6.
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createRemoteJWKSet, errors, jwtVerify } from "jose";

const { PORTAL_URL: portal = "", AGENT_ID, CALLBACK_URL, ACCESS_TOKEN_FILE = "", PERIOD, PORT } = process.env;
const keys = createRemoteJWKSet(new URL(`${portal}/api/agent-cron/jwks.json`), {
  cacheMaxAge: 240_000 + Math.random() * 60_000, cooldownDuration: 30_000, timeoutDuration: 10_000,
});
const rules = {
  algorithms: ["ES256", "RS256"], issuer: portal, audience: `agent:${AGENT_ID}`, clockTolerance: 30,
  requiredClaims: ["exp", "nbf", "iat", "jti", "job_id", "fire_at"],
};

type Jobs = Record<string, string>; // the fire_at of each job's latest claimed fire
const jobs: Jobs = existsSync("agent.json")
  ? JSON.parse(readFileSync("agent.json", "utf8"))
  : { report: "2000-01-01T00:00:00.000Z" };

function claim(job_id: string, fire_at: string): boolean {
  if (fire_at <= jobs[job_id]) return false; // a repeated fire
  jobs[job_id] = fire_at;
  writeFileSync("agent.json.new", JSON.stringify(jobs), { flush: true });
  renameSync("agent.json.new", "agent.json");
  return true;
}

async function arm(job_id: string): Promise<void> {
  const fire_at = new Date(Math.max(Date.parse(jobs[job_id]) + Number(PERIOD) * 1000, Date.now())).toISOString();
  const body = JSON.stringify({ job_id, fire_at, agent_callback_url: CALLBACK_URL, dedup_key: `${job_id}:${fire_at}` });
  for (;;) { // until the service has stored the one-shot: otherwise the job never fires again
    const provision = async () => {
      const headers = { Authorization: `Bearer ${readFileSync(ACCESS_TOKEN_FILE, "utf8").trim()}` };
      const request = { method: "POST", headers, body, signal: AbortSignal.timeout(15_000) };
      return (await fetch(`${portal}/api/agent-cron/provision`, request)).status;
    };
    const result = await provision().catch(String);
    if (result === 200) return;
    console.log(`arming ${job_id} failed: ${result}`);
    await sleep(5_000 + Math.random() * 10_000);
  }
}

async function run(job_id: string): Promise<void> {
  console.log(`running ${job_id}`); // the job's own work
  await arm(job_id);
}

async function fire(authorization = ""): Promise<[number, string]> {
  try {
    const { payload } = await jwtVerify(authorization.replace(/^Bearer /, ""), keys, rules);
    if (payload.purpose !== "cron_fire") return [401, "not a fire token"];
    const { job_id, fire_at } = payload as { job_id: string; fire_at: string };
    if (!(job_id in jobs)) return [200, "gone"];
    if (claim(job_id, fire_at)) setImmediate(run, job_id);
    return [202, "accepted"];
  } catch (error) { // the keys could not be fetched, or the token is invalid
    const code = error instanceof errors.JOSEError ? error.code : "ERR_JOSE_GENERIC";
    return ["ERR_JOSE_GENERIC", "ERR_JWKS_TIMEOUT"].includes(code) ? [503, "unavailable"] : [401, "invalid token"];
  }
}

createServer(async (request, response) => {
  const [status, text] = await fire(request.headers.authorization);
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify({ status: text }));
}).listen(Number(PORT), "127.0.0.1");
void arm("report");
