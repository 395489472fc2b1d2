-- The trace of the provision that armed a one-shot, so that the traces of its fires link to it.

-- Id of the trace and of the span, 16 and 8 bytes. NULL: the provision was not recorded in a trace, as with all that arrive
-- while traces are off.
ALTER TABLE one_shots ADD COLUMN provision_trace bytea;

-- As `armed`, with the trace of the provision.
CREATE FUNCTION armed(instance instances, job_id text, schedule_id uuid, dedup_key text, fire_at_text text, fire_at timestamptz,
                      not_after timestamptz, callback_url text, external scheduler_backend, built_in_loop_within interval,
                      provision_trace bytea)
    RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    given one_shots := armed(instance, job_id, schedule_id, dedup_key, fire_at_text, fire_at, not_after, callback_url, external,
                             built_in_loop_within);
BEGIN
    given.provision_trace := provision_trace;
    RETURN given;
END;
$$;

-- The column is new in the list.
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
         provision_trace) = (
        SELECT (n).schedule_id, (n).dedup_key, (n).fire_at_text, (n).fire_at, (n).not_after, (n).callback_url,
               (n).own_callback_url, (n).follows_gone, (n).state, (n).next_attempt_at, (n).due_since, (n).parked, (n).awaits,
               (n).lease_token, (n).claim_expires_at, (n).attempt_expires_at, (n).attempts, (n).retrying_since,
               (n).retry_after_until, (n).last_started_at, (n).last_outcome, (n).last_status, (n).last_error,
               (n).asked_again_at, (n).shows_skew, (n).delivered_key, (n).delivered_schedule_id, (n).delivered_at,
               (n).second_fires, (n).claimed_at, (n).refused, (n).dead_since, (n).expired, (n).created_at, (n).updated_at,
               (n).provision_trace
        -- Evaluated on the row behind its lock.
        FROM (SELECT provisioned(job, g.one_shot, g.limit_given, rules) AS n OFFSET 0) once)
    FROM (SELECT unnest(given) AS one_shot, unnest(limits_given) AS limit_given) g
    WHERE job.instance_id = (g.one_shot).instance_id AND job.job_id = (g.one_shot).job_id
    RETURNING job.instance_id, job.job_id, job.schedule_id, job.next_attempt_at, job.awaits, job.shows_skew, job.created_at;
END;
$$;
