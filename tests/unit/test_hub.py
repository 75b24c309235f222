"""The hub's parts by themselves: filters and their grouping, chunks, counts."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from jobctl.errors import StoreUnavailable
from jobctl.events import JOB_UPDATE, JOBS_PRUNED, Commit, Event, Pruning, QueueChanged
from jobctl.model import Identity, JobFilter, Position
from jobctl.states import Status
from jobctl.store.base import Counters, Read
from jobctl.stream import hub as hub_module
from jobctl.stream.filters import FilterKey, key_of, predicate
from jobctl.stream.groups import PLACES, Group, Index
from jobctl.stream.hub import CHUNK, Entry, Hub, chunks
from jobctl.stream.tally import Tally

ADMIN = Identity("root", "admin", 0.0, "t")
ALICE = Identity("alice", "user", 0.0, "t")


def event(seq: int = 1, **fields: Any) -> Event:
    values = {
        "kind": JOB_UPDATE,
        "job_id": "j1",
        "at": 0,
        "owner": "alice",
        "name": "resize",
        "queue": "default",
        "tags": ("red",),
        "status_before": "pending",
        "status": "running",
        "body": b"{}",
    } | fields
    return Event(seq=seq, **values)


@pytest.mark.parametrize(
    ("wanted", "fields", "matches"),
    [
        (JobFilter(ids=("j1",)), {}, True),
        (JobFilter(ids=("j2",)), {}, False),
        (JobFilter(ids=()), {}, False),
        (JobFilter(names=("resize", "x")), {}, True),
        (JobFilter(queues=("other",)), {}, False),
        (JobFilter(tags=("blue", "red")), {}, True),
        (JobFilter(tags=("blue",)), {}, False),
        (JobFilter(statuses=(Status.PENDING,)), {}, True),
        (JobFilter(statuses=(Status.RUNNING,)), {}, True),
        (JobFilter(statuses=(Status.FAILED,)), {}, False),
        (JobFilter(statuses=(Status.RUNNING,)), {"kind": "job_deleted", "status": None}, False),
        (JobFilter(statuses=(Status.PENDING,)), {"kind": "job_deleted", "status": None}, True),
        (JobFilter(mine=True), {}, False),
        (JobFilter(mine=True), {"owner": "root"}, True),
        (JobFilter(names=("resize",), queues=("other",)), {}, False),
    ],
)
def test_all_conditions_of_a_filter_hold_together(wanted: JobFilter, fields: dict[str, Any], matches: bool) -> None:
    test = predicate(key_of(wanted, ADMIN))
    assert test is not None
    assert test(event(**fields)) is matches


def test_an_admin_without_a_filter_needs_no_test_and_a_user_always_does() -> None:
    assert predicate(key_of(None, ADMIN)) is None
    test = predicate(key_of(None, ALICE))
    assert test is not None
    assert test(event())
    assert not test(event(owner="bob"))


def test_filters_that_mean_the_same_are_one_group() -> None:
    assert key_of(JobFilter(names=("a", "b")), ADMIN) == key_of(JobFilter(names=("b", "a", "a")), ADMIN)
    assert key_of(JobFilter(mine=True), ALICE) == key_of(None, ALICE)
    assert key_of(None, ADMIN) != key_of(None, ALICE)


def test_chunks_hold_whole_frames_and_end_at_their_last_number() -> None:
    draw = random.Random(7)
    entries = [Entry(event(seq, body=b"x" * draw.randrange(1, 9000))) for seq in range(1, 200)]
    pieces = list(chunks(entries))
    assert b"".join(piece for piece, _, _ in pieces) == b"".join(entry.frame for entry in entries)
    assert pieces[-1][1] == 199
    assert all(len(piece) <= CHUNK for piece, _, _ in pieces)
    assert [last for _, last, _ in pieces] == sorted({last for _, last, _ in pieces})
    assert sum(n for _, _, n in pieces) == 199


def test_a_frame_larger_than_a_chunk_goes_alone() -> None:
    entries = [Entry(event(1)), Entry(event(2, body=b"x" * (CHUNK + 1))), Entry(event(3))]
    assert [last for _, last, _ in chunks(entries)] == [1, 2, 3]


def test_counts_are_kept_per_owner_and_in_all() -> None:
    tally = Tally(Counters(counts={("alice", "default", "pending"): 2}, queues={"default": False}))
    tally.apply(event(status_before="pending", status="running"))
    tally.apply(event(2, owner="bob", status_before=None, status="pending"))
    assert (tally.stats("alice").pending, tally.stats("alice").running, tally.stats("alice").total) == (1, 1, 2)
    assert (tally.stats("bob").pending, tally.stats(None).pending, tally.stats(None).total) == (1, 2, 3)
    assert tally.take_changed() == {"alice", "bob", None}
    assert tally.take_changed() == set()


def test_progress_does_not_change_the_counts() -> None:
    tally = Tally(Counters(counts={}, queues={}))
    tally.apply(event(status_before="running", status="running"))
    assert tally.take_changed() == set()


def test_an_index_finds_whom_a_look_at_every_filter_would_find() -> None:
    draw = random.Random(11)

    def some(values: str) -> tuple[str, ...] | None:
        return tuple(draw.sample(values, draw.randrange(3))) if draw.random() < 0.4 else None

    groups: dict[FilterKey, Group] = {}
    index = Index()
    for _ in range(300):
        statuses = some("prc")
        wanted = JobFilter(
            ids=some("123"), names=some("xyz"), queues=some("qrs"), tags=some("abc"), mine=draw.random() < 0.2,
            statuses=None if statuses is None else tuple(STATUSES[each] for each in statuses),
        )  # fmt: skip
        key = key_of(wanted, draw.choice([ADMIN, ALICE, Identity("bob", "user", 0.0, "t")]))
        if key not in groups:
            groups[key] = Group(key)
            index.add(groups[key])
    for key in draw.sample([*groups], 40):
        index.remove(groups.pop(key))
    assert len(groups) > 100
    entries = [Entry(some_event(draw, seq)) for seq in range(1, 60)]
    found = dict(index.chosen(entries))
    expected = {
        group: chosen
        for group in groups.values()
        if (chosen := [each for each in entries if group.matches is None or group.matches(each.event)])
    }
    assert found == expected
    assert len(expected) > 60
    for group in groups.values():
        index.remove(group)
    assert not [*index.chosen(entries)]
    assert not any(getattr(index, name) for name in index.__slots__)


STATUSES = {"p": Status.PENDING, "r": Status.RUNNING, "c": Status.COMPLETED}


def some_event(draw: random.Random, seq: int) -> Event:
    if draw.random() < 0.1:
        counts = {draw.choice(["alice", "bob"]): {"q": {"completed": 1}}}
        body = msgspec.json.encode(Pruning(finished_before="2026-01-01T00:00:00.000Z", counts=counts))
        return event(seq, kind=JOBS_PRUNED, job_id="", owner="", name="", queue="", tags=(), status_before=None,
                     status=None, body=body)  # fmt: skip
    return event(
        seq, job_id=draw.choice("123"), owner=draw.choice(["alice", "bob", "root"]), name=draw.choice("xyz"),
        queue=draw.choice("qrs"), tags=tuple(draw.sample("abc", draw.randrange(4))),
        status_before=draw.choice(["pending", "running", None]), status=draw.choice(["running", "completed", None]),
    )  # fmt: skip


def test_only_filters_that_can_match_are_asked() -> None:
    asked: list[str] = []
    index = Index()
    for name in ("resize", "pack", "mail"):
        group = Group(key_of(JobFilter(names=(name,)), ADMIN))
        group.matches = lambda each, name=name: asked.append(name) or True  # type: ignore[misc]
        index.add(group)
    assert len([*index.chosen([Entry(event(name="pack")), Entry(event(2, name="other"))])]) == 1
    assert asked == ["pack"]


def test_a_filter_that_fails_is_told_and_the_others_are_served() -> None:
    index = Index()
    broken, whole = (Group(key_of(JobFilter(names=names), ADMIN)) for names in (("resize",), ("resize", "x")))
    broken.matches = lambda _: 1 / 0  # type: ignore[assignment]
    index.add(broken)
    index.add(whole)
    found = dict(index.chosen([Entry(event())]))
    assert isinstance(found[broken], ZeroDivisionError)
    assert not isinstance(found[whole], Exception)
    assert len(found[whole]) == 1


def test_a_filter_with_many_values_takes_no_places() -> None:
    index = Index()
    many = Group(key_of(JobFilter(ids=tuple(f"j{n}" for n in range(PLACES + 1))), ADMIN))
    index.add(many)
    assert [group for group, _ in index.chosen([Entry(event(job_id="j5"))])] == [many]
    assert not index._ids


class Silent:
    """A store of which the hub needs the name of its log alone."""

    epoch = "e"


async def test_the_ring_is_bounded_by_bytes_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "RING", 50)
    monkeypatch.setattr(hub_module, "RING_BYTES", 20_000)
    hub = Hub(Silent(), clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready = True
    for seq in range(1, 201):
        hub._waiting = [event(seq, body=b'"%s"' % (b"x" * (1000 if seq > 100 else 10)))]
        hub.flush()
        assert hub._ring_bytes == sum(len(entry.frame) for entry in hub._ring) <= 20_000
        assert len(hub._ring) <= 50
        assert hub._ring[-1].event.seq == hub.head == seq
        if seq == 100:
            assert len(hub._ring) == 50
    assert len(hub._ring) == 18
    assert hub.since(100) is None
    reached = hub.since(190)
    assert reached is not None
    assert [entry.event.seq for entry in reached] == list(range(191, 201))


class Counted(Silent):
    """Its counters are read at a number of the log, while something happens."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, Commit]] = []

    async def counters(self) -> Read[Counters]:
        seq, meanwhile = self.reads.pop(0)
        self.hub.publish(meanwhile)
        counts = Counters(counts={("alice", "default", "pending"): seq}, queues={"default": False})
        return Read(counts, Position("e", seq))

    hub: Hub


async def test_what_comes_while_the_counts_are_taken_anew_is_counted_once_and_told_in_order(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = Counted()
    hub = store.hub = Hub(store, clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready, hub.head = True, 5
    new = {"status_before": None, "status": "pending"}
    store.reads = [
        (20, Commit(missed=30, events=(event(31, **new),))),
        (31, Commit(queues=(QueueChanged("default", True),), events=(event(32, **new),))),
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub._count_again)
        nursery.start_soon(hub._flush_late)
        hub.publish(Commit(missed=10))
        await hub.reached(32)
        nursery.cancel_scope.cancel()
    assert store.reads == [], "the second time because of what was missed meanwhile"
    counts = hub.tally.stats(None)
    assert (counts.pending, counts.by_queue["default"].paused) == (32, True)
    assert [entry.event.seq for entry in hub._ring] == [32], "31 is among those that were counted"


class Watcher:
    """A live member that notes what it is told."""

    def __init__(self, hub: Hub) -> None:
        self.told: list[Any] = []
        self.hub = hub
        self.group = hub.join(hub.group(key_of(None, ADMIN)), self)
        hub.want_stats(None, self, first=True)
        self.told.clear()

    def deliver(self, _: bytes, before: int) -> bool:
        self.told.append(("after", before))
        return True

    def fall_behind(self, position: int) -> None:
        self.hub.leave(self.group, self)
        self.hub.drop_stats(None, self)
        self.told.append(("behind", position))

    def cut_off(self) -> None:
        self.hub.leave(self.group, self)
        self.told.append("cut off")

    def send_stats(self, _: bytes) -> None:
        self.told.append(("stats", self.hub.tally.stats(None).pending))

    def send_snapshot(self, kind: str, frame: bytes) -> None: ...

    def log_grew(self, job_id: str) -> None: ...


def broken(*_: Any) -> None:
    raise RuntimeError("broken")


NEW = {"status_before": None, "status": "pending"}


@pytest.mark.parametrize("part", ["encoding", "counting", "expiry"])
async def test_what_a_failed_flush_could_not_tell_is_to_be_had_from_the_log(
    part: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    store = Counted()
    hub = store.hub = Hub(store, clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready, hub.head = True, 5
    member = Watcher(hub)
    store.reads = [(7, Commit(events=(event(8, **NEW),)))]
    with monkeypatch.context() as patch:
        if part == "encoding":
            patch.setattr(hub_module, "Entry", broken)
        elif part == "counting":
            patch.setattr(hub.tally, "apply", broken)
        else:
            patch.setattr(hub, "before_flush", broken)
        hub.publish(Commit(events=(event(6, **NEW), event(7, **NEW))))
        hub._send_stats_once()
        hub.want_stats(None, member, first=True)
    assert member.told == [], "what was counted in part is told to nobody"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub._count_again)
        nursery.start_soon(hub._flush_late)
        await hub.reached(8)
        nursery.cancel_scope.cancel()
    assert member.told == [("behind", 5)]
    assert [entry.event.seq for entry in hub._ring] == [8]
    assert hub.tally.stats(None).pending == 7 + 1


async def test_who_has_what_of_a_flush_that_broke_off_is_not_known_so_all_are_cut_off(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    store = Counted()
    hub = store.hub = Hub(store, clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready, hub.head = True, 5
    member = Watcher(hub)
    monkeypatch.setattr(Index, "chosen", broken)
    hub.publish(Commit(events=(event(6, **NEW),)))
    assert member.told == ["cut off"]
    assert hub._missed.is_set()


async def test_counts_that_could_not_be_sent_are_owed_to_those_who_come_back(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    store = Counted()
    hub = store.hub = Hub(store, clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready, hub.head = True, 5
    member = Watcher(hub)
    store.reads = [(6, Commit())]
    with monkeypatch.context() as patch:
        patch.setattr(hub, "stats_frame", broken)
        hub.publish(Commit(events=(event(6, **NEW),)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub._send_stats)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub._count_again)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert member.told == [("after", 5), ("behind", 6)]
    hub.want_stats(None, member, first=False)
    hub._send_stats_once()
    assert member.told[2:] == [("stats", 6)]


async def test_an_event_that_was_counted_before_it_was_heard_of_is_not_told_again() -> None:
    hub = Hub(Counted(), clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready, hub.head = True, 31
    hub.tally = Tally(Counters(counts={}, queues={"default": False}))
    hub.publish(Commit(events=(event(31, **NEW), event(32, **NEW))))
    assert [entry.event.seq for entry in hub._ring] == [32]
    assert hub.tally.stats(None).pending == 1


async def test_counters_that_cannot_be_taken_are_asked_for_again(autojump_clock: trio.testing.MockClock) -> None:
    store = Counted()
    hub = store.hub = Hub(store, clock=lambda: 0)  # type: ignore[arg-type]
    hub._ready, hub.head = True, 5
    member = Watcher(hub)
    reads = iter([ZeroDivisionError(), StoreUnavailable("not now"), None])
    counters = store.counters

    async def failing() -> Read[Counters]:
        error = next(reads)
        if error is not None:
            raise error
        return await counters()

    store.counters = failing  # type: ignore[method-assign]
    store.reads = [(9, Commit())]
    hub.publish(Commit(missed=8))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub._count_again)
        await hub.reached(9)
        nursery.cancel_scope.cancel()
    assert member.told == [("behind", 5)]
