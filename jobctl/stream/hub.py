"""The hub: takes commits in order, encodes each event once, and gives it to everybody who is live.

Subscriptions that are alike form one ``Group``: its filter is evaluated at most once per event, however many members it
has, and not at all where the event lacks what it asks for (``groups``).
Who is not live (new with ``since``, or slow) is fed from the log by its own connection, and joins its group here in
one step with copying the rest from the ring.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

import trio

from jobctl.errors import JobctlError
from jobctl.events import JOBS_PRUNED, Commit, Event, QueueChanged
from jobctl.metrics import Metrics
from jobctl.model import wire_time
from jobctl.protocol import messages
from jobctl.store.base import Counters, Store
from jobctl.stream import frames
from jobctl.stream.filters import FilterKey
from jobctl.stream.groups import Group, Index, Member
from jobctl.stream.schedules import ScheduleFeed
from jobctl.stream.tally import Tally
from jobctl.stream.workers import WorkerFeed

log = logging.getLogger("jobctl.stream")

RING: Final = 4096
"""Encoded events kept for readers that are a little behind: seconds of a busy queue, some MB."""
RING_BYTES: Final = 8 * 1024 * 1024
"""Bytes of their frames; with the largest data and results, 4,096 would be 40 MB, and their events as much again."""
CHUNK: Final = 32 * 1024
"""Bytes given to a connection in one piece; bounds what a refused piece takes back."""
STATS_EVERY_S: Final = 0.25
COUNT_AGAIN_S: Final = 1.0
"""Until the counters are asked for again, whether they could be read or not."""
_FAILED: Final = "the stream failed; those who were live go on from the log"
MAX_DUTY: Final = 0.5
"""Share of the loop's time that flushing may take before commits are gathered into larger flushes."""


class Entry:
    """An event with its frame; ``owner``: as this one reader of a pruning is told of it."""

    __slots__ = ("event", "frame")

    def __init__(self, event: Event, owner: str | None = None) -> None:
        self.event = event
        self.frame = frames.text(messages.event_text(event, owner))


class Hub:
    """One per process. ``publish`` is a listener of the store; everything runs on the trio thread.

    Args:
        store: For the counters and positions to begin with.
        clock: Milliseconds since the epoch.
        metrics: Where events and deliveries are counted.
    """

    def __init__(self, store: Store, *, clock: Callable[[], int], metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._store = store
        self._clock = clock
        self.epoch = store.epoch
        self.head = 0
        self.tally = Tally(Counters(counts={}, queues={}))
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self._log_start = 0
        self._waiting: list[Event] = []
        self._groups: dict[FilterKey, Group] = {}
        self._index = Index()
        self._stats: dict[str | None, dict[Member, None]] = {}
        self._owed: dict[Member, str | None] = {}
        self._logs: dict[str, dict[Member, None]] = {}
        self.schedules = ScheduleFeed(store, self.reached, clock=clock)
        self.workers = WorkerFeed(clock)
        self._not_before = 0.0
        self._flush_due = trio.Event()
        self._stats_due = trio.Event()
        self._moved: trio.Event | None = None
        self._ready = False
        self._queues_meanwhile: list[QueueChanged] = []
        self._missed = trio.Event()
        self.before_flush: Callable[[], None] = lambda: None
        self.flushes = 0

    async def start(self) -> None:
        """Take the counters and listen; nothing may be published in between, so before any writer."""
        self._store.listen(self.publish)
        await self._count()

    async def _count(self) -> None:
        """Take the counters and a new head; nobody who is live has what is between that and the old one."""
        read = await self._store.counters()
        tally = Tally(read.value)
        for group in tuple(self._groups.values()):
            for member in tuple(group.members):
                member.fall_behind(self.head)
        self.tally, self.head = tally, read.position.seq  # only now: were it cut short, all of it is done again
        self._ready = not self._missed.is_set()
        meanwhile, self._queues_meanwhile = self._queues_meanwhile, []
        self._queues_changed(meanwhile)  # older than the counters, some of them; the last one is right
        self._waiting = [event for event in self._waiting if event.seq > self.head]
        self._ring.clear()
        self._ring_bytes = 0
        self._tell_moved()
        self._flush_due.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush what had to wait, and send counts."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush_late)
            nursery.start_soon(self._count_again)
            nursery.start_soon(self._send_stats)
            nursery.start_soon(self.schedules.run)
            task_status.started()

    # --- commits -------------------------------------------------------------------------------------------------

    def publish(self, commit: Commit) -> None:
        """Take a commit. Never raises: the queue goes on whatever the stream does."""
        try:
            self._take(commit)
        except Exception:
            log.exception(_FAILED)
            self._start_over()
        try:
            if commit.logs and self._logs:
                for grown in commit.logs:
                    for member in tuple(self._logs.get(grown.job_id, ())):
                        member.log_grew(grown.job_id)
        except Exception:
            log.debug("the stream failed on the log of a job", exc_info=True)

    def _take(self, commit: Commit) -> None:
        if commit.schedules:
            self.schedules.changed()
        if commit.log_start is not None:
            self._log_start = commit.log_start
            self._cut_ring()
        if commit.missed is not None:
            self.flush()
            self._start_over()
        if commit.queues:
            self._queues_changed(commit.queues)
        if commit.events:
            counted = commit.events[0].seq <= self.head  # the counters were read before this was told
            self._waiting += [each for each in commit.events if each.seq > self.head] if counted else commit.events
            if trio.current_time() >= self._not_before:
                self.flush()
            else:
                self._flush_due.set()

    def _start_over(self) -> None:
        """Flush no more until the counters and the head are taken anew: some of what was committed is not here."""
        self._ready = False
        self._missed.set()

    def _queues_changed(self, changes: Sequence[QueueChanged]) -> None:
        if not self._ready:
            self._queues_meanwhile += changes
        for change in changes:
            self.tally.queue_changed(change.name, change.paused)
        self._stats_due.set()

    def flush(self) -> None:
        """Give all that waits to all that are live. If it raises, nobody has got any of it, or all are cut off."""
        if not self._waiting or not self._ready:
            return
        began = trio.current_time()
        self.before_flush()
        events, self._waiting = self._waiting, []
        entries = [Entry(event) for event in events]
        for event in events:
            self.tally.apply(event)
        before, self.head = self.head, events[-1].seq
        try:
            self._spread(entries, before)
        except Exception:
            for group in tuple(self._groups.values()):
                _cut_off(group)
            raise
        self._stats_due.set()
        self._tell_moved()
        ended = trio.current_time()
        self._not_before = ended + (ended - began) * (1 / MAX_DUTY - 1)

    def _spread(self, entries: Sequence[Entry], before: int) -> None:
        self._ring.extend(entries)
        self._ring_bytes += sum(len(entry.frame) for entry in entries)
        self._cut_ring()
        self.flushes += 1
        self.metrics.events += len(entries)
        for group, matching in self._index.chosen(entries):
            try:
                if isinstance(matching, Exception):
                    raise matching  # noqa: TRY301 - the same becomes of it
                self._give(group, matching, before)
            except Exception:
                log.debug("the stream failed for a filter", exc_info=True)
                _cut_off(group)

    def _cut_ring(self) -> None:
        """Reach no further back than the log, so that both answer alike to a position; and stay within its bounds."""
        ring = self._ring
        while ring and (
            ring[0].event.seq < self._log_start or len(ring) > RING or self._ring_bytes > RING_BYTES
        ):
            self._ring_bytes -= len(ring.popleft().frame)

    def _give(self, group: Group, matching: Sequence[Entry], before: int) -> None:
        members = tuple(group.members)
        matching = scoped(matching, group.key.owner)
        alone = matching[0]
        # Nearly always one event: with many filters making a generator for each would be a good part of the cost.
        pieces = chunks(matching) if len(matching) > 1 else ((alone.frame, alone.event.seq, 1),)
        for chunk, position, n in pieces:
            for member in members:
                if not member.deliver(chunk, before):
                    log.debug("a reader is behind at %d", before)
            before = position
            if len(group.members) != len(members):
                members = tuple(group.members)
            self.metrics.deliveries += n * len(members)

    async def _flush_late(self) -> None:
        while True:
            await self._flush_due.wait()
            self._flush_due = trio.Event()
            await trio.sleep_until(self._not_before)
            try:
                self.flush()
            except Exception:
                log.exception(_FAILED)
                self._start_over()

    async def _count_again(self) -> None:
        """Go on after events that were pruned before they were heard of here, or that could not be told."""
        while True:
            await self._missed.wait()
            self._missed = trio.Event()
            try:
                await self._count()
            except Exception as error:
                log.debug("cannot take the counters anew: %s", error, exc_info=not isinstance(error, JobctlError))
                self._start_over()
            await trio.sleep(COUNT_AGAIN_S)

    def _tell_moved(self) -> None:
        if self._moved is not None:
            self._moved.set()
            self._moved = None

    async def reached(self, seq: int) -> None:
        """Wait until the head is at ``seq`` or beyond."""
        while self.head < seq:
            if self._moved is None:
                self._moved = trio.Event()
            await self._moved.wait()

    # --- subscriptions -------------------------------------------------------------------------------------------

    def group(self, key: FilterKey) -> Group:
        """The group of ``key``, made if it is not there."""
        group = self._groups.get(key)
        return Group(key) if group is None else group

    def join(self, group: Group, member: Member) -> Group:
        """Make ``member`` live; returns the group that it is in now."""
        known = self._groups.setdefault(group.key, group)
        if not known.members:
            self._index.add(known)
        known.members[member] = None
        return known

    def leave(self, group: Group, member: Member) -> None:
        """Take ``member`` out; harmless if it is not in."""
        group.members.pop(member, None)
        if not group.members and self._groups.get(group.key) is group:
            del self._groups[group.key]
            self._index.remove(group)

    def since(self, position: int) -> Iterator[Entry] | None:
        """The ring's entries after ``position``; None when it does not reach back so far."""
        if position >= self.head:
            return iter(())
        if not self._ring or self._ring[0].event.seq > position + 1:
            return None
        return islice(self._ring, position + 1 - self._ring[0].event.seq, None)

    def want_stats(self, scope: str | None, member: Member, *, first: bool) -> None:
        """Send counts to ``member`` from now on: at once where it has had none, else with the next ones due."""
        self._stats.setdefault(scope, {})[member] = None
        if first and self._ready:
            member.send_stats(self.stats_frame(scope))
        else:
            self._owed[member] = scope
            self._stats_due.set()

    def drop_stats(self, scope: str | None, member: Member) -> None:
        """No more counts."""
        self._owed.pop(member, None)
        members = self._stats.get(scope)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._stats[scope]

    def follow_log(self, job_id: str, member: Member) -> None:
        """Tell ``member`` when the log of ``job_id`` grows."""
        self._logs.setdefault(job_id, {})[member] = None

    def unfollow_log(self, job_id: str, member: Member) -> None:
        """No more of that log."""
        members = self._logs.get(job_id)
        if members is not None:
            members.pop(member, None)
            if not members:
                del self._logs[job_id]

    # --- counts --------------------------------------------------------------------------------------------------

    def stats_frame(self, scope: str | None) -> bytes:
        """The counts at the head, as one frame."""
        told = messages.JobStatsUpdate(
            stats=self.tally.stats(scope), seq=self.head, timestamp=wire_time(self._clock())
        )
        return frames.text(messages.encode(told))

    async def _send_stats(self) -> None:
        while True:
            await self._stats_due.wait()
            self._stats_due = trio.Event()
            try:
                self._send_stats_once()
            except Exception:
                log.exception(_FAILED)
                self._start_over()
            await trio.sleep(STATS_EVERY_S)

    def _send_stats_once(self) -> None:
        if not self._ready:
            return  # the counts may be those of half a flush
        self.before_flush()
        changed, owed, self._owed = self.tally.take_changed(), self._owed, {}
        frames_of: dict[str | None, bytes] = {}
        for scope in {*changed, *owed.values()} & self._stats.keys():
            frames_of[scope] = self.stats_frame(scope)
        for scope, frame in frames_of.items():
            for member in tuple(self._stats.get(scope, ())):
                if scope in changed or member in owed:
                    member.send_stats(frame)


def _cut_off(group: Group) -> None:
    for member in tuple(group.members):
        member.cut_off()


def scoped(entries: Sequence[Entry], owner: str | None) -> Sequence[Entry]:
    """``entries`` with each pruning counted for ``owner`` alone; all else is alike for everybody."""
    if owner is None or all(entry.event.kind != JOBS_PRUNED for entry in entries):
        return entries
    return [Entry(entry.event, owner) if entry.event.kind == JOBS_PRUNED else entry for entry in entries]


def chunks(entries: Sequence[Entry]) -> Iterator[tuple[bytes, int, int]]:
    """Frames joined to pieces of about ``CHUNK`` bytes, each with the ``seq`` that it ends at, and how many it has."""
    parts: list[bytes] = []
    size = last = 0
    for entry in entries:
        if parts and size + len(entry.frame) > CHUNK:
            yield b"".join(parts), last, len(parts)
            parts, size = [], 0
        parts.append(entry.frame)
        size += len(entry.frame)
        last = entry.event.seq
    if parts:
        yield (parts[0] if len(parts) == 1 else b"".join(parts)), last, len(parts)
