-- The whole truth of the service. Words and rules are those of docs/ARCHITECTURE.md ("States").

CREATE TYPE one_shot_state AS ENUM ('armed', 'leased', 'firing', 'waiting', 'delivered', 'stuck', 'dead');
CREATE TYPE park_reason    AS ENUM ('hold', 'unreachable');
CREATE TYPE hold_scope     AS ENUM ('all', 'org', 'instance');
CREATE TYPE fire_outcome   AS ENUM ('started', 'delivered', 'gone', 'failed', 'lost');
CREATE TYPE signing_alg    AS ENUM ('ES256', 'RS256');
CREATE TYPE key_state      AS ENUM ('next', 'active', 'retired', 'gone');
CREATE TYPE scheduler_backend AS ENUM ('postgres', 'qstash', 'qstash_direct', 'nats');
CREATE TYPE wake_up_state  AS ENUM ('wanted', 'armed', 'unwanted');

-- One deployed agent. The portal's backend registers it (admin API) when it creates the agent.
CREATE TABLE instances (
    instance_id          text PRIMARY KEY CHECK (length(instance_id) BETWEEN 1 AND 255),
    org_id               text NOT NULL CHECK (length(org_id) BETWEEN 1 AND 255),
    bootstrap_session_id text CHECK (length(bootstrap_session_id) BETWEEN 1 AND 255),
    enabled              boolean NOT NULL DEFAULT true,
    -- The callback it last came with; another one means that it has moved.
    callback_url         text,
    -- Learned when its clock proved slow: delays its fires, halves every day since.
    skew_guard_ms        integer NOT NULL DEFAULT 0 CHECK (skew_guard_ms BETWEEN 0 AND 30000),
    skew_learned_at      timestamptz,
    -- An outage: only `probe_job_id` is tried until something answers.
    unreachable_since    timestamptz,
    probe_job_id         text,
    -- When its waiting retries were last pulled forward because it called us.
    pulled_at            timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CHECK ((unreachable_since IS NULL) = (probe_job_id IS NULL)),
    CHECK (skew_guard_ms = 0 OR skew_learned_at IS NOT NULL)
);
CREATE UNIQUE INDEX instances_bootstrap_session ON instances (org_id, bootstrap_session_id)
    WHERE bootstrap_session_id IS NOT NULL;
CREATE INDEX instances_unreachable ON instances (unreachable_since) WHERE unreachable_since IS NOT NULL;

-- What is left of a learned skew guard: half of it every day, nothing once it is below a second.
CREATE FUNCTION skew_guard(guard_ms integer, learned_at timestamptz) RETURNS interval
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE
        WHEN guard_ms = 0 THEN interval '0' -- nearly all of them
        WHEN guard_ms >= 1000 * power(2, floor(extract(epoch FROM now() - learned_at) / 86400))
        THEN make_interval(secs => guard_ms / 1000.0 / power(2, floor(extract(epoch FROM now() - learned_at) / 86400)))
        ELSE interval '0'
    END;

-- Fires stopped on purpose, by scope: `nas-cron hold`. `scope_id` is '' for the whole service.
CREATE TABLE holds (
    scope      hold_scope NOT NULL,
    scope_id   text NOT NULL,
    reason     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, scope_id),
    CHECK ((scope = 'all') = (scope_id = ''))
);

-- Instances, and whether their fires are stopped, by whichever of the ways. A view, because it is part of every
-- claim and confirmation: a function with a subquery would not be folded into them.
CREATE VIEW instance_status AS
    SELECT i.*, NOT i.enabled OR EXISTS (
        SELECT FROM holds h
        WHERE (h.scope = 'all' AND h.scope_id = '')
           OR (h.scope = 'org' AND h.scope_id = i.org_id)
           OR (h.scope = 'instance' AND h.scope_id = i.instance_id)) AS on_hold
    FROM instances i;

-- The current one-shot of every job. A cancelled one is deleted, a superseded one overwritten;
-- what happened to them is in `fires`.
CREATE TABLE one_shots (
    instance_id      text NOT NULL REFERENCES instances ON DELETE CASCADE,
    job_id           text NOT NULL CHECK (length(job_id) BETWEEN 1 AND 255),
    schedule_id      uuid NOT NULL,
    dedup_key        text NOT NULL CHECK (length(dedup_key) BETWEEN 1 AND 512),
    -- Byte for byte as it came, beside the instant it means: agents compare it as a string.
    fire_at_text     text NOT NULL CHECK (length(fire_at_text) BETWEEN 1 AND 64),
    fire_at          timestamptz NOT NULL,
    callback_url     text NOT NULL,
    state            one_shot_state NOT NULL,
    -- No attempt starts before it. Kept through `leased` and `firing`: it is what the lease is for.
    next_attempt_at  timestamptz,
    -- Taken out of the claim's sight until the hold or the outage is over.
    parked           park_reason,
    -- The hosted engine that is to bring its first wake-up: our own loop leaves it alone until the engine
    -- has done so, or is overdue. NULL: our own loop's.
    awaits           scheduler_backend,
    -- The last claim's token: fences every write about its attempt. It outlives an expired lease,
    -- so that a late outcome still counts unless another claim has replaced it.
    lease_token      uuid,
    lease_expires_at timestamptz,
    -- Attempts started of this one-shot's current budget.
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- When the current run of failures began; it is given up a fixed time later.
    retrying_since   timestamptz,
    -- The agent's own Retry-After (capped at 60 s): a pull forward respects it.
    retry_after_until timestamptz,
    -- The start of the job's last attempt, over all its one-shots: the floor between two fires.
    last_started_at  timestamptz,
    last_status      smallint,
    last_error       text CHECK (length(last_error) <= 1000),
    -- The same key was provisioned again while its attempt was under way.
    asked_again      boolean NOT NULL DEFAULT false,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, job_id),
    CHECK ((lease_expires_at IS NOT NULL) = (state IN ('leased', 'firing'))),
    CHECK (lease_expires_at IS NULL OR lease_token IS NOT NULL),
    CHECK ((next_attempt_at IS NOT NULL) = (state IN ('armed', 'leased', 'firing', 'waiting'))),
    CHECK (parked IS NULL OR state IN ('armed', 'waiting')),
    CHECK (awaits IS NULL OR (awaits <> 'postgres' AND state = 'armed' AND parked IS NULL)),
    CHECK (NOT asked_again OR state = 'firing'),
    CHECK (state <> 'firing' OR attempts > 0)
) WITH (fillfactor = 70);
CREATE INDEX one_shots_due ON one_shots (next_attempt_at)
    WHERE state IN ('armed', 'waiting') AND parked IS NULL AND awaits IS NULL;
CREATE INDEX one_shots_awaited ON one_shots (awaits, next_attempt_at) WHERE awaits IS NOT NULL;
CREATE INDEX one_shots_leases ON one_shots (lease_expires_at) WHERE state IN ('leased', 'firing');
CREATE INDEX one_shots_parked ON one_shots (instance_id, next_attempt_at) WHERE parked IS NOT NULL;
CREATE INDEX one_shots_ended ON one_shots (updated_at) WHERE state IN ('delivered', 'stuck', 'dead');

-- The one backend that new one-shots go to. A row, so that all replicas mean the same from one commit to the next.
CREATE TABLE active_backend (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    backend     scheduler_backend NOT NULL,
    -- Counts the switches: part of a wake-up's name, so that a return to an engine is not deduplicated away.
    generation  integer NOT NULL DEFAULT 1,
    switched_at timestamptz NOT NULL DEFAULT now()
);

-- What hosted engines are to be told, or have been: written with the one-shot, carried out behind it.
-- No reference to `one_shots`: what is to be taken back outlives its one-shot.
CREATE TABLE wake_ups (
    schedule_id uuid NOT NULL,
    generation  integer NOT NULL,
    backend     scheduler_backend NOT NULL CHECK (backend <> 'postgres'),
    instance_id text NOT NULL,
    job_id      text NOT NULL,
    due_at      timestamptz NOT NULL,
    state       wake_up_state NOT NULL DEFAULT 'wanted',
    -- What the engine calls it, where it says so.
    message_id  text,
    -- When the engine is told next; moved on while it is being told, so that a dead replica's part is taken over.
    next_try_at timestamptz DEFAULT now(),
    tries       integer NOT NULL DEFAULT 0,
    last_error  text CHECK (length(last_error) <= 1000),
    PRIMARY KEY (schedule_id, generation),
    CHECK ((next_try_at IS NULL) = (state = 'armed'))
) WITH (fillfactor = 80);
CREATE INDEX wake_ups_to_do ON wake_ups (backend, next_try_at) WHERE next_try_at IS NOT NULL;
CREATE INDEX wake_ups_job ON wake_ups (instance_id, job_id);
CREATE INDEX wake_ups_due_at ON wake_ups (due_at);

-- Which keys of a job were delivered, so that the same key again is known for what it is.
-- No reference to `instances`: it is written on the fire path, and means nothing without the instance's one-shots.
CREATE TABLE delivered_keys (
    instance_id  text NOT NULL,
    job_id       text NOT NULL,
    dedup_key    text NOT NULL,
    schedule_id  uuid NOT NULL,
    delivered_at timestamptz NOT NULL,
    second_fires smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, job_id, dedup_key)
) WITH (fillfactor = 90);
CREATE INDEX delivered_keys_delivered_at ON delivered_keys (delivered_at);

-- History: one row per attempt, written when it starts and completed when it ends.
CREATE TABLE fires (
    attempt_id   uuid PRIMARY KEY,
    instance_id  text NOT NULL,
    job_id       text NOT NULL,
    schedule_id  uuid NOT NULL,
    dedup_key    text NOT NULL,
    fire_at      timestamptz NOT NULL,
    attempt      integer NOT NULL,
    started_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    outcome      fire_outcome NOT NULL DEFAULT 'started',
    http_status  smallint,
    error        text CHECK (length(error) <= 1000),
    CHECK ((ended_at IS NULL) = (outcome = 'started'))
) WITH (fillfactor = 80);
CREATE INDEX fires_job ON fires (instance_id, job_id, started_at);
CREATE INDEX fires_started_at ON fires (started_at);

-- Keys that sign fire tokens. The private half is here only encrypted (AES-256-GCM), or not at all (a PEM file).
CREATE TABLE signing_keys (
    kid           text PRIMARY KEY,
    alg           signing_alg NOT NULL,
    state         key_state NOT NULL,
    -- Imported from the portal: rotated by hand, activated only when agents can see it.
    imported      boolean NOT NULL DEFAULT false,
    public_jwk    jsonb NOT NULL,
    private_nonce bytea,
    private_key   bytea,
    pem_path      text,
    published_at  timestamptz NOT NULL,
    -- When an imported key was first seen at the JWKS URL that agents use: it may sign once the caches there know it.
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
