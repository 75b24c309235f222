"""``jobctl watch``, as a shell and a person see it."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import re
import sys

import trio
from cli_kit import Cli, Result, Terminal, cli  # noqa: F401
from cli_server_kit import MISSING, server  # noqa: F401

from tests.kit import Running, StartServer, until


async def test_watching_an_id_shows_its_state_first_and_ends_when_it_has(server: Running, cli: Cli) -> None:
    job_id = (await cli("enqueue", "slow", "seconds:=1")).out.strip()
    done = await cli("watch", job_id, "--until-done", "--json")
    assert done.code == 0
    states = [(each["type"], each["job"]["status"]) for each in done.json]
    assert states[-1] == ("job_update", "completed")
    assert len({each["job"]["version"] for each in done.json}) == len(done.json)
    again = await cli("watch", job_id, "--until-done")
    assert len(again.lines) == 1
    assert "✔ completed" in again.lines[0]


async def test_json_is_the_streams_messages_as_they_came(server: Running, cli: Cli) -> None:
    async with server.peer() as peer:
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear_until("jobs_subscribed")
        since = f"{(await server.store.stats(owner=None)).position.epoch}:0"
        await cli("enqueue", "ok", "--wait")
        raw = []
        while True:
            text = await peer.socket.get_message()
            raw.append(text)
            if '"completed"' in text:
                break
    done = await cli("watch", "--json", "--since", since, "--timeout", "2")
    assert done.code == 4
    assert done.lines == raw


async def test_without_ids_it_ends_when_nothing_that_matches_is_live(server: Running, cli: Cli) -> None:
    await cli("enqueue", "hold", "--queue", "other")
    await cli("enqueue", "ok", "--queue", "q", "--wait")  # so that there is such a queue
    assert (await cli("watch", "--queue", "q", "--until-done")).code == 0
    for jobs, code, ends in ((b'{"name":"slow"}\n' * 3, 0, "completed"), (b'{"name":"fail"}\n', 1, "failed")):
        assert (await cli("queues", "pause", "q")).code == 0  # until it watches
        await cli("enqueue", "--file", "-", "--queue", "q", stdin=jobs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(resume_once_watched, server, cli)
            done = await cli("watch", "--queue", "q", "--until-done")
        assert done.code == code
        assert sum(ends in line for line in done.lines) == jobs.count(b"\n")


async def resume_once_watched(server: Running, cli: Cli) -> None:
    await until(lambda: any(each.subscription is not None for each in server.service.endpoint.connections), 20)
    assert (await cli("queues", "resume", "q")).code == 0


async def test_until_done_from_a_position_shows_what_was_missed_and_ends(server: Running, cli: Cli) -> None:
    epoch = (await server.store.stats(owner=None)).position.epoch
    job_id = (await cli("enqueue", "ok", "--wait")).out.strip()
    for arguments in ((job_id,), ("--queue", "default")):
        done = await cli("watch", *arguments, "--until-done", "--since", f"{epoch}:0")
        assert done.code == 0
        assert [line.split()[2] for line in done.lines] == ["pending", "running", "completed"]
    head = (await server.store.stats(owner=None)).position
    done = await cli("watch", job_id, "--until-done", "--since", str(head))
    assert (done.code, done.out) == (0, "")


async def test_counts_are_printed_when_asked_for(server: Running, cli: Cli) -> None:
    done = await cli("watch", "--stats", "--json", "--timeout", "0.7")
    assert done.json[0]["type"] == "job_stats_update"
    plain = await cli("watch", "--stats", "--timeout", "0.7")
    assert "# stats     no jobs" in plain.out


async def test_ctrl_c_says_how_to_come_back_and_nothing_is_missed_or_repeated(server: Running, cli: Cli) -> None:
    first = (await cli("enqueue", "ok", "--delay", "60")).out.strip()
    since = f"{(await server.store.stats(owner=None)).position.epoch}:0"
    left = await cli.interrupted("watch", "--json", "--since", since, when=lambda out: b"\n" in out)
    assert left.code == 130
    assert [each["job"]["id"] for each in left.json] == [first]
    place = left.err.strip().rpartition(" ")[2]
    assert "jobctl watch --json --since " in left.err
    second = (await cli("enqueue", "ok", "--delay", "60")).out.strip()
    back = await cli("watch", "--json", "--since", place, "--timeout", "1")
    assert [each["job"]["id"] for each in back.json] == [second]


async def test_watching_what_does_not_exist_is_an_error(server: Running, cli: Cli) -> None:
    done = await cli("watch", MISSING)
    assert (done.code, done.err) == (2, f"jobctl: there is no job {MISSING}\n")


async def test_a_reader_that_goes_away_ends_it_quietly(server: Running, cli: Cli) -> None:
    await cli("enqueue", "--file", "-", stdin=b'{"name":"ok","delay":60}\n' * 500)
    since = f"{(await server.store.stats(owner=None)).position.epoch}:0"
    command = f"{sys.executable} -m jobctl watch --since {since}"
    done = await trio.run_process(
        ["bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_stdout=True, capture_stderr=True, env=cli.env(), cwd=cli.folder,
    )  # fmt: skip
    line, code = done.stdout.decode().splitlines()
    assert "pending" in line
    assert code == "0"
    assert done.stderr == b""


async def test_one_whose_time_is_over_says_how_to_go_on(server: Running, cli: Cli) -> None:
    [job_id] = (await cli("enqueue", "hold")).lines
    done = await cli("watch", job_id, "--until-done", "--timeout", "2")
    epoch = (await server.store.stats(owner=None)).position.epoch
    again = rf"jobctl watch {job_id} --until-done --timeout 2 --since {epoch}:\d+"
    assert done.code == 4
    assert re.fullmatch(rf"jobctl: timed out after 2 s; to go on from here: {again}\n", done.err), done.err


async def test_on_a_terminal_it_is_a_live_table(server: Running, cli: Cli) -> None:
    terminal = Terminal(cli, "watch")
    await terminal.shows("● ")
    await terminal.shows("live")
    await cli("enqueue", "hold")
    await terminal.shows("▶ running")
    await cli("enqueue", "slow", "seconds:=5")
    await terminal.shows("50%")
    await terminal.shows("half way")
    assert await terminal.interrupt() == 130
    assert b"left, nothing was cancelled" in terminal.text
    assert b"\x1b[?25h" in terminal.text  # the cursor is back


async def test_the_table_says_that_the_connection_is_lost(
    start_server: StartServer, server: Running, cli: Cli
) -> None:
    terminal = Terminal(cli, "watch")
    await terminal.shows("live")
    server.service.stop()
    await terminal.shows("reconnecting in")
    assert await terminal.interrupt() == 130, terminal.text.decode()


async def test_no_color_takes_the_colours_away(server: Running, cli: Cli) -> None:
    await cli("enqueue", "hold")
    terminal = Terminal(cli, "watch", env={"NO_COLOR": "1"})
    await terminal.shows("▶ running")
    await terminal.interrupt()
    assert b"\x1b[36m" not in terminal.text


async def test_waiting_on_a_terminal_shows_a_line_that_moves(server: Running, cli: Cli) -> None:
    terminal = Terminal(cli, "enqueue", "slow", "seconds:=1", "--wait")
    await terminal.shows("half way")
    assert await terminal.end() == 0
