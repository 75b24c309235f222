-- name: insert_job
INSERT INTO job (id, name, queue, data, status, priority, max_attempts, created_at, scheduled_for, created_by,
                 unique_key, timeout, tags, tags_folded, ready, due, seq)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_data
INSERT INTO job_data (job, body) SELECT pk, ? FROM job WHERE id = ?

-- name: data_of
SELECT body FROM job_data WHERE job = ?

-- name: delete_data
DELETE FROM job_data WHERE job = ?

-- name: insert_result
INSERT OR REPLACE INTO job_result (job, body) VALUES (?, ?)

-- name: result_of
SELECT body FROM job_result WHERE job = ?

-- name: delete_result
DELETE FROM job_result WHERE job = ?

-- name: save_job
UPDATE job SET status = ?, attempts = ?, error = ?, result = ?, progress = ?, progress_message = ?, started_at = ?,
    completed_at = ?, scheduled_for = ?, processing_by = ?, version = ?, cancel_requested = ?, run = ?, ready = ?,
    due = ?, held = ?, pid = ?, pid_started = ?, seq = ?
WHERE pk = ?

-- name: start_job
UPDATE job SET status = 'running', ready = 0, run = ?, version = ?, started_at = ?, processing_by = ?,
    progress = NULL, progress_message = NULL, seq = ?
WHERE pk = ?

-- name: note_progress
UPDATE job SET progress = ?, progress_message = ?, version = ?, seq = ? WHERE pk = ?

-- name: note_process
UPDATE job SET pid = ?, pid_started = ? WHERE pk = ?

-- name: delete_job
DELETE FROM job WHERE pk = ?

-- name: job_by_id
SELECT {columns} FROM job WHERE id = ?

-- name: live_by_unique_key
SELECT {columns} FROM job
WHERE created_by = ? AND unique_key = ? AND status IN ('pending', 'running', 'retrying')

-- name: ready_jobs
SELECT {columns} FROM job WHERE ready = 1 AND queue = ? ORDER BY priority DESC, pk LIMIT ?

-- name: due_jobs
SELECT pk, name, queue FROM job WHERE due <= ? AND held = 0 ORDER BY due LIMIT ?

-- name: stage_job
UPDATE job SET ready = ?, due = NULL WHERE pk = ?

-- name: waiting_to_retry
SELECT {columns} FROM job
WHERE due >= ? AND status = 'retrying' AND pk > ?
    AND coalesce((SELECT at FROM job_event WHERE seq = job.seq), 0) <= ?
ORDER BY pk LIMIT ?

-- name: next_due
SELECT due FROM job WHERE due IS NOT NULL AND held = 0 ORDER BY due LIMIT 1

-- name: running_jobs
SELECT {columns} FROM job WHERE status = 'running' AND status <> 'completed'

-- name: held_jobs
SELECT {columns} FROM job WHERE held <> 0 AND status <> 'running'

-- name: free_held
UPDATE job SET held = 0, pid = NULL, pid_started = NULL WHERE held <> 0

-- name: park_unknown
UPDATE job SET ready = 0 WHERE ready = 1 AND name NOT IN (SELECT value FROM json_each(?))

-- name: unpark_known
UPDATE job SET ready = 1
WHERE status IN ('pending', 'retrying') AND status <> 'completed' AND ready = 0 AND due IS NULL AND held = 0
    AND (?1 IS NULL OR name IN (SELECT value FROM json_each(?1)))

-- name: insert_event
INSERT INTO job_event (seq, kind, job_id, at, owner, name, queue, tags, status_before, status, body, prev)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: head
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'job_event'), 0)

-- name: log_start
SELECT min(seq) FROM job_event

-- name: events_after
SELECT seq, kind, job_id, at, owner, name, queue, tags, status_before, status, body
FROM job_event WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?

-- name: history
WITH RECURSIVE chain (seq, prev, depth) AS (
    SELECT seq, prev, 1 FROM job_event WHERE seq = ?2 AND ?1 IS NOT NULL
    UNION ALL
    SELECT e.seq, e.prev, depth + 1 FROM chain JOIN job_event AS e ON e.seq = chain.prev WHERE depth < ?3
)
SELECT e.seq, kind, job_id, at, owner, name, queue, tags, status_before, status, body
FROM chain JOIN job_event AS e USING (seq) ORDER BY e.seq

-- name: add_to_counter
INSERT INTO counter (owner, queue, status, n) VALUES (?, ?, ?, ?)
ON CONFLICT (owner, queue, status) DO UPDATE SET n = n + excluded.n

-- name: counters_of
SELECT queue, status, n FROM counter WHERE owner = ? AND n <> 0

-- name: all_counters
SELECT owner, queue, status, n FROM counter WHERE owner <> '' AND n <> 0

-- name: all_queues
SELECT name, paused FROM queue ORDER BY name

-- name: insert_queue
INSERT INTO queue (name) VALUES (?)

-- name: pause_queue
UPDATE queue SET paused = ? WHERE name = ?

-- name: last_log_line
SELECT coalesce(max(n), 0) FROM job_log WHERE job = ?

-- name: insert_log_line
INSERT INTO job_log (job, n, at, stream, text) VALUES (?, ?, ?, ?, ?)

-- name: log_lines
SELECT n, at, stream, text FROM job_log WHERE job = ? AND n > ? ORDER BY n LIMIT ?

-- name: delete_log
DELETE FROM job_log WHERE job = ?

-- name: remembered
SELECT fingerprint, answer FROM idempotency WHERE owner = ? AND key = ? AND at > ?

-- name: remember
INSERT OR REPLACE INTO idempotency (owner, key, fingerprint, answer, at) VALUES (?, ?, ?, ?, ?)

-- name: forget_old
DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE at <= ? ORDER BY at LIMIT 16)

-- name: meta
SELECT key, value FROM meta

-- name: set_meta
INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: probe
INSERT INTO meta (key, value) VALUES ('probe', hex(randomblob(8)))
ON CONFLICT (key) DO UPDATE SET value = excluded.value
