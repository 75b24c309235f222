-- name: stage
WITH due AS (
    SELECT pk FROM job WHERE due <= $1 AND held = 0 ORDER BY due LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
), staged AS (
    UPDATE job SET ready = 1, due = NULL FROM due WHERE job.pk = due.pk
    RETURNING job.pk, job.queue, job.name, job.priority
), waiting AS (
    INSERT INTO ready (queue, name, priority, job) SELECT queue, name, priority, pk FROM staged
)
SELECT count(*) FROM staged

-- name: next_due
SELECT due FROM job WHERE due IS NOT NULL AND held = 0 ORDER BY due LIMIT 1

-- name: due_now
SELECT EXISTS (SELECT 1 FROM job WHERE due <= $1 AND held = 0)

-- name: alive
SELECT expires_at > extract(epoch FROM clock_timestamp()) * 1000 FROM worker WHERE id = $1 FOR KEY SHARE

-- name: claim
-- A lane is a queue and a name. They are walked from the queue after the one that was served last, and round to it.
-- From each lane the first jobs are looked at; of all those of a queue its best are chosen by priority and age, as many
-- as it may start, and the queues take turns. Only then are the jobs locked, lane by lane, past those that others hold;
-- whose `ready` is not 1 any more was claimed since this statement began.
WITH RECURSIVE lane (queue, name, lap) AS (
    SELECT $7::text COLLATE "C", '~' COLLATE "C", 0  -- after all lanes of that queue
    UNION ALL
    SELECT following.queue, following.name, following.lap FROM lane, LATERAL (
        (SELECT queue, name, lane.lap FROM ready
         WHERE (queue, name) > (lane.queue, lane.name) ORDER BY queue, name LIMIT 1)
        UNION ALL
        (SELECT queue, name, 1 FROM ready WHERE lane.lap = 0 ORDER BY queue, name LIMIT 1)
        LIMIT 1
    ) AS following (queue, name, lap)
    WHERE following.lap = 0 OR following.queue <= $7
), open AS (
    SELECT lane.queue, lane.name, lane.lap, least(coalesce(room.free, $1), $1) AS free
    FROM lane JOIN queue ON queue.name = lane.queue AND queue.paused = 0
        LEFT JOIN unnest($2::text[], $3::bigint[]) AS room (queue, free) ON room.queue = lane.queue
    WHERE lane.name <> '~' AND coalesce(room.free, $1) > 0
        AND ($4::text[] IS NULL OR lane.name = ANY ($4::text[]))
    LIMIT $8
), looked AS (
    SELECT open.queue, open.name, open.lap, open.free, seen.priority, seen.job FROM open, LATERAL (
        SELECT priority, job FROM ready WHERE ready.queue = open.queue AND ready.name = open.name
        ORDER BY priority DESC, job LIMIT open.free
    ) AS seen
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY queue ORDER BY priority DESC, job) AS place FROM looked
), chosen AS (
    SELECT queue, name FROM placed WHERE place <= free ORDER BY place, lap, queue LIMIT $1
), share AS (
    SELECT queue, name, count(*) AS n FROM chosen GROUP BY queue, name
), taken AS (
    SELECT got.* FROM share, LATERAL (
        SELECT {job_columns} FROM ready JOIN job ON job.pk = ready.job
        WHERE ready.queue = share.queue AND ready.name = share.name AND job.ready = 1
        ORDER BY ready.priority DESC, ready.job LIMIT share.n FOR NO KEY UPDATE OF job SKIP LOCKED
    ) AS got
), gone AS (
    DELETE FROM ready USING taken
    WHERE ready.queue = taken.queue AND ready.name = taken.name AND ready.priority = taken.priority
        AND ready.job = taken.pk
), begun AS (
    UPDATE job SET status = 'running', ready = 0, run = job.run + 1, version = job.version + 1, started_at = $5,
        processing_by = $6, progress = NULL, progress_message = NULL
    FROM taken WHERE job.pk = taken.pk
)
SELECT (SELECT count(*) FROM chosen), taken.* FROM (VALUES (1)) AS always LEFT JOIN taken ON true
ORDER BY taken.priority DESC, taken.pk
