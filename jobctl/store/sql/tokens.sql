-- name: insert_token
INSERT INTO token (jti, name, subject, role, created_by, created_at, expires_at, key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: all_tokens
SELECT jti, name, subject, role, created_by, created_at, expires_at, last_used, revoked_at, key
FROM token ORDER BY created_at DESC, jti

-- name: token_by_jti
SELECT jti, name, subject, role, created_by, created_at, expires_at, last_used, revoked_at, key
FROM token WHERE jti = ?

-- name: live_token_by_name
SELECT jti, name, subject, role, created_by, created_at, expires_at, last_used, revoked_at, key
FROM token WHERE name = ? AND revoked_at IS NULL AND expires_at > ?

-- name: count_live_tokens
SELECT count(*) FROM token WHERE revoked_at IS NULL AND expires_at > ?

-- name: revoke_token
UPDATE token SET revoked_at = ? WHERE jti = ?

-- name: touch_token
UPDATE token SET last_used = ? WHERE jti = ?

-- name: forget_tokens
DELETE FROM token WHERE expires_at <= ?

-- name: insert_session
INSERT INTO session (id, handle, current, rotated_at, subject, role, origin, ends_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: session_by_handle
SELECT id, current, previous, rotated_at, subject, role, ends_at, expires_at, ended FROM session WHERE handle = ?

-- name: rotate_session
UPDATE session SET handle = ?, previous = current, current = ?, rotated_at = ?, expires_at = ? WHERE id = ?

-- name: surplus_sessions
SELECT id FROM session
WHERE subject = ? AND id <> ? AND ended = 0 AND expires_at > ? ORDER BY expires_at DESC LIMIT -1 OFFSET ?

-- name: end_of_origin
SELECT ends_at, ended FROM session WHERE id = ?1
UNION ALL SELECT expires_at, revoked_at IS NOT NULL FROM token WHERE jti = ?1

-- name: sessions_below
WITH RECURSIVE below (id, ended) AS (
    SELECT id, ended FROM session WHERE origin = ?
    UNION
    SELECT session.id, session.ended FROM below JOIN session ON session.origin = below.id
)
SELECT id FROM below WHERE ended = 0

-- name: end_session
UPDATE session SET ended = 1, expires_at = min(expires_at, ?) WHERE id = ?

-- name: sessions_ended
SELECT id FROM session WHERE ended = 1 AND expires_at > ?

-- name: forget_sessions
DELETE FROM session WHERE id IN (
    SELECT id FROM session
    WHERE expires_at <= ? AND id NOT IN (SELECT origin FROM session WHERE origin IS NOT NULL) LIMIT 100
)
