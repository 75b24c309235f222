-- name: insert_jobs
WITH made AS (
    INSERT INTO job (id, name, queue, data, status, priority, max_attempts, created_at, scheduled_for, created_by,
                     unique_key, timeout, tags, tags_folded, ready, due, live_key)
    SELECT e.id, e.name, e.queue, e.data, e.status, e.priority, e.max_attempts, e.created_at, e.scheduled_for,
        e.created_by, e.unique_key, e.timeout, e.tags, e.tags_folded, e.ready, e.due, e.unique_key
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
                $9::bigint[], $10::text[], $11::text[], $12::double precision[], $13::text[], $14::text[],
                $15::bigint[], $16::bigint[])
        WITH ORDINALITY AS e (id, name, queue, data, status, priority, max_attempts, created_at, scheduled_for,
                              created_by, unique_key, timeout, tags, tags_folded, ready, due, place)
    ORDER BY e.place
    RETURNING pk, id, queue, name, priority, ready
), waiting AS (
    INSERT INTO ready (queue, name, priority, job)
    SELECT queue, name, priority, pk FROM made WHERE ready = 1
)
SELECT pk FROM made ORDER BY pk

-- name: insert_data
INSERT INTO job_data (job, body) SELECT * FROM unnest($1::bigint[], $2::bytea[])

-- name: data_of
SELECT body FROM job_data WHERE job = $1

-- name: delete_data
DELETE FROM job_data WHERE job = $1

-- name: delete_all_data
DELETE FROM job_data WHERE job = ANY ($1::bigint[])

-- name: insert_results
INSERT INTO job_result (job, body) SELECT * FROM unnest($1::bigint[], $2::bytea[])
ON CONFLICT (job) DO UPDATE SET body = excluded.body

-- name: result_of
SELECT body FROM job_result WHERE job = $1

-- name: delete_result
DELETE FROM job_result WHERE job = $1

-- name: save_jobs
UPDATE job SET status = e.status, attempts = e.attempts, error = e.error, result = e.result, progress = e.progress,
    progress_message = e.progress_message, started_at = e.started_at, completed_at = e.completed_at,
    scheduled_for = e.scheduled_for, processing_by = e.processing_by, version = e.version,
    cancel_requested = e.cancel_requested, run = e.run, ready = e.ready, due = e.due, held = e.held, pid = e.pid,
    pid_started = e.pid_started,
    live_key = CASE WHEN e.status IN ('pending', 'running', 'retrying') THEN job.unique_key END
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bytea[], $5::double precision[], $6::text[], $7::bigint[],
            $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
            $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[])
    AS e (status, attempts, error, result, progress, progress_message, started_at, completed_at, scheduled_for,
          processing_by, version, cancel_requested, run, ready, due, held, pid, pid_started, pk, was)
WHERE job.pk = e.pk AND job.version = e.was

-- name: complete_jobs
-- What `save_jobs` does where it is the end of a run that was completed, and with a fifth of the values.
UPDATE job SET status = 'completed', attempts = attempts + 1, error = NULL, result = e.result,
    completed_at = e.completed_at, version = version + 1, pid = NULL, pid_started = NULL, live_key = NULL
FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[]) AS e (pk, was, result, completed_at)
WHERE job.pk = e.pk AND job.version = e.was

-- name: still_running
SELECT 1 FROM job JOIN unnest($1::bigint[], $2::bigint[]) AS e (pk, run) USING (pk)
WHERE job.run = e.run AND status = 'running' FOR KEY SHARE OF job

-- name: make_ready
INSERT INTO ready (queue, name, priority, job) SELECT queue, name, priority, pk FROM job WHERE pk = ANY ($1::bigint[])
ON CONFLICT DO NOTHING

-- name: make_unready
DELETE FROM ready USING job
WHERE job.pk = ANY ($1::bigint[]) AND ready.queue = job.queue AND ready.name = job.name
    AND ready.priority = job.priority AND ready.job = job.pk

-- name: delete_results
DELETE FROM job_result WHERE job = ANY ($1::bigint[])

-- name: delete_logs
DELETE FROM job_log WHERE job = ANY ($1::bigint[])

-- name: delete_jobs
WITH gone AS (DELETE FROM job WHERE pk = ANY ($1::bigint[]) RETURNING queue, name, priority, pk)
DELETE FROM ready USING gone
WHERE ready.queue = gone.queue AND ready.name = gone.name AND ready.priority = gone.priority AND ready.job = gone.pk

-- name: job_by_id
SELECT {columns} FROM job WHERE id = $1

-- name: lock_job
SELECT {columns} FROM job WHERE id = $1 FOR NO KEY UPDATE

-- name: lock_jobs
SELECT {columns} FROM job WHERE id = ANY ($1::text[]) ORDER BY pk FOR NO KEY UPDATE

-- name: live_by_unique_key
SELECT {columns} FROM job WHERE created_by = $1 AND live_key = $2

-- name: live_by_keys
SELECT live_key, id FROM job WHERE created_by = $1 AND live_key = ANY ($2::text[])

-- name: waiting_to_retry
SELECT {columns} FROM job
WHERE due >= $1 AND status = 'retrying' AND pk > $2
    AND coalesce((SELECT at FROM job_event WHERE job = job.pk AND job <> 0 ORDER BY seq DESC LIMIT 1), 0) <= $3
ORDER BY pk LIMIT $4 FOR NO KEY UPDATE

-- name: running_jobs
SELECT {columns} FROM job
WHERE status = 'running' AND status <> 'completed' AND NOT EXISTS (
    SELECT 1 FROM worker WHERE id = processing_by AND expires_at > (extract(epoch FROM clock_timestamp()) * 1000)
)
ORDER BY pk

-- name: held_jobs
SELECT {columns} FROM job
WHERE held <> 0 AND status <> 'running' AND NOT EXISTS (
    SELECT 1 FROM worker WHERE id = processing_by AND expires_at > (extract(epoch FROM clock_timestamp()) * 1000)
)
ORDER BY pk

-- name: free_held
UPDATE job SET held = 0, pid = NULL, pid_started = NULL
WHERE held <> 0 AND NOT EXISTS (
    SELECT 1 FROM worker WHERE id = processing_by AND expires_at > (extract(epoch FROM clock_timestamp()) * 1000)
)

-- name: lock_log
SELECT pg_advisory_xact_lock(1785684579, $1::int)

-- name: append
SELECT base, noted FROM append_events($13::int, $1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[],
    $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[], $11::bytea, $12::bigint)

-- name: has_event
SELECT EXISTS (
    SELECT 1 FROM job_event
    WHERE job = $1 AND job_id = $2 AND at = $3 AND body = $4
        AND (job <> 0 OR seq > (SELECT max(seq) - 100000 FROM job_event))
)

-- name: has_note
SELECT EXISTS (SELECT 1 FROM note WHERE body = $1)

-- name: head
SELECT greatest((SELECT max(seq) FROM job_event), (SELECT cut FROM log))

-- name: heads
SELECT greatest((SELECT max(seq) FROM job_event), (SELECT cut FROM log)), coalesce((SELECT max(n) FROM note), 0),
    (extract(epoch FROM clock_timestamp()) * 1000)::bigint

-- name: log_start
SELECT min(seq) FROM job_event WHERE seq > (SELECT cut FROM log)  -- not over the dead rows of what was pruned

-- name: events_after
SELECT seq, kind, job_id, at, owner, name, queue, tags, status_before, status, body
FROM job_event WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3

-- name: glance_after
SELECT count(*), min(seq), max(seq), coalesce(bool_or(status IN ('pending', 'retrying')), false)
FROM (SELECT seq, status FROM job_event WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3) AS page

-- name: notes_after
SELECT n, body FROM note WHERE n > $1 ORDER BY n LIMIT $2

-- name: forget_notes
DELETE FROM note WHERE at < $1 AND n < (SELECT max(n) FROM note)

-- name: history
SELECT seq, kind, job_id, at, owner, name, queue, tags, status_before, status, body
FROM (
    SELECT * FROM job_event WHERE job = $1 AND job <> 0 AND $2::bigint IS NOT NULL ORDER BY seq DESC LIMIT $3
) AS latest ORDER BY seq

-- name: lock_folding
SELECT folded FROM log FOR NO KEY UPDATE SKIP LOCKED

-- name: fold
WITH moves AS (
    SELECT owner, queue, status_before, status, count(*) AS n FROM job_event
    WHERE seq > $1 AND seq <= $2 AND status IS DISTINCT FROM status_before
    GROUP BY owner, queue, status_before, status
), changes AS (
    SELECT owner, queue, status, n FROM moves WHERE status IS NOT NULL
    UNION ALL SELECT owner, queue, status_before, -n FROM moves WHERE status_before IS NOT NULL
    UNION ALL SELECT '', queue, status, n FROM moves WHERE status IS NOT NULL
    UNION ALL SELECT '', queue, status_before, -n FROM moves WHERE status_before IS NOT NULL
), done AS (UPDATE log SET folded = $2)
INSERT INTO counter AS c (owner, queue, status, n)
SELECT owner, queue, status, sum(n) FROM changes GROUP BY owner, queue, status HAVING sum(n) <> 0
ORDER BY owner, queue, status
ON CONFLICT (owner, queue, status) DO UPDATE SET n = c.n + excluded.n

-- name: add_to_counter
INSERT INTO counter AS c (owner, queue, status, n) VALUES ($1, $2, $3, $4)
ON CONFLICT (owner, queue, status) DO UPDATE SET n = c.n + excluded.n

-- name: counters_of
WITH fresh AS (
    SELECT queue, status_before, status FROM job_event
    WHERE seq > (SELECT folded FROM log) AND ($1 = '' OR owner = $1) AND status IS DISTINCT FROM status_before
)
SELECT queue, status, sum(n)::bigint FROM (
    SELECT queue, status, n FROM counter WHERE owner = $1
    UNION ALL SELECT queue, status, 1 FROM fresh WHERE status IS NOT NULL
    UNION ALL SELECT queue, status_before, -1 FROM fresh WHERE status_before IS NOT NULL
) AS counted GROUP BY queue, status HAVING sum(n) <> 0

-- name: all_counters
WITH fresh AS (
    SELECT owner, queue, status_before, status FROM job_event
    WHERE seq > (SELECT folded FROM log) AND status IS DISTINCT FROM status_before
)
SELECT owner, queue, status, sum(n)::bigint FROM (
    SELECT owner, queue, status, n FROM counter WHERE owner <> ''
    UNION ALL SELECT owner, queue, status, 1 FROM fresh WHERE status IS NOT NULL
    UNION ALL SELECT owner, queue, status_before, -1 FROM fresh WHERE status_before IS NOT NULL
) AS counted GROUP BY owner, queue, status HAVING sum(n) <> 0

-- name: all_queues
SELECT name, paused FROM queue ORDER BY name

-- name: lock_queues
LOCK TABLE queue IN SHARE ROW EXCLUSIVE MODE

-- name: insert_queue
INSERT INTO queue (name) VALUES ($1)

-- name: lock_queue
SELECT paused FROM queue WHERE name = $1 FOR NO KEY UPDATE

-- name: pause_queue
UPDATE queue SET paused = $1 WHERE name = $2

-- name: last_log_line
SELECT coalesce(max(n), 0) FROM job_log WHERE job = $1

-- name: insert_log_lines
INSERT INTO job_log (job, n, at, stream, text)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[])

-- name: log_lines
SELECT n, at, stream, text FROM job_log WHERE job = $1 AND n > $2 ORDER BY n LIMIT $3

-- name: remembered
SELECT fingerprint, answer FROM idempotency WHERE owner = $1 AND key = $2 AND at > $3

-- name: remember
-- Two servers that are given the same keys in other orders write them in one, and so neither waits for the other twice.
INSERT INTO idempotency AS i (owner, key, fingerprint, answer, at)
SELECT e.owner, e.key, e.fingerprint, e.answer, $5
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) AS e (owner, key, fingerprint, answer)
ORDER BY e.owner COLLATE "C", e.key COLLATE "C"
ON CONFLICT (owner, key) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer, at = excluded.at
WHERE i.at <= excluded.at - 86400000

-- name: forget_old
DELETE FROM idempotency WHERE (owner, key) IN (
    SELECT owner, key FROM idempotency WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
)

-- name: meta
SELECT key, value FROM meta

-- name: set_meta
INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: probe
INSERT INTO meta (key, value) VALUES ('probe', gen_random_uuid()::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: xact_status
SELECT pg_xact_status($1::text::xid8)
