-- Jobs that should have armed their next one-shot, and have not. docs/ARCHITECTURE.md ("Dormant jobs") explains how they are
-- found.

-- Time at which the attempt's one-shot was armed. NULL: recorded before this column, or by recovery.
ALTER TABLE fires ADD COLUMN armed_at timestamptz;

CREATE TYPE recurrence_kind AS ENUM ('interval', 'daily', 'weekdays', 'irregular');

-- Jobs with a known recurrence whose latest delivery was not followed by a re-arm within a few minutes. A row counts only
-- while the job's one-shot is still delivered with this `schedule_id`: nothing removes it at the re-arm itself, which would be
-- a write for every provision.
CREATE TABLE awaited_rearms (
    instance_id   text NOT NULL,
    job_id        text NOT NULL,
    -- The delivered one-shot.
    schedule_id   uuid NOT NULL,
    delivered_at  timestamptz NOT NULL,
    recurrence    recurrence_kind NOT NULL,
    -- The next fire that the job's history lets expect.
    expected_at   timestamptz NOT NULL,
    -- Without a re-arm until then, the job is dormant.
    check_at      timestamptz NOT NULL,
    -- Time from its dormancy until it counts as finished.
    closes_after  interval NOT NULL,
    -- NULL: not dormant yet.
    dormant_since timestamptz,
    -- It was reported as dormant: it was not stopped on purpose.
    reported      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (instance_id, job_id),
    CHECK (check_at >= expected_at),
    CHECK (dormant_since IS NOT NULL OR NOT reported)
);
-- For the check.
CREATE INDEX awaited_rearms_pending ON awaited_rearms (check_at) WHERE dormant_since IS NULL;
-- For `jobs list --state dormant`, and the counts.
CREATE INDEX awaited_rearms_dormant ON awaited_rearms (instance_id, job_id) WHERE dormant_since IS NOT NULL;

-- The deliveries that were examined: those recorded before `examined_until`. One row, which a replica moves forward with what
-- it has found, so that no delivery is left out, whatever stops.
CREATE TABLE rearm_watch (
    only_one       boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    examined_until timestamptz NOT NULL
);

-- Returns the reason why a delivered job is silent: `withheld` (its instance is disabled, denied or on hold), `gateway_stopped`
-- (the agent dropped the fire, on purpose), `silent` (unknown).
CREATE FUNCTION dormant_reason_of(last_outcome fire_outcome, on_hold boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN on_hold THEN 'withheld' WHEN last_outcome = 'dropped' THEN 'gateway_stopped' ELSE 'silent' END;

-- The awaited re-arms that have not come, dormant or not, with the reason. A job that the agent has ended (`gone`) is not
-- silent.
CREATE VIEW silent_jobs AS
    SELECT a.*, s.org_id, s.reason
    FROM awaited_rearms a CROSS JOIN LATERAL (
        SELECT i.org_id, dormant_reason_of(o.last_outcome, i.on_hold) AS reason
        FROM one_shots o JOIN instance_status i USING (instance_id)
        WHERE o.instance_id = a.instance_id AND o.job_id = a.job_id AND o.schedule_id = a.schedule_id
          AND o.state = 'delivered' AND o.last_outcome IS DISTINCT FROM 'gone'
        -- One row by the primary key. It keeps the planner from reading all one-shots.
        LIMIT 1) s;

-- A delivered one-shot that an operator fires once more. Its delivered key is forgotten, as by a redrive of a stuck one: this
-- fire is the operator's, so it is not counted as a second fire of the key and shows nothing about the agent's clock.
CREATE FUNCTION nudged(job one_shots) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    job.state := 'armed';
    job.lease_token := NULL;
    job.delivered_key := NULL;
    job.delivered_schedule_id := NULL;
    job.delivered_at := NULL;
    job.second_fires := NULL;
    -- Not urgent to the second, so the default floor between two fires is enough.
    -- An attempt whose one-shot was taken from it by a late delivery may be in flight until `claimed_at`.
    job.next_attempt_at := GREATEST(now(), job.fire_at, job.last_started_at + interval '1 s', job.claimed_at);
    job.due_since := NULL;
    job.attempts := 0;
    job.retrying_since := NULL;
    job.retry_after_until := NULL;
    job.last_outcome := NULL;
    job.last_status := NULL;
    job.last_error := NULL;
    job.refused := false;
    -- A nudge is a decision to fire, however late.
    job.not_after := NULL;
    job.updated_at := now();
    RETURN job;
END;
$$;
