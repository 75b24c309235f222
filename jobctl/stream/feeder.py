"""Feeding one reader that is not live: it is behind, or something waits in its outbox.

``feed`` is a task that exists only while there is something to do: it drains the outbox, reads a page of the log, and
again, until the reader's position is inside the hub's ring. Then the rest is copied and the reader goes live without a
checkpoint in between, so that no event can fall between the two.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import trio

from jobctl.errors import JobctlError
from jobctl.events import JOB_UPDATE, Event
from jobctl.protocol import close_codes, messages
from jobctl.protocol.close_codes import Close
from jobctl.states import TERMINAL
from jobctl.store.base import Store
from jobctl.stream.groups import Member
from jobctl.stream.hub import Entry, Hub, chunks, scoped
from jobctl.stream.log_feed import LogFeed
from jobctl.stream.outbox import Expired, Outbox
from jobctl.stream.subscription import Subscription

log = logging.getLogger("jobctl.stream")

PAGE: Final = 256
"""Events of one read of the log; about half an outbox."""
RETRY_READ_S: Final = 1.0


class Reader(Member, Protocol):
    """A connection, as whoever feeds it sees it. ``feeding``: its task is there, or about to be."""

    hub: Hub
    store: Store
    outbox: Outbox
    subscription: Subscription | None
    logs: LogFeed | None
    feeding: bool
    closing: bool

    def wake(self) -> None:
        """Have ``feed`` run, if it does not."""

    def say(self, text: bytes) -> None:
        """Send one control message."""

    def send_waiting(self) -> bool:
        """Send a snapshot that waits; False when none does."""

    def end(self, why: Close, text: bytes | None = None, *, discard: bool = False) -> None:
        """Close in order."""

    def expire(self) -> None:
        """The token has ended."""

    def abort(self) -> None:
        """Drop the connection at once."""

    def finish(self) -> None:
        """Write what remains of an ended connection."""


async def feed(reader: Reader) -> None:
    """Bring ``reader`` on until it is live and nothing waits, or it has ended."""
    try:
        while not reader.closing:
            await reader.outbox.drain()
            reader.outbox.check()
            wanted = reader.subscription
            if wanted is not None and not wanted.live:
                if not from_ring(reader, wanted):
                    await from_log(reader, wanted)
            elif reader.logs is not None and reader.logs.due:
                await _job_log(reader, reader.logs)
            elif not reader.send_waiting() and not reader.outbox.pending:
                return
    except OSError:
        reader.abort()
    except Expired:
        reader.expire()
    except Exception:
        log.debug("feeding a connection failed", exc_info=True)
        reader.end(close_codes.INTERNAL, discard=True)
    finally:
        reader.feeding = False
        if reader.closing and not reader.outbox.transport.closed:
            reader.finish()


def from_ring(reader: Reader, wanted: Subscription) -> bool:
    """Copy from the ring; True when it reached that far back. The reader goes live when all of it fitted."""
    entries = reader.hub.since(wanted.position)
    if entries is None:
        return False
    if _write(reader, wanted, _chosen(reader, wanted, entries)):
        wanted.join(reader.hub, reader)
    else:
        reader.wake()
    return True


async def from_log(reader: Reader, wanted: Subscription) -> None:
    """Feed one page of the log, never beyond the hub's head."""
    upto = reader.hub.head
    try:
        page = await reader.store.events(wanted.position, limit=PAGE, upto=upto)
    except JobctlError as error:
        log.debug("cannot read the log: %s", error)
        await trio.sleep(RETRY_READ_S)
        return
    if wanted is not reader.subscription or reader.closing:
        return
    reader.outbox.check()
    if page.start > wanted.position + 1:
        wanted.position = reader.hub.head
        reader.say(messages.encode(messages.Resync(seq=wanted.position, epoch=reader.hub.epoch)))
        return
    whole = _write(reader, wanted, _chosen(reader, wanted, (Entry(event) for event in page.events)))
    if whole and page.events:
        wanted.position = page.events[-1].seq


def _chosen(reader: Reader, wanted: Subscription, entries: Iterable[Entry]) -> Sequence[Entry]:
    reader.hub.metrics.catch_up_pages += 1
    matches = wanted.group.matches
    chosen = [entry for entry in entries if matches is None or matches(entry.event)]
    chosen = list(scoped(chosen, wanted.group.key.owner))
    return conflated(chosen) if wanted.conflate else chosen


def _write(reader: Reader, wanted: Subscription, entries: Sequence[Entry]) -> bool:
    """Hand over in order what fits; ``position`` follows. True when it was all."""
    for chunk, seq, n in chunks(entries):
        if not reader.outbox.offer(chunk):
            return False
        wanted.position = seq
        reader.hub.metrics.deliveries += n
    return True


async def _job_log(reader: Reader, logs: LogFeed) -> None:
    found = await logs.next_frame()
    if found is None or reader.closing or reader.logs is not logs:
        return
    reader.outbox.check()
    frame, job_id, last = found
    if reader.outbox.offer(frame):
        logs.sent(job_id, last)
    else:
        logs.refused(job_id)


def conflated(entries: Sequence[Entry]) -> list[Entry]:
    """Only the latest state per job; terminal states and everything that is not a job's update stay."""
    latest = {entry.event.job_id: entry.event.seq for entry in entries if entry.event.kind == JOB_UPDATE}
    return [entry for entry in entries if _stays(entry.event, latest)]


def _stays(event: Event, latest: dict[str, int]) -> bool:
    return event.kind != JOB_UPDATE or event.status in TERMINAL or latest[event.job_id] == event.seq
