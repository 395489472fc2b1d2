// graphile-worker: a job is a row with a key, which is deleted when the job is done.

const DUE_IS_LEFT = `
  SELECT EXISTS (
    SELECT FROM graphile_worker._private_jobs WHERE run_at < now() + interval '1 hour'
  ) AS is_left`;

/// Its default logger writes lines to stdout for every job.
function quiet(require) {
  const { Logger } = require("graphile-worker");
  return new Logger(() => (level, message) => {
    if (level === "error") console.error(message);
  });
}

export async function client(require, { url, in_flight }) {
  const { makeWorkerUtils } = require("graphile-worker");
  const pool = new (require("pg").Pool)({ connectionString: url, max: in_flight });
  pool.on("error", console.error);
  pool.on("connect", (connection) => connection.on("error", console.error));
  const utils = await makeWorkerUtils({ pgPool: pool, logger: quiet(require) });
  await utils.migrate();
  return {
    arm: (job, due) => utils.addJob("fire", job, { jobKey: job.job_id, runAt: due }),
    isSettled: async () => !(await pool.query(DUE_IS_LEFT)).rows[0].is_left,
    close: async () => {
      await utils.release();
      await pool.end();
    },
  };
}

export async function worker(require, { url, settings }, fire) {
  const { run } = require("graphile-worker");
  const runner = await run({
    preset: { worker: { connectionString: url, logger: quiet(require), ...settings } },
    parsedCronItems: [],
    noHandleSignals: true,
    taskList: { fire: (job) => fire(job) },
  });
  return { close: () => runner.stop() };
}
