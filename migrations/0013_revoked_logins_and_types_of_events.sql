-- An operator can end a login without beginning another one.
ALTER TYPE login_end ADD VALUE 'revoked';

-- For lists of events of one type.
CREATE INDEX events_of_type ON events (type, sequence);
