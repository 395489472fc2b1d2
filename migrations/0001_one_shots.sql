-- Instances, their one-shots, and what wakes them. docs/ARCHITECTURE.md ("States") explains the life of a one-shot.

-- The oldest schema version whose releases may still use this schema, for rollbacks. A migration that changes what older
-- releases rely on raises it.
CREATE TABLE schema_compatibility (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    usable_from bigint NOT NULL CHECK (usable_from > 0)
);
INSERT INTO schema_compatibility (usable_from) VALUES (1);

CREATE TYPE one_shot_state    AS ENUM ('armed', 'leased', 'firing', 'waiting', 'delivered', 'stuck', 'dead');
CREATE TYPE park_reason       AS ENUM ('hold', 'unreachable');
CREATE TYPE hold_scope        AS ENUM ('all', 'org', 'instance');
CREATE TYPE fire_outcome      AS ENUM ('delivered', 'gone', 'dropped', 'duplicate', 'failed', 'lost');
CREATE TYPE portal_denial     AS ENUM ('unknown', 'disabled');
CREATE TYPE scheduler_backend AS ENUM ('postgres', 'qstash', 'qstash_direct', 'nats');
CREATE TYPE wake_up_state     AS ENUM ('wanted', 'armed', 'unwanted');

-- ── Instances ──

-- One deployed agent. Registered by the portal backend (admin API) or an operator, or cached from the portal's lookup API.
CREATE TABLE instances (
    instance_id          text PRIMARY KEY CHECK (length(instance_id) BETWEEN 1 AND 255),
    org_id               text NOT NULL CHECK (length(org_id) BETWEEN 1 AND 255),
    bootstrap_session_id text CHECK (length(bootstrap_session_id) BETWEEN 1 AND 255),
    -- Set by an operator. Independent of `denied_by_portal`.
    enabled              boolean NOT NULL DEFAULT true,
    -- Callback of the latest provision. Another one means that the agent has moved.
    callback_url         text,
    -- Callbacks before the current one, the latest first, without repetitions.
    earlier_callbacks    text[] NOT NULL DEFAULT '{}',
    -- Latest move from one callback to another.
    callback_moved_at    timestamptz,
    -- Moves back to an earlier callback, in a run of moves with less than a day between them.
    callback_returns     integer NOT NULL DEFAULT 0 CHECK (callback_returns >= 0),
    -- Delay of its fires, learned from a slow clock. Halves every day after `skew_learned_at`.
    skew_guard_ms        integer NOT NULL DEFAULT 0 CHECK (skew_guard_ms BETWEEN 0 AND 30000),
    skew_learned_at      timestamptz,
    -- An outage: only `probe_job_id` is attempted until the instance responds.
    unreachable_since    timestamptz,
    probe_job_id         text,
    -- The agent's latest `Retry-After`, at most 60 s: none of its one-shots is due earlier.
    busy_until           timestamptz,
    -- Start of the next redriven one-shot, so that redrives follow each other at their pace.
    paced_until          timestamptz,
    -- Time at which its waiting retries were last pulled forward because it called the service.
    pulled_at            timestamptz,
    -- Time of the portal's latest answer to a lookup. NULL: registered here, never looked up.
    looked_up_at         timestamptz,
    -- Time at which a replica last took on a new lookup of a denied instance.
    asked_again_at       timestamptz,
    -- That answer, if it was a denial.
    denied_by_portal     portal_denial CHECK (denied_by_portal IS NULL OR looked_up_at IS NOT NULL),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CHECK ((unreachable_since IS NULL) = (probe_job_id IS NULL)),
    CHECK (skew_guard_ms = 0 OR skew_learned_at IS NOT NULL)
);
-- For a caller's `sid`.
CREATE UNIQUE INDEX instances_bootstrap_session ON instances (org_id, bootstrap_session_id)
    WHERE bootstrap_session_id IS NOT NULL;
-- For the end of outages, and their count.
CREATE INDEX instances_unreachable ON instances (unreachable_since) WHERE unreachable_since IS NOT NULL;
-- For new lookups of denied instances, and the count of disabled and denied ones.
CREATE INDEX instances_denied ON instances (instance_id) WHERE NOT enabled OR denied_by_portal IS NOT NULL;

-- Returns the rest of a learned skew guard: half of it per day, nothing below a second.
CREATE FUNCTION skew_guard(guard_ms integer, learned_at timestamptz) RETURNS interval
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE
        WHEN guard_ms = 0 THEN interval '0' -- nearly always
        WHEN guard_ms >= 1000 * power(2, floor(extract(epoch FROM now() - learned_at) / 86400))
        THEN make_interval(secs => guard_ms / 1000.0 / power(2, floor(extract(epoch FROM now() - learned_at) / 86400)))
        ELSE interval '0'
    END;

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

-- Fires that an operator has stopped, by scope. `scope_id` is '' for the whole service.
CREATE TABLE holds (
    scope      hold_scope NOT NULL,
    scope_id   text NOT NULL,
    reason     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, scope_id),
    CHECK ((scope = 'all') = (scope_id = ''))
);

-- Instances, with `on_hold`: true if their fires are stopped for any reason. It is a view because it is part of every
-- claim and confirmation, and a function with a subquery would not be inlined there.
CREATE VIEW instance_status AS
    SELECT i.*, NOT i.enabled OR i.denied_by_portal IS NOT NULL OR EXISTS (
        SELECT FROM holds h
        WHERE (h.scope = 'all' AND h.scope_id = '')
           OR (h.scope = 'org' AND h.scope_id = i.org_id)
           OR (h.scope = 'instance' AND h.scope_id = i.instance_id)) AS on_hold
    FROM instances i;

-- Returns the reason to park a one-shot that is due, or NULL: a hold, or the probe of another job.
CREATE FUNCTION park_reason_of(job_id text, on_hold boolean, probe_job_id text) RETURNS park_reason
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN on_hold THEN 'hold' WHEN probe_job_id <> job_id THEN 'unreachable' END::park_reason;

-- ── Replicas ──

-- The running processes of the service. Each changes its row every few seconds, over a session of its own that it keeps
-- open. A replica is dead when its row has not changed for a while and that session no longer exists: its row is deleted,
-- and the leases of its attempts end. docs/ARCHITECTURE.md#a-replica-that-dies has the times and the reasons.
CREATE TABLE replicas (
    replica_id      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host_name       text NOT NULL,
    version         text NOT NULL,
    -- Counts the changes: replicas compare it and not times, so that no clock has to be right.
    renewals        bigint NOT NULL DEFAULT 0,
    -- The session of the latest renewal, as in `pg_stat_activity`. The start is NULL if the role may not see it.
    session_pid     integer NOT NULL,
    session_started timestamptz,
    started_at      timestamptz NOT NULL DEFAULT now(),
    renewed_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- ── One-shots ──

-- The current one-shot of each job. A cancel deletes the row, a supersede overwrites it. Everything that decides about
-- the job's next fire is on this row, so that its lock protects the decision.
--
-- Indexes and their predicates leave out `state` and the columns of leases: a claim and a confirmation change only columns
-- without an index, so they are heap-only updates. Claimed one-shots stay in the indexes of those that are due.
CREATE TABLE one_shots (
    -- References `instances`: see `one_shots_of_instances`.
    instance_id           text NOT NULL,
    job_id                text NOT NULL CHECK (length(job_id) BETWEEN 1 AND 255),
    schedule_id           uuid NOT NULL,
    dedup_key             text NOT NULL CHECK (length(dedup_key) BETWEEN 1 AND 512),
    -- The agent's text, byte for byte, and the instant that it means.
    fire_at_text          text NOT NULL CHECK (length(fire_at_text) BETWEEN 1 AND 64),
    fire_at               timestamptz NOT NULL,
    -- No attempt starts later: the one-shot then becomes a dead letter. NULL: no limit.
    not_after             timestamptz,
    callback_url          text NOT NULL,
    -- Callback that the job's own provision named, if `callback_url` has followed a move of the agent since.
    own_callback_url      text,
    -- Another callback than its own answered `gone`, so that its own is asked next. `gone` stands if that is unreachable.
    follows_gone          boolean NOT NULL DEFAULT false,
    state                 one_shot_state NOT NULL,
    -- No attempt starts earlier. Kept while leased and firing.
    next_attempt_at       timestamptz,
    -- Start of the lateness of the first attempt. NULL: lateness is not measured, because the one-shot was armed after its
    -- instant, parked, redriven, or is fired a second time. Unlike `next_attempt_at`, a deferral does not move it.
    due_since             timestamptz,
    -- Hidden from claims until the hold or the outage is over.
    parked                park_reason,
    -- External backend that sends the first wake-up. NULL: the built-in loop.
    awaits                scheduler_backend,
    -- Fencing token of the latest claim, and the id of its attempt. It outlives an expired lease, so that a late outcome
    -- still counts unless another claim has replaced it.
    lease_token           uuid,
    -- End of the claim's lease. It stays through the attempt.
    claim_expires_at      timestamptz,
    -- End of the attempt's lease, set by its confirmation.
    attempt_expires_at    timestamptz,
    -- The replica that makes, or made, the latest attempt. Its row in `replicas` may be gone.
    replica_id            integer,
    -- Attempts started of the current retry budget.
    attempts              integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- Start of the current run of failures. The retry budget ends a fixed time later.
    retrying_since        timestamptz,
    -- The agent's Retry-After, at most 60 s. Retries are not pulled forward before it.
    retry_after_until     timestamptz,
    -- Start of the job's latest attempt, over all its one-shots: the floor between two fires.
    last_started_at       timestamptz,
    -- Outcome of its latest attempt. NULL: there is none.
    last_outcome          fire_outcome,
    last_status           smallint,
    last_error            text CHECK (length(last_error) <= 1000),
    -- Latest time at which the same key was provisioned again. Attempts that started before do not answer that provision.
    asked_again_at        timestamptz,
    -- This arm followed a second fire with a new key: the agent's clock is slow.
    shows_skew            boolean NOT NULL DEFAULT false,
    -- The job's latest delivered key, which may differ from the current one, and its second fires.
    delivered_key         text,
    delivered_schedule_id uuid,
    delivered_at          timestamptz,
    second_fires          smallint,
    -- End of the latest attempt with this key that the agent accepted or may have accepted: it may hold a claim since then.
    claimed_at            timestamptz,
    -- An attempt with this key was answered with `duplicate`. A further one is final, and its second fires show nothing
    -- about the agent's clock.
    refused               boolean NOT NULL DEFAULT false,
    -- Time at which it became a dead letter or stuck.
    dead_since            timestamptz,
    -- It is a dead letter because `not_after` has passed. Otherwise its retry budget is spent.
    expired               boolean NOT NULL DEFAULT false,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, job_id),
    CHECK ((claim_expires_at IS NOT NULL) = (state IN ('leased', 'firing'))),
    CHECK ((attempt_expires_at IS NOT NULL) = (state = 'firing')),
    CHECK (state <> 'firing' OR replica_id IS NOT NULL),
    CHECK (claim_expires_at IS NULL OR lease_token IS NOT NULL),
    CHECK ((next_attempt_at IS NOT NULL) = (state IN ('armed', 'leased', 'firing', 'waiting'))),
    CHECK ((dead_since IS NOT NULL) = (state IN ('stuck', 'dead'))),
    CHECK (NOT expired OR state = 'dead'),
    CHECK (parked IS NULL OR state IN ('armed', 'waiting')),
    CHECK (awaits IS NULL OR (awaits <> 'postgres' AND state = 'armed' AND parked IS NULL)),
    CHECK (state <> 'firing' OR attempts > 0),
    CHECK (num_nulls(delivered_key, delivered_schedule_id, delivered_at, second_fires) IN (0, 4))
-- Room for further versions on the page, so that claims and confirmations are heap-only also in a burst.
) WITH (fillfactor = 50);
-- For claims, the time of the next one, and recovery.
CREATE INDEX one_shots_due ON one_shots (next_attempt_at)
    WHERE next_attempt_at IS NOT NULL AND parked IS NULL AND awaits IS NULL;
-- For the watchdog, and for moves between backends.
CREATE INDEX one_shots_awaited ON one_shots (awaits, next_attempt_at) WHERE awaits IS NOT NULL;
-- For the end of holds and outages.
CREATE INDEX one_shots_parked ON one_shots (instance_id, next_attempt_at) WHERE parked IS NOT NULL;
-- For the end of those whose limit has passed, parked or not, and the time of the next one.
CREATE INDEX one_shots_not_after ON one_shots (not_after)
    WHERE not_after IS NOT NULL AND next_attempt_at IS NOT NULL
      -- QStash may be calling the agent: its result decides.
      AND awaits IS DISTINCT FROM 'qstash_direct';
-- For `jobs list --state dead,stuck`, redrives and their counts.
CREATE INDEX one_shots_dead ON one_shots (instance_id, job_id) WHERE dead_since IS NOT NULL;

-- One-shots belong to instances, and are deleted with them. A foreign key would lock the instance for each new one-shot: a
-- record in the write-ahead log, and more if several transactions lock it at once. Instead, new one-shots and the deletion of
-- an instance exclude each other by an advisory lock, so that whichever comes later sees the other one's effect.

-- Returns the second key of an instance's advisory lock. There are few, so that no statement takes many.
CREATE FUNCTION instance_lock(instance_id text) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtext(instance_id) & 63;

CREATE FUNCTION one_shots_of_instances() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    unknown text;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('nas_cron.instances'), key)
    FROM (SELECT DISTINCT instance_lock(instance_id) AS key FROM added ORDER BY 1) keys;
    -- With a snapshot that was taken after the locks.
    SELECT a.instance_id INTO unknown FROM added a
    WHERE NOT EXISTS (SELECT FROM instances i WHERE i.instance_id = a.instance_id)
    LIMIT 1;
    IF FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = format('one_shots: the instance %s does not exist', unknown),
            CONSTRAINT = 'one_shots_instance_id_fkey';
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER one_shots_of_instances AFTER INSERT ON one_shots
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION one_shots_of_instances();

CREATE FUNCTION lock_deleted_instance() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('nas_cron.instances'), instance_lock(OLD.instance_id));
    RETURN OLD;
END;
$$;
CREATE TRIGGER instances_locked BEFORE DELETE ON instances FOR EACH ROW
    EXECUTE FUNCTION lock_deleted_instance();

CREATE FUNCTION refuse_another_instance_id() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE integrity_constraint_violation USING MESSAGE = format('%s: an instance_id never changes', TG_TABLE_NAME);
END;
$$;
-- After the update, because a trigger before it would lock each row first, whatever columns change.
CREATE TRIGGER instances_keep_their_id AFTER UPDATE OF instance_id ON instances FOR EACH ROW
    WHEN (NEW.instance_id <> OLD.instance_id) EXECUTE FUNCTION refuse_another_instance_id();
CREATE TRIGGER one_shots_keep_their_instance AFTER UPDATE OF instance_id ON one_shots FOR EACH ROW
    WHEN (NEW.instance_id <> OLD.instance_id) EXECUTE FUNCTION refuse_another_instance_id();

-- Returns the reason why a one-shot is a dead letter, or NULL.
CREATE FUNCTION dead_reason_of(state one_shot_state, expired boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN state <> 'dead' THEN NULL WHEN expired THEN 'expired' ELSE 'budget_spent' END;

-- ── History ──

-- One row per attempt, written when it ends. Partitioned by week, so that old history is dropped and not deleted.
CREATE TABLE fires (
    attempt_id   uuid NOT NULL,
    instance_id  text NOT NULL,
    job_id       text NOT NULL,
    schedule_id  uuid NOT NULL,
    dedup_key    text NOT NULL,
    fire_at      timestamptz NOT NULL,
    attempt      integer NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz NOT NULL,
    outcome      fire_outcome NOT NULL,
    http_status  smallint,
    error        text CHECK (length(error) <= 1000),
    -- The `status` in the JSON body of a 2xx response, if nas-cron does not know it. Such a response is a delivery.
    answer       text,
    -- For a job's history, and so that an outcome is recorded once.
    PRIMARY KEY (instance_id, job_id, started_at, attempt_id)
) PARTITION BY RANGE (started_at);
-- Takes the rows of a week whose partition is missing.
CREATE TABLE fires_default PARTITION OF fires DEFAULT;

-- Creates the partitions of `fires` from last week to four weeks ahead, and drops those that ended before `retention`. The
-- default partition is emptied of such rows, too. Returns the number of dropped partitions.
CREATE FUNCTION maintain_history(retention interval) RETURNS integer
    LANGUAGE plpgsql
    SET timezone = 'UTC'
    SET lock_timeout = '1s'
AS $$
DECLARE
    week timestamptz;
    name text;
    dropped integer := 0;
BEGIN
    -- One replica at a time.
    IF NOT pg_try_advisory_xact_lock(hashtext('nas_cron.maintain_history')) THEN
        RETURN 0;
    END IF;
    FOR week IN SELECT date_trunc('week', now()) + n * interval '1 week' FROM generate_series(-1, 4) AS n LOOP
        name := 'fires_' || to_char(week, 'YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            -- Attached and not created as a partition: that needs a weaker lock of `fires`.
            EXECUTE format('CREATE TABLE %I (LIKE fires INCLUDING ALL)', name);
            BEGIN
                EXECUTE format('ALTER TABLE fires ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                               name, week, week + interval '1 week');
            EXCEPTION WHEN check_violation THEN
                -- The default partition has rows of this week already. They stay there.
                EXECUTE format('DROP TABLE %I', name);
            END;
        END IF;
    END LOOP;
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'fires'::regclass AND c.relname ~ '^fires_\d{8}$'
          AND to_date(substr(c.relname, 7), 'YYYYMMDD') + interval '1 week' <= now() - retention
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM fires_default WHERE started_at <= now() - retention;
    RETURN dropped;
END;
$$;
SELECT maintain_history('10 years');

-- Attempts in flight whose one-shot was superseded or cancelled. The outcome removes the row; if the replica dies, recovery
-- writes the attempt's history from it.
CREATE TABLE superseded_attempts (
    attempt_id  uuid PRIMARY KEY,
    instance_id text NOT NULL,
    job_id      text NOT NULL,
    schedule_id uuid NOT NULL,
    dedup_key   text NOT NULL,
    fire_at     timestamptz NOT NULL,
    attempt     integer NOT NULL,
    started_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    replica_id  integer NOT NULL
);

CREATE FUNCTION keep_superseded_attempt() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO superseded_attempts
    VALUES (OLD.lease_token, OLD.instance_id, OLD.job_id, OLD.schedule_id, OLD.dedup_key, OLD.fire_at, OLD.attempts,
            OLD.last_started_at, OLD.attempt_expires_at, OLD.replica_id)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END;
$$;
CREATE TRIGGER one_shots_superseded AFTER UPDATE ON one_shots FOR EACH ROW
    WHEN (OLD.state = 'firing' AND NEW.lease_token IS DISTINCT FROM OLD.lease_token AND NEW.created_at <> OLD.created_at)
    EXECUTE FUNCTION keep_superseded_attempt();
CREATE TRIGGER one_shots_cancelled AFTER DELETE ON one_shots FOR EACH ROW
    WHEN (OLD.state = 'firing')
    EXECUTE FUNCTION keep_superseded_attempt();

-- The latest cancel of each job that had a one-shot, kept as long as the history. Only answers about the job read it: a job
-- that was armed again has a row of its own in `one_shots`.
CREATE TABLE cancelled_jobs (
    instance_id  text NOT NULL,
    job_id       text NOT NULL,
    cancelled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, job_id)
);
-- For pruning.
CREATE INDEX cancelled_jobs_age ON cancelled_jobs (cancelled_at);

-- The jobs of a deleted instance go with it: its one-shots first, so that cancels lock in the same order. Not a foreign key,
-- either: its check would have every cancel lock its instance after the one-shot, and a deletion locks them the other way
-- round.
CREATE FUNCTION delete_jobs_of_instance() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    -- In the order of other statements: some may have been stored after the deletion had locked the others.
    PERFORM FROM one_shots WHERE instance_id = OLD.instance_id ORDER BY job_id FOR UPDATE;
    DELETE FROM one_shots WHERE instance_id = OLD.instance_id;
    DELETE FROM cancelled_jobs WHERE instance_id = OLD.instance_id;
    RETURN NULL;
END;
$$;
CREATE TRIGGER instances_deleted AFTER DELETE ON instances FOR EACH ROW
    EXECUTE FUNCTION delete_jobs_of_instance();

-- ── Scheduler backends ──

-- The backend of new one-shots. One row, so that all replicas agree from one commit to the next.
CREATE TABLE active_backend (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    backend     scheduler_backend NOT NULL,
    -- Counts the switches. Part of a wake-up's name, so that a return to a backend is not deduplicated.
    generation  integer NOT NULL DEFAULT 1,
    switched_at timestamptz NOT NULL DEFAULT now()
);

-- The outbox: wake-ups that external backends have to be told, or have been. Written with the one-shot, carried out later.
-- It does not reference `one_shots`, because a cancelled wake-up outlives its one-shot.
CREATE TABLE wake_ups (
    schedule_id uuid NOT NULL,
    generation  integer NOT NULL,
    backend     scheduler_backend NOT NULL CHECK (backend <> 'postgres'),
    instance_id text NOT NULL,
    job_id      text NOT NULL,
    due_at      timestamptz NOT NULL,
    state       wake_up_state NOT NULL DEFAULT 'wanted',
    -- The backend's name for it, if it has one.
    message_id  text,
    -- Time of the next call. Moved ahead during a call, so that another replica takes over after a crash.
    next_try_at timestamptz DEFAULT now(),
    tries       integer NOT NULL DEFAULT 0,
    last_error  text CHECK (length(last_error) <= 1000),
    PRIMARY KEY (schedule_id, generation),
    CHECK ((next_try_at IS NULL) = (state = 'armed'))
) WITH (fillfactor = 80);
-- For the outbox loop.
CREATE INDEX wake_ups_to_do ON wake_ups (backend, next_try_at) WHERE next_try_at IS NOT NULL;
-- For a supersede or cancel.
CREATE INDEX wake_ups_job ON wake_ups (instance_id, job_id);
-- For results of direct calls, and for pruning.
CREATE INDEX wake_ups_due_at ON wake_ups (due_at);

-- Returns the next call for a wake-up that becomes unwanted: now, or after the call that may be in progress.
CREATE FUNCTION next_cancel_at(state wake_up_state, tries integer, next_try_at timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN state = 'wanted' AND tries > 0 THEN next_try_at ELSE now() END;

-- ── Signing keys ──

CREATE TYPE signing_alg AS ENUM ('ES256', 'RS256');
CREATE TYPE key_state   AS ENUM ('next', 'active', 'retired', 'gone');

-- Keys that sign fire tokens. The private half is stored encrypted (AES-256-GCM), or in a PEM file outside.
CREATE TABLE signing_keys (
    kid           text PRIMARY KEY,
    alg           signing_alg NOT NULL,
    state         key_state NOT NULL,
    -- Imported from the portal: rotated by hand, and activated only when agents can see it.
    imported      boolean NOT NULL DEFAULT false,
    public_jwk    jsonb NOT NULL,
    private_nonce bytea,
    private_key   bytea,
    pem_path      text,
    published_at  timestamptz NOT NULL,
    -- First time at which an imported key was seen at the JWKS URL that agents use.
    seen_at       timestamptz,
    activated_at  timestamptz,
    retired_at    timestamptz,
    gone_at       timestamptz,
    CHECK ((private_key IS NULL) = (private_nonce IS NULL)),
    CHECK (state = 'gone' OR (private_key IS NOT NULL) <> (pem_path IS NOT NULL)),
    CHECK (state <> 'active' OR (activated_at IS NOT NULL AND retired_at IS NULL)),
    CHECK ((state IN ('retired', 'gone')) = (retired_at IS NOT NULL)),
    CHECK ((state = 'gone') = (gone_at IS NOT NULL))
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys ((true)) WHERE state = 'active';
-- One successor at a time: a rotation is one row, whoever begins it.
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys ((true)) WHERE state = 'next';
