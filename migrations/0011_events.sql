-- Events for operators and portals, and the webhooks that receive them. docs/events.md has the types and the rules.
--
-- A fact is written in the same commit as what it reports, so that no crash loses it. Sweeps group facts to events, and an
-- event has one delivery for each webhook that wants it.

-- ── Webhooks ──

CREATE TYPE webhook_end    AS ENUM ('operator', 'gone', 'failing');
CREATE TYPE delivery_state AS ENUM ('pending', 'delivered', 'refused');

CREATE TABLE webhooks (
    webhook_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    url              text NOT NULL CHECK (length(url) BETWEEN 1 AND 2048),
    description      text CHECK (length(description) BETWEEN 1 AND 255),
    -- Only events of this org. NULL: those of the whole service.
    org_id           text CHECK (length(org_id) BETWEEN 1 AND 255),
    -- Only events of these types. NULL: all types.
    types            text[] CHECK (cardinality(types) BETWEEN 1 AND 64),
    -- The secret that signs, encrypted (AES-256-GCM), and the one before it.
    secret_nonce     bytea NOT NULL,
    secret           bytea NOT NULL,
    old_secret_nonce bytea,
    old_secret       bytea,
    -- End of the time for which the old secret signs as well.
    old_secret_until timestamptz,
    -- The reason for which nothing is sent. NULL: it is enabled.
    ended_by         webhook_end,
    ended_at         timestamptz,
    -- Failed attempts since the latest accepted one, and the end of the first of them.
    failures         integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    failing_since    timestamptz,
    -- No attempt starts earlier.
    next_attempt_at  timestamptz NOT NULL DEFAULT now(),
    -- Result of the latest attempt. Both NULL: there is none.
    last_status      smallint,
    last_error       text CHECK (length(last_error) <= 1000),
    -- Fencing token and end of the lease of the replica that makes the attempt.
    lease_token      uuid,
    lease_until      timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK ((ended_by IS NULL) = (ended_at IS NULL)),
    CHECK ((failures = 0) = (failing_since IS NULL)),
    CHECK ((lease_token IS NULL) = (lease_until IS NULL)),
    CHECK (num_nulls(old_secret_nonce, old_secret, old_secret_until) IN (0, 3))
) WITH (fillfactor = 70);
-- For the events of an org, and the deletion of its webhooks.
CREATE INDEX webhooks_of_org ON webhooks (org_id) WHERE org_id IS NOT NULL;

-- ── Facts ──

-- What has happened and is in no event yet. A topic (the type up to the dot) becomes events at once, so that the end of a
-- condition is not reported before its beginning.
CREATE TABLE event_facts (
    fact_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type        text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
    topic       text NOT NULL GENERATED ALWAYS AS (split_part(type, '.', 1)) STORED,
    happened_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: it concerns the service.
    org_id      text,
    instance_id text,
    job_id      text,
    data        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data) = 'object')
);
-- For sweeps.
CREATE INDEX event_facts_of_topic ON event_facts (topic, fact_id);

-- Without webhooks nobody would read the events: nothing is stored. Otherwise the fact belongs to the org of its instance.
CREATE FUNCTION admit_event_fact() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhooks) THEN
        RETURN NULL;
    END IF;
    IF NEW.instance_id IS NOT NULL THEN
        NEW.org_id := (SELECT org_id FROM instances WHERE instance_id = NEW.instance_id);
    END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER event_facts_admitted BEFORE INSERT ON event_facts FOR EACH ROW
    EXECUTE FUNCTION admit_event_fact();

-- A one-shot has become a dead letter or stuck, by whichever statement.
CREATE FUNCTION note_dead_one_shot() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO event_facts (type, happened_at, instance_id, job_id, data)
    VALUES (CASE NEW.state WHEN 'stuck' THEN 'one_shot.stuck' ELSE 'dead_letter.created' END,
            NEW.dead_since, NEW.instance_id, NEW.job_id,
            jsonb_strip_nulls(jsonb_build_object(
                'schedule_id', NEW.schedule_id, 'fire_at', NEW.fire_at_text,
                -- Not the agent's error text: it is kept for another time, and leaves the service only for operators.
                'reason', dead_reason_of(NEW.state, NEW.expired), 'attempts', NEW.attempts,
                'last_status', NEW.last_status)));
    RETURN NULL;
END;
$$;
-- Claims and confirmations do not set the column, so they do not evaluate the condition.
CREATE TRIGGER one_shots_dead AFTER UPDATE OF dead_since ON one_shots FOR EACH ROW
    WHEN (NEW.dead_since IS NOT NULL AND NEW.dead_since IS DISTINCT FROM OLD.dead_since)
    EXECUTE FUNCTION note_dead_one_shot();

-- A signing key has taken a step of its rotation.
CREATE FUNCTION note_signing_key() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO event_facts (type, data)
    VALUES ('signing_key.' || CASE NEW.state WHEN 'next' THEN 'published' WHEN 'active' THEN 'activated'
                                             WHEN 'retired' THEN 'retired' ELSE 'removed' END,
            jsonb_build_object('kid', NEW.kid, 'alg', NEW.alg, 'imported', NEW.imported));
    RETURN NULL;
END;
$$;
CREATE TRIGGER signing_keys_published AFTER INSERT ON signing_keys FOR EACH ROW
    EXECUTE FUNCTION note_signing_key();
CREATE TRIGGER signing_keys_changed AFTER UPDATE OF state ON signing_keys FOR EACH ROW
    WHEN (NEW.state <> OLD.state)
    EXECUTE FUNCTION note_signing_key();

-- ── Events ──

CREATE TABLE events (
    -- Order of the events, and the cursor of lists.
    sequence    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id    uuid NOT NULL UNIQUE,
    type        text NOT NULL,
    -- Org of the webhooks that it is for. NULL: for those of the whole service.
    org_id      text,
    -- Times of the first and the last of its facts, and their number.
    occurred_at timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    count       bigint NOT NULL CHECK (count > 0),
    -- What webhooks get as `data`.
    data        jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
-- For lists, and for the time of a topic's latest event.
CREATE INDEX events_of_topic ON events (split_part(type, '.', 1), sequence);
CREATE INDEX events_of_org ON events (org_id, sequence);

CREATE TABLE webhook_deliveries (
    webhook_id  uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    sequence    bigint NOT NULL REFERENCES events ON DELETE CASCADE,
    state       delivery_state NOT NULL DEFAULT 'pending',
    attempts    integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    -- End of the first attempt since the event became pending: the limit of refusals counts from it.
    tried_since timestamptz,
    PRIMARY KEY (webhook_id, sequence)
);
-- For the next event of a webhook, and the backlog.
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id, sequence) WHERE state = 'pending';
-- For the deletion of events, and the deliveries of one.
CREATE INDEX webhook_deliveries_of_event ON webhook_deliveries (sequence);

CREATE TABLE webhook_attempts (
    webhook_id  uuid NOT NULL,
    sequence    bigint NOT NULL,
    attempt     integer NOT NULL,
    started_at  timestamptz NOT NULL,
    duration_ms integer NOT NULL CHECK (duration_ms >= 0),
    http_status smallint,
    error       text CHECK (length(error) <= 1000),
    PRIMARY KEY (webhook_id, sequence, attempt),
    FOREIGN KEY (webhook_id, sequence) REFERENCES webhook_deliveries ON DELETE CASCADE
);

-- Returns true if a webhook gets an event. A failed one does, for the time when it is enabled again.
CREATE FUNCTION wants_event(webhook webhooks, type text, org_id text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (webhook).org_id IS NOT DISTINCT FROM org_id
       AND ((webhook).types IS NULL OR type = ANY ((webhook).types))
       AND COALESCE((webhook).ended_by = 'failing', true);

-- Returns the topics whose facts are ripe: the oldest is `wait` old, and the topic's latest event `pause`.
CREATE FUNCTION ripe_event_topics(wait interval, pause interval) RETURNS SETOF text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE topics AS (
        (SELECT topic FROM event_facts ORDER BY topic LIMIT 1)
        UNION ALL
        SELECT (SELECT f.topic FROM event_facts f WHERE f.topic > t.topic ORDER BY f.topic LIMIT 1)
        FROM topics t WHERE t.topic IS NOT NULL
    )
    SELECT t.topic FROM topics t
    WHERE (SELECT f.happened_at FROM event_facts f WHERE f.topic = t.topic ORDER BY f.fact_id LIMIT 1) <= now() - wait
      AND COALESCE((SELECT e.created_at FROM events e WHERE split_part(e.type, '.', 1) = t.topic
                    ORDER BY e.sequence DESC LIMIT 1) <= now() - pause, true);
END;

-- Returns the id of the event that begins with this fact: the same whoever makes it.
CREATE FUNCTION event_id_of(fact_id bigint, type text, scope text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN left(encode(sha256(convert_to(concat_ws(':', fact_id, type, scope), 'UTF8')), 'hex'), 32)::uuid;

-- Makes events of the facts of a topic, at most `most` of them: one event for each type, and one more for each org that has
-- webhooks of its own. The id follows from the first fact. Returns the events.
CREATE FUNCTION sweep_event_topic(of_topic text, most integer, shown integer)
    RETURNS TABLE (event_id uuid, type text, org_id text, count bigint)
    LANGUAGE plpgsql
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH taken AS (
        DELETE FROM event_facts
        WHERE fact_id IN (SELECT f.fact_id FROM event_facts f WHERE f.topic = of_topic ORDER BY f.fact_id LIMIT most)
        RETURNING *
    ), placed AS (
        SELECT t.*, s.scope, row_number() OVER (PARTITION BY t.type, s.scope ORDER BY t.fact_id) AS place
        FROM taken t
        JOIN (SELECT NULL AS scope UNION SELECT w.org_id FROM webhooks w WHERE w.org_id IS NOT NULL) s
            ON s.scope IS NULL OR s.scope = t.org_id
    ), made AS (
        INSERT INTO events (event_id, type, org_id, occurred_at, last_at, count, data)
        SELECT event_id_of(min(p.fact_id), p.type, p.scope), p.type, p.scope, min(p.happened_at),
               max(p.happened_at), count(*),
               jsonb_build_object(
                   'count', count(*), 'first_at', min(p.happened_at), 'last_at', max(p.happened_at),
                   'instances', count(DISTINCT p.instance_id), 'orgs', count(DISTINCT p.org_id),
                   'items', jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                       'at', p.happened_at, 'org_id', p.org_id, 'instance_id', p.instance_id, 'job_id', p.job_id)) || p.data
                       ORDER BY p.fact_id) FILTER (WHERE p.place <= shown))
        FROM placed p
        GROUP BY p.type, p.scope
        ORDER BY min(p.fact_id), p.scope
        RETURNING *
    ), queued AS (
        INSERT INTO webhook_deliveries (webhook_id, sequence)
        SELECT w.webhook_id, m.sequence FROM made m JOIN webhooks w ON wants_event(w, m.type, m.org_id)
    )
    SELECT m.event_id, m.type, m.org_id, m.count FROM made m;
END;
$$;

-- Makes events of all topics whose facts are ripe, one process at a time. Returns the events.
CREATE FUNCTION sweep_events(wait interval, pause interval, most integer, shown integer)
    RETURNS TABLE (event_id uuid, type text, org_id text, count bigint)
    LANGUAGE plpgsql
AS $$
DECLARE
    of_topic text;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('nas_cron.sweep_events')) THEN
        RETURN;
    END IF;
    FOR of_topic IN SELECT ripe_event_topics(wait, pause) LOOP
        RETURN QUERY SELECT * FROM sweep_event_topic(of_topic, most, shown);
    END LOOP;
END;
$$;
