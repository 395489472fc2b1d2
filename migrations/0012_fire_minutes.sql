-- Attempts by the minute of their start, for plots: the history is too large to be counted for a page. Replicas add theirs once
-- a minute, while there are any, and delete what is too old for a plot. A replica that is killed loses what it has not added yet.
CREATE TABLE fire_minutes (
    minute    timestamptz PRIMARY KEY,
    delivered bigint NOT NULL,
    failed    bigint NOT NULL,
    -- Gone, dropped, duplicate or lost.
    other     bigint NOT NULL,
    -- Wake-ups that an external backend has missed.
    missed    bigint NOT NULL,
    -- First attempts by lateness: the counts of the buckets of `domain::fire_minutes`, up to the last one that is not 0.
    lateness  bigint[] NOT NULL
);

-- Returns the sums of two histograms, bucket by bucket.
CREATE FUNCTION added_buckets(a bigint[], b bigint[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ARRAY(SELECT COALESCE(s.a, 0) + COALESCE(s.b, 0)
                 FROM unnest(a, b) WITH ORDINALITY AS s(a, b, bucket) ORDER BY s.bucket);

-- The database's clock minus the replica's, as of its latest renewal. NULL: of an older release, or unknown.
ALTER TABLE replicas ADD COLUMN clock_offset_ms bigint;
