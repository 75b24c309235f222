"""``GET /api/events``: the log over plain HTTP."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
from rest_kit import Answer, Api, Then, api, make_api, token, user

from jobctl.protocol.messages import JobDeleted, JobUpdate, decode_server
from jobctl.store.base import EventPage
from jobctl.web import events


def seqs(answer: Answer) -> list[int]:
    return [event["seq"] for event in answer.data["events"]]


def at(api: Api, seq: int) -> str:
    return f"{api.store.epoch}:{seq}"


async def test_the_log_is_read_as_stream_messages_with_a_position_to_go_on_from(api: Api) -> None:
    (job_id,) = await api.seed(1)
    await api.call("DELETE", f"/api/jobs/{job_id}")
    answer = await api.get(f"/api/events?since={at(api, 0)}")
    messages = [decode_server(msgspec.json.encode(event)) for event in answer.data["events"]]
    assert [type(message) for message in messages] == [JobUpdate, JobDeleted]
    assert answer.data["position"] == answer.headers["x-jobctl-position"] == at(api, 2)
    assert answer.data["recovered"] is True


async def test_pages_join_without_a_gap(api: Api) -> None:
    await api.seed(7)
    seen: list[int] = []
    position = at(api, 0)
    for _ in range(4):
        answer = await api.get(f"/api/events?since={position}&limit=2")
        assert answer.data["recovered"] is True
        seen += seqs(answer)
        position = answer.data["position"]
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert position == at(api, 7)


async def test_without_since_it_begins_now(api: Api) -> None:
    await api.seed(3)
    data = (await api.get("/api/events")).data
    assert data == {"events": [], "position": at(api, 3), "recovered": True}


@pytest.mark.parametrize("since", ["EPOCH:4", "EPOCH:999999999999999999", "other:0", "other:3"])
async def test_a_position_that_is_not_of_this_log_is_not_recovered(api: Api, since: str) -> None:
    await api.seed(3)
    data = (await api.get(f"/api/events?wait=30&since={since.replace('EPOCH', api.store.epoch)}")).data
    assert data == {"events": [], "position": at(api, 3), "recovered": False}


async def test_a_position_before_the_logs_start_is_not_recovered(api: Api) -> None:
    await api.seed(5)
    api.store._connection.execute("DELETE FROM job_event WHERE seq <= 2")
    assert (await api.get(f"/api/events?since={at(api, 1)}")).data == {
        "events": [],
        "position": at(api, 5),
        "recovered": False,
    }
    assert seqs(await api.get(f"/api/events?since={at(api, 2)}")) == [3, 4, 5]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("since=3", "since"),
        ("since=", "since"),
        ("since=a:b", "since"),
        ("since=" + "a" * 101, "since"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("wait=-1", "wait"),
        ("wait=31", "wait"),
        ("wait=nan", "wait"),
        ("wait=inf", "wait"),
        ("wait=soon", "wait"),
        ("until=1", "until"),
    ],
)
async def test_parameters_are_taken_strictly(api: Api, query: str, field: str) -> None:
    assert (await api.get(f"/api/events?{query}")).problem(422, "invalid")["field"] == field


async def test_a_user_reads_its_own_events_and_moves_on_over_the_others(api: Api) -> None:
    await api.seed(2)
    await api.seed(2, owner="ann")
    await api.seed(3, owner="ben")
    answer = await api.get(f"/api/events?since={at(api, 0)}", bearer=user("ann"))
    assert seqs(answer) == [3, 4]
    assert answer.data["position"] == at(api, 7)
    answer = await api.get(f"/api/events?since={at(api, 0)}&limit=1", bearer=user("ann"))
    assert (seqs(answer), answer.data["position"]) == ([3], at(api, 3))


async def test_a_user_far_behind_gets_a_newer_position_rather_than_a_long_wait(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.web.events.PAGE", 2)
    monkeypatch.setattr("jobctl.web.events.MAX_PAGES", 3)
    await api.seed(8)
    await api.seed(1, owner="ann")
    answer = await api.get(f"/api/events?since={at(api, 0)}&wait=30", bearer=user("ann"))
    assert (seqs(answer), answer.data["position"], answer.data["recovered"]) == ([], at(api, 6), True)
    answer = await api.get(f"/api/events?since={at(api, 6)}&wait=30", bearer=user("ann"))
    assert (seqs(answer), answer.data["position"]) == ([9], at(api, 9))


class Spy:
    """Tells when the log has been read, so that a test can write just after."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self.read = trio.Event()
        real = api.store.events

        async def events(*arguments: Any, **keywords: Any) -> EventPage:
            page = await real(*arguments, **keywords)
            self.reads += 1
            self.read.set()
            return page

        monkeypatch.setattr(api.store, "events", events)


async def test_a_waiting_reader_is_woken_by_what_it_may_see(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(api, monkeypatch)
    answers: list[Answer] = []

    async def poll() -> None:
        answers.append(await api.get(f"/api/events?since={at(api, 0)}&wait=30", bearer=user("ann")))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await spy.read.wait()
            await api.seed(3, owner="ben")
            await api.seed(1, owner="ann")
    assert seqs(answers[0]) == [4]
    assert spy.reads == 2, "other people's commits woke it"


async def test_readers_of_different_scopes_are_woken_together(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(api, monkeypatch)
    answers: dict[str, list[int]] = {}

    async def poll(name: str, bearer: str) -> None:
        answers[name] = seqs(await api.get("/api/events?wait=30", bearer=bearer))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for name, bearer in (("admin", token()), ("admin2", token("x")), ("ann", user("ann"))):
                nursery.start_soon(poll, name, bearer)
            while spy.reads < 3:
                await trio.lowlevel.checkpoint()
            await api.seed(1, owner="ann")
    assert answers == {"admin": [1], "admin2": [1], "ann": [1]}


async def test_a_wait_in_vain_ends_with_where_the_reader_is(api: Api, autojump_clock: object) -> None:
    await api.seed(2)
    before = trio.current_time()
    answer = await api.get(f"/api/events?since={at(api, 2)}&wait=7.5", patience_s=math.inf)
    assert answer.data == {"events": [], "position": at(api, 2), "recovered": True}
    assert trio.current_time() - before >= 7.5


async def test_a_reader_that_leaves_ends_its_wait(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(20):
        assert (await api.call("GET", "/api/events?wait=30", [b"", Then.LEAVE])).status == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_nothing_is_told_after_the_tokens_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(api, monkeypatch)
    clock = SimpleNamespace(time=time.time)
    monkeypatch.setattr("jobctl.web.events.time", clock)
    answers: list[Answer] = []

    async def poll() -> None:
        answers.append(await api.get(f"/api/events?since={at(api, 0)}&wait=30", bearer=token(ttl=60)))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await spy.read.wait()
            clock.time = lambda: time.time() + 61
            await api.seed(1)
    answers[0].problem(401, "unauthorized")


async def test_a_wait_ends_when_the_token_does(api: Api, autojump_clock: object) -> None:
    before = trio.current_time()
    answer = await api.get("/api/events?wait=30", bearer=token(ttl=5), patience_s=math.inf)
    assert answer.status == 200
    assert trio.current_time() - before <= 6


async def test_one_subject_cannot_hold_every_connection_by_waiting(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_WAITING", 2)
    target = f"/api/events?since={api.store.epoch}:0&wait=20"
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(partial(api.get, target, bearer=user("ann")))
        await trio.testing.wait_all_tasks_blocked(0.01)
        refused = await api.get(target, bearer=user("ann"))
        refused.problem(429, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        assert (await api.get(target.partition("&")[0], bearer=user("ann"))).status == 200, "no wait"
        nursery.start_soon(partial(api.get, target, bearer=user("bob")))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await api.seed(1, owner="ann")
        await api.seed(1, owner="bob")
    with trio.fail_after(20):
        assert (await api.get(f"{target[:-2]}0.01", bearer=user("ann"))).status == 200
