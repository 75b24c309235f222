-- name: begin_pruning
-- One transaction that prunes at a time: each says that all before some time is gone, so they must follow one another.
SELECT pg_advisory_xact_lock(1785684580, ('job_event'::regclass::oid::bigint & 2147483647)::int)

-- name: still_pruned
-- Before it is told that all of a status that had ended by some time are gone: if meanwhile, with an earlier time, one
-- more has, then this fails (by dividing by zero), and the pruning starts over with that one. Sent once the log is
-- locked: who ends later is told of later.
SELECT 1 / (NOT EXISTS (
    SELECT 1 FROM job_event WHERE seq > $1 AND status = $2 AND status_before IS DISTINCT FROM status AND at < $3
))::int

-- name: prune_oldest_ended
SELECT pk, completed_at FROM job
WHERE status = $1 AND completed_at IS NOT NULL AND completed_at < $2 AND held = 0
ORDER BY completed_at, pk LIMIT $3 FOR UPDATE

-- name: prune_look_at
SELECT pk, id, created_by, queue, (SELECT min(n) FROM job_log WHERE job = pk)::bigint,
    (SELECT max(n) FROM job_log WHERE job = pk)::bigint, length(data) + coalesce(length(result), 0),
    coalesce((SELECT length(body) FROM job_data WHERE job = pk), 0),
    coalesce((SELECT length(body) FROM job_result WHERE job = pk), 0)
FROM job WHERE pk = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)::bigint))

-- name: prune_ended_at_place
SELECT completed_at FROM job WHERE status = $1 AND completed_at IS NOT NULL ORDER BY completed_at, pk LIMIT 1 OFFSET $2

-- name: prune_first_held
WITH held AS MATERIALIZED (SELECT status, completed_at FROM job WHERE held <> 0)
SELECT min(completed_at) FROM held WHERE status = $1

-- name: prune_ended_in_all
SELECT (coalesce((SELECT sum(n) FROM counter WHERE owner = '' AND status = $1), 0)
    + (SELECT count(*) FILTER (WHERE status = $1) - count(*) FILTER (WHERE status_before = $1) FROM job_event
       WHERE seq > (SELECT folded FROM log) AND status IS DISTINCT FROM status_before))::bigint

-- name: prune_ended_before
SELECT status, count(*) FROM job
WHERE status = ANY (ARRAY(SELECT json_array_elements_text($1::text::json))) AND completed_at IS NOT NULL
    AND completed_at < $2
GROUP BY status

-- name: prune_delete_jobs
DELETE FROM job WHERE pk = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)::bigint))

-- name: prune_delete_data
DELETE FROM job_data WHERE job = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)::bigint))

-- name: prune_delete_results
DELETE FROM job_result WHERE job = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)::bigint))

-- name: prune_cut_log
DELETE FROM job_log WHERE job = $1 AND n <= $2

-- name: prune_lines_of
SELECT * FROM (
    SELECT pk, (SELECT min(n) FROM job_log WHERE job = pk)::bigint AS first,
        (SELECT max(n) FROM job_log WHERE job = pk)::bigint AS last
    FROM (SELECT json_array_elements_text($1::text::json)::bigint) AS given (pk)
) AS lines WHERE first < last

-- name: prune_ended_after
SELECT pk, completed_at FROM job
WHERE status = $1 AND completed_at IS NOT NULL AND (completed_at, pk) > ($2, $3) AND completed_at < $4
ORDER BY completed_at, pk LIMIT $5

-- name: prune_old_lines
SELECT pk, first, upto FROM (
    SELECT pk, n AS first, (
        SELECT max(old.n) FROM (
            SELECT n, at FROM job_log
            WHERE job = pk AND n < (SELECT max(n) FROM job_log WHERE job = pk) ORDER BY n LIMIT $1
        ) AS old WHERE old.at < $2
    ) AS upto
    FROM job, LATERAL (SELECT n, at FROM job_log WHERE job = pk ORDER BY n LIMIT 1) AS line
    WHERE status = 'running' AND status <> 'completed' AND line.at < $2
) AS found WHERE upto IS NOT NULL LIMIT $3

-- name: prune_first_events
SELECT seq, at FROM job_event WHERE seq > (SELECT cut FROM log) ORDER BY seq LIMIT $1

-- name: lock_log_row
SELECT folded FROM log FOR NO KEY UPDATE

-- name: prune_delete_events
WITH cut AS (UPDATE log SET cut = greatest(cut, $1))
DELETE FROM job_event WHERE seq > (SELECT cut FROM log) AND seq <= $1

-- name: prune_forget_keys
DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
))

-- name: prune_zero_counters
SELECT owner, queue, status FROM counter WHERE n = 0 AND owner <> '' ORDER BY owner, queue, status LIMIT $1

-- name: prune_delete_zero
DELETE FROM counter WHERE owner = $1 AND queue = $2 AND status = $3 AND n = 0
