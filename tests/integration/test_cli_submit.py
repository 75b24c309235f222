"""``enqueue`` that ends half way: what has been enqueued, and how to go on without doubling anything."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from cli_kit import Cli, cli, rest  # noqa: F401

from jobctl.engine.registry import Registry
from tests.kit import Running, StartServer


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    registry = Registry(accept_unknown=False)
    registry.job("ok")(lambda ctx, n=0: None)
    running = await start_server(registry)
    cli.url = running.service.url
    return running


async def total(server: Running) -> int:
    return (await server.store.stats(owner=None)).value.total


def key_in(text: str) -> str:
    found = re.search(r"with --idempotency-key (\S+)$", text)
    assert found, text
    return found[1]


async def test_a_refused_batch_says_what_is_enqueued_and_going_on_doubles_nothing(server: Running, cli: Cli) -> None:
    file = cli.folder / "jobs.ndjson"
    lines = ['{"name":"ok","delay":60}\n'] * 2500
    file.write_text("".join([*lines[:2200], '{"name":"nope"}\n', *lines[2201:]]))
    for more, shown in (((), 2000), (("--json",), 2), (("--wait", "--json"), 0)):
        before = await total(server)
        done = await cli("enqueue", "--file", str(file), *more)
        assert (done.code, len(done.lines)) == (2, shown)
        assert done.err.startswith("jobctl: line 2201: no handler named 'nope'; this server knows: ok")
        assert "; 2,000 jobs are enqueued, those before line 2001; to go on and enqueue nothing twice, " in done.err
        assert done.err.count("\n") == 1
        assert await total(server) == before + 2000
    key = key_in(done.err.rstrip())
    file.write_text("".join(lines))
    on = await cli("enqueue", "--file", str(file), "--idempotency-key", key)
    assert (on.code, len(set(on.lines))) == (0, 2500)
    assert await total(server) == before + 2500
    again = await cli("enqueue", "--file", str(file), "--idempotency-key", key)
    assert again.lines == on.lines
    assert await total(server) == before + 2500


async def test_a_first_batch_that_is_refused_needs_no_more_words(server: Running, cli: Cli) -> None:
    done = await cli("enqueue", "--file", "-", stdin=b'{"name":"ok"}\n{"name":"nope"}\n')
    assert done.err == "jobctl: line 2: no handler named 'nope'; this server knows: ok\n"
    assert await total(server) == 0


async def test_waiting_for_what_an_earlier_run_has_enqueued_sees_its_end(server: Running, cli: Cli) -> None:
    first = await cli("enqueue", "ok", "--wait", "--idempotency-key", "k 1")
    second = await cli("enqueue", "ok", "--wait", "--wait-timeout", "20", "--idempotency-key", "k 1")
    assert (second.code, second.out) == (0, first.out)
    other = await cli("enqueue", "ok", "n=1", "--idempotency-key", "k 1")
    assert other.code == 2
    assert "Idempotency-Key was used for a different request" in other.err
    assert (await cli("enqueue", "ok", "--idempotency-key", "é")).code == 2


async def test_an_answer_that_is_lost_is_told_with_a_key_that_makes_it_safe(
    server: Running, cli: Cli, nursery: trio.Nursery
) -> None:
    """Between the two is something that passes the job on and keeps the answer for itself."""
    swallowing = False

    async def answers(inner: trio.SocketStream, outer: trio.SocketStream) -> None:
        async for chunk in inner:
            if not swallowing:
                await outer.send_all(chunk)

    async def swallow(stream: trio.SocketStream) -> None:
        nonlocal swallowing
        async with stream, await trio.open_tcp_stream("127.0.0.1", server.port) as inner, trio.open_nursery() as pair:
            pair.start_soon(answers, inner, stream)
            async for chunk in stream:
                swallowing = swallowing or chunk.startswith(b"POST ")
                await inner.send_all(chunk)
            pair.cancel_scope.cancel()

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, swallow, [listener])
    between = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    arguments = ("enqueue", "ok", "--wait", "--wait-timeout", "1.5")
    done = await cli(*arguments, "--url", between)
    assert done.code == 4
    assert done.err.startswith(f"jobctl: timed out after 1.5 s; no answer from {between}; whether the job arrived is")
    assert await total(server) == 1
    again = await cli("enqueue", "ok", "--wait", "--idempotency-key", key_in(done.err.rstrip()))
    assert again.code == 0
    assert await total(server) == 1


async def test_ctrl_c_in_the_middle_of_a_file_says_what_is_enqueued(
    server: Running, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cli.folder / "jobs.ndjson"
    file.write_text('{"name":"ok","delay":60}\n' * 3000)
    second, go_on = trio.Event(), trio.Event()
    enqueue = server.store.enqueue

    async def slow(*args: Any, **kwargs: Any) -> Any:
        if await total(server):
            second.set()
            await go_on.wait()
        return await enqueue(*args, **kwargs)

    monkeypatch.setattr(server.store, "enqueue", slow)
    with trio.fail_after(30):
        async with cli.piped("enqueue", "--file", str(file)) as command:
            await second.wait()
            command.process.send_signal(2)
            text = (await rest(command.stderr)).decode()
            assert await command.process.ended() == 130
    go_on.set()
    assert text.startswith("jobctl: interrupted; whether lines 1001 to 2000 arrived is not known; 1,000 jobs are ")
    monkeypatch.setattr(server.store, "enqueue", enqueue)
    on = await cli("enqueue", "--file", str(file), "--idempotency-key", key_in(text.rstrip()))
    assert len(set(on.lines)) == 3000
    assert await total(server) == 3000


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["order=4711"], "write order:=4711 for a value that is not a text"),
        (["order=4711", "paid:=1"], "write order:=4711 for a value that is not a text"),
        (["order=many"], "write order:=JSON for a value that is not a text"),
        (['order:="4711"'], None),
        (["--data", '{"order":"4711"}'], None),
        (["order:=4711", "paid=yes"], "write paid:=JSON for a value that is not a text"),
    ],
)
async def test_whoever_gives_a_text_for_a_number_is_told_how_to_write_one(
    start_server: StartServer, cli: Cli, given: list[str], hint: str | None
) -> None:
    registry = Registry()

    @registry.job("send-invoice")
    def send_invoice(ctx: object, order: int, paid: bool = False) -> None: ...

    cli.url = (await start_server(registry)).service.url
    done = await cli("enqueue", "send-invoice", *given)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    if hint is None:
        assert line.endswith("data.order: expected integer, got string")
    else:
        assert line.endswith(f"; {hint}")
