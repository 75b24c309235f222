"""Tokens and sessions in a store: ``Store.access``."""

from collections.abc import Mapping, Sequence

from jobctl.store import token_writes as writes
from jobctl.store.queries import Queries
from jobctl.store.schedule_store import ReadIn, Submit
from jobctl.store.tokens import NewSession, NewToken, Rotation, Session, TokenRow


class Tokens:
    """A ``TokenStore``.

    Args:
        submit: Runs a function of a transaction on the writer thread.
        read: Runs a function of a ``Snapshot`` in a read transaction.
    """

    def __init__(self, submit: Submit, read: ReadIn) -> None:
        self._submit = submit
        self._read = read

    async def issue(self, token: NewToken) -> TokenRow:
        return await self._submit(lambda tx: writes.issue(tx, token))

    async def revoke(self, which: str) -> TokenRow:
        return await self._submit(lambda tx: writes.revoke(tx, which))

    async def touch(self, used: Mapping[str, int]) -> None:
        await self._submit(lambda tx: writes.touch(tx, used))

    async def tokens(self) -> tuple[TokenRow, ...]:
        return (await self._read(_tokens)).value

    async def begin_session(self, session: NewSession) -> Session:
        return await self._submit(lambda tx: writes.begin_session(tx, session))

    async def rotate(
        self, handles: Sequence[bytes], presented: bytes, successor: bytes, *, grace_ms: int, idle_ms: int
    ) -> Rotation:
        return await self._submit(lambda tx: writes.rotate(tx, handles, presented, successor, grace_ms, idle_ms))

    async def end_session(self, handles: Sequence[bytes]) -> str | None:
        return await self._submit(lambda tx: writes.end_session(tx, handles))

    async def ended_since(self, at: int) -> tuple[str, ...]:
        return (await self._read(_ended, at)).value


def _tokens(db: Queries) -> tuple[TokenRow, ...]:
    return tuple(TokenRow(*row) for row in db.all("all_tokens"))


def _ended(db: Queries, at: int) -> tuple[str, ...]:
    return tuple(sid for (sid,) in db.all("sessions_ended", at))
