-- Lists of webhooks read a limited number of rows: the oldest first, and those that fail.
CREATE INDEX webhooks_by_age ON webhooks (created_at, webhook_id);
CREATE INDEX webhooks_failing ON webhooks (created_at, webhook_id) WHERE failures > 0 OR ended_by IN ('failing', 'gone');

-- Makes events of the facts of a topic, at most `most` of them: one event for each type, and one more for each org that has
-- webhooks of its own. The id follows from the first fact. Returns the events.
--
-- As before, but the orgs are found by hashing: each fact was compared with every org that has webhooks.
CREATE OR REPLACE FUNCTION sweep_event_topic(of_topic text, most integer, shown integer)
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
        SELECT s.*, row_number() OVER (PARTITION BY s.type, s.scope ORDER BY s.fact_id) AS place
        FROM (
            SELECT t.*, NULL AS scope FROM taken t
            UNION ALL
            SELECT t.*, t.org_id FROM taken t WHERE t.org_id IN (SELECT w.org_id FROM webhooks w WHERE w.org_id IS NOT NULL)
        ) s
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
        SELECT w.webhook_id, m.sequence FROM made m JOIN webhooks w ON w.org_id = m.org_id AND wants_event(w, m.type, m.org_id)
        UNION ALL
        SELECT w.webhook_id, m.sequence
        FROM made m JOIN webhooks w ON w.org_id IS NULL AND m.org_id IS NULL AND wants_event(w, m.type, m.org_id)
    )
    SELECT m.event_id, m.type, m.org_id, m.count FROM made m;
END;
$$;
