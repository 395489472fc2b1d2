-- The callback that a job's own provision named, and callbacks that move back and forth.

ALTER TABLE one_shots
    -- Callback that the job's own provision named, if `callback_url` has followed a move of the agent since.
    ADD COLUMN own_callback_url text,
    -- Another callback than its own answered `gone`, so that its own is asked next. `gone` stands if that is unreachable.
    ADD COLUMN follows_gone     boolean NOT NULL DEFAULT false;

-- Records the outcome of an attempt that was made at `callback_url`: see `attempt_ended`. `gone` counts only from the
-- callback that the job's own provision named. From another one (the agent has moved, or two homes share an identity) it
-- makes the job's own callback the next one to be asked.
CREATE FUNCTION attempt_ended_at(callback_url text, job one_shots, attempt ended_attempt, ambiguous boolean, rules arm_rules,
                                 claims claim_rules) RETURNS one_shots
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    own_callback_url text := COALESCE(job.own_callback_url, job.callback_url);
BEGIN
    IF attempt.outcome <> 'gone' OR job.schedule_id <> attempt.schedule_id OR callback_url = own_callback_url THEN
        -- The job's own callback is asked once.
        IF job.lease_token = attempt.attempt_id THEN
            job.follows_gone := false;
        END IF;
        RETURN attempt_ended(job, attempt, ambiguous, rules, claims);
    END IF;

    -- Without the lease, another attempt or outcome decides.
    IF job.lease_token IS DISTINCT FROM attempt.attempt_id OR job.state NOT IN ('firing', 'waiting') THEN
        RETURN job;
    END IF;
    job.callback_url := own_callback_url;
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
    RETURN job;
END;
$$;

ALTER TABLE instances
    -- Callbacks before the current one, the latest first, without repetitions.
    ADD COLUMN earlier_callbacks text[] NOT NULL DEFAULT '{}',
    -- Latest move from one callback to another.
    ADD COLUMN callback_moved_at timestamptz,
    -- Moves back to an earlier callback, in a run of moves with less than a day between them.
    ADD COLUMN callback_returns  integer NOT NULL DEFAULT 0 CHECK (callback_returns >= 0);

-- The agent provisioned with this callback. Another one than before means that the agent has moved.
CREATE FUNCTION called_from(instance instances, callback text) RETURNS instances
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    -- More homes than these do not share one identity in practice.
    remembered CONSTANT integer := 4;
BEGIN
    IF callback = instance.callback_url THEN
        RETURN instance;
    END IF;
    IF instance.callback_url IS NOT NULL THEN
        instance.callback_returns := CASE
            WHEN instance.callback_moved_at > now() - interval '1 day'
            THEN instance.callback_returns + (callback = ANY (instance.earlier_callbacks))::integer
            ELSE 0 END;
        instance.earlier_callbacks :=
            (instance.callback_url || array_remove(instance.earlier_callbacks, instance.callback_url))[1:remembered];
        instance.callback_moved_at := now();
    END IF;
    instance.callback_url := callback;
    instance.updated_at := now();
    RETURN instance;
END;
$$;

-- Returns true if the callback moves back and forth: two homes of an agent share one identity.
CREATE FUNCTION callback_alternates(callback_returns integer, callback_moved_at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN callback_returns >= 3 AND COALESCE(callback_moved_at > now() - interval '1 day', false);
