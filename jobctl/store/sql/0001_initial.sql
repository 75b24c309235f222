-- The first schema. Times are ms since the epoch; JSON stands as text in BLOB columns.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE queue (
    name   TEXT PRIMARY KEY,
    paused INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE job (
    pk               INTEGER PRIMARY KEY,
    id               TEXT NOT NULL UNIQUE,
    name             TEXT NOT NULL,
    queue            TEXT NOT NULL,
    data             BLOB NOT NULL,
    status           TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    attempts         INTEGER NOT NULL DEFAULT 0,
    max_attempts     INTEGER NOT NULL,
    error            TEXT,
    result           BLOB,
    progress         REAL,
    progress_message TEXT,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    completed_at     INTEGER,
    scheduled_for    INTEGER,
    processing_by    TEXT,
    created_by       TEXT NOT NULL,
    unique_key       TEXT,
    timeout          REAL NOT NULL,
    tags             TEXT,                        -- JSON array, NULL for none
    tags_folded      TEXT,                        -- for searching: case-folded, each after a U+001F
    version          INTEGER NOT NULL DEFAULT 1,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    run              INTEGER NOT NULL DEFAULT 0,  -- number of the last run; never reset (fencing)
    ready            INTEGER NOT NULL DEFAULT 0,  -- 1: may be claimed now
    due              INTEGER,                     -- waits for this time, then becomes ready
    held             INTEGER NOT NULL DEFAULT 0,  -- a given-up run that is still alive; bars a claim
    pid              INTEGER,                     -- process group leader of a running command
    pid_started      INTEGER,
    seq              INTEGER NOT NULL             -- of its last event; events are chained by job_event.prev
);

-- Only what can be claimed now stands here: delayed, parked and finished jobs cost a claim nothing.
CREATE INDEX job_ready ON job (queue, priority DESC, pk) WHERE ready = 1;
CREATE INDEX job_due ON job (due) WHERE due IS NOT NULL;
CREATE INDEX job_held ON job (pk) WHERE held <> 0;
CREATE UNIQUE INDEX job_unique_live ON job (created_by, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'running', 'retrying');
-- Completed jobs are the many; lists that ask for them find them on the way down the table.
CREATE INDEX job_status ON job (status, pk) WHERE status <> 'completed';
CREATE INDEX job_owner ON job (created_by, pk);

CREATE TABLE job_event (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT NOT NULL,
    job_id        TEXT NOT NULL,
    at            INTEGER NOT NULL,
    owner         TEXT NOT NULL,
    name          TEXT NOT NULL,
    queue         TEXT NOT NULL,
    tags          TEXT,
    status_before TEXT,
    status        TEXT,
    body          BLOB NOT NULL,
    prev          INTEGER NOT NULL                -- seq of this job's event before; 0 for the first
);

CREATE TABLE job_log (
    job    INTEGER NOT NULL,                      -- job.pk
    n      INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    stream TEXT NOT NULL,
    text   TEXT NOT NULL,
    PRIMARY KEY (job, n)
) WITHOUT ROWID;

CREATE TABLE counter (
    owner  TEXT NOT NULL,                         -- '' is the total over all owners
    queue  TEXT NOT NULL,
    status TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (owner, queue, status)
) WITHOUT ROWID;

CREATE TABLE idempotency (
    owner       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    answer      BLOB NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX idempotency_at ON idempotency (at);

INSERT INTO queue (name) VALUES ('default');
