"""``jobctl db``, ``config`` and ``doctor``, as a shell sees them."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cli_kit import Cli, cli  # noqa: F401

from jobctl.cli.doctor import _clock
from jobctl.cli.skew import untimely
from jobctl.client.address import Address
from jobctl.client.session import Session
from jobctl.errors import Unanswered
from tests.kit import LOOPBACK, Running, StartServer


@pytest.fixture
async def known(server: Running, cli: Cli) -> Running:
    cli.url = f"http://{LOOPBACK}:{server.port}"
    return server


# --- db --------------------------------------------------------------------------------------------------------------


async def test_a_backup_is_written_where_the_person_stands_and_can_be_checked(known: Running, cli: Cli) -> None:
    await known.enqueue(4)
    done = await cli("db", "backup", "b.db")
    assert (done.code, done.out) == (0, f"{cli.folder / 'b.db'}\n")
    assert f"up to {known.store.epoch}:4" in done.err
    again = await cli("db", "backup", "b.db")
    assert (again.code, again.out) == (2, "")
    assert "exists already" in again.err
    as_json = await cli("db", "backup", "c.db", "--json")
    assert as_json.json[0]["seq"] == 4

    checked = await cli("db", "check", "b.db")
    assert (checked.code, checked.err) == (0, "")
    assert checked.out.startswith(f"ok: 4 jobs, 4 events up to {known.store.epoch}:4")
    assert (await cli("db", "check", str(known.settings.db), "--json")).json[0]["ok"] is True  # the live one


async def test_a_backup_is_restored_only_when_no_server_runs_on_its_place(known: Running, cli: Cli) -> None:
    await known.enqueue(2)
    await cli("db", "backup", "b.db")
    refused = await cli("db", "restore", "b.db", "--db", str(known.settings.db), "--replace")
    assert (refused.code, refused.out) == (2, "")
    assert "another server" in refused.err
    done = await cli("db", "restore", "b.db", "--db", "new.db")
    assert (done.code, done.out) == (0, f"{cli.folder / 'new.db'}\n")
    again = await cli("db", "restore", "b.db", "--db", "new.db")
    assert again.code == 2
    assert "--replace" in again.err
    replaced = await cli("db", "restore", "b.db", "--db", "new.db", "--replace", "--json")
    assert replaced.code == 0
    assert Path(replaced.json[0]["replaced"]).exists()


async def test_a_damaged_file_is_exit_code_1_and_something_else_is_2(cli: Cli) -> None:
    import sqlite3

    (cli.folder / "text.db").write_text("no database\n" * 100)
    other = await cli("db", "check", "text.db")
    assert (other.code, other.err) == (2, "jobctl: text.db is not a database\n")
    missing = await cli("db", "check", "nope.db")
    assert (missing.code, missing.err) == (2, "jobctl: cannot read nope.db: no such file\n")
    folder = await cli("db", "check", ".")
    assert (folder.code, folder.err) == (2, "jobctl: cannot read .: it is a folder\n")

    from jobctl.store.sqlite import open_store

    async with open_store(cli.folder / "jobs.db", state_dir=cli.folder / "state"):
        pass
    with sqlite3.connect(cli.folder / "jobs.db") as connection:
        connection.execute("INSERT INTO counter VALUES ('', 'default', 'failed', 3)")
    connection.close()
    found = await cli("db", "check", "jobs.db")
    assert (found.code, found.out) == (1, "counter of all, queue default, failed: 3, but there are 0\n")
    assert (await cli("db", "check", "jobs.db", "--json")).code == 1


# --- config ----------------------------------------------------------------------------------------------------------


async def test_settings_are_shown_with_their_origin_and_without_secrets(cli: Cli) -> None:
    secret = "a-secret-of-more-than-thirty-two-bytes"
    (cli.folder / "jobctl.toml").write_text("concurrency = 3\n")
    env = {"JOBCTL_SECRET": secret, "JOBCTL_GRACE": "2.5"}
    shown = await cli("config", "show", "--port", "9999", env=env)
    assert shown.code == 0
    rows = {line.partition(" = ")[0]: line.partition(" = ")[2] for line in shown.lines}
    assert rows["port"].split() == ["9999", "#", "flag", "--port"]
    assert rows["grace"].split() == ["2.5", "#", "env", "JOBCTL_GRACE"]
    assert rows["concurrency"].split() == ["3", "#", "file", "jobctl.toml"]
    assert rows["auth.secret"].split() == ['"********"', "#", "env", "JOBCTL_SECRET"]
    assert rows["host"].split() == ['"127.0.0.1"', "#", "default"]
    as_json = await cli("config", "show", "--json", env=env)
    assert {"name": "concurrency", "value": 3, "origin": "file jobctl.toml"} in as_json.json[0]
    assert secret not in shown.out + shown.err + as_json.out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = 99999\n", "port:"),
        ("prot = 1\n", "there is no setting 'prot'; did you mean port?"),
        ("port = \n", "is not TOML"),
        ('rate_limit = "often"\n', "rate_limit: a rate is written like"),
        ('trusted_proxies = ["nowhere"]\n', "trusted_proxies: 'nowhere' is neither"),
        ('app = "no_such_module"\n', "no_such_module"),
        ('[commands.x]\nargv = ["{a} {b"]\n', "commands.x"),
        ('certfile = "c.pem"\nkeyfile = "k.pem"\n', "cannot use the certificate c.pem"),
    ],
)
async def test_a_wrong_configuration_is_one_clear_line_and_exit_code_2(cli: Cli, text: str, told: str) -> None:
    (cli.folder / "x.toml").write_text(text)
    found = await cli("config", "check", "--config", "x.toml")
    assert (found.code, found.out) == (2, "")
    assert told in found.err
    assert len(found.err.splitlines()) == 1


async def test_a_right_configuration_is_ok(cli: Cli) -> None:
    assert (await cli("config", "check")).out == "ok (no file: defaults and the environment)\n"
    (cli.folder / "tasks.py").write_text("from jobctl import job\n\n@job('a')\nasync def a(ctx): ...\n")
    (cli.folder / "jobctl.toml").write_text('app = "tasks"\n')
    assert await cli("config", "check") == (0, "ok (jobctl.toml)\n", "")
    assert not list(cli.folder.glob("*.db"))
    flags = await cli("config", "check", "--host", "192.0.2.1", "--app", "tasks")
    assert (flags.code, flags.out) == (2, "")
    assert "cannot listen on 192.0.2.1" in flags.err


# --- doctor ----------------------------------------------------------------------------------------------------------


def states(result: Any) -> dict[str, str]:
    return {each["name"]: each["state"] for each in result.json[0]["checks"]}


async def test_a_healthy_server_passes_every_step(known: Running, cli: Cli) -> None:
    found = await cli("doctor")
    assert (found.code, found.err) == (0, "")
    assert [line.split()[:2] for line in found.lines] == [
        ["✔", name] for name in ("reach", "clock", "ready", "sign-in", "version", "stream")
    ]
    as_json = await cli("doctor", "--json")
    assert as_json.json[0]["ok"] is True
    assert set(states(as_json).values()) == {"ok"}


async def test_no_server_is_exit_code_3_with_what_to_do(cli: Cli) -> None:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        cli.url = f"http://{LOOPBACK}:{free.getsockname()[1]}"
    found = await cli("doctor")
    assert found.code == 3
    assert found.lines[0].startswith("✘ reach    cannot reach")
    assert "start `jobctl serve` there" in found.lines[1]
    assert [line[0] for line in found.lines[2:]] == ["·"] * 5


async def test_a_token_of_another_server_is_exit_code_3(known: Running, cli: Cli) -> None:
    found = await cli("doctor", "--json", env={"JOBCTL_SECRET": "another secret of more than 32 bytes ..."})
    assert found.code == 3
    assert states(found) == {
        "reach": "ok", "clock": "ok", "ready": "ok", "sign-in": "failed", "version": "skipped", "stream": "skipped",
    }  # fmt: skip


async def test_a_server_that_is_not_ready_is_exit_code_1_with_its_reason(known: Running, cli: Cli) -> None:
    committer = known.store.committer  # type: ignore[attr-defined]
    committer._probe = lambda: None  # else it finds out within a second that nothing is wrong
    committer.trouble = "Full: database or disk is full"
    found = await cli("doctor")
    assert found.code == 1
    assert "✘ ready    the database cannot take writes (Full: database or disk is full)" in found.out
    assert found.lines[-1].startswith("✔ stream")


async def test_a_port_that_takes_connections_and_never_answers_is_told_after_a_short_time(
    cli: Cli, with_secret: None
) -> None:
    from jobctl.cli import doctor

    assert doctor.ANSWER_S == 5.0
    with socket.create_server((LOOPBACK, 0)) as silent:
        cli.url = f"http://{LOOPBACK}:{silent.getsockname()[1]}"
        with trio.fail_after(30):
            found = await cli("doctor")
    assert found.code == 3
    assert found.lines[0] == f"✘ reach    {cli.url} accepts connections but does not answer within 5 s"
    assert "start `jobctl serve`" not in found.out


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silence_after_a_connection_is_told_from_no_connection(scheme: str) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        address = Address(scheme, LOOPBACK, silent.getsockname()[1])
        with Session(address, str, timeout=0.1) as session, pytest.raises(Unanswered) as caught:
            session.probe("/healthz")
    assert str(caught.value) == f"{address} accepts connections but does not answer within 0.1 s"


async def test_http_for_https_is_told_with_the_right_url(
    start_server: StartServer, cli: Cli, tmp_path: Path
) -> None:
    certificate = trustme.CA().issue_cert(LOOPBACK)
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    server = await start_server(certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem")
    place = f"{LOOPBACK}:{server.port}"
    found = await cli("doctor", "--url", f"http://{place}")
    assert (found.code, found.lines[0]) == (3, f"✘ reach    the server at {place} speaks https, not http")
    assert found.lines[1].strip() == f"give its URL as https://{place}"
    untrusted = await cli("doctor", "--url", f"https://{place}")
    assert "the certificate is not trusted here" in untrusted.lines[1]


async def test_https_for_http_is_told_with_the_right_url(known: Running, cli: Cli) -> None:
    place = f"{LOOPBACK}:{known.port}"
    found = await cli("doctor", "--url", f"https://{place}")
    assert (found.code, found.lines[0]) == (3, f"✘ reach    the server at {place} speaks http, not https")
    assert found.lines[1].strip() == f"give its URL as http://{place}"


class Fake:
    """A server of the test's making: answers by path, and what becomes of an upgrade."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str]] = {
            "/healthz": (200, '{"status":"ok"}'),
            "/readyz": (200, '{"status":"ready"}'),
            "/api/server": (200, '{"data":{"version":"0.0.1","subject":"x","role":"admin"}}'),
            "/api/notifications/ws": (426, "{}"),
        }
        self.date = formatdate(usegmt=True)

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                more = await stream.receive_some(65536)
                if not more:
                    return
                head += more
            status, body = self.answers.get(head.split()[1].decode(), (404, "{}"))
            text = (
                f"HTTP/1.1 {status} X\r\nDate: {self.date}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
            )
            await stream.send_all(text.encode())


@pytest.fixture
async def fake(nursery: trio.Nursery, cli: Cli) -> AsyncIterator[Fake]:
    made = Fake()
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    cli.url = f"http://{LOOPBACK}:{listener.socket.getsockname()[1]}"
    nursery.start_soon(trio.serve_listeners, made.serve, [listener])
    yield made
    nursery.cancel_scope.cancel()


@pytest.fixture
def with_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_SECRET", "a secret of more than thirty-two bytes")


async def test_a_proxy_that_does_not_pass_the_upgrade_is_told_with_the_cure(
    fake: Fake, cli: Cli, with_secret: None
) -> None:
    fake.date = formatdate(time.time() - 60, usegmt=True)
    found = await cli("doctor")
    assert found.code == 1, found.err
    text = found.out
    assert "✘ stream   the upgrade to a WebSocket was answered with HTTP 426" in text
    assert "configs/nginx.conf" in text
    assert re.search(r"! clock    this machine's is 6[0-9] s ahead of the server's", text)  # a start takes its time
    assert "! version  the server is 0.0.1, this program " in text


async def test_a_token_that_is_refused_for_the_clocks_is_told_so(fake: Fake, cli: Cli, with_secret: None) -> None:
    fake.answers["/api/server"] = (401, "{}")
    fake.date = formatdate(time.time() - 60, usegmt=True)
    found = await cli("doctor")
    assert found.code == 3
    assert re.search(r"✘ sign-in .* is refused: by the server's clock it is of the future \(this machine's clock is "
                     r"6[0-9] s ahead of the server's\)\n +set both clocks by NTP", found.out)  # fmt: skip
    fake.date = formatdate(usegmt=True)
    assert "is refused\n" in (await cli("doctor")).out


async def test_something_else_that_answers_is_no_jobctl_server(fake: Fake, cli: Cli) -> None:
    fake.answers["/healthz"] = (200, "<html>It works!</html>")
    found = await cli("doctor")
    assert found.code == 3
    assert "not as a jobctl server does" in found.lines[0]


@pytest.mark.parametrize(
    ("ahead", "state"), [(0, "ok"), (4.9, "ok"), (-4.0, "ok"), (6.1, "warning"), (-6.1, "warning"), (86400, "warning")]
)
def test_clocks_more_than_5_s_apart_are_warned_of(ahead: float, state: str) -> None:
    theirs = 1_790_000_000
    assert _clock(formatdate(theirs, usegmt=True), theirs + 0.5 + ahead).state == state


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_missing_date_is_no_failure(date: str) -> None:
    assert _clock(date, 0.0).state == "warning"




def token(issued: float, expires: float) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"iat": issued, "exp": expires}).encode()).decode().rstrip("=")
    return f"x.{claims}.x"


AHEAD = "by the server's clock it is of the future (this machine's clock is 60 s ahead of the server's)"
BEHIND = "by the server's clock it has expired (this machine's clock is 1000 s behind the server's)"


@pytest.mark.parametrize(
    ("said", "skew", "told"),
    [
        (token(1000, 1900), 0, None),
        (token(1000, 1900), 60, AHEAD),
        (token(900, 1900), 60, None),
        (token(1000, 1900), -60, None),
        (token(1000, 1900), -1000, BEHIND),
        (token(0, 900), 0, "it has expired"),
        (token(0, 900), -1000, "it has expired"),
        (token(2000, 2900), 0, None),
        ("no token", 60, None),
    ],
)
def test_a_token_is_held_against_the_servers_clock(said: str, skew: float, told: str | None) -> None:
    assert untimely(said, 1000.0, skew) == told


async def test_a_client_whose_upgrade_is_refused_keeps_its_nursery(fake: Fake, cli: Cli, nursery: trio.Nursery) -> None:
    from jobctl.client.connection import Rejected, open_connection

    assert cli.url is not None
    for status in (426, 502):
        fake.answers["/api/notifications/ws"] = (status, '{"a": "body"}')
        with trio.fail_after(10), pytest.raises(Rejected) as refused:
            await open_connection(nursery, Address.parse(cli.url), None)
        assert refused.value.status == status
