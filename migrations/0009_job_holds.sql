-- Holds of single jobs. They outlive the one-shot: agents pause a job with a cancel and resume it with a provision.

CREATE TABLE job_holds (
    instance_id text NOT NULL REFERENCES instances ON DELETE CASCADE,
    job_id      text NOT NULL CHECK (length(job_id) BETWEEN 1 AND 255),
    reason      text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (instance_id, job_id)
);
