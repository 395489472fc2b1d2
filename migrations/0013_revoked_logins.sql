-- An operator can end a login without beginning another one.
ALTER TYPE login_end ADD VALUE 'revoked';
