-- name: prune_oldest_ended
SELECT pk, completed_at FROM job
WHERE status = ?1 AND completed_at IS NOT NULL AND completed_at < ?2
    AND pk NOT IN (SELECT pk FROM job WHERE held <> 0)
ORDER BY completed_at, pk LIMIT ?3

-- name: prune_look_at
SELECT pk, id, created_by, queue, (SELECT min(n) FROM job_log WHERE job = pk), (SELECT max(n) FROM job_log WHERE job = pk),
    length(data) + coalesce(length(result), 0),
    coalesce((SELECT length(body) FROM job_data WHERE job = pk), 0),
    coalesce((SELECT length(body) FROM job_result WHERE job = pk), 0)
FROM (SELECT value FROM json_each(?1)) CROSS JOIN job ON pk = value

-- name: prune_ended_at_place
SELECT completed_at FROM job WHERE status = ? AND completed_at IS NOT NULL ORDER BY completed_at LIMIT 1 OFFSET ?

-- name: prune_first_held
SELECT min(completed_at) FROM job INDEXED BY job_held WHERE held <> 0 AND status = ? AND completed_at IS NOT NULL

-- name: prune_ended_in_all
SELECT coalesce(sum(n), 0) FROM counter WHERE owner = '' AND status = ?

-- name: prune_ended_before
SELECT status, count(*) FROM job
WHERE status IN (SELECT value FROM json_each(?1)) AND completed_at IS NOT NULL AND completed_at < ?2 GROUP BY status

-- name: prune_delete_jobs
DELETE FROM job WHERE pk IN (SELECT value FROM json_each(?))

-- name: prune_delete_data
DELETE FROM job_data WHERE job IN (SELECT value FROM json_each(?))

-- name: prune_delete_results
DELETE FROM job_result WHERE job IN (SELECT value FROM json_each(?))

-- name: prune_cut_log
DELETE FROM job_log WHERE job = ? AND n <= ?

-- name: prune_lines_of
SELECT value, (SELECT min(n) FROM job_log WHERE job = value), (SELECT max(n) FROM job_log WHERE job = value)
FROM json_each(?1) WHERE EXISTS (SELECT 1 FROM job_log WHERE job = value)

-- name: prune_ended_after
SELECT pk, completed_at FROM job
WHERE status = ?1 AND completed_at IS NOT NULL AND (completed_at, pk) > (?2, ?3) AND completed_at < ?4
ORDER BY completed_at, pk LIMIT ?5

-- name: prune_old_lines
-- Of jobs that run: the first line, and the last of the old ones that follow it; a log's last line stays.
SELECT pk, first, upto FROM (
    SELECT pk, first, (
        SELECT max(n) FROM (
            SELECT n, at FROM job_log
            WHERE job = pk AND n < (SELECT max(n) FROM job_log WHERE job = pk) ORDER BY n LIMIT ?1
        ) WHERE at < ?2
    ) AS upto
    FROM (
        SELECT pk, (SELECT min(n) FROM job_log WHERE job = pk) AS first
        FROM job WHERE status = 'running' AND status <> 'completed'
    ) WHERE (SELECT at FROM job_log WHERE job = pk AND n = first) < ?2
) WHERE upto IS NOT NULL LIMIT ?3

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
