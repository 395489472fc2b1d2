-- When an imported key was first seen at the JWKS URL that agents use: it may sign once the caches there know it.
ALTER TABLE signing_keys ADD COLUMN seen_at timestamptz;
-- One successor at a time: a rotation is one row, whoever begins it.
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys ((true)) WHERE state = 'next';
