"""Which logs a connection follows, how far it has each, and the messages that bring it on.

Lines are always read from the store after the number that was sent last, so that a line comes once and in order,
however many commits and reads overlap.
"""

from typing import Final

from jobctl.errors import JobctlError, NotFound
from jobctl.model import Identity
from jobctl.protocol import messages
from jobctl.store.base import Store
from jobctl.stream import frames
from jobctl.stream.groups import Member
from jobctl.stream.hub import Hub

PAGE: Final = 200
"""Lines of one read."""
PIECE: Final = 48 * 1024
"""Bytes of text in one ``job_log`` message, about."""
MAX_LOGS: Final = 100
"""Followed logs of one connection."""


class LogFeed:
    """The followed logs of ``member``, who speaks for ``identity``. Made with the first of them."""

    __slots__ = ("_after", "_due", "_hub", "_identity", "_member", "_store")

    def __init__(self, member: Member, identity: Identity, hub: Hub, store: Store) -> None:
        self._member, self._identity, self._hub, self._store = member, identity, hub, store
        self._after: dict[str, int] = {}
        self._due: set[str] = set()

    @property
    def due(self) -> bool:
        """Whether some log may have more lines than were sent."""
        return bool(self._due)

    async def follow(self, message: messages.SubscribeLogs) -> messages.Error | None:
        """Follow one more, from ``after`` or from now; the answer where that cannot be."""
        job_id = message.id
        if len(self._after) >= MAX_LOGS and job_id not in self._after:
            return messages.Error(code="too_many", message=f"at most {MAX_LOGS} logs are followed at once")
        self._hub.follow_log(job_id, self._member)
        try:
            found = await self._store.logs(job_id, owner=self._identity.scope, after=message.after or 0, limit=1)
        except JobctlError as error:
            self.unfollow(job_id)
            return messages.Error(code=error.code, message=str(error))
        self._after[job_id] = found.value.last if message.after is None else message.after
        return None

    def unfollow(self, job_id: str) -> None:
        """No more of that log."""
        self._hub.unfollow_log(job_id, self._member)
        self._after.pop(job_id, None)

    def grew(self, job_id: str) -> bool:
        """There may be new lines; whether that matters here."""
        if job_id not in self._after:
            return False
        self._due.add(job_id)
        return True

    def clear(self) -> None:
        """Follow none any more."""
        for job_id in tuple(self._after):
            self.unfollow(job_id)
        self._due.clear()

    async def next_frame(self) -> tuple[bytes, str, int] | None:
        """The next lines of a log that is due: frame, job and the number of the last line. None: nothing new."""
        job_id = self._due.pop()
        after = self._after.get(job_id)
        if after is None:
            return None
        try:
            read = await self._store.logs(job_id, owner=self._identity.scope, after=after, limit=PAGE)
        except NotFound:
            self.unfollow(job_id)
            return None
        lines = read.value.lines
        if not lines or self._after.get(job_id) != after:
            return None
        size = taken = 0
        while taken < len(lines) and (taken == 0 or size < PIECE):
            size += len(lines[taken].text)
            taken += 1
        if lines[taken - 1].n < read.value.last:
            self._due.add(job_id)
        return frames.text(messages.encode(messages.JobLog(id=job_id, lines=lines[:taken]))), job_id, lines[taken - 1].n

    def sent(self, job_id: str, n: int) -> None:
        """Lines up to ``n`` have been handed over."""
        if job_id in self._after:
            self._after[job_id] = n

    def refused(self, job_id: str) -> None:
        """The frame did not fit: it is made again."""
        self._due.add(job_id)
