"""The writes about tokens and sessions, each a function of an open transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from jobctl.errors import Conflict, NotFound, TooLarge
from jobctl.events import AccessEnded, TokenIssued
from jobctl.store.tokens import NewSession, NewToken, Rotation, Session, TokenRow
from jobctl.store.transaction import Tx

MAX_TOKENS: Final = 1000
"""Live API tokens: each server keeps them in memory, and a list shows them all."""
MAX_SESSIONS: Final = 100
"""Live sessions of one subject: browsers and tabs that were opened with a link of their own."""
_KEPT_MS: Final = 30 * 86400 * 1000
"""How long an expired token can still be looked up."""
_SESSION_KEPT_MS: Final = 86400 * 1000
"""How long an ended session is remembered; its last access token ends after 15 minutes. One that others began with is
kept as long as they are: it leads from them to who let it in."""


def issue(tx: Tx, new: NewToken) -> TokenRow:
    """Register a token."""
    tx.alone("lock_access")
    tx.run("forget_tokens", tx.now - _KEPT_MS)
    found = tx.one("live_token_by_name", new.name, tx.now)
    if found is not None:
        held = TokenRow(*found)
        if held.key is None or held.key in new.accepted:
            raise Conflict(f"a token named {new.name!r} is live; revoke it first, or choose another name")
        revoke(tx, held.jti)
    if tx.one("count_live_tokens", tx.now)[0] >= MAX_TOKENS:
        raise TooLarge(f"there are {MAX_TOKENS} live tokens; revoke some")
    row = TokenRow(
        new.jti, new.name, new.subject, new.role, new.created_by, tx.now, tx.now + new.life_ms, key=new.key
    )
    tx.run("insert_token", *row[:7], row.key)
    tx.access_changed(TokenIssued(row.jti, row.subject, row.role, row.expires_at))
    return row


def revoke(tx: Tx, which: str) -> TokenRow:
    """End a token; ``which`` is its ``jti``, or its name while it is live."""
    tx.alone("lock_access")
    found = tx.one("token_by_jti", which) or tx.one("live_token_by_name", which, tx.now)
    if found is None:
        raise NotFound("there is no such token")
    row = TokenRow(*found)
    if row.revoked_at is None:
        row = row._replace(revoked_at=tx.now)
        tx.run("revoke_token", tx.now, row.jti)
    tx.access_changed(AccessEnded(row.jti))
    _end_origin(tx, row.jti)
    return row


def touch(tx: Tx, used: Mapping[str, int]) -> None:
    """Note when tokens were last used."""
    tx.alone("lock_access")
    tx.run_many("touch_token", [(at, jti) for jti, at in used.items()])


def begin_session(tx: Tx, new: NewSession) -> Session:
    """Somebody has signed in."""
    tx.alone("lock_access")
    origin = tx.one("end_of_origin", new.origin)  # none for the server itself, and for access tokens of its secret
    if origin and origin[1]:
        raise NotFound("who made the code is let in no more")
    tx.run("forget_sessions", tx.now - _SESSION_KEPT_MS)
    ends_at = min(tx.now + new.life_ms, origin[0]) if origin else tx.now + new.life_ms
    expires_at = min(ends_at, tx.now + new.idle_ms)
    tx.run(
        "insert_session",
        new.id, new.handle, new.current, tx.now, new.subject, new.role, new.origin, ends_at, expires_at,
    )  # fmt: skip
    for (surplus,) in tx.all("surplus_sessions", new.subject, new.id, tx.now, MAX_SESSIONS - 1):
        _end(tx, surplus)
    return Session(new.id, new.subject, new.role, expires_at)


def rotate(
    tx: Tx, handles: Sequence[bytes], presented: bytes, successor: bytes, grace_ms: int, idle_ms: int
) -> Rotation:
    """Use a refresh token."""
    tx.alone("lock_access")
    found = _by_handle(tx, handles)
    if found is None:
        return Rotation("unknown")
    sid, current, previous, rotated_at, subject, role, ends_at, expires_at, ended = found
    if ended or expires_at <= tx.now:
        return Rotation("unknown")
    if presented == current:
        expires_at = min(ends_at, tx.now + idle_ms)
        tx.run("rotate_session", handles[0], successor, tx.now, expires_at, sid)
        return Rotation("rotated", Session(sid, subject, role, expires_at))
    session = Session(sid, subject, role, expires_at)
    # The successor is compared as well: what is not the good one now must not be handed out.
    if presented == previous and successor == current and tx.now - rotated_at <= grace_ms:
        return Rotation("repeated", session)
    _end(tx, sid)
    _end_origin(tx, sid)
    return Rotation("reused", session)


def end_session(tx: Tx, handles: Sequence[bytes]) -> str | None:
    """Sign out."""
    tx.alone("lock_access")
    found = _by_handle(tx, handles)
    if found is None or found[-1]:
        return None
    _end(tx, found[0])
    return str(found[0])


def _by_handle(tx: Tx, handles: Sequence[bytes]) -> Any:
    return next((found for each in handles if (found := tx.one("session_by_handle", each)) is not None), None)


def _end(tx: Tx, sid: str) -> None:
    tx.run("end_session", tx.now, sid)
    tx.access_changed(AccessEnded(sid))


def _end_origin(tx: Tx, origin: str) -> None:
    """End what began with a code that ``origin`` made, and what began with a code of one of those, and so on."""
    for (sid,) in tx.all("sessions_below", origin):
        _end(tx, sid)
