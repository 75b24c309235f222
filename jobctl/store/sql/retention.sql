-- name: prune_oldest_ended
SELECT pk, completed_at FROM job
WHERE status = ?1 AND completed_at IS NOT NULL AND completed_at < ?2
    AND pk NOT IN (SELECT pk FROM job WHERE held <> 0)
ORDER BY completed_at, pk LIMIT ?3

-- name: prune_job
SELECT created_by, queue, EXISTS (SELECT 1 FROM job_log WHERE job = job.pk), length(data) + coalesce(length(result), 0),
    coalesce((SELECT length(body) FROM job_data WHERE job = job.pk), 0),
    coalesce((SELECT length(body) FROM job_result WHERE job = job.pk), 0)
FROM job WHERE pk = ?

-- name: prune_ended_at_place
SELECT completed_at FROM job WHERE status = ? AND completed_at IS NOT NULL ORDER BY completed_at LIMIT 1 OFFSET ?

-- name: prune_first_held
SELECT min(completed_at) FROM job INDEXED BY job_held WHERE held <> 0 AND status = ? AND completed_at IS NOT NULL

-- name: prune_id
SELECT id FROM job WHERE pk = ?

-- name: prune_ended_in_all
SELECT coalesce(sum(n), 0) FROM counter WHERE owner = '' AND status = ?

-- name: prune_ended_before
SELECT status, count(*) FROM job
WHERE status IN (SELECT value FROM json_each(?1)) AND completed_at IS NOT NULL AND completed_at < ?2 GROUP BY status

-- name: prune_delete_job
DELETE FROM job WHERE pk = ?

-- name: prune_log_of
SELECT count(*), max(n) FROM (SELECT n FROM job_log WHERE job = ?1 ORDER BY n LIMIT ?2)

-- name: prune_cut_log
DELETE FROM job_log WHERE job = ? AND n <= ?

-- name: prune_last_line
SELECT max(n) FROM job_log WHERE job = ?

-- name: prune_ended_after
SELECT pk, completed_at FROM job
WHERE status = ?1 AND completed_at IS NOT NULL AND (completed_at, pk) > (?2, ?3) AND completed_at < ?4
ORDER BY completed_at, pk LIMIT ?5

-- name: prune_running
SELECT pk FROM job WHERE status = 'running' AND status <> 'completed'

-- name: prune_old_lines
SELECT max(n) FROM (SELECT n, at FROM job_log WHERE job = ?1 ORDER BY n LIMIT ?2) WHERE at < ?3

-- name: prune_first_events
SELECT seq, at FROM job_event ORDER BY seq LIMIT ?

-- name: prune_delete_events
DELETE FROM job_event WHERE seq <= ?

-- name: prune_forget_keys
DELETE FROM idempotency WHERE rowid IN (SELECT rowid FROM idempotency WHERE at <= ? ORDER BY at LIMIT ?)

-- name: prune_zero_counters
SELECT owner, queue, status FROM counter WHERE n = 0 AND owner <> '' LIMIT ?

-- name: prune_delete_zero
DELETE FROM counter WHERE owner = ? AND queue = ? AND status = ? AND n = 0
