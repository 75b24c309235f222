"""The writer thread: group commit, failures of one and of all."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from sqlite_kit import together
from store_kit import ANN, Clock, Heard, add, all_events, check_invariants, claims, enqueue, head, listed, new, shown

from jobctl.errors import NotFound, StoreUnavailable
from jobctl.events import Commit
from jobctl.store import committer, sqlite_claims, writes
from jobctl.store import enqueue as enqueueing
from jobctl.store.base import Completed
from jobctl.store.sqlite import SqliteStore, open_store
from jobctl.store.transaction import Tx


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state") as opened:
        opened.clock = clock
        yield opened
        await check_invariants(opened)


@pytest.fixture
async def heard(store: SqliteStore) -> Heard:
    return Heard(store)


def disk_error(store: SqliteStore, error: Exception | None = None) -> Callable[[], Any]:
    def fail(tx: Tx) -> None:
        raise error or apsw.IOError("disk I/O error")

    return lambda: store.committer.submit(fail)


def late_error(store: SqliteStore) -> Callable[[], Any]:
    """A closure that raises after it has written and noted all that can be noted."""

    def fail(tx: Tx) -> None:
        enqueueing.enqueue(tx, [new("ghost", queue="ghosts"), new("ghost")], ANN, None)
        writes.set_paused(tx, "default", True)
        sqlite_claims.set_known(tx, frozenset({"ghost"}))
        sqlite_claims.claim(tx, 10, "host:1", {}, {})
        tx.cancel_asked("ghost", 1)
        tx.logged("ghost", 1)
        raise KeyError("late")

    return lambda: store.committer.submit(fail)


# --- groups --------------------------------------------------------------------------------------------------------


async def test_writes_that_wait_together_share_a_transaction(store: SqliteStore) -> None:
    writes = store.committer.metrics.commit_writes
    before = writes.count, writes.total
    answers = await together(store, *[lambda: add(store)] * 50)
    assert len(set(answers)) == 50
    assert (writes.count - before[0], writes.total - before[1]) == (2, 51)


async def test_a_group_is_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "MAX_GROUP", 10)
    before = store.committer.metrics.commit_writes.count
    await together(store, *[lambda: add(store)] * 35)
    assert store.committer.metrics.commit_writes.count - before == 5


async def test_a_group_that_others_are_in_the_way_of_starts_over_later_each_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(committer.time, "sleep", pauses.append)
    monkeypatch.setattr(committer.random, "random", lambda: 0.5)
    errors = [committer.Again("a deadlock", guarded=False)] * 8

    def meet(tx: Tx) -> int:
        if errors:
            raise errors.pop()
        return tx.now

    assert await store.committer.submit(meet) == store.clock()
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5], "the first time at once"


async def test_writes_are_done_in_the_order_they_were_handed_over(store: SqliteStore) -> None:
    await together(store, *(lambda i=i: add(store, name=f"n{i}") for i in range(20)))  # type: ignore[misc]
    assert [event.name for event in await all_events(store)] == [f"n{i}" for i in range(20)]


async def test_a_group_is_heard_as_one_commit(store: SqliteStore, heard: Heard) -> None:
    await together(store, *[lambda: add(store)] * 5)
    assert [len(commit.events) for commit in heard.commits if commit.events] == [5]


# --- one fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [0, 1, 5])
async def test_a_write_that_raises_late_is_undone_alone(store: SqliteStore, heard: Heard, beside: int) -> None:
    good = [lambda: add(store, name="good", queue="q")] * beside
    answers = await together(store, *good, late_error(store), *good, late_error(store))
    assert [type(each) for each in answers].count(KeyError) == 2
    assert [job.name for job in await listed(store)] == ["good"] * beside * 2
    assert heard.seqs == list(range(1, beside * 2 + 1))
    assert heard.cancels == []
    assert [change.name for commit in heard.commits for change in commit.queues] == ["q"] * (beside > 0)
    assert not [grown for commit in heard.commits for grown in commit.logs]
    assert store.trouble is None
    assert set((await store.counters()).value.queues) == {"default", *["q"] * (beside > 0)}
    await add(store, name="after")  # neither paused nor unknown
    assert len((await claims(store, 100)).claims) == beside * 2 + 1


async def test_a_write_that_raises_before_it_wrote_costs_the_group_nothing(store: SqliteStore) -> None:
    ran: list[str] = []

    def counted(tx: Tx) -> None:
        ran.append("once")

    answers = await together(
        store,
        lambda: store.committer.submit(counted),
        lambda: store.cancel("nobody", owner=None),
        lambda: add(store),
    )
    assert isinstance(answers[1], NotFound)
    assert ran == ["once"]
    assert len(await listed(store)) == 1


async def test_the_error_that_a_closure_raised_is_the_one_its_caller_sees(store: SqliteStore) -> None:
    error = ValueError("mine")

    def fail(tx: Tx) -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await store.committer.submit(fail)
    assert caught.value is error


# --- all fail ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [apsw.IOError, apsw.FullError, apsw.CorruptError, apsw.NoMemError, apsw.ReadOnlyError])
async def test_an_error_of_the_disk_fails_the_whole_group(
    store: SqliteStore, heard: Heard, kind: type[apsw.Error], caplog: pytest.LogCaptureFixture
) -> None:
    await add(store)
    heard.clear()
    answers = await together(
        store,
        lambda: add(store, queue="new"),
        lambda: store.set_known(frozenset()),
        lambda: claims(store),
        disk_error(store, kind("no")),
        lambda: add(store),
    )
    assert [type(each) for each in answers] == [StoreUnavailable] * 5
    assert answers[0].__cause__ is answers[3].__cause__
    assert [commit for commit in heard.commits if commit != Commit()] == []
    assert store.trouble is not None
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert await head(store) == 1
    await add(store, queue="new")
    assert store.trouble is None
    assert len((await claims(store)).claims) == 2  # no queue was forgotten, no name is unknown
    assert [event.seq for event in await all_events(store)] == [1, 2, 3, 4]


@pytest.mark.parametrize("failing", [disk_error, late_error])
async def test_a_run_whose_end_was_rolled_back_ends_when_it_is_told_again(
    store: SqliteStore, failing: Callable[[SqliteStore], Callable[[], Any]]
) -> None:
    await add(store)
    (one,) = (await claims(store)).claims

    def finish() -> Any:
        return store.finish(one.job.id, one.run, Completed(b"1"))

    answers = await together(store, finish, failing(store), finish)
    if failing is late_error:
        assert (answers[0], type(answers[1]), answers[2]) == (True, KeyError, False)
    else:
        assert [type(each) for each in answers] == [StoreUnavailable] * 3
        assert await finish()
    assert not await finish()
    assert [(job.status, job.attempts, job.version) for job in await listed(store)] == [("completed", 1, 3)]


@pytest.mark.parametrize("before", [0, 1])
async def test_a_run_whose_start_or_report_was_rolled_back_is_as_it_was(store: SqliteStore, before: int) -> None:
    job_id = await add(store)
    await claims(store, before)
    await together(
        store, lambda: claims(store), lambda: store.progress(job_id, 1, 0.5, None), disk_error(store), late_error(store)
    )
    assert await store.finish(job_id, 1, Completed()) == (before == 1)
    assert [(job.status, job.version) for job in await listed(store)] == [
        ("completed", 3) if before else ("pending", 1)
    ]


async def test_a_transaction_that_the_database_has_given_up_acknowledges_nobody(store: SqliteStore) -> None:
    def lose(tx: Tx) -> None:
        tx.state.connection.execute("ROLLBACK")
        raise ValueError("not what matters")

    answers = await together(store, lambda: add(store), lambda: store.committer.submit(lose), lambda: add(store))
    assert [type(each) for each in answers] == [StoreUnavailable] * 3
    assert await listed(store) == []
    await add(store)


async def test_a_full_disk_is_survived(store: SqliteStore, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    await add(store)
    connection = store._connection

    def limit(pages: int) -> Callable[[Tx], object]:
        return lambda tx: tx.state.connection.pragma("max_page_count", pages)

    pages = await store.committer.submit(lambda tx: connection.pragma("page_count"))
    await store.committer.submit(limit(pages + 2))
    big = new(data=b'{"x":"%s"}' % (b"d" * 60_000))
    answers = await together(store, lambda: add(store), lambda: enqueue(store, big), lambda: add(store))
    assert [type(each) for each in answers] == [StoreUnavailable] * 3
    assert "full" in str(store.trouble)
    assert heard.seqs == [1]
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await enqueue(store, big)
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert len(await listed(store)) == 1  # reading goes on
    await store.committer.submit(limit(1 << 30))
    await enqueue(store, big)
    assert store.trouble is None
    assert heard.seqs == [1, 2]


async def test_a_transaction_that_only_read_does_not_say_that_writing_goes_well(store: SqliteStore) -> None:
    with pytest.raises(StoreUnavailable):
        await disk_error(store)()
    await claims(store)
    with pytest.raises(NotFound):
        await store.cancel("nobody", owner=None)
    assert store.trouble is not None
    await add(store)
    assert store.trouble is None


async def test_trouble_passes_though_nobody_writes(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "IDLE_AFTER_S", 0.01)
    probed = threading.Event()
    real = store.committer._probe

    def probe() -> None:
        real()
        probed.set()

    monkeypatch.setattr(store.committer, "_probe", probe)
    with pytest.raises(StoreUnavailable):
        await disk_error(store)()
    assert await trio.to_thread.run_sync(probed.wait, 5)
    assert store.trouble is None
    assert await head(store) == 0


async def test_a_failed_commit_leaves_no_gap_though_the_state_cannot_be_read(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(store)

    def fail(tx: Tx) -> None:
        flush = tx.flush

        def flush_and_fail() -> Commit:
            flush()
            raise apsw.IOError("at the last moment")

        tx.flush = flush_and_fail  # type: ignore[method-assign]

    answers = await together(store, lambda: add(store, queue="new"), lambda: store.committer.submit(fail))
    assert [type(each) for each in answers] == [StoreUnavailable] * 2
    with monkeypatch.context() as patch:
        patch.setattr(type(store._state), "refresh", lambda state: disk_is_gone())
        with pytest.raises(StoreUnavailable):
            await add(store)
    await add(store, queue="new")
    assert [event.seq for event in await all_events(store)] == [1, 2]
    assert len((await claims(store)).claims) == 2


def disk_is_gone() -> None:
    raise apsw.IOError("the disk is gone")


async def test_a_bug_in_the_store_is_told_and_survived(store: SqliteStore, caplog: pytest.LogCaptureFixture) -> None:
    def spoil(tx: Tx) -> None:
        tx._rows.append(("not", "a", "row"))

    answers = await together(store, lambda: add(store), lambda: store.committer.submit(spoil))
    assert [type(each) for each in answers] == [StoreUnavailable] * 2
    assert "Traceback" in caplog.text
    await add(store)


async def test_a_hook_that_fails_after_the_commit_does_not_unsay_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store.writer, "committed", lambda: 1 / 0)
    job_id = await add(store)
    assert (await shown(store, job_id)).id == job_id
    assert "ZeroDivisionError" in caplog.text


async def test_a_lock_held_by_another_program_fails_writes_and_passes(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.committer.submit(lambda tx: tx.state.connection.set_busy_timeout(10))
    other = apsw.Connection(str(tmp_path / "jobs.db"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        await add(store)
    assert await listed(store) == []
    other.execute("ROLLBACK")
    other.close()
    await add(store)


async def test_a_write_whose_event_loop_is_gone_does_not_end_the_thread(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        """The token of an event loop that has ended."""

        asked = threading.Event()

        def run_sync_soon(self, *call: object) -> None:
            self.asked.set()
            raise trio.RunFinishedError

    op = committer._Op(lambda tx: None, trio.lowlevel.current_task())
    with monkeypatch.context() as patch:
        patch.setattr(store.committer, "_token", Gone())
        store.committer._queue.put(op)
        assert await trio.to_thread.run_sync(Gone.asked.wait, 10)
    await add(store)
