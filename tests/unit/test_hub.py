"""The hub's parts by themselves: filters and their grouping, chunks, counts."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jobctl.events import JOB_UPDATE, Event
from jobctl.model import Identity, JobFilter
from jobctl.states import Status
from jobctl.store.base import Counters
from jobctl.stream.filters import key_of, predicate
from jobctl.stream.hub import CHUNK, Entry, chunks
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
