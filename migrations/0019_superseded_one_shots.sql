-- One-shots that ended before their first attempt: those that were superseded, in their successor, and those that were cancelled,
-- in the mark of the job. The history has a row for each attempt, so they would leave no trace in the job's story.

-- The instant of the one-shot that this one superseded, if that one was not attempted after it was armed. It was superseded at
-- `created_at`.
ALTER TABLE one_shots ADD COLUMN superseded_fire_at timestamptz;
-- Number of one-shots that were superseded like this since the job's latest attempt. NULL: none.
ALTER TABLE one_shots ADD COLUMN superseded_untried integer;

-- The instant of the cancelled one-shot, and the time at which it was armed. NULL: cancelled by an older release.
ALTER TABLE cancelled_jobs ADD COLUMN fire_at timestamptz;
ALTER TABLE cancelled_jobs ADD COLUMN armed_at timestamptz;

-- A provision for a job that has a one-shot. `given` is the one-shot that it would arm for a new job; `limit_given`: with
-- `not_after`, or with null for it.
CREATE OR REPLACE FUNCTION provisioned(job one_shots, given one_shots, limit_given boolean, rules arm_rules) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    same_key boolean := job.dedup_key = given.dedup_key;
BEGIN
    -- The same key of a live one-shot arms nothing. An attempt in flight does not answer it, so its time is kept: by the clock
    -- and not by `now()`, because the statement may have waited for a confirmation of this row.
    IF same_key AND job.state NOT IN ('delivered', 'dead') THEN
        -- The job's own provision names its callback.
        job.callback_url := given.callback_url;
        job.own_callback_url := NULL;
        job.follows_gone := false;
        IF job.state <> 'stuck' THEN
            IF limit_given THEN
                job.not_after := given.not_after;
            END IF;
            job.asked_again_at := clock_timestamp();
            job.updated_at := now();
        END IF;
        RETURN job;
    END IF;

    -- A new key after a second fire: the agent provisioned the old key again because its clock is slow.
    given.shows_skew := NOT same_key AND NOT job.refused AND COALESCE(job.delivered_schedule_id = job.schedule_id, false)
        AND CASE job.state WHEN 'firing' THEN job.last_started_at > job.delivered_at
                           WHEN 'delivered' THEN job.second_fires > 0
                           ELSE false END;

    -- These belong to the job.
    given.last_started_at := job.last_started_at;
    given.delivered_key := job.delivered_key;
    given.delivered_schedule_id := job.delivered_schedule_id;
    given.delivered_at := job.delivered_at;
    given.second_fires := job.second_fires;

    -- Superseded before its first attempt, it would leave no trace: its successor tells of it.
    IF same_key THEN
        given.superseded_fire_at := job.superseded_fire_at;
        given.superseded_untried := job.superseded_untried;
    ELSIF (job.last_started_at >= job.created_at) IS NOT TRUE AND job.schedule_id IS DISTINCT FROM job.delivered_schedule_id THEN
        given.superseded_fire_at := job.fire_at;
        given.superseded_untried := COALESCE(job.superseded_untried, 0) + 1;
    END IF;

    -- These belong to the key.
    IF same_key THEN
        given.claimed_at := job.claimed_at;
        given.refused := job.refused;
    ELSIF given.dedup_key = job.delivered_key THEN
        given.claimed_at := job.delivered_at;
    END IF;

    IF same_key AND job.state = 'dead' THEN
        -- A dead letter gets a fresh retry budget. A late outcome of its attempts does not answer this provision.
        given.schedule_id := job.schedule_id;
        given.asked_again_at := clock_timestamp();
    ELSIF given.dedup_key = job.delivered_key THEN
        -- The same key again after its delivery: fired once more, or stuck in the end.
        given.schedule_id := job.delivered_schedule_id;
        given.asked_again_at := clock_timestamp();
        given.awaits := NULL;
        given.due_since := NULL;
        IF job.second_fires >= rules.second_fires_max THEN
            given.state := 'stuck';
            given.dead_since := now();
            given.next_attempt_at := NULL;
            RETURN given;
        END IF;
        given.state := 'waiting';
        given.next_attempt_at := GREATEST(now(), given.fire_at, second_fire_at(job.delivered_at, job.second_fires, rules));
    END IF;

    given.next_attempt_at := GREATEST(given.next_attempt_at, job.last_started_at + rules.fire_floor);
    IF given.due_since IS NOT NULL THEN
        given.due_since := GREATEST(given.due_since, job.last_started_at + rules.fire_floor);
    END IF;
    RETURN given;
END;
$$;

-- The columns are new in the list.
CREATE OR REPLACE FUNCTION provision_known(given one_shots[], limits_given boolean[], rules arm_rules) RETURNS SETOF provisioned_job
    LANGUAGE plpgsql
    ROWS 30
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET random_page_cost = 0
    SET cpu_operator_cost = 0
    SET cpu_tuple_cost = 1
    SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    UPDATE one_shots job
    SET (schedule_id, dedup_key, fire_at_text, fire_at, not_after, callback_url, own_callback_url, follows_gone, state,
         next_attempt_at, due_since, parked, awaits, lease_token, claim_expires_at, attempt_expires_at, attempts, retrying_since,
         retry_after_until, last_started_at, last_outcome, last_status, last_error, asked_again_at, shows_skew, delivered_key,
         delivered_schedule_id, delivered_at, second_fires, claimed_at, refused, dead_since, expired, created_at, updated_at,
         provision_trace, superseded_fire_at, superseded_untried) = (
        SELECT (n).schedule_id, (n).dedup_key, (n).fire_at_text, (n).fire_at, (n).not_after, (n).callback_url,
               (n).own_callback_url, (n).follows_gone, (n).state, (n).next_attempt_at, (n).due_since, (n).parked, (n).awaits,
               (n).lease_token, (n).claim_expires_at, (n).attempt_expires_at, (n).attempts, (n).retrying_since,
               (n).retry_after_until, (n).last_started_at, (n).last_outcome, (n).last_status, (n).last_error,
               (n).asked_again_at, (n).shows_skew, (n).delivered_key, (n).delivered_schedule_id, (n).delivered_at,
               (n).second_fires, (n).claimed_at, (n).refused, (n).dead_since, (n).expired, (n).created_at, (n).updated_at,
               (n).provision_trace, (n).superseded_fire_at, (n).superseded_untried
        -- Evaluated on the row behind its lock.
        FROM (SELECT provisioned(job, g.one_shot, g.limit_given, rules) AS n OFFSET 0) once)
    FROM (SELECT unnest(given) AS one_shot, unnest(limits_given) AS limit_given) g
    WHERE job.instance_id = (g.one_shot).instance_id AND job.job_id = (g.one_shot).job_id
    RETURNING job.instance_id, job.job_id, job.schedule_id, job.next_attempt_at, job.awaits, job.shows_skew, job.created_at;
END;
$$;
