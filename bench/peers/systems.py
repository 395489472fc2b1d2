"""The compared systems and their settings."""

from dataclasses import dataclass, field

OURS = "nas-cron"


@dataclass(frozen=True)
class System:
    """A scheduler with its settings."""

    title: str
    # Module of node/ that drives it; None for nas-cron.
    peer: str | None = None
    # Settings of its worker.
    settings: dict = field(default_factory=dict)
    # Options of Redis; None if it uses Postgres.
    redis: tuple[str, ...] | None = None
    # Connections of its jobs to the sink.
    connections: int = 50


# https://worker.graphile.org/docs/performance, with the poll interval that its lateness depends on.
GRAPHILE_WORKER = {
    "concurrentJobs": 50,
    "maxPoolSize": 52,
    "pollInterval": 10,
    "localQueue": {"size": 500},
    "completeJobBatchDelay": 0,
    "failJobBatchDelay": 0,
}
# 0.5 s is the shortest interval that pg-boss accepts.
PG_BOSS = {"pollingIntervalSeconds": 0.5, "batchSize": 500, "burstWhenBatchFull": True}
BULLMQ = {"concurrency": 50}
# Redis then wakes up more often for blocked clients and expired keys.
HZ = ("--hz", "100")

SYSTEMS = {
    OURS: System("nas-cron"),
    "graphile-worker": System("graphile-worker, 10 ms poll", "graphile-worker", GRAPHILE_WORKER),
    "graphile-worker-default": System("graphile-worker, defaults", "graphile-worker"),
    "pg-boss": System("pg-boss, 0.5 s poll, batches", "pg-boss", PG_BOSS),
    "bullmq": System("BullMQ, no AOF", "bullmq", BULLMQ, redis=(*HZ, "--appendonly", "no")),
    "bullmq-aof": System(
        "BullMQ, AOF always", "bullmq", BULLMQ, redis=(*HZ, "--appendonly", "yes", "--appendfsync", "always")
    ),
}
