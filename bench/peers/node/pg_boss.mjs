// pg-boss: a job is a row, which stays and is marked as completed.

const QUEUE = "fire";
const DUE_IS_LEFT = `
  SELECT EXISTS (
    SELECT FROM pgboss.job
    WHERE name = '${QUEUE}' AND state < 'completed' AND start_after < now() + interval '1 hour'
  ) AS is_left`;

async function started(require, options) {
  const { PgBoss } = require("pg-boss");
  const boss = new PgBoss({ schedule: false, ...options });
  boss.on("error", console.error);
  await boss.start();
  await boss.createQueue(QUEUE);
  return boss;
}

export async function client(require, { url, in_flight }) {
  const boss = await started(require, { connectionString: url, max: in_flight, supervise: false });
  return {
    arm: (job, due) => boss.send(QUEUE, job, { startAfter: due }),
    isSettled: async () => !(await boss.getDb().executeSql(DUE_IS_LEFT)).rows[0].is_left,
    close: () => boss.stop({ graceful: false }),
  };
}

export async function worker(require, { url, settings }, fire) {
  const boss = await started(require, { connectionString: url });
  await boss.work(QUEUE, settings, (jobs) => Promise.all(jobs.map((job) => fire(job.data))));
  return { close: () => boss.stop({ graceful: false }) };
}
