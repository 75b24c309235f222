"""The client's requests: what is sent again, and what is said of answers that are none."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import os
import re
import resource
import time
from typing import Any

import pytest
import trio
import trio.testing
from client_kit import Http, Peer, peer  # noqa: F401

from jobctl.client import Client, api
from jobctl.client.address import Address
from jobctl.client.session import Session
from jobctl.errors import ApiError, InvalidInput, Unreachable
from tests.unit.test_subscriber import job


def flaky(times: int, then: Any) -> Http:
    """Hangs up so many times, then answers."""
    left = [times]

    def http(method: str, path: str, headers: dict[str, str]) -> Any:
        if left[0]:
            left[0] -= 1
            return 0, {}, None
        return 200, {}, {"data": then}

    return http


async def test_an_enqueue_whose_connection_fails_is_sent_again_with_the_same_key(peer: Peer) -> None:
    peer.http = flaky(2, job("a"))
    async with Client(peer.url, "tok") as client:
        assert (await client.enqueue("n", {"x": 1})).id == "a"
    keys = {headers["idempotency-key"] for _, _, headers in peer.requests}
    assert len(peer.requests) == 3
    assert len(keys) == 1


@pytest.mark.parametrize("status", [502, 504])
async def test_a_proxy_whose_server_is_away_counts_as_no_answer(peer: Peer, status: int) -> None:
    answers = [(status, {}, "<html>"), (200, {}, {"data": job("a")})]
    peer.http = lambda *_: answers.pop(0)
    async with Client(peer.url, "tok") as client:
        assert (await client.enqueue("n")).id == "a"
        answers = [(status, {}, "<html>")]
        with pytest.raises(Unreachable, match=f"a proxy before the server answers {status}"):
            await client.cancel("a")


async def test_what_may_not_be_repeated_is_sent_once(peer: Peer) -> None:
    peer.http = flaky(1, job("a"))
    async with Client(peer.url, "tok") as client:
        with pytest.raises(Unreachable):
            await client.cancel("a")
    assert len(peer.requests) == 1


async def test_a_busy_server_is_asked_again_when_it_says(peer: Peer) -> None:
    answers = [(429, {"retry-after": "0"}, {"code": "rate_limited"}), (503, {}, {}), (200, {}, {"data": job("a")})]
    peer.http = lambda *_: answers.pop(0)
    async with Client(peer.url, "tok") as client:
        assert (await client.retry("a")).id == "a"


async def test_a_blocking_call_that_is_tried_again_and_again_says_so_once(peer: Peer) -> None:
    busy = (503, {}, {"code": "unavailable", "detail": "the database cannot be reached"})
    fine = (200, {}, {"data": job("a")})
    answers = [busy, fine, busy, busy, busy, fine, busy, busy, fine]
    peer.http = lambda *_: answers.pop(0)
    told: list[str] = []
    session = Session(Address.parse(peer.url), lambda: "tok", tell=told.append, sleep=lambda _: None)
    with session:
        for said in (0, 1, 1):
            await trio.to_thread.run_sync(session.send, api.get_job("a"))
            assert len(told) == said
    assert re.fullmatch(r"the database cannot be reached; trying again for \d+ s", told[0])


async def test_a_blocking_call_says_how_long_it_has_where_that_is_less_than_its_patience(peer: Peer) -> None:
    busy: Any = (503, {}, {"code": "unavailable", "detail": "the database cannot be reached"})
    answers = [busy, busy, (200, {}, {"data": job("a")})]
    peer.http = lambda *_: answers.pop(0)
    told: list[str] = []
    with Session(
        Address.parse(peer.url), lambda: "tok", patience=1000.0, deadline=time.monotonic() + 100, tell=told.append,
        sleep=lambda _: None,
    ) as session:  # fmt: skip
        await trio.to_thread.run_sync(session.send, api.get_job("a"))
    (said,) = told
    assert 0 < int(said.rpartition(" for ")[2].removesuffix(" s")) <= 100


async def test_a_retry_after_beyond_patience_is_reported_at_once(peer: Peer) -> None:
    peer.http = lambda *_: (429, {"retry-after": "600"}, {"code": "rate_limited", "detail": "slow down"})
    async with Client(peer.url, "tok", patience=10_000) as client:
        with trio.fail_after(20), pytest.raises(ApiError, match="slow down"):
            await client.stats()


@pytest.mark.parametrize("sync", [False, True])
async def test_a_refused_token_is_asked_for_once_more(peer: Peer, sync: bool) -> None:
    tokens = iter(["old", "new"])

    def http(method: str, path: str, headers: dict[str, str]) -> Any:
        ok = headers["authorization"] == "Bearer new"
        return (200, {}, {"data": {"total": 3}}) if ok else (401, {}, {"code": "unauthorized"})

    peer.http = http
    if sync:
        with Session(Address.parse(peer.url), lambda: next(tokens)) as session:
            assert (await trio.to_thread.run_sync(session.get, api.stats())).total == 3
        return
    async with Client(peer.url, lambda: next(tokens)) as client:
        assert (await client.stats()).total == 3


async def test_the_blocking_session_retries_alike_and_keeps_its_connection(peer: Peer) -> None:
    peer.http = lambda *_: (200, {}, {"data": job("a")})
    slept: list[float] = []
    with Session(Address.parse(peer.url), lambda: "tok", sleep=slept.append) as session:
        for _ in range(2):
            await trio.to_thread.run_sync(session.get, api.get_job("a"))
        peer.http = flaky(2, job("a"))
        await trio.to_thread.run_sync(session.get, api.enqueue(api.job_fields("n")))
        peer.http = flaky(1, job("a"))
        with pytest.raises(Unreachable):
            await trio.to_thread.run_sync(session.get, api.cancel("a"))
    assert len(slept) == 2


async def test_the_blocking_session_works_in_a_program_with_many_open_files(peer: Peer) -> None:
    room, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if room < 1100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1100, most))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]
    peer.http = lambda *_: (200, {}, {"data": job("a")})
    try:
        with Session(Address.parse(peer.url), lambda: "tok") as session:
            for _ in range(2):  # the second time on the connection that was kept
                await trio.to_thread.run_sync(session.get, api.get_job("a"))
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (room, most))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "<html>", "not one of a jobctl server"),
        (200, {"x": 1}, "not one of a jobctl server"),
        (200, {"data": {"id": 5}}, "another shape"),
        (302, {}, "redirects"),
        (500, "oops", "HTTP 500"),
    ],
)
async def test_an_answer_of_something_else_is_said_so(peer: Peer, status: int, body: Any, said: str) -> None:
    peer.http = lambda *_: (status, {}, body)
    async with Client(peer.url, "tok") as client:
        with pytest.raises(Exception, match=said):
            await client.get("a")


def test_an_option_that_does_not_exist_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidInput, match="prioritaet"):
        api.job_fields("n", prioritaet=1)
    with pytest.raises(InvalidInput):
        api.encode({"x": object()})
    with pytest.raises(InvalidInput, match=r"data\.means\[1\] is NaN"):
        api.enqueue(api.job_fields("n", {"means": [1.0, float("nan")]}))
