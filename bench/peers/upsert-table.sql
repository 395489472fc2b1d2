-- A table like that of the one-shots: the same key, texts of the same lengths, and an index of due times.
CREATE TABLE upserts (
    instance_id text NOT NULL,
    job_id text NOT NULL,
    schedule_id uuid NOT NULL,
    dedup_key text NOT NULL,
    fire_at_text text NOT NULL,
    fire_at timestamptz NOT NULL,
    callback_url text NOT NULL,
    state smallint NOT NULL,
    next_attempt_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, job_id)
);
CREATE INDEX upserts_due ON upserts (next_attempt_at);
