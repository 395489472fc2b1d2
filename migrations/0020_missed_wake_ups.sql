-- Wake-ups that external backends have missed, counted with the statement that takes their one-shots over. The minutes of the plots
-- have those of the last two days.
CREATE TABLE missed_wake_ups (
    backend   scheduler_backend PRIMARY KEY,
    missed    bigint NOT NULL,
    latest_at timestamptz NOT NULL
) WITH (fillfactor = 50);
