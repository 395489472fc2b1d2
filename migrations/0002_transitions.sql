-- Transitions of a one-shot. Each function takes the locked row and returns the row as it is afterwards. docs/contract.md
-- has the rules.

-- Delays between the fires of one job.
CREATE TYPE arm_rules AS (
    -- Minimum time between the starts of two attempts that belong to different arms.
    fire_floor           interval,
    -- Time from a delivery to the first second fire of the same key, and to each further one.
    second_fire_delay    interval,
    second_fire_interval interval,
    second_fires_max     smallint
);

-- Returns the earliest second fire of a key that was delivered at `delivered_at` and has had `second_fires` of them.
CREATE FUNCTION second_fire_at(delivered_at timestamptz, second_fires smallint, rules arm_rules) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN delivered_at + CASE WHEN second_fires > 0 THEN (rules).second_fire_interval ELSE (rules).second_fire_delay END;

-- The one-shot of a job without one. `external` wakes it, unless it is due within `built_in_loop_within`: an external backend
-- could not be told in time.
CREATE FUNCTION armed(instance instances, job_id text, schedule_id uuid, dedup_key text, fire_at_text text, fire_at timestamptz,
                      not_after timestamptz, callback_url text, external scheduler_backend, built_in_loop_within interval)
    RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    given one_shots;
BEGIN
    given.instance_id := instance.instance_id;
    given.job_id := job_id;
    given.schedule_id := schedule_id;
    given.dedup_key := dedup_key;
    given.fire_at_text := fire_at_text;
    given.fire_at := fire_at;
    given.not_after := not_after;
    given.callback_url := callback_url;
    given.state := 'armed';
    given.next_attempt_at := fire_at + skew_guard(instance.skew_guard_ms, instance.skew_learned_at);
    IF given.next_attempt_at >= now() THEN
        given.due_since := given.next_attempt_at;
    END IF;
    IF given.next_attempt_at > now() + built_in_loop_within THEN
        given.awaits := external;
    END IF;
    given.follows_gone := false;
    given.attempts := 0;
    given.shows_skew := false;
    given.refused := false;
    given.expired := false;
    given.created_at := now();
    given.updated_at := now();
    RETURN given;
END;
$$;

-- A provision for a job that has a one-shot. `given` is the one-shot that it would arm for a new job; `limit_given`: with
-- `not_after`, or with null for it.
CREATE FUNCTION provisioned(job one_shots, given one_shots, limit_given boolean, rules arm_rules) RETURNS one_shots
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

-- A job's one-shot after a provision.
CREATE TYPE provisioned_job AS (
    instance_id     text,
    job_id          text,
    schedule_id     uuid,
    next_attempt_at timestamptz,
    awaits          scheduler_backend,
    shows_skew      boolean,
    created_at      timestamptz
);

-- Provisions the jobs that have a one-shot, and returns them. `given` and `limits_given` are in the order of the primary key,
-- and rows are locked in this order, as by every statement that changes several, so that there is no deadlock. The settings
-- make sure of it: the only plans that are left read an index, row by row. By the costs, it finds each row by the primary key
-- instead of reading the whole index, also for a table that has few rows while the plan is made. To lock the rows before would
-- write a record for each in the write-ahead log.
CREATE FUNCTION provision_known(given one_shots[], limits_given boolean[], rules arm_rules) RETURNS SETOF provisioned_job
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
         delivered_schedule_id, delivered_at, second_fires, claimed_at, refused, dead_since, expired, created_at, updated_at) = (
        SELECT (n).schedule_id, (n).dedup_key, (n).fire_at_text, (n).fire_at, (n).not_after, (n).callback_url,
               (n).own_callback_url, (n).follows_gone, (n).state, (n).next_attempt_at, (n).due_since, (n).parked, (n).awaits,
               (n).lease_token, (n).claim_expires_at, (n).attempt_expires_at, (n).attempts, (n).retrying_since,
               (n).retry_after_until, (n).last_started_at, (n).last_outcome, (n).last_status, (n).last_error,
               (n).asked_again_at, (n).shows_skew, (n).delivered_key, (n).delivered_schedule_id, (n).delivered_at,
               (n).second_fires, (n).claimed_at, (n).refused, (n).dead_since, (n).expired, (n).created_at, (n).updated_at
        -- Evaluated on the row behind its lock.
        FROM (SELECT provisioned(job, g.one_shot, g.limit_given, rules) AS n OFFSET 0) once)
    FROM (SELECT unnest(given) AS one_shot, unnest(limits_given) AS limit_given) g
    WHERE job.instance_id = (g.one_shot).instance_id AND job.job_id = (g.one_shot).job_id
    RETURNING job.instance_id, job.job_id, job.schedule_id, job.next_attempt_at, job.awaits, job.shows_skew, job.created_at;
END;
$$;

-- An attempt that has ended.
CREATE TYPE ended_attempt AS (
    attempt_id  uuid,
    schedule_id uuid,
    dedup_key   text,
    started_at  timestamptz,
    ended_at    timestamptz,
    outcome     fire_outcome,
    http_status smallint,
    error       text,
    -- It failed, but the agent may have accepted the fire.
    ambiguous   boolean,
    -- After a failure: the delay of the next attempt. NULL gives up.
    retry_in    interval,
    retry_after interval,
    -- Callback that was asked.
    callback_url text
);

-- Claims of fires by agents.
CREATE TYPE claim_rules AS (
    -- Time for which an agent keeps a claim, also that of a process that died.
    claim_lifetime  interval,
    -- Time from an accepted or ambiguous attempt to the fire after a `duplicate`.
    duplicate_delay interval
);

-- The one-shot after its limit has passed. `job` is not claimed.
CREATE FUNCTION expired(job one_shots) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    job.state := 'dead';
    job.dead_since := now();
    job.expired := true;
    job.next_attempt_at := NULL;
    job.due_since := NULL;
    job.parked := NULL;
    job.awaits := NULL;
    job.updated_at := now();
    RETURN job;
END;
$$;

-- The one-shot after `gone` from another callback than its own, which is asked at once.
CREATE FUNCTION own_callback_next(job one_shots, attempt ended_attempt) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
BEGIN
    job.callback_url := COALESCE(job.own_callback_url, job.callback_url);
    job.own_callback_url := NULL;
    job.follows_gone := true;
    job.state := 'waiting';
    job.next_attempt_at := clock_timestamp();
    job.claim_expires_at := NULL;
    job.attempt_expires_at := NULL;
    job.due_since := NULL;
    job.parked := NULL;
    job.retry_after_until := NULL;
    job.last_outcome := attempt.outcome;
    job.last_status := attempt.http_status;
    job.last_error := attempt.error;
    job.updated_at := now();
    RETURN CASE WHEN job.next_attempt_at > job.not_after THEN expired(job) ELSE job END;
END;
$$;

-- The outcome of an attempt. `job` may be another arm than the attempt's, or its one-shot after its lease has ended.
CREATE FUNCTION attempt_ended(job one_shots, attempt ended_attempt, rules arm_rules, claims claim_rules) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    -- The agent's own answer ends the one-shot.
    answered         boolean := attempt.outcome IN ('delivered', 'gone', 'dropped', 'duplicate');
    same_key         boolean := job.dedup_key = attempt.dedup_key;
    -- The same key of another arm is another one-shot: the job was cancelled or superseded in between.
    same_arm         boolean := job.schedule_id = attempt.schedule_id;
    delivered_before boolean := COALESCE(job.delivered_schedule_id = attempt.schedule_id, false);
    asked_again      boolean := COALESCE(job.asked_again_at > attempt.started_at, false);
    -- This attempt holds the lease, or held it and no other claim followed.
    owns             boolean := COALESCE(job.lease_token = attempt.attempt_id, false) AND job.state IN ('firing', 'waiting');
    -- An answer ends its one-shot although the attempt no longer holds it: its lease has ended, or its claim was lost in a
    -- crash of the database.
    late_answer      boolean := attempt.outcome IN ('delivered', 'gone', 'dropped') AND same_arm AND CASE
        -- Another attempt is in flight.
        WHEN job.state = 'firing' THEN attempt.outcome = 'delivered' AND NOT asked_again
        -- Unless a second fire is pending already.
        WHEN job.state IN ('armed', 'leased', 'waiting') THEN NOT asked_again OR NOT delivered_before
        ELSE false END;
    decides          boolean := owns OR late_answer;
    -- The claim that refused the fire may be that of a process that died: fired again when it has certainly ended.
    fires_again      boolean := attempt.outcome = 'duplicate' AND decides AND same_key AND NOT job.refused
        AND COALESCE(attempt.started_at <= job.claimed_at + claims.claim_lifetime, false);
BEGIN
    IF attempt.outcome = 'gone' AND same_arm
        AND attempt.callback_url <> COALESCE(job.own_callback_url, job.callback_url)
    THEN
        -- `gone` counts only from the callback that the job's own provision named. From another one (the agent has moved, or
        -- two homes share an identity) it makes the job's own callback the next one to be asked. Without the lease, another
        -- attempt or outcome decides.
        IF owns THEN
            RETURN own_callback_next(job, attempt);
        END IF;
        RETURN job;
    END IF;
    -- The job's own callback is asked once.
    IF job.lease_token = attempt.attempt_id THEN
        job.follows_gone := false;
    END IF;

    IF attempt.outcome = 'delivered' OR (attempt.outcome = 'duplicate' AND NOT fires_again AND (decides OR NOT same_arm)) THEN
        -- The latest delivered key is remembered, not an older one whose outcome is late.
        IF job.delivered_key IS DISTINCT FROM job.dedup_key OR same_key THEN
            job.second_fires := CASE
                WHEN NOT delivered_before THEN 0
                -- An attempt that started before the delivery repeats it, and is no second fire.
                WHEN attempt.started_at > job.delivered_at THEN job.second_fires + 1
                ELSE job.second_fires END;
            job.delivered_key := attempt.dedup_key;
            job.delivered_schedule_id := attempt.schedule_id;
            job.delivered_at := attempt.ended_at;
        END IF;
    ELSIF attempt.outcome IN ('gone', 'dropped') AND job.delivered_key = attempt.dedup_key THEN
        job.delivered_key := NULL;
        job.delivered_schedule_id := NULL;
        job.delivered_at := NULL;
        job.second_fires := NULL;
    END IF;

    IF same_key THEN
        IF attempt.outcome IN ('gone', 'dropped') THEN
            -- An earlier claim may still live.
            job.refused := false;
        ELSIF attempt.outcome = 'duplicate' THEN
            job.refused := job.refused OR decides;
        ELSIF attempt.outcome = 'delivered' OR attempt.ambiguous THEN
            -- A late delivery takes the one-shot from an attempt in flight, which the agent may still accept.
            job.claimed_at := GREATEST(attempt.ended_at, CASE WHEN decides AND NOT owns THEN job.attempt_expires_at END);
        END IF;
    END IF;

    IF NOT decides THEN
        RETURN job;
    END IF;

    job.lease_token := attempt.attempt_id;
    job.claim_expires_at := NULL;
    job.attempt_expires_at := NULL;
    job.due_since := NULL;
    job.parked := NULL;
    job.awaits := NULL;
    job.retrying_since := CASE WHEN NOT answered THEN COALESCE(job.retrying_since, attempt.started_at) END;
    job.retry_after_until := attempt.ended_at + attempt.retry_after;
    job.last_outcome := attempt.outcome;
    job.last_status := attempt.http_status;
    job.last_error := attempt.error;
    job.updated_at := now();

    IF NOT answered AND attempt.retry_in IS NULL THEN
        job.state := 'dead';
        job.dead_since := now();
        job.next_attempt_at := NULL;
    ELSIF NOT answered THEN
        job.state := 'waiting';
        job.next_attempt_at := clock_timestamp() + attempt.retry_in;
    ELSIF fires_again THEN
        -- Not a retry, so that a call of the agent does not pull it forward. It also serves the same key that came again.
        job.attempts := 0;
        job.state := 'waiting';
        job.next_attempt_at := job.claimed_at + claims.duplicate_delay;
    ELSIF NOT asked_again THEN
        job.state := 'delivered';
        job.next_attempt_at := NULL;
    ELSE
        -- The same key came again after the attempt had started.
        job.attempts := 0;
        IF job.delivered_key IS DISTINCT FROM job.dedup_key THEN
            job.state := 'armed';
            job.next_attempt_at := GREATEST(job.fire_at, job.last_started_at + rules.fire_floor);
        ELSIF job.second_fires >= rules.second_fires_max THEN
            job.state := 'stuck';
            job.dead_since := now();
            job.next_attempt_at := NULL;
        ELSE
            job.state := 'waiting';
            job.next_attempt_at := second_fire_at(job.delivered_at, job.second_fires, rules);
        END IF;
    END IF;
    RETURN CASE WHEN job.state = 'waiting' AND job.next_attempt_at > job.not_after THEN expired(job) ELSE job END;
END;
$$;
