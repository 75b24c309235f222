"""The PostgreSQL store: what processes that share a database hear of one another, and what that costs."""
# ruff: noqa: F811  (fixtures are imported by name)

import time
from typing import Any

import psycopg
import pytest
import trio
from store_kit import ANN, Clock, Heard, add, all_events, claim, claims, enqueue, listed, new, started, status
from two_processes_kit import POOLED, WITH_NOTIFY, WITHOUT_NOTIFY, Two, two, until  # noqa: F401

from jobctl.errors import LeaseLost, StoreUnavailable
from jobctl.store import postgres_watch
from jobctl.store.base import Completed, Failed, LogEntry
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import Link
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.workers import BEAT_S
from tests.postgres_kit import Cluster

# --- hearing -------------------------------------------------------------------------------------------------------


async def test_each_hears_what_both_commit_in_one_order(two: Two) -> None:
    heard = [Heard(store) for store in two]
    for i in range(10):
        await add(two[i % 2], name=f"n{i}")
    there = await all_events(two[0])
    await until(lambda: all(len(each.events) >= 10 for each in heard))
    assert [each.events for each in heard] == [there, there]


async def test_a_writer_is_answered_after_all_that_was_committed_before_was_heard(two: Two) -> None:
    heard = Heard(two[1])
    for i in range(20):
        await add(two[0], name=f"n{i}")
        await add(two[1], name=f"m{i}")
        assert heard.seqs == list(range(1, 2 * i + 3))


async def test_what_is_read_is_never_newer_than_what_was_heard(two: Two) -> None:
    heard = Heard(two[1])
    for _ in range(10):
        job = await add(two[0])
        read = await two[1].job(job, owner=None)
        assert heard.seqs[-1] == read.position.seq


async def test_a_cancel_reaches_the_process_that_runs_the_job(two: Two) -> None:
    heard = Heard(two[1])
    await add(two[0])
    one = await claim(two[1])
    assert (await two[0].cancel(one.job.id, owner=ANN)).cancel_requested
    await until(lambda: heard.cancels == [one.job.id])
    assert await two[1].finish(one.job.id, one.run, Failed("x"))
    assert await status(two[0], one.job.id) == "cancelled"


async def test_a_pause_holds_everywhere_at_once_and_is_heard(two: Two) -> None:
    heard = Heard(two[1])
    await add(two[0], queue="post")
    await two[0].set_paused("post", True)
    assert (await claims(two[1])).claims == ()
    await until(lambda: [(c.name, c.paused) for each in heard.commits for c in each.queues][-1:] == [("post", True)])
    await two[1].set_paused("post", False)
    assert len((await claims(two[0])).claims) == 1


async def test_work_that_others_make_is_heard_also_where_no_event_tells_of_it(two: Two, clock: Clock) -> None:
    for store in two:
        store.clock = clock
    heard = Heard(two[1])
    await enqueue(two[0], *(new(scheduled_for=clock.ms + 1000) for _ in range(3)))
    await until(lambda: heard.work)
    heard.clear()
    clock.forward(2)
    assert len((await claims(two[0], 1)).claims) == 1  # which makes all three ready
    await until(lambda: heard.work)
    assert len((await claims(two[1])).claims) == 2


async def test_who_wants_no_events_hears_of_work_and_of_cancels_and_reads_nothing_newer(postgres_url: str) -> None:
    async with (
        open_postgres(postgres_url, options=WITH_NOTIFY) as one,
        open_postgres(postgres_url, options=WITH_NOTIFY, events=False) as other,
    ):
        heard = Heard(other)
        job = await add(one)
        await until(lambda: heard.work)
        first = await claim(other)
        heard.clear()
        assert (await one.cancel(job, owner=ANN)).cancel_requested
        await until(lambda: heard.cancels == [job])
        assert [commit.work for commit in heard.commits] == [False] * len(heard.commits)
        assert await other.finish(job, first.run, Failed("x"))
        for _ in range(5):
            await add(one)
            read = await other.job(job, owner=None)
            assert heard.commits[-1].missed == read.position.seq
        assert {event.job_id for event in heard.events} <= {job}  # its own are in its hands


@pytest.mark.parametrize("events", [True, False])
async def test_work_in_events_that_were_pruned_before_they_were_read_is_told(postgres_url: str, events: bool) -> None:
    async with (
        open_postgres(postgres_url, options=WITHOUT_NOTIFY) as one,
        open_postgres(postgres_url, options=WITHOUT_NOTIFY, events=events) as other,
    ):
        first = await started(one)
        await other.reached(2)
        heard = Heard(other)
        with other.watch._lock:  # it does not poll meanwhile
            await add(one)
            await one.finish(first.job.id, first.run, Completed(b"1"))
            await one.retention.prune_events(keep=1)
        await other.reached(4)
        assert heard.work


async def test_lines_of_a_log_are_heard_elsewhere(two: Two) -> None:
    heard = Heard(two[1])
    await add(two[0])
    one = await claim(two[0])
    await two[0].append_logs(one.job.id, one.run, [LogEntry(1, "log", "a"), LogEntry(2, "log", "b\x00c")])
    await until(lambda: [(each.job_id, each.n) for c in heard.commits for each in c.logs] == [(one.job.id, 2)])
    page = (await two[1].logs(one.job.id, owner=None)).value
    assert [line.text for line in page.lines] == ["a", "b␀c"]  # PostgreSQL keeps no NUL


async def test_a_process_that_was_out_of_touch_for_too_long_ends(postgres_url: str) -> None:
    """It cannot know what it has missed, and must not tell its readers that it was nothing."""
    with pytest.RaisesGroup(LeaseLost, flatten_subgroups=True):
        async with open_postgres(postgres_url, options=WITHOUT_NOTIFY) as store:
            with psycopg.connect(postgres_url, autocommit=True) as connection:
                connection.execute("INSERT INTO note (n, at, body) VALUES (7, 0, '{}')")
            store.watch.look()
            await trio.sleep(20)


@pytest.mark.parametrize("kept", [0, 2])
async def test_what_was_pruned_before_it_was_read_is_said_to_be_missed_and_the_rest_is_heard(
    two: Two, kept: int
) -> None:
    one, other = two
    await enqueue(one, *(new() for _ in range(3)))
    heard = Heard(other)
    await other.reached(3)
    heard.clear()
    with other.tail._lock:  # it reads nothing meanwhile
        await enqueue(one, *(new() for _ in range(6)))
        assert (await one.retention.prune_events(keep=kept)).count == 9 - kept
    await until(lambda: len(heard.events) == kept and any(commit.missed for commit in heard.commits))
    (missed,) = (commit for commit in heard.commits if commit.missed)
    assert (missed.missed, missed.work) == (9 - kept, True)
    await add(one)
    await until(lambda: len(heard.events) == kept + 1)
    assert [event.seq for event in heard.events] == [*range(10 - kept, 11)]
    with trio.fail_after(10):
        assert (await other.stats(owner=None)).position.seq == 10


async def test_notes_are_kept_by_the_databases_clock_until_all_have_read_them(postgres_url: str, clock: Clock) -> None:
    """A process whose clock is wrong must not have its notes removed before others have read them."""
    async with open_postgres(postgres_url, options=WITHOUT_NOTIFY) as store:
        store.clock = clock
        await store.make_queues(["one", "two"])
        await store.set_paused("one", True)
        ages = "SELECT abs(at - extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM note"
        found = (await store._read(lambda snapshot: snapshot.select(ages, ()))).value
        assert len(found) == 2
        assert all(age < 60_000 for (age,) in found)


async def test_many_commits_are_one_call_without_a_message(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who notifies takes a lock of the whole database server."""
    calls: list[str] = []
    plain = Link.execute

    def execute(self: Link, sql: str, values: Any = ()) -> Any:
        calls.append(sql)
        return plain(self, sql, values)

    async with open_postgres(postgres_url, options=WITH_NOTIFY) as store:
        monkeypatch.setattr(Link, "execute", execute)
        monkeypatch.setattr(postgres_watch, "NOTIFY_EVERY_S", 1000.0)  # it does not come to a second one
        for _ in range(20):
            await add(store)
        await until(lambda: any("NOTIFY" in sql for sql in calls))
        for _ in range(20):
            await add(store)
    assert [sql for sql in calls if "NOTIFY" in sql.upper()] == ["NOTIFY jobctl"]


# --- leases --------------------------------------------------------------------------------------------------------


async def test_a_worker_whose_lease_is_over_claims_nothing(postgres_url: str) -> None:
    async with open_postgres(postgres_url, options=WITHOUT_NOTIFY) as store:
        await add(store)
        store.lease = "host:1"
        with pytest.raises(LeaseLost):
            await claims(store)
        assert [job.status for job in await listed(store)] == ["pending"]
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO worker (id, kind, host, pid, version, started_at, seen_at, expires_at, slots) "
                "VALUES ('host:1', 'work', 'h', 1, '1', 0, 0, extract(epoch FROM now()) * 1000 + 60000, 1)"
            )
            one = await claim(store)
            assert (await store.left_running()).jobs == ()
            assert (await store.rescue()).jobs == ()
            connection.execute("UPDATE worker SET expires_at = 1")
        assert (await store.rescue()).jobs == (one.job.id,)
        with pytest.raises(LeaseLost):
            await claims(store)


# --- time ----------------------------------------------------------------------------------------------------------


async def test_due_times_are_by_the_databases_clock(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock is set an hour ahead: nothing that waits is early, or later."""
    one, other = two
    await add(one, scheduled_for=one.clock() + 1800_000)
    await add(one, name="failing", max_attempts=2)
    failing = await claim(one)
    await one.finish(failing.job.id, failing.run, Failed("x", delay=1000.0))
    due = await shown_due(one, failing.job.id)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
    found = await claims(other)
    assert found.claims == ()
    assert found.next_due is not None
    assert 990 < found.next_due / 1000 - time.time_ns() / 1e9 < 1001  # by the clock that the runner sleeps by
    assert await one.keep_backoffs(3600.0) == 0
    assert await shown_due(other, failing.job.id) == due


async def shown_due(store: PostgresStore, job: str) -> str | None:
    return (await store.job(job, owner=None)).value.scheduled_for


# --- what it costs -------------------------------------------------------------------------------------------------


def test_an_idle_process_asks_less_than_twice_a_second() -> None:
    pauses = [postgres_watch.FASTEST_S]
    while pauses[-1] < postgres_watch.SLOWEST_S:
        pauses.append(postgres_watch.longer(pauses[-1], found=False))
    beats = 1 / BEAT_S
    assert 1 / postgres_watch.SLOWEST_S + beats < 1.7  # and a minute's upkeep is some twenty statements
    assert 1 / postgres_watch.LISTENING_S < 1
    assert postgres_watch.SLOWEST_S < 0.95  # a cancel elsewhere is heard of within a second
    assert sum(pauses) < 3
    assert postgres_watch.longer(pauses[-1], found=True) == postgres_watch.FASTEST_S


async def test_counters_are_folded_by_whoever_passes_the_mark(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_watch, "FOLD_EVERY", 20)
    for _ in range(30):
        await add(two[0])
        await add(two[1])

    async def folded() -> int:
        ((n,),) = (await two[0]._read(lambda snapshot: snapshot.select("SELECT folded FROM log", ()))).value
        return int(n)

    with trio.fail_after(10):
        while await folded() < 40:
            await trio.sleep(0.01)
    assert (await two[1].stats(owner=ANN)).value.pending == 60


@pytest.mark.parametrize("options", [WITHOUT_NOTIFY, POOLED], ids=["direct", "pooled"])
async def test_statements_and_locks_have_a_time_out(
    postgres_url: str, options: PostgresOptions
) -> None:
    async with open_postgres(postgres_url, options=options) as store:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "jit")
        asked = ", ".join(f"current_setting('{name}')" for name in names)
        for found in (
            await store._submit(lambda tx: tx.send((f"SELECT {asked}", ()))[0][0]),
            (await store._read(lambda snapshot: snapshot.select(f"SELECT {asked}", ()))).value,
        ):
            assert found == [("30s", "10s", "5s", "off")]


async def test_who_asks_is_not_told_where_a_database_is_that_cannot_be_reached(postgres_url: str) -> None:
    """What is raised answers whoever writes, and ``trouble`` is told at ``/readyz``, which asks for no token."""
    async with open_postgres(postgres_url, options=WITHOUT_NOTIFY) as store:
        store.url = "postgresql://ann@127.0.0.1:1/jobs"
        store.committer._writer._link.close()  # type: ignore[attr-defined]
        with pytest.raises(StoreUnavailable, match=r"^the database cannot be reached now; nothing was kept$"):
            await add(store)
        assert store.trouble == "the database cannot be reached now; nothing was kept"
        store.url = postgres_url
        await add(store)
        assert store.trouble is None


async def test_a_commit_is_synced_where_the_database_would_not(cluster: Cluster) -> None:
    url = cluster.create("weak")
    cluster.execute("ALTER DATABASE weak SET synchronous_commit = off")
    async with open_postgres(url, options=WITHOUT_NOTIFY) as store:
        assert await store._submit(lambda tx: tx.send(("SHOW synchronous_commit", ()))[0][0]) == [("on",)]
