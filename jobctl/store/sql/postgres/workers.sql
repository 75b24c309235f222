-- The processes that share the database, by its clock. Their own clocks are never asked.

-- name: worker_join
INSERT INTO worker (id, kind, host, pid, version, started_at, seen_at, expires_at, slots, names)
SELECT $1, $2, $3, $4, $5, clock.now, clock.now, clock.now + $8, $6, $7
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock

-- name: worker_forget
DELETE FROM worker
WHERE expires_at < extract(epoch FROM clock_timestamp()) * 1000
    AND seen_at < extract(epoch FROM clock_timestamp()) * 1000 - $1

-- name: worker_beat
-- A lease that has ended stays so, also where a rescue came in between and this statement has waited for it: its
-- condition is looked at again then. Whoever leads goes on to, and another only takes over where the term has run out.
WITH clock AS MATERIALIZED (
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
), me AS (
    UPDATE worker SET seen_at = clock.now, running = $2, expires_at = clock.now + $3
    FROM clock
    WHERE id = $1 AND expires_at > extract(epoch FROM clock_timestamp()) * 1000
    RETURNING id
), lead AS (
    UPDATE leader SET worker = $1, term = term + (worker <> $1)::integer, expires_at = clock.now + $5
    FROM clock, me
    WHERE $4::boolean AND (leader.worker = $1 OR leader.expires_at <= clock.now)
    RETURNING worker
)
SELECT EXISTS (SELECT 1 FROM me), EXISTS (SELECT 1 FROM lead)

-- name: worker_leave
DELETE FROM worker WHERE id = $1

-- name: leader_leave
UPDATE leader SET expires_at = 0 WHERE worker = $1

-- name: bury_workers
-- First of all in a rescue: a heartbeat that is on its way finds that it comes too late.
UPDATE worker SET expires_at = 0
WHERE expires_at <= extract(epoch FROM clock_timestamp()) * 1000 AND expires_at <> 0

-- name: workers
SELECT worker.id, kind, host, pid, version, started_at, seen_at, slots, running, names,
    worker.expires_at > clock.now, clock.now - seen_at, leader.worker = worker.id AND leader.expires_at > clock.now
FROM worker, leader, (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock
WHERE seen_at > clock.now - $1
ORDER BY started_at, worker.id
