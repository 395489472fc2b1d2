CREATE TABLE baseline (id bigint PRIMARY KEY, due timestamptz NOT NULL, body text NOT NULL) WITH (fillfactor = 50);
INSERT INTO baseline SELECT n, now() + n * interval '1 s', repeat('x', 300) FROM generate_series(1, {count}) AS n;
CREATE INDEX baseline_due ON baseline (due);
