"""``jobctl token create|list|revoke``, ``jobctl open``, and the link that ``serve`` shows, as a shell sees them."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import trio
from cli_kit import Cli, cli, environment

from jobctl import auth
from tests.kit import Running, StartServer, until


@pytest.fixture
async def server(start_server: StartServer, cli: Cli) -> Running:
    running = await start_server()
    cli.url = running.service.url
    return running


def log_in(link: str) -> tuple[int, dict[str, Any], str]:
    """Use a link as the dashboard does: status, answer, cookie."""
    url, _, code = link.partition("/#code=")
    asked = urllib.request.Request(
        f"{url}/api/auth/login", json.dumps({"code": code}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.load(answer)["data"], answer.headers["Set-Cookie"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}, ""


# --- tokens --------------------------------------------------------------------------------------------------------


async def test_a_token_is_created_listed_used_and_revoked(server: Running, cli: Cli) -> None:
    made = await cli("token", "create", "--name", "ci", "--role", "user", "--days", "30")
    assert made.code == 0
    [token] = made.lines
    assert "ci: user, speaks for ci, until " in made.err
    assert token not in made.err
    listed = await cli("token", "list")
    assert re.fullmatch(r"ci +user +ci +\S{10} +\S{10} +- +live +[0-9a-f]{32}", listed.lines[1])
    assert token not in listed.out
    env = {"JOBCTL_TOKEN": token}
    done = await cli("enqueue", "noop", env=env)
    assert (await cli("jobs", "show", done.lines[0], "--json")).json[0]["createdBy"] == "ci"
    revoked = await cli("token", "revoke", "ci")
    assert (revoked.code, revoked.out[:11]) == (0, "ci revoked ")
    refused = await cli("enqueue", "noop", env=env)
    assert (refused.code, refused.out) == (3, "")
    assert "refuses the token of JOBCTL_TOKEN" in refused.err
    assert (await cli("token", "list")).lines[1].split()[-2] == "revoked"


async def test_a_token_whose_secret_is_gone_does_not_look_live(server: Running, cli: Cli) -> None:
    await cli("token", "create", "--name", "ci")
    change = lambda tx: tx.state.connection.execute("UPDATE token SET key = 'another'")
    await server.store.committer.submit(change)  # type: ignore[attr-defined]
    assert re.fullmatch(r"ci .* secret changed +[0-9a-f]{32}", (await cli("token", "list")).lines[1])
    assert (await cli("token", "create", "--name", "ci")).code == 0
    states = [line.split()[-2] for line in (await cli("token", "list")).lines[1:]]
    assert states == ["live", "revoked"]


async def test_tokens_are_printed_as_the_api_tells_them(server: Running, cli: Cli) -> None:
    [made] = (await cli("token", "create", "--name", "a", "--sub", "Ann", "--role", "admin", "--json")).json
    assert (made["subject"], made["role"]) == ("Ann", "admin")
    [listed] = (await cli("token", "list", "--json")).json
    assert listed["tokens"] == [{name: value for name, value in made.items() if name != "token"}]
    [gone] = (await cli("token", "revoke", made["jti"], "--json")).json
    assert gone["revokedAt"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["create"], 2, "--name"),
        (["create", "--name", "a b"], 2, "name"),
        (["create", "--name", "x", "--role", "root"], 2, "user or admin"),
        (["create", "--name", "x", "--days", "0"], 2, "less than 1"),
        (["create", "--name", "x", "--days", "367"], 2, "more than 366"),
        (["create", "--name", "taken"], 2, "'taken' is live"),
        (["revoke", "nobody"], 2, "no such token"),
        (["revoke"], 2, "NAME|ID"),
        (["--role", "admin", "create", "--name", "x"], 2, "goes after create"),
        (["nonsense"], 2, "nonsense"),
    ],
)
async def test_what_cannot_be_is_one_clear_line(
    server: Running, cli: Cli, arguments: list[str], code: int, reason: str
) -> None:
    await cli("token", "create", "--name", "taken")
    done = await cli("token", *arguments)
    assert (done.code, done.out) == (code, "")
    assert reason in done.err
    assert done.err.count("\n") == 1
    assert [each["name"] for each in (await cli("token", "list", "--json")).json[0]["tokens"]] == ["taken"]


async def test_a_user_cannot_manage_tokens_or_make_links(server: Running, cli: Cli) -> None:
    env = {"JOBCTL_TOKEN": server.token("ann", "user")}
    for line in ("token create --name x --role admin", "token list", "token revoke x", "open --print --role admin"):
        done = await cli(*line.split(), env=env)
        assert (done.code, done.out) == (3, "")
        assert "for admins" in done.err or "by admins" in done.err


async def test_the_bare_command_still_prints_a_short_token_without_a_server(cli: Cli, tmp_path: Path) -> None:
    secret = auth.ensure_secret(tmp_path / "state")
    done = await cli("token", "--role", "user", "--sub", "ann")
    who = auth.Verifier(secret).verify(done.lines[0])
    assert (who.subject, who.role, who.registered) == ("ann", "user", False)
    assert done.out.count("\n") == 1


@pytest.mark.parametrize("words", ["token", "token create --name ci", "open --print"])
async def test_nobody_is_given_a_token_of_a_schedules_name(server: Running, cli: Cli, words: str) -> None:
    """The server would refuse it."""
    done = await cli(*words.split(), "--sub", "schedule:nightly")
    assert (done.code, done.out) == (2, "")
    assert "--sub" in done.err
    assert "jobs of schedules" in done.err.splitlines()[-1]


async def test_a_watcher_is_told_when_its_token_is_revoked(server: Running, cli: Cli) -> None:
    [token] = (await cli("token", "create", "--name", "wall", "--role", "admin")).lines
    async with trio.open_nursery() as nursery:
        results = []

        async def watch() -> None:
            results.append(await cli("watch", "--json", env={"JOBCTL_TOKEN": token}))

        nursery.start_soon(watch)
        await until(lambda: any(each.subscription for each in server.service.endpoint.connections))
        await server.enqueue()
        await cli("token", "revoke", "wall")
        await server.enqueue(5)
    assert results[0].code == 3
    assert len(results[0].lines) == 1, "what was said before, and nothing after"


# --- links ---------------------------------------------------------------------------------------------------------


async def test_open_prints_a_link_that_signs_in_once(server: Running, cli: Cli) -> None:
    done = await cli("open", "--print", "--sub", "ann", "--role", "user")
    assert done.err == ""
    [link] = done.lines
    assert re.fullmatch(re.escape(server.service.url) + r"/#code=[A-Za-z0-9_-]{32}", link)
    status, data, cookie = await trio.to_thread.run_sync(log_in, link)
    assert (status, data["subject"], data["role"]) == (200, "ann", "user")
    assert "HttpOnly" in cookie
    assert (await trio.to_thread.run_sync(log_in, link))[0] == 401


async def test_open_gives_the_link_to_the_browser(server: Running, cli: Cli, tmp_path: Path) -> None:
    seen, browser = tmp_path / "seen", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {seen}\n')
    browser.chmod(0o755)
    done = await cli("open", env={"BROWSER": f"{browser} %s", "DISPLAY": ":9"})
    assert (done.code, done.out) == (0, "")
    link = seen.read_text()
    assert link.startswith(f"{server.service.url}/#code=")
    assert link.rpartition("=")[2] not in done.err
    assert (await trio.to_thread.run_sync(log_in, link))[0] == 200


async def test_where_there_is_no_browser_the_link_is_printed(server: Running, cli: Cli) -> None:
    done = await cli("open", env={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert (done.code, done.lines[0].partition("/#code=")[0]) == (0, server.service.url)


def serve(tmp_path: Path, **streams: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*Cli(tmp_path).arguments("serve", "--port", "0")], cwd=tmp_path, env=environment(), start_new_session=True,
        **streams,
    )  # fmt: skip


def test_on_a_terminal_serve_shows_a_link_that_signs_in_and_its_log_does_not_have_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = serve(tmp_path, stdin=theirs, stdout=theirs, stderr=errors)
    os.close(theirs)
    shown = b""
    try:
        until_when = time.monotonic() + 30
        while b"5 minutes" not in shown and time.monotonic() < until_when:
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 4096)
        found = re.search(rb"http://127\.0\.0\.1:\d+/#code=\S+", shown)
        assert found is not None, (shown, log.read_text())
        status, data, _ = log_in(found[0].decode())
        assert (status, data["role"]) == (200, "admin")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        os.close(ours)
    assert found[0].decode().rpartition("=")[2] not in log.read_text()
    assert "POST /api/auth/login" in log.read_text()


def test_without_a_terminal_serve_shows_no_link(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as both:
        process = serve(tmp_path, stdin=subprocess.DEVNULL, stdout=both, stderr=both)
    try:
        until_when = time.monotonic() + 30
        while "listens on" not in log.read_text() and time.monotonic() < until_when:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "listens on" in log.read_text()
    assert "#code" not in log.read_text()


async def test_a_link_of_a_server_on_every_address_goes_to_this_machine(start_server: StartServer) -> None:
    server = await start_server(host="0.0.0.0")
    assert server.service.link("root").startswith(f"http://127.0.0.1:{server.port}/#code=")
