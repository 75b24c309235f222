"""What a person is told of a connection that comes and goes, and of the end."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest
import trio
from cli_kit import Cli, Terminal, cli, rest  # noqa: F401

from jobctl.engine.registry import Registry
from tests.kit import Running, StartServer, until


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    registry = Registry(accept_unknown=False)

    @registry.job("hold")
    async def hold(ctx: Any) -> None:
        await trio.sleep_forever()

    running = await start_server(registry, cancel_grace=0.1)
    cli.url = running.service.url
    return running


def subscribed(server: Running) -> bool:
    return any(connection.subscription is not None for connection in server.service.endpoint.connections)


@pytest.mark.parametrize(
    "arguments", [("watch", "--json"), ("enqueue", "hold", "--wait"), ("jobs", "logs", "ID", "--follow")], ids=" ".join
)
async def test_in_a_pipe_a_lost_connection_and_its_return_are_told_once_on_stderr(
    server: Running, cli: Cli, arguments: tuple[str, ...]
) -> None:
    [job_id] = (await cli("enqueue", "hold")).lines
    said = b""
    with trio.fail_after(50):
        async with cli.piped(*(job_id if each == "ID" else each for each in arguments)) as command:
            await until(lambda: subscribed(server), 20)
            await trio.sleep(0.2)  # until that has most likely reached the other side, which else calls it otherwise
            server.service.endpoint.call_back()
            while said.count(b"\n") < 2:
                said += await command.stderr.receive_some()
            command.process.send_signal(signal.SIGINT)
            said += await rest(command.stderr)
            shown = await rest(command.stdout)
            assert await command.process.ended() == 130
    lost, back, _ = said.decode().splitlines()
    assert re.fullmatch(r"jobctl: (connection lost|no live updates yet)( \(.+\))?; trying again", lost)
    assert re.fullmatch(r"jobctl: connected (again )?after [0-9.]+s(; nothing is missed)?", back)
    if "--json" in arguments:
        assert all(json.loads(line)["type"] == "job_update" for line in shown.splitlines())


def last_title(terminal: Terminal) -> str:
    """Of the last frame, as it stays on the screen."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text.decode())
    return [line for line in plain.splitlines() if line.startswith("jobctl http")][-1].strip()


async def test_the_last_frame_of_the_table_says_how_it_ended(server: Running, cli: Cli) -> None:
    [job_id] = (await cli("enqueue", "hold")).lines
    terminal = Terminal(cli, "watch", job_id, "--until-done")
    await terminal.shows("▶ running")
    await cli("jobs", "cancel", job_id)
    assert await terminal.end() == 5
    assert last_title(terminal) == f"jobctl {server.service.url}  ● done"
    left = Terminal(cli, "watch")
    await left.shows("live")
    await left.interrupt()
    assert last_title(left) == f"jobctl {server.service.url}  ○ left"
    late = Terminal(cli, "watch", "--timeout", "2")
    await late.shows("live")
    assert await late.end() == 4
    assert last_title(late) == f"jobctl {server.service.url}  ○ timed out after 2 s"
