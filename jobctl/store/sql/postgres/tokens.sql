-- name: lock_access
-- Who may come in is changed by one transaction at a time. Else two servers could each let the last one in, or somebody in
-- whose origin the other one is revoking; and as what one ends follows from what it finds, they could lock in two orders.
SELECT pg_advisory_xact_lock(1785684581, ('job_event'::regclass::oid::bigint & 2147483647)::int)

-- name: insert_token
INSERT INTO token (jti, name, subject, role, created_by, created_at, expires_at, key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: all_tokens
SELECT jti, name, subject, role, created_by, created_at, expires_at, last_used, revoked_at, key
FROM token ORDER BY created_at DESC, jti

-- name: token_by_jti
SELECT jti, name, subject, role, created_by, created_at, expires_at, last_used, revoked_at, key
FROM token WHERE jti = $1

-- name: live_token_by_name
SELECT jti, name, subject, role, created_by, created_at, expires_at, last_used, revoked_at, key
FROM token WHERE name = $1 AND revoked_at IS NULL AND expires_at > $2

-- name: count_live_tokens
SELECT count(*) FROM token WHERE revoked_at IS NULL AND expires_at > $1

-- name: revoke_token
UPDATE token SET revoked_at = $1 WHERE jti = $2

-- name: touch_token
-- Several servers see the token used, and each tells what it has seen; who tells nothing new writes nothing.
UPDATE token SET last_used = $1 WHERE jti = $2 AND coalesce(last_used, 0) < $1

-- name: forget_tokens
DELETE FROM token WHERE expires_at <= $1

-- name: insert_session
INSERT INTO session (id, handle, current, rotated_at, subject, role, origin, ends_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: session_by_handle
SELECT id, current, previous, rotated_at, subject, role, ends_at, expires_at, ended FROM session
WHERE handle = $1

-- name: rotate_session
UPDATE session SET handle = $1, previous = current, current = $2, rotated_at = $3, expires_at = $4 WHERE id = $5

-- name: surplus_sessions
SELECT id FROM session
WHERE subject = $1 AND id <> $2 AND ended = 0 AND expires_at > $3 ORDER BY expires_at DESC OFFSET $4

-- name: end_of_origin
SELECT ends_at, ended::bigint FROM session WHERE id = $1
UNION ALL SELECT expires_at, (revoked_at IS NOT NULL)::int::bigint FROM token WHERE jti = $1

-- name: sessions_below
WITH RECURSIVE below (id, ended) AS (
    SELECT id, ended FROM session WHERE origin = $1
    UNION
    SELECT session.id, session.ended FROM below JOIN session ON session.origin = below.id
)
SELECT id FROM below WHERE ended = 0 ORDER BY id

-- name: end_session
UPDATE session SET ended = 1, expires_at = least(expires_at, $1) WHERE id = $2

-- name: sessions_ended
SELECT id FROM session WHERE ended = 1 AND expires_at > $1

-- name: forget_sessions
DELETE FROM session WHERE id = ANY (ARRAY(
    SELECT id FROM session
    WHERE expires_at <= $1 AND NOT EXISTS (SELECT 1 FROM session AS below WHERE below.origin = session.id)
    ORDER BY expires_at LIMIT 100
))
