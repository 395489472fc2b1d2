// BullMQ: a job is a hash in Redis and a member of a sorted set, removed when the job is done.

const QUEUE = "fire";
/// Jobs that are due later do not fire during the run, in ms.
const FAR = 3_600_000;

export async function client(require, { url }) {
  const { Queue } = require("bullmq");
  const queue = new Queue(QUEUE, { connection: { path: url } });
  await queue.waitUntilReady();
  let far = 0;
  return {
    arm: (job, due) => {
      const now = Date.now();
      if (due - now > FAR) far += 1;
      return queue.add("fire", job, { jobId: job.job_id, timestamp: now, delay: due - now, removeOnComplete: true });
    },
    isSettled: async () => {
      const { active, waiting, delayed } = await queue.getJobCounts("active", "waiting", "delayed");
      return active + waiting === 0 && delayed <= far;
    },
    close: () => queue.close(),
  };
}

export async function worker(require, { url, settings }, fire) {
  const { Worker } = require("bullmq");
  const worker = new Worker(QUEUE, (job) => fire(job.data), { connection: { path: url }, ...settings });
  worker.on("error", console.error);
  worker.on("failed", (job, error) => console.error(error));
  await worker.waitUntilReady();
  return { close: () => worker.close(true) };
}
