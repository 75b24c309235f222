"""The event log, the counters, and what listeners are told."""

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_kit import (
    ANN,
    BEN,
    Clock,
    Heard,
    add,
    all_events,
    body,
    check_invariants,
    claim,
    claims,
    ended,
    enqueue,
    head,
    listed,
    new,
    shown,
    started,
)

from jobctl.errors import JobctlError, NotFound
from jobctl.events import Commit
from jobctl.store.base import Cancelled, Completed, Failed, LogEntry, Outcome, Released, Store

# --- the log -------------------------------------------------------------------------------------------------------


async def test_an_event_says_all_that_is_needed_when_its_job_is_gone(store: Store, clock: Clock) -> None:
    clock.forward(1)
    job_id = await add(store, name="mail", queue="post", tags=("ü",), owner=BEN)
    (event,) = (await store.events(0, limit=10)).events
    assert (event.seq, event.kind, event.job_id, event.at) == (1, "job_update", job_id, clock.ms)
    assert (event.owner, event.name, event.queue, event.tags) == (BEN, "mail", "post", ("ü",))
    assert (event.status_before, event.status) == (None, "pending")
    assert event.body == msgspec.json.encode(await shown(store, job_id))


async def test_what_listeners_hear_is_what_the_log_keeps(store: Store, heard: Heard) -> None:
    one = await started(store, tags=("a",))
    await store.progress(one.job.id, one.run, 0.5, None)
    await store.finish(one.job.id, one.run, Completed())
    await store.delete(one.job.id, owner=None)
    assert heard.events == await all_events(store)
    assert heard.seqs == [1, 2, 3, 4, 5]


async def test_events_come_in_pages_with_the_bounds_of_the_log(store: Store) -> None:
    empty = await store.events(0, limit=10)
    assert (empty.events, empty.start, empty.head) == ((), 1, 0)
    await enqueue(store, *(new(f"n{i}") for i in range(5)))
    page = await store.events(1, limit=2)
    assert ([event.seq for event in page.events], page.start, page.head) == ([2, 3], 1, 5)
    page = await store.events(1, limit=10, upto=3)
    assert ([event.seq for event in page.events], page.start, page.head) == ([2, 3], 1, 5)
    for after, upto in ((5, None), (99, None), (0, 0), (3, 2)):
        page = await store.events(after, limit=10, upto=upto)
        assert (page.events, page.start, page.head) == ((), 1, 5)
    assert len((await store.events(0, limit=10, upto=99)).events) == 5


async def test_the_numbers_go_on_after_a_restart(open_store) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        await enqueue(store, new(), new())
        epoch = store.epoch
    async with open_store() as store:
        assert store.epoch == epoch
        await add(store)
        assert [event.seq for event in await all_events(store)] == [1, 2, 3]


async def test_a_jobs_history_is_its_own_events_in_order(store: Store) -> None:
    one = await started(store, name="a")
    await enqueue(store, new("b"), new("c"))
    await store.progress(one.job.id, one.run, 0.5, None)
    other = await claim(store)
    await store.cancel(one.job.id, owner=ANN)
    await store.finish(one.job.id, one.run, Cancelled())
    await store.finish(other.job.id, other.run, Completed())
    await store.retry(one.job.id, owner=ANN)
    found = (await store.history(one.job.id, owner=ANN)).value
    assert [event.status for event in found] == ["pending", "running", "running", "running", "cancelled", "pending"]
    assert found == tuple(event for event in await all_events(store) if event.job_id == one.job.id)
    assert [body(event)["version"] for event in found] == [1, 2, 3, 4, 5, 6]


async def test_a_long_history_is_whole(store: Store) -> None:
    one = await started(store)
    async with trio.open_nursery() as nursery:
        for i in range(300):
            nursery.start_soon(store.progress, one.job.id, one.run, i / 300, None)
    assert len((await store.history(one.job.id, owner=None)).value) == 302


# --- failing operations beside others ------------------------------------------------------------------------------


async def test_numbers_have_no_gap_where_operations_fail_beside_others(store: Store, heard: Heard) -> None:
    ids = [await add(store, queue=f"q{i}") for i in range(10)]
    order: list[int] = []

    async def good(i: int) -> None:
        await add(store, queue="shared", name=f"n{i}")
        order.append(i)

    async def bad(i: int) -> None:
        with pytest.raises(Exception):  # noqa: B017
            if i % 3 == 0:
                await store.cancel("nobody", owner=None)
            elif i % 3 == 1:
                await store.delete(ids[i % 10], owner=BEN)
            else:  # one that has written already when it fails
                await enqueue(store, new(queue=f"gone{i}"), new(tags=("\ud800",)))

    async with trio.open_nursery() as nursery:
        for i in range(60):
            nursery.start_soon(good, i)
            nursery.start_soon(bad, i)
    assert heard.seqs == list(range(1, 71))
    assert [event.seq for event in await all_events(store)] == heard.seqs
    assert not [name for name in (await store.stats(owner=None)).value.by_queue if name.startswith("gone")]
    assert (await store.stats(owner=None)).value.by_queue["shared"].total == 60
    told = [change.name for commit in heard.commits for change in commit.queues]
    assert sorted(told) == sorted([f"q{i}" for i in range(10)] + ["shared"])


async def test_a_queue_whose_first_job_failed_can_be_made_again(store: Store) -> None:
    async def bad() -> None:
        with pytest.raises(UnicodeEncodeError):
            await enqueue(store, new(queue="post"), new(tags=("\ud800",)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(bad)
            nursery.start_soon(add, store, new(queue="post"))
    assert len((await claims(store)).claims) == 5


async def test_a_claim_beside_a_failing_operation_forgets_no_queue(store: Store) -> None:
    async def bad() -> None:
        with pytest.raises(UnicodeEncodeError):
            await enqueue(store, new(queue="other"), new(tags=("\ud800",)))

    async def empty_claim() -> None:
        await claims(store)

    for _ in range(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(empty_claim)
            nursery.start_soon(bad)
            nursery.start_soon(add, store)
        found = (await claims(store)).claims
        running = await listed(store, statuses=("running",))
        assert found or running
        for job in running:
            await store.finish(job.id, 1, Completed())


# --- listeners -----------------------------------------------------------------------------------------------------


async def test_a_listener_hears_of_a_write_before_its_caller_goes_on(store: Store, heard: Heard) -> None:
    for _ in range(20):
        job_id = await add(store)
        assert heard.events[-1].job_id == job_id


async def test_listeners_are_told_in_order_on_the_callers_thread(store: Store) -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []
    here = trio.lowlevel.current_trio_token()

    def listener(name: str, commit: Commit) -> None:
        assert trio.lowlevel.current_trio_token() is here
        calls.append((name, tuple(event.seq for event in commit.events)))

    store.listen(lambda commit: listener("first", commit))
    store.listen(lambda commit: listener("second", commit))
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(add, store)
    assert [name for name, _ in calls] == ["first", "second"] * (len(calls) // 2)
    assert [seq for name, seqs in calls if name == "second" for seq in seqs] == list(range(1, 51))


async def test_a_listener_that_raises_harms_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def broken(commit: Commit) -> None:
        raise RuntimeError("a listener's own fault")

    store.listen(broken)
    heard = Heard(store)
    job_id = await add(store)
    assert heard.events[0].job_id == job_id
    assert "a listener failed" in caplog.text


async def test_what_was_acknowledged_is_seen_by_the_next_read(store: Store) -> None:
    async def write_and_read(i: int) -> None:
        job_id = await add(store, name=f"n{i}")
        assert (await shown(store, job_id)).name == f"n{i}"
        assert (await store.stats(owner=None)).value.total >= 1
        await store.delete(job_id, owner=ANN)
        with pytest.raises(NotFound):
            await shown(store, job_id)

    async with trio.open_nursery() as nursery:
        for i in range(40):
            nursery.start_soon(write_and_read, i)


async def test_no_read_sees_half_a_transaction(store: Store) -> None:
    done = trio.Event()

    async def look() -> None:
        while not done.is_set():
            stats = await store.stats(owner=None)
            assert stats.value.total % 7 == 0
            assert stats.position.seq % 7 == 0

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(look)
        for _ in range(30):
            await enqueue(store, *(new() for _ in range(7)))
        done.set()


# --- random operations ---------------------------------------------------------------------------------------------

OUTCOMES: list[Outcome] = [Completed(b"1"), Failed("x"), Failed("x", delay=3), Failed("x", retry=False), Cancelled()]
OPERATION = st.one_of(
    st.tuples(st.just("enqueue"), st.sampled_from("ab"), st.sampled_from(["k", None]), st.sampled_from([ANN, BEN])),
    st.tuples(st.just("claim"), st.integers(1, 3)),
    st.tuples(st.just("finish"), st.integers(0, 5), st.sampled_from([*OUTCOMES, Released()]), st.booleans()),
    st.tuples(st.sampled_from(["progress", "logs", "cancel", "retry", "delete", "release"]), st.integers(0, 9)),
    st.tuples(st.just("forward"), st.integers(1, 5)),
    st.tuples(st.sampled_from(["pause", "resume"]), st.sampled_from("ab")),
    st.tuples(st.just("known"), st.sampled_from([None, frozenset({"a"}), frozenset({"a", "b"})])),
    st.tuples(st.just("rescue")),
)


def test_the_invariants_hold_whatever_is_done(open_store, clock, request) -> None:  # type: ignore[no-untyped-def]
    examples = 60 if request.node.callspec.params["open_store"] == "sqlite" else 15  # what asks a server takes longer

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(operations=st.lists(OPERATION, min_size=5, max_size=60))
    def hold(operations) -> None:  # type: ignore[no-untyped-def]
        trio.run(_whatever_is_done, open_store, clock, operations)

    hold()


async def _whatever_is_done(open_store, clock: Clock, operations) -> None:  # type: ignore[no-untyped-def]
    async with open_store() as store:
        for job in await listed(store):  # what the last example has left
            await _quietly(store.cancel(job.id, owner=None))
        await store.rescue()
        for job in await listed(store):
            await store.delete(job.id, owner=None)
        runs: list[tuple[str, int]] = []
        live: dict[str, int] = {}
        for operation in operations:
            await _one(store, clock, operation, runs, live)
        await check_invariants_of(store)


async def check_invariants_of(store: Store) -> None:
    jobs = await listed(store)
    assert (await store.stats(owner=None)).value.total == len(jobs)
    await check_invariants(store)


async def _quietly(write) -> object:  # type: ignore[no-untyped-def]
    try:
        return await write
    except JobctlError:
        return None


async def _one(store: Store, clock: Clock, operation, runs: list[tuple[str, int]], live: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    kind, *arguments = operation
    jobs = await listed(store)
    match kind, arguments:
        case "enqueue", [name, key, owner]:
            await enqueue(store, new(name, queue=name, unique_key=key, max_attempts=2), owner=owner)
        case "claim", [slots]:
            for one in (await claims(store, slots)).claims:
                assert one.job.id not in live, "two live runs of one job"
                runs.append((one.job.id, one.run))
                live[one.job.id] = one.run
        case "finish", [index, outcome, held] if runs:
            job_id, run = runs[index % len(runs)]
            done = await store.finish(job_id, run, outcome, held=held)
            assert done <= (live.get(job_id) == run)
            if done and not held:
                del live[job_id]
        case "release", [index] if runs:
            job_id, run = runs[index % len(runs)]
            if live.get(job_id) == run and await _ended(store, job_id):
                await store.release(job_id, run)
                del live[job_id]
        case "progress" | "logs", [index] if runs:
            job_id, run = runs[index % len(runs)]
            await store.progress(job_id, run, 0.5, None)
            await store.append_logs(job_id, run, [LogEntry(clock.ms, "log", "x")])
        case (("cancel" | "retry" | "delete"), [index]) if jobs:
            await _quietly(getattr(store, kind)(jobs[index % len(jobs)].id, owner=None))
        case "forward", [seconds]:
            clock.forward(seconds)
        case (("pause" | "resume"), [queue]):
            await _quietly(store.set_paused(queue, kind == "pause"))
        case "known", [known]:
            await store.set_known(known)
        case "rescue", []:
            await store.rescue()
            live.clear()


async def _ended(store: Store, job_id: str) -> bool:
    try:
        return (await shown(store, job_id)).status != "running"
    except NotFound:
        return True


async def test_every_write_moves_the_head_by_what_it_told(store: Store, heard: Heard) -> None:
    await ended(store)
    await enqueue(store, new(), new(), new())
    assert heard.seqs[-1] == await head(store) == 6
