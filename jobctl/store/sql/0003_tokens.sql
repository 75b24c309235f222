-- API tokens, and the sessions of those who signed in. No token is kept: a session has SHA-256 digests only.

CREATE TABLE token (
    jti        TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    role       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    last_used  INTEGER,                           -- to the hour
    revoked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX token_expires ON token (expires_at);

CREATE TABLE session (
    id         TEXT PRIMARY KEY,                  -- the claim `sid` of its access tokens
    handle     BLOB NOT NULL UNIQUE,              -- keyed digest of what all its refresh tokens begin with
    current    BLOB NOT NULL,                     -- digest of the refresh token that is good
    previous   BLOB,                              -- of the one before
    rotated_at INTEGER NOT NULL,
    subject    TEXT NOT NULL,
    role       TEXT NOT NULL,
    origin     TEXT,                              -- the API token or session that made its one-time code
    ends_at    INTEGER NOT NULL,                  -- however much it is used
    expires_at INTEGER NOT NULL,                  -- unless it is used before; the moment at which it was ended
    ended      INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX session_expires ON session (expires_at);
CREATE INDEX session_subject ON session (subject, ended, expires_at);
