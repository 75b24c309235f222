"""PostgreSQL fails at a bad moment: at each statement of a life, and when a COMMIT was sent but is not answered."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
import trio

from jobctl.errors import StoreUnavailable
from jobctl.model import NewJob
from jobctl.store import postgres_writer
from jobctl.store.base import Completed, End, Failed, Idempotency, LogEntry
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import SQL, Link
from jobctl.store.postgres_settings import PostgresOptions
from tests.faults.cutting_proxy import Proxy
from tests.postgres_kit import Cluster, wait_until
from tests.store.store_kit import ANN, Heard, all_events, check_invariants, claims, listed

pytestmark = pytest.mark.faults
OPTIONS = PostgresOptions(pool_size=1, notify=False)


async def life(store: PostgresStore) -> None:
    """All that is written in one: what it says is so, or it raises."""
    first = await store.enqueue([NewJob(name="a", unique_key="k"), NewJob(name="b", data=b'"' + b"x" * 9000 + b'"')],
                                owner=ANN, idempotency=Idempotency("i", b"1"))  # fmt: skip
    again = await store.enqueue([NewJob(name="a", unique_key="k")], owner=ANN, idempotency=Idempotency("j", b"2"))
    assert again.ids == first.ids[:1]
    assert (await store.enqueue([NewJob(name="a", unique_key="k"), NewJob(name="b")], owner=ANN,
                                idempotency=Idempotency("i", b"1"))).replayed  # fmt: skip
    one, other = (await claims(store, 2)).claims
    assert await store.progress(one.job.id, one.run, 0.5, "half")
    assert await store.append_logs(one.job.id, one.run, [LogEntry(1, "stdout", "x"), LogEntry(2, "stdout", "y")])
    assert await store.record_process(other.job.id, other.run, 7, 8)
    ends = [End(one.job.id, one.run, Completed(b'"' + b"r" * 9000 + b'"')), End(other.job.id, other.run, Failed("f"))]
    (second,) = (await store.claim(2, worker="host:1", limits={}, busy={}, ends=ends)).claims
    assert (second.job.id, second.run) == (other.job.id, 2)
    assert (await store.cancel(second.job.id, owner=ANN)).cancel_requested
    assert await store.finish(second.job.id, second.run, Failed("again"))
    assert (await store.retry(one.job.id, owner=ANN)).status == "pending"
    await store.make_queues(["q"])
    assert (await store.set_paused("q", True)).paused
    done = await store.act("delete", [one.job.id, other.job.id], owner=ANN, statuses=())
    assert done.changed == 2
    assert await listed(store) == []


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    made = Proxy(cluster.port)
    yield made
    made.close()


@pytest.fixture
async def store(postgres_url: str, proxy: Proxy, cluster: Cluster) -> AsyncIterator[PostgresStore]:
    """One whose connections go through ``proxy``."""
    async with open_postgres(postgres_url.replace(f":{cluster.port}/", f":{proxy.port}/"), options=OPTIONS) as opened:
        yield opened
        await check_invariants(opened)


def when(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Link, Sequence[Any]], None]) -> None:
    """Call ``happens`` with what is about to be sent, by whichever connection."""
    all_at_once, alone = Link.execute_all, Link.execute

    def execute_all(self: Link, statements: Sequence[Any]) -> Any:
        if len(statements) > 1:
            happens(self, statements)
        return all_at_once(self, statements)

    def execute(self: Link, sql: str, values: Sequence[Any] = ()) -> Any:
        happens(self, [(sql, values)])
        return alone(self, sql, values)

    monkeypatch.setattr(Link, "execute_all", execute_all)
    monkeypatch.setattr(Link, "execute", execute)


def by_the_writer(link: Link) -> bool:
    return "writer" in str(link.raw.info.get_parameters()["application_name"])


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
async def test_a_connection_killed_at_each_statement_in_turn_changes_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Each write is done, once, though the connection dies before any one of its statements."""
    name = f"statements_{every}"
    url = cluster.create(name)
    killed = 0
    # Until a life ends before its turn comes: how many it sends is not the same each time.
    while await killed_at(killed * every, url, cluster, name, monkeypatch):
        killed += 1
    assert killed * every > 20


async def killed_at(n: int, url: str, cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Live once, with the connection killed before the n-th sending; whether there was one."""
    left = n

    def kill(link: Link, _: Sequence[Any]) -> None:
        nonlocal left
        if by_the_writer(link):
            if left == 0:
                pid = link.raw.info.backend_pid
                cluster.execute(f"SELECT pg_terminate_backend({pid})")
                wait_until(lambda: not cluster.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))
            left -= 1

    with monkeypatch.context() as patch:
        async with open_postgres(url, options=OPTIONS) as store:
            heard = Heard(store)
            when(patch, kill)
            await life(store)
            assert heard.events == await all_events(store)
            await check_invariants(store)
    cluster.execute(_FORGET, database=name)
    return left < 0


_FORGET = (
    "DELETE FROM job_event; UPDATE log SET folded = 0, cut = 0; DELETE FROM counter; DELETE FROM note; "
    "DELETE FROM idempotency; DELETE FROM queue WHERE name <> 'default'"
)


@pytest.mark.parametrize("how", ["swallow", "drop"])
async def test_a_commit_that_is_not_answered_is_looked_up(
    store: PostgresStore, proxy: Proxy, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``swallow``: it was done, and only the answer is lost. ``drop``: it never came to the server."""
    heard = Heard(store)
    await store.enqueue([NewJob(name="before")], owner=ANN)
    armed = [True]

    def lose(link: Link, statements: Sequence[Any]) -> None:
        if armed and by_the_writer(link) and statements[-1][0] == "COMMIT":
            armed.clear()
            getattr(proxy, how)()

    when(monkeypatch, lose)
    told = await store.enqueue([NewJob(name="lost"), NewJob(name="lost")], owner=ANN)
    assert not armed
    assert [job.id for job in await listed(store, names=("lost",))] == list(reversed(told.ids))
    await store.enqueue([NewJob(name="after")], owner=ANN)
    assert heard.events == await all_events(store)
    assert heard.seqs == [1, 2, 3, 4]


async def test_every_second_commit_that_is_not_answered_is_looked_up(
    store: PostgresStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard(store)
    n = [0]

    def lose(link: Link, statements: Sequence[Any]) -> None:
        if by_the_writer(link) and statements[-1][0] == "COMMIT":
            n[0] += 1
            if n[0] % 2:
                (proxy.swallow if n[0] % 4 == 1 else proxy.drop)()

    when(monkeypatch, lose)
    await life(store)
    assert n[0] > 10
    assert heard.events == await all_events(store)


async def test_what_has_become_of_a_commit_is_not_known_while_the_database_is_gone(
    store: PostgresStore, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_writer, "OUTCOME_S", 0.3)
    real = proxy._target

    def lose(link: Link, statements: Sequence[Any]) -> None:
        if by_the_writer(link) and statements[-1][0] == "COMMIT":
            proxy._target = 1  # nothing listens there
            proxy.swallow()

    with monkeypatch.context() as patch:
        when(patch, lose)
        with pytest.raises(StoreUnavailable, match="not known"):
            await store.enqueue([NewJob(name="lost", unique_key="k")], owner=ANN)
    assert store.trouble
    proxy._target = real
    again = await store.enqueue([NewJob(name="lost", unique_key="k")], owner=ANN)
    assert (again.created, again.existing) == (0, 1)
    await store.enqueue([NewJob(name="new")], owner=ANN)  # what was only read proves nothing
    assert store.trouble is None
    with trio.fail_after(20):
        await store.reached(1)


async def test_who_is_frozen_with_the_log_in_its_hands_holds_nobody_up_for_long(postgres_url: str) -> None:
    async with open_postgres(postgres_url, options=OPTIONS) as store:
        with psycopg.connect(postgres_url) as frozen:
            frozen.execute("SET idle_in_transaction_session_timeout = 500")
            frozen.execute("SELECT pg_advisory_xact_lock(1785684579, %s)", (store.writer._lock,))
            with trio.fail_after(10):
                await store.enqueue([NewJob(name="x")], owner=ANN)
            with pytest.raises(psycopg.Error):
                frozen.execute("SELECT 1")
        (timeout,) = store.writer._link.execute("SHOW idle_in_transaction_session_timeout")[0][0]
        assert timeout == "5s"
    assert SQL["lock_log"]
