"""Following a job's log: the client's iterator, and ``jobctl jobs logs --follow``."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from cli_kit import Cli, cli  # noqa: F401

from jobctl.client import Client
from jobctl.engine.registry import Registry
from jobctl.errors import NoRetry, NotFound
from jobctl.model import LogLine, Position
from jobctl.protocol import messages as m
from jobctl.protocol.subscriber import Deliver, Send, Subscriber
from tests.kit import Running, StartServer, until

GONE = "01890000-0000-7000-8000-000000000000"


class Gates:
    """What the handler ``talk`` waits for: each ``say`` lets it write, ``end`` lets it return."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[str | None](100)

    def say(self, *lines: str) -> None:
        for line in lines:
            self.send.send_nowait(line)

    def end(self) -> None:
        self.send.send_nowait(None)


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
async def server(start_server: StartServer, gates: Gates) -> Running:
    registry = Registry()

    @registry.job("talk")
    async def talk(ctx: Any, how: str = "") -> str:
        async for line in gates.receive:
            if line is None:
                break
            ctx.log(line)
        if how:
            raise NoRetry(how)
        return "x" * 5000

    return await start_server(registry, cancel_grace=0.05)


@contextlib.asynccontextmanager
async def client(server: Running) -> AsyncIterator[Client]:
    async with Client(server.service.url, server.token) as connected:
        yield connected


async def test_lines_come_as_they_are_written_and_end_with_the_job(server: Running, gates: Gates) -> None:
    [job_id] = await server.enqueue(name="talk")
    async with client(server) as c, c.follow_logs(job_id) as log:
        for n in range(3):
            gates.say(f"line {n}")
            with trio.fail_after(10):
                line = await anext(log)
            assert (line.n, line.text) == (n + 1, f"line {n}")
        assert log.job is None
        gates.say("last", "words")
        gates.end()
        with trio.fail_after(10):
            assert [line.text async for line in log] == ["last", "words"]
        assert log.job is not None
        assert (log.job.status, log.job.result, log.after) == ("completed", "x" * 5000, 5)
        assert c.connections == 1


async def test_a_job_that_has_ended_is_read_without_the_stream(server: Running, gates: Gates) -> None:
    gates.say(*(f"{n}" for n in range(50)))
    gates.end()
    [job_id] = await server.enqueue(name="talk")
    async with client(server) as c:
        await c.wait([job_id])
        before = c.connections
        log = c.follow_logs(job_id, after=47)
        assert [line.n async for line in log] == [48, 49, 50]
        assert log.job is not None
        assert c.connections == before
        with pytest.raises(StopAsyncIteration):
            await anext(log)


async def test_no_line_is_lost_or_repeated_when_connections_are_cut(server: Running, gates: Gates) -> None:
    [job_id] = await server.enqueue(name="talk")
    texts: list[str] = []
    async with client(server) as c, trio.open_nursery() as nursery:

        async def read() -> None:
            async for line in c.follow_logs(job_id):
                texts.append(line.text)  # noqa: PERF401 - seen as they come

        nursery.start_soon(read)
        for n in range(4):
            gates.say(*(f"{n}.{k}" for k in range(20)))
            await until(lambda n=n: len(texts) > n * 20)
            for connection in tuple(c._connections):
                connection._raw.socket.shutdown(2)
        gates.end()
    assert texts == [f"{n}.{k}" for n in range(4) for k in range(20)]
    assert c.connections > 1


async def test_a_reader_that_was_cancelled_goes_on(server: Running, gates: Gates) -> None:
    [job_id] = await server.enqueue(name="talk")
    async with client(server) as c, c.follow_logs(job_id) as log:
        for n in range(3):
            with trio.move_on_after(0.02):
                await anext(log)
                raise AssertionError("there is no line yet")
            gates.say(f"{n}")
            with trio.fail_after(10):
                assert (await anext(log)).text == f"{n}"
        gates.end()


async def test_no_such_job_and_one_that_is_deleted_meanwhile(server: Running) -> None:
    async with client(server) as c:
        with pytest.raises(NotFound, match=GONE):
            await anext(c.follow_logs(GONE))
        [job_id] = await server.enqueue(name="talk", scheduled_for=2**42)
        async with c.follow_logs(job_id) as log, trio.open_nursery() as nursery:

            async def delete() -> None:
                await until(lambda: log._watch is not None and log._watch.live)
                await server.store.delete(job_id, owner=None)

            nursery.start_soon(delete)
            with pytest.raises(NotFound, match=job_id):
                await anext(log)


def line(n: int) -> LogLine:
    return LogLine(n=n, at="2026-01-01T00:00:00.000Z", stream="log", text=str(n))


def test_a_log_that_is_asked_for_again_repeats_no_line() -> None:
    subscriber = Subscriber(m.SubscribeJobs(stats=False), since=Position("e", 4), log=m.SubscribeLogs(id="a", after=2))
    said = [m.AuthRequired(), m.Connected(connection_id="c", timestamp="", token_expires_at="")]
    subscribed = m.JobsSubscribed(seq=4, head=4, epoch="e", recovered=True)

    def hear(*spoken: m.Message) -> list[object]:
        return [output for each in spoken for output in subscriber.receive(m.encode(each).decode(), 0.0)]

    subscriber.opened(0.0)
    sent = [output.text for output in hear(*said, subscribed) if isinstance(output, Send)]
    assert sent[-1] == b'{"type":"subscribe_logs","id":"a","after":2}'
    got = hear(
        m.JobLog(id="a", lines=(line(2), line(3))),
        m.JobLog(id="b", lines=(line(9),)),
        m.JobLog(id="a", lines=(line(3),)),
    )
    assert [[each.n for each in output.message.lines] for output in got if isinstance(output, Deliver)] == [[3]]
    subscriber.closed(1001, 0.0, 0.0)
    subscriber.opened(0.0)
    sent = [output.text for output in hear(*said, subscribed) if isinstance(output, Send)]
    assert sent[-1] == b'{"type":"subscribe_logs","id":"a","after":3}'


# --- the command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "code"), [("", 0), ("broken \x1b[2J", 1)])
async def test_the_exit_code_is_the_jobs(server: Running, cli: Cli, gates: Gates, how: str, code: int) -> None:
    cli.url = server.service.url
    [job_id] = await server.enqueue(name="talk", data=json.dumps({"how": how}).encode(), max_attempts=1)
    gates.say("one \x1b[31m", "two")
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(0.5)  # so that some of it comes over the stream; it holds either way
            gates.end()

        nursery.start_soon(end)
        done = await cli("jobs", "logs", job_id, "--follow")
    assert done.code == code
    assert [each.split(" ", 1)[1] for each in done.lines] == ["| one \\x1b[31m", "| two"]
    assert done.err == ("" if not how else f"jobctl: talk {job_id} failed: broken \\x1b[2J\n")


async def test_json_is_one_line_of_the_log_a_line_and_after_leaves_out(server: Running, cli: Cli, gates: Gates) -> None:
    cli.url = server.service.url
    gates.say("one", "two")
    gates.end()
    [job_id] = await server.enqueue(name="talk")
    done = await cli("jobs", "logs", job_id, "-f", "--json", "--after", "1")
    assert done.code == 0
    assert [(each["n"], each["stream"], each["text"]) for each in done.json] == [(2, "log", "two")]


async def test_a_cancelled_job_is_exit_code_5_and_a_missing_one_2(server: Running, cli: Cli) -> None:
    cli.url = server.service.url
    [job_id] = await server.enqueue(name="talk")
    await until(lambda: job_id in server.service.runner.live)
    await server.store.cancel(job_id, owner=None)
    done = await cli("jobs", "logs", job_id, "--follow")
    assert (done.code, done.out) == (5, "")
    assert f"talk {job_id} cancelled" in done.err
    missing = await cli("jobs", "logs", GONE, "--follow")
    assert (missing.code, missing.err) == (2, f"jobctl: there is no job {GONE}, or it was deleted\n")


async def test_ctrl_c_leaves_says_how_to_come_back_and_cancels_nothing(server: Running, cli: Cli, gates: Gates) -> None:
    cli.url = server.service.url
    [job_id] = await server.enqueue(name="talk")
    gates.say("one", "two")
    done = await cli.interrupted("jobs", "logs", job_id, "--follow", when=lambda out: b"two" in out)
    assert done.code == 130
    assert f"jobctl jobs logs {job_id} --follow --after 2" in done.err
    assert (await server.store.job(job_id, owner=None)).value.status == "running"
