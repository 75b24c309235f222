"""Several servers on one database: what one of them forgets, revokes or plans, and what two of them do at once."""

import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import pytest
import trio
from store_kit import ANN, START_MS, Clock, Heard, add, check_invariants, claims, ended, enqueue, new, started

from jobctl.errors import Conflict, NotFound, TooLarge
from jobctl.events import AccessEnded, TokenIssued
from jobctl.model import JobQuery, NewJob
from jobctl.schedule import ScheduleSpec
from jobctl.store import postgres_transaction, schedule_writes, token_writes
from jobctl.store.base import Claim, Completed, End, Failed, LogEntry
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_link import SQL, Link
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.schedules import Firing
from jobctl.store.tokens import NewSession, NewToken
from tests.postgres_kit import Cluster

DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
EVERY: Final = ScheduleSpec(name="every", cron="* * * * *", timezone="UTC", job_name="mail", missed="skip")
Two = tuple[PostgresStore, PostgresStore]


@pytest.fixture
async def two(postgres_url: str, clock: Clock) -> AsyncIterator[Two]:
    """Two servers' stores. At the end of the test the invariants must hold, whoever is asked."""
    async with AsyncExitStack() as stack:
        options = PostgresOptions(pool_size=2)
        one, other = [await stack.enter_async_context(open_postgres(postgres_url, options=options)) for _ in "ab"]
        one.clock = other.clock = clock
        yield one, other
        await check_invariants(one)
        await check_invariants(other)


async def until(true: Callable[[], Any]) -> None:
    """Wait for what another server has to hear of. How long that takes is measured by ``bench/cluster.py``."""
    with trio.fail_after(20):
        while not true():
            await trio.sleep(0.002)


def access(heard: Heard) -> list[Any]:
    return [change for commit in heard.commits for change in commit.access]


def a_token(name: str = "ci", **changed: Any) -> NewToken:
    made = {"jti": f"jti-{name}", "name": name, "subject": ANN, "role": "user", "created_by": "root", "life_ms": DAY_MS}
    return NewToken(**(made | changed))


def a_session(sid: str, origin: str | None = None) -> NewSession:
    return NewSession(
        id=sid, handle=sid.encode(), current=b"1", subject=ANN, role="user", origin=origin, idle_ms=DAY_MS,
        life_ms=DAY_MS,
    )  # fmt: skip


def slowly(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Every transaction waits a little before each round trip, so that two at once meet in every way."""
    draw, plain = random.Random(seed), Link.execute_all

    def slow(self: Link, statements: Sequence[Any]) -> Any:
        time.sleep(draw.random() * 0.003)
        return plain(self, statements)

    monkeypatch.setattr(Link, "execute_all", slow)


async def at_once(*each: Callable[[], Any]) -> list[Any]:
    """What each answers, or raises."""
    answers: list[Any] = [None] * len(each)

    async def run(place: int) -> None:
        try:
            answers[place] = await each[place]()
        except (Conflict, NotFound, TooLarge) as error:
            answers[place] = error

    async with trio.open_nursery() as nursery:
        for place in range(len(each)):
            nursery.start_soon(run, place)
    return answers


# --- what others hear of -------------------------------------------------------------------------------------------


async def test_a_token_that_one_server_issues_and_revokes_is_heard_of_by_the_other(two: Two) -> None:
    one, other = two
    heard = Heard(other)
    row = await one.access.issue(a_token())
    await one.access.begin_session(a_session("s", origin="jti-ci"))
    await until(lambda: access(heard) == [TokenIssued("jti-ci", ANN, "user", row.expires_at)])
    await one.access.revoke("ci")
    await until(lambda: access(heard)[1:] == [AccessEnded("jti-ci"), AccessEnded("s")])
    assert (await other.access.rotate([b"s"], b"1", b"2", grace_ms=0, idle_ms=1)).outcome == "unknown"


async def test_a_schedule_that_one_server_makes_is_heard_of_by_the_other(two: Two) -> None:
    one, other = two
    heard = Heard(other)
    made = await one.schedules.add(EVERY, created_by="root", next_run=START_MS)
    await until(lambda: any(commit.schedules for commit in heard.commits))
    assert (await other.schedules.all()).value == (made,)
    heard.clear()
    await other.schedules.remove("every")
    assert any(commit.schedules for commit in heard.commits), "its own is heard before the answer"
    assert (await one.schedules.all()).value == ()


async def test_what_one_server_prunes_is_heard_of_by_the_other_in_order(two: Two, clock: Clock) -> None:
    one, other = two
    for _ in range(3):
        await ended(one)
    clock.forward(1)
    await other.events(0, limit=1)
    heard = Heard(other)
    assert (await one.retention.prune_jobs("completed", older_than=0)).count == 3
    assert (await one.retention.prune_events(keep=4)).count == 6
    await add(one)
    await until(lambda: len(heard.events) == 2 and any(commit.log_start for commit in heard.commits))
    assert [(event.seq, event.kind) for event in heard.events] == [(10, "jobs_pruned"), (11, "job_update")]
    assert [commit.log_start for commit in heard.commits if commit.log_start is not None] == [7]
    kinds = [commit.log_start or [event.kind for event in commit.events] for commit in heard.commits]
    assert kinds.index(7) > 0, "where the log begins is told after what had happened before it was cut"
    page = await other.events(0, limit=10)
    assert (page.start, page.head) == (7, 11)


# --- at most one job a tick ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("locked", [True, False], ids=["row locked", "only the tick unique"])
async def test_a_tick_has_one_job_though_two_servers_fire_it_at_once(
    two: Two, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    """Two that each believe that they lead. Without the lock it is the unique tick that stands in their way."""
    if not locked:
        unlocked = SQL["schedule_locked"].removesuffix(" FOR NO KEY UPDATE")
        assert unlocked != SQL["schedule_locked"]
        monkeypatch.setattr(postgres_transaction, "SQL", {**SQL, "schedule_locked": unlocked})
    slowly(monkeypatch, seed=1)
    state = await two[0].schedules.add(EVERY, created_by="root", next_run=START_MS)
    for n in range(25):
        tick = START_MS + n * MINUTE_MS
        due = {"expected": tick, "next_run": tick + MINUTE_MS, "tick": tick}
        firing = Firing(name="every", version=state.version, job=NewJob(name="mail"), **due)
        ids = await at_once(*(partial(store.schedules.fire, [firing]) for store in two))
        assert sorted(job is not None for (job,) in ids) == [False, True]
    page = (await two[0].jobs(JobQuery(limit=100))).value
    assert len(page.jobs) == 25
    assert (await two[1].schedules.one("every")).value.run_count == 25


async def test_two_servers_that_fire_many_schedules_in_other_orders_do_not_stop_each_other(
    two: Two, postgres_url: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = postgres_url.rpartition("/")[2]
    deadlocks = _deadlocks(cluster, name)
    slowly(monkeypatch, seed=8)
    states = [
        await two[0].schedules.add(_named(f"s{n}"), created_by="root", next_run=START_MS) for n in range(12)
    ]
    firings = [
        Firing(name=name, version=1, expected=START_MS, next_run=START_MS + 1, tick=START_MS, job=NewJob(name="m"))
        for name in (state.spec.name for state in states)
    ]
    answers = await at_once(
        lambda: two[0].schedules.fire(firings), lambda: two[1].schedules.fire(firings[::-1])
    )
    made = [job for answer in answers for job in answer if job is not None]
    assert len(made) == len(set(made)) == 12
    assert [len(answer) for answer in answers] == [12, 12]
    assert _deadlocks(cluster, name) == deadlocks


def _named(name: str) -> ScheduleSpec:
    return ScheduleSpec(name=name, cron="* * * * *", timezone="UTC", job_name="mail", missed="skip")


async def test_two_servers_that_read_one_configuration_at_once_agree(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, seed=2)
    planned = [(_named(f"s{n}"), START_MS + n) for n in range(4)]
    answers = await at_once(*(lambda store=store: store.schedules.sync(planned) for store in two))
    assert sorted(len(answer.added) for answer in answers) == [0, 4]


@pytest.mark.parametrize("what", ["schedules", "tokens"])
async def test_two_servers_do_not_make_one_more_than_there_may_be(
    two: Two, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(schedule_writes, "MAX_SCHEDULES", 5)
    monkeypatch.setattr(token_writes, "MAX_TOKENS", 5)
    slowly(monkeypatch, seed=3)

    def make(store: PostgresStore, name: str) -> Callable[[], Any]:
        if what == "tokens":
            return lambda: store.access.issue(a_token(name))
        return lambda: store.schedules.add(_named(name), created_by="root", next_run=None)

    for n in range(4):
        answers = await at_once(*(make(store, f"{n}{i}") for i, store in enumerate(two)))
    assert [type(each) for each in answers] == [TooLarge, TooLarge]
    there = await two[0].access.tokens() if what == "tokens" else (await two[0].schedules.all()).value
    assert len(there) == 5


# --- who may come in -----------------------------------------------------------------------------------------------


async def test_two_tokens_of_one_name_are_not_issued_at_once(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, seed=4)
    for n in range(8):
        new_ones = [a_token(f"t{n}"), NewToken(f"x{n}", f"t{n}", ANN, "user", "root", DAY_MS)]
        answers = await at_once(
            *(lambda store=store, new=new: store.access.issue(new) for store, new in zip(two, new_ones, strict=True))
        )
        assert sorted(isinstance(each, Conflict) for each in answers) == [False, True]


async def test_nobody_signs_in_past_a_revocation_on_another_server(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who let them in is revoked here while they come in there: they have not come in, or are out again."""
    one, other = two
    slowly(monkeypatch, seed=5)
    outcomes = set()
    for n in range(20):
        await one.access.issue(a_token(f"t{n}"))
        await one.access.begin_session(a_session(f"a{n}", origin=f"jti-t{n}"))
        _, *came = await at_once(
            lambda n=n: one.access.revoke(f"t{n}"),
            lambda n=n: other.access.begin_session(a_session(f"b{n}", origin=f"jti-t{n}")),
            lambda n=n: other.access.begin_session(a_session(f"c{n}", origin=f"a{n}")),
        )
        for sid, answer in zip("bc", came, strict=True):
            outcomes.add(type(answer))
            if not isinstance(answer, NotFound):
                handle = f"{sid}{n}".encode()
                assert (await other.access.rotate([handle], b"1", b"2", grace_ms=0, idle_ms=1)).outcome == "unknown"
    assert len(outcomes) == 2, "both ways were gone"


async def test_a_refresh_token_that_two_servers_are_shown_at_once_has_one_successor(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly(monkeypatch, seed=6)
    await two[0].access.begin_session(a_session("s"))
    for n in range(1, 12):
        before, after = str(n).encode(), str(n + 1).encode()
        answers = await at_once(
            *(lambda store=store: store.access.rotate([b"s"], before, after, grace_ms=9, idle_ms=9) for store in two)  # noqa: B023
        )
        assert sorted(each.outcome for each in answers) == ["repeated", "rotated"]


async def test_the_latest_use_of_a_token_stays_whoever_tells_of_it_last(two: Two) -> None:
    await two[0].access.issue(a_token())
    await two[0].access.touch({"jti-ci": 20})
    await two[1].access.touch({"jti-ci": 10})
    assert [row.last_used for row in await two[0].access.tokens()] == [20]


# --- forgetting ----------------------------------------------------------------------------------------------------


async def test_two_servers_that_prune_at_once_take_each_job_event_and_line_once(
    two: Two, clock: Clock, cluster: Cluster, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    await enqueue(one, *(new(name=f"n{n}") for n in range(300)))
    found: list[Claim] = []
    while len(found) < 300:  # one claim looks at so many names only
        found += (await claims(one, 300 - len(found))).claims
    for each in found[:50]:
        await one.append_logs(each.job.id, each.run, [_line(clock.ms)] * 5)
    outcomes = [Completed() if n % 3 else Failed("x", retry=False) for n in range(300)]
    ends = [End(each.job.id, each.run, outcome) for each, outcome in zip(found, outcomes, strict=True)]
    await one.claim(0, worker="w", limits={}, busy={}, ends=ends)
    clock.forward(10)
    name = postgres_url.rpartition("/")[2]
    deadlocks = _deadlocks(cluster, name)
    slowly(monkeypatch, seed=7)
    gone = {"completed": 0, "failed": 0, "events": 0, "lines": 0}

    async def sweep(store: PostgresStore, statuses: Sequence[str]) -> None:
        prune = store.retention
        await _all(lambda: prune.prune_logs(older_than=1, limit=20), gone, "lines")
        for status in statuses:
            await _all(lambda status=status: prune.prune_jobs(status, older_than=1, limit=20), gone, status)
        await _all(lambda: prune.prune_events(keep=100, limit=100), gone, "events")
        await prune.tidy()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep, one, ("completed", "failed"))
        nursery.start_soon(sweep, other, ("failed", "completed"))
    page = await one.events(0, limit=1)
    assert gone == {"completed": 200, "failed": 100, "events": page.start - 1, "lines": 200}
    assert page.head - page.start + 1 == 100
    assert (await one.stats(owner=None)).value.total == 0
    assert _deadlocks(cluster, name) == deadlocks


def _line(at: int) -> Any:
    return LogEntry(at, "log", "a line")


def _deadlocks(cluster: Cluster, name: str) -> int:
    rows = cluster.execute(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'")
    return int(rows[0][0])


async def _all(batch: Callable[[], Any], gone: dict[str, int], kind: str) -> None:
    more = True
    while more:
        pruned = await batch()
        gone[kind] += pruned.count
        more = pruned.more


async def test_a_job_that_ends_on_another_server_amid_a_pruning_is_not_told_to_be_gone(
    two: Two, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended before the time that the pruning tells, and is committed after the pruning has looked.

    A reader of the log would drop it with those that are gone; the invariants replay the log.
    """
    one, other = two
    running = await started(other)
    for _ in range(3):
        await ended(one)
    clock.forward(1)
    plain, token, met = Link.execute_all, trio.lowlevel.current_trio_token(), []

    def meanwhile(self: Link, statements: Sequence[Any]) -> Any:
        if not met and any(sql == SQL["still_pruned"] for sql, _ in statements):
            met.append(True)
            clock.forward(-1)  # that server's clock is behind, or its transaction began before
            trio.from_thread.run(other.finish, running.job.id, running.run, Completed(), trio_token=token)
            clock.forward(1)
        return plain(self, statements)

    monkeypatch.setattr(Link, "execute_all", meanwhile)
    pruned = await one.retention.prune_jobs("completed", older_than=0)
    assert met
    assert pruned.count == 4, "it started over, and took that one along"
    assert (await other.stats(owner=None)).value.total == 0


async def test_a_job_that_is_put_back_amid_a_pruning_stays(
    two: Two, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    slowly(monkeypatch, seed=8)
    for _ in range(10):
        ids = [await ended(one) for _ in range(2)]
        clock.forward(1)
        pruned, put_back = await at_once(
            lambda: one.retention.prune_jobs("completed", older_than=0),
            lambda ids=ids: other.retry(ids[0], owner=None),
        )
        assert pruned.count == (2 if isinstance(put_back, NotFound) else 1)
        for each in (await claims(one)).claims:
            await one.finish(each.job.id, each.run, Failed("x", retry=False))


async def test_a_claim_that_finds_nothing_leaves_nothing_for_others_to_read(two: Two) -> None:
    """Each commit that brings work has every idle server look."""
    job = await add(two[0])
    assert [one.job.id for one in (await claims(two[0])).claims] == [job]
    kept = len(await notes(two[0]))
    for store in two:
        assert (await claims(store)).claims == ()
    assert len(await notes(two[0])) == kept


async def notes(store: PostgresStore) -> list[Any]:
    """All that is kept of them."""
    return (await store._read(lambda db: db.all("notes_after", 0, 100))).value
