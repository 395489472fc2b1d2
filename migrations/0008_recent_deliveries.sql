-- An index of the history by the time of its end, for the deliveries of the latest minutes. Attempts are inserted in this
-- order, so a block range index has a summary for some thousand of them, and an insert writes none.
--
-- Postgres cannot build an index of a partitioned table concurrently. Therefore only small partitions get it here, which takes
-- less than a second: nearly always all but the current week's. New partitions get it when they are created. Until all that are
-- read have it, nothing is examined.

CREATE INDEX fires_ended_at ON ONLY fires USING brin (ended_at) WITH (pages_per_range = 32, autosummarize = on);

DO $$
DECLARE
    -- Maximum size of a partition that gets the index here.
    small CONSTANT bigint := 256 * 1024 * 1024;
    part record;
    begins timestamptz := now();
BEGIN
    FOR part IN
        SELECT c.oid::regclass AS name, c.relname, pg_relation_size(c.oid) AS size
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'fires'::regclass
    LOOP
        IF part.size <= small OR part.relname = 'fires_default' THEN
            EXECUTE format('CREATE INDEX %I ON %s USING brin (ended_at) WITH (pages_per_range = 32, autosummarize = on)',
                           part.relname || '_ended_at_idx', part.name);
            IF part.size = 0 THEN
                -- An empty partition begins with the summary of its first range, which every insert there would write.
                PERFORM brin_desummarize_range((part.relname || '_ended_at_idx')::regclass, 0);
            END IF;
            EXECUTE format('ALTER INDEX fires_ended_at ATTACH PARTITION %I', part.relname || '_ended_at_idx');
        ELSIF part.relname ~ '^fires_\d{8}$' THEN
            begins := GREATEST(begins, (to_date(substr(part.relname, 7), 'YYYYMMDD') + 8)::timestamp AT TIME ZONE 'UTC');
        END IF;
    END LOOP;
    INSERT INTO rearm_watch (examined_until) VALUES (begins);
END;
$$;
