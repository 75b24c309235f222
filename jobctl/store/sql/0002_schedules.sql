-- Schedules, and the ticks that each of them has had its job for. Times are ms since the epoch.

CREATE TABLE schedule (
    name         TEXT PRIMARY KEY,
    cron         TEXT NOT NULL,
    timezone     TEXT NOT NULL,
    job_name     TEXT NOT NULL,
    data         BLOB NOT NULL,
    queue        TEXT NOT NULL,
    priority     INTEGER NOT NULL,
    max_attempts INTEGER,
    timeout      REAL,
    tags         TEXT,                        -- JSON array, NULL for none
    missed       TEXT NOT NULL,               -- skip, once
    enabled      INTEGER NOT NULL,
    source       TEXT NOT NULL,               -- config, api
    created_by   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    version      INTEGER NOT NULL DEFAULT 1,  -- of what it says; a run changes nothing here
    next_run     INTEGER,                     -- NULL while it is disabled
    last_run     INTEGER,
    last_job     TEXT,
    run_count    INTEGER NOT NULL DEFAULT 0,
    error        TEXT,                        -- why the last tick could enqueue nothing
    settled      INTEGER NOT NULL DEFAULT 0   -- up to here no tick enqueues anything, in schedule_tick or not
);

-- A tick stands here once its job is enqueued, and never has another, whatever the clock does. Only the latest of each
-- schedule are kept; `settled` takes the place of those before.
CREATE TABLE schedule_tick (
    schedule TEXT NOT NULL,
    tick     INTEGER NOT NULL,
    PRIMARY KEY (schedule, tick)
) WITHOUT ROWID;
