-- name: schedule_list
SELECT {schedule_columns} FROM schedule ORDER BY name

-- name: schedule_by_name
SELECT {schedule_columns} FROM schedule WHERE name = $1

-- name: schedule_locked
-- Whoever fires, changes or removes it waits here for who came first, and then sees what that one has made of it.
SELECT {schedule_columns} FROM schedule WHERE name = $1 FOR NO KEY UPDATE

-- name: lock_schedules
-- Also against `schedule_locked`: else each of two could wait for the other's rows.
LOCK TABLE schedule IN EXCLUSIVE MODE

-- name: schedule_due
SELECT {schedule_columns} FROM schedule WHERE next_run <= $1 ORDER BY next_run, name LIMIT $2

-- name: schedule_next_due
SELECT min(next_run) FROM schedule WHERE next_run > $1

-- name: schedule_count
SELECT count(*) FROM schedule

-- name: schedule_insert
INSERT INTO schedule (cron, timezone, job_name, data, queue, priority, max_attempts, timeout, tags, missed, enabled,
                      next_run, source, created_by, created_at, updated_at, name)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)

-- name: schedule_update
UPDATE schedule SET cron = $1, timezone = $2, job_name = $3, data = $4, queue = $5, priority = $6, max_attempts = $7,
    timeout = $8, tags = $9, missed = $10, enabled = $11, next_run = $12, updated_at = $13, version = version + 1,
    error = NULL
WHERE name = $14

-- name: schedule_delete
DELETE FROM schedule WHERE name = $1

-- name: schedule_delete_ticks
DELETE FROM schedule_tick WHERE schedule = $1

-- name: schedule_set_next_run
UPDATE schedule SET next_run = $1 WHERE name = $2

-- name: schedule_set_error
UPDATE schedule SET error = $1 WHERE name = $2

-- name: schedule_ran
UPDATE schedule SET last_run = $1, last_job = $2, run_count = run_count + 1, error = NULL WHERE name = $3

-- name: schedule_had_tick
SELECT 1 FROM schedule_tick WHERE schedule = $1 AND tick = $2

-- name: schedule_insert_tick
INSERT INTO schedule_tick (schedule, tick) VALUES ($1, $2)

-- name: schedule_old_ticks
SELECT tick FROM schedule_tick WHERE schedule = $1 ORDER BY tick DESC OFFSET $2

-- name: schedule_forget_ticks
DELETE FROM schedule_tick WHERE schedule = $1 AND tick <= $2

-- name: schedule_settle
UPDATE schedule SET settled = greatest(settled, $1) WHERE name = $2
