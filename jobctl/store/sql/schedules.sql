-- name: schedule_list
SELECT {schedule_columns} FROM schedule ORDER BY name

-- name: schedule_by_name
SELECT {schedule_columns} FROM schedule WHERE name = ?

-- name: schedule_locked
SELECT {schedule_columns} FROM schedule WHERE name = ?

-- name: schedule_due
SELECT {schedule_columns} FROM schedule WHERE next_run <= ? ORDER BY next_run, name LIMIT ?

-- name: schedule_next_due
SELECT min(next_run) FROM schedule WHERE next_run > ?

-- name: schedule_count
SELECT count(*) FROM schedule

-- name: schedule_insert
INSERT INTO schedule (cron, timezone, job_name, data, queue, priority, max_attempts, timeout, tags, missed, enabled,
                      next_run, source, created_by, created_at, updated_at, name)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: schedule_update
UPDATE schedule SET cron = ?, timezone = ?, job_name = ?, data = ?, queue = ?, priority = ?, max_attempts = ?,
    timeout = ?, tags = ?, missed = ?, enabled = ?, next_run = ?, updated_at = ?, version = version + 1, error = NULL
WHERE name = ?

-- name: schedule_delete
DELETE FROM schedule WHERE name = ?

-- name: schedule_delete_ticks
DELETE FROM schedule_tick WHERE schedule = ?

-- name: schedule_set_next_run
UPDATE schedule SET next_run = ? WHERE name = ?

-- name: schedule_set_error
UPDATE schedule SET error = ? WHERE name = ?

-- name: schedule_ran
UPDATE schedule SET last_run = ?, last_job = ?, run_count = run_count + 1, error = NULL WHERE name = ?

-- name: schedule_had_tick
SELECT 1 FROM schedule_tick WHERE schedule = ? AND tick = ?

-- name: schedule_insert_tick
INSERT INTO schedule_tick (schedule, tick) VALUES (?, ?)

-- name: schedule_old_ticks
SELECT tick FROM schedule_tick WHERE schedule = ? ORDER BY tick DESC LIMIT -1 OFFSET ?

-- name: schedule_forget_ticks
DELETE FROM schedule_tick WHERE schedule = ? AND tick <= ?

-- name: schedule_settle
UPDATE schedule SET settled = max(settled, ?) WHERE name = ?
