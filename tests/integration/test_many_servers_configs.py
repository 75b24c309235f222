"""What stands in ``configs/many-servers/``, tried for real: three servers of one database behind a proxy."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio_websocket
from deployment_kit import CONFIGS, given, program
from many_kit import Process, StartProcess, new_database, start_process  # noqa: F401
from proxied_kit import NAME, asked, authority, free_port, nginx_with, running, streaming  # noqa: F401

from jobctl.database_url import DatabaseUrl
from jobctl.settings import Settings
from tests.kit import LOOPBACK, Peer, until

MANY = CONFIGS / "many-servers"
ADDRESSES = [f"10.0.0.{n}:8000" for n in (11, 12, 13)]


@pytest.fixture
async def three(start_process: StartProcess) -> list[Process]:
    trusting = f'trusted_proxies = ["{LOOPBACK}"]'
    return [await start_process(trusting) for _ in range(3)]


def moved(three: Sequence[Process]) -> list[tuple[str, str]]:
    """The addresses of the example, and those of the test."""
    return [(old, f"{LOOPBACK}:{each.port}") for old, each in zip(ADDRESSES, three, strict=True)]


@pytest.fixture
async def nginx(three: list[Process], tmp_path: Path, authority: ssl.SSLContext) -> AsyncIterator[int]:
    site = (MANY / "nginx.conf").read_text()
    async with nginx_with(program("nginx", in_ci=True), site, tmp_path, *moved(three)) as port:
        yield port


@pytest.fixture
async def caddy(three: list[Process], tmp_path: Path, authority: ssl.SSLContext) -> AsyncIterator[int]:
    binary, port = program("caddy"), free_port()
    own = (f"\n{NAME} {{", f"\n{NAME}:{port} {{\n\tbind {LOOPBACK}\n\ttls cert.pem key.pem")
    site = given((MANY / "Caddyfile").read_text(), *moved(three), own)
    (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    command = [binary, "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    folders = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    async with running(command, tmp_path, port, **folders):
        yield port


async def enqueue(port: int, trust: ssl.SSLContext, token: str, n: int) -> list[str]:
    """Through the proxy, whoever of the servers takes it."""
    bearer = f"Authorization: Bearer {token}"
    body = json.dumps([{"name": "slow"}] * n).encode()
    head = ("POST /api/jobs/batch HTTP/1.1", bearer, "Content-Type: application/json")
    status, _, text = await asked(port, trust, *head, body=body)
    assert status == 201, text
    ids: list[str] = json.loads(text)["data"]["ids"]
    return ids


async def hear(peer: Peer, seqs: list[int], ended: set[str], wanted: set[str]) -> None:
    """Take updates until all the jobs have ended."""
    while not wanted <= ended:
        message = await peer.hear()
        if message["type"] == "job_update":
            seqs.append(message["seq"])
            if message["job"]["status"] == "completed":
                ended.add(message["job"]["id"])


async def watched(three: Sequence[Process]) -> Process:
    """The server that has the one stream."""
    found: list[Process] = []

    async def one() -> bool:
        found[:] = [each for each in three if await each.metric("jobctl_stream_connections") == 1]
        return len(found) == 1

    await until(one)
    return found[0]


async def through_a_proxy(port: int, trust: ssl.SSLContext, three: list[Process]) -> None:
    """A watcher sees what any of the servers does; when its own is killed, it goes on at another."""
    token = three[0].token
    seqs: list[int] = []
    ended: set[str] = set()
    async with streaming(port, trust, token) as peer:
        first = peer.subscribed["seq"]
        epoch = peer.subscribed["epoch"]
        ids = {*await enqueue(port, trust, token, 30)}
        await hear(peer, seqs, ended, ids)
        where = {(await three[0].get(f"/api/jobs/{each}"))["processingBy"] for each in ids}
        assert len(where) > 1, "the servers share the work"
        (await watched(three)).kill()
        with pytest.raises(trio_websocket.ConnectionClosed):
            while True:
                await peer.hear()
    alive = [each for each in three if each.process.poll() is None]
    assert len(alive) == 2
    more = {*await enqueue(port, trust, token, 30)}
    async with streaming(port, trust, token, since=seqs[-1], epoch=epoch) as peer:
        assert peer.subscribed["recovered"]
        await hear(peer, seqs, ended, more)
        assert await watched(alive) in alive
    assert seqs == [*range(first + 1, first + 1 + len(seqs))], "every update once, in order"
    assert ended == ids | more


@pytest.mark.slow
async def test_nginx_lets_a_watcher_go_on_at_another_server(
    three: list[Process], nginx: int, authority: ssl.SSLContext
) -> None:
    await through_a_proxy(nginx, authority, three)


@pytest.mark.slow
async def test_caddy_lets_a_watcher_go_on_at_another_server(
    three: list[Process], caddy: int, authority: ssl.SSLContext
) -> None:
    await through_a_proxy(caddy, authority, three)


@pytest.mark.slow
async def test_a_one_time_code_finds_the_server_that_made_it(
    three: list[Process], nginx: int, authority: ssl.SSLContext
) -> None:
    bearer = f"Authorization: Bearer {three[0].token}"
    kind = "Content-Type: application/json"
    for _ in range(4):
        status, _, text = await asked(nginx, authority, "POST /api/auth/codes HTTP/1.1", bearer, kind, body=b"{}")
        assert status == 201, text
        code = json.loads(text)["data"]["code"]
        body = json.dumps({"code": code}).encode()
        login = ("POST /api/auth/login HTTP/1.1", kind, f"Origin: https://{NAME}")
        status, _, text = await asked(nginx, authority, *login, body=body)
        assert status == 200, text
    three[0].kill()
    status, _, text = await asked(nginx, authority, "POST /api/auth/codes HTTP/1.1", bearer, kind, body=b"{}")
    assert status == 201, text


@pytest.mark.slow
async def test_a_refresh_at_another_server_goes_on_with_the_session(three: list[Process]) -> None:
    import httpx2

    async with httpx2.AsyncClient() as http:
        code = (await three[0].post("/api/auth/codes", {}))["code"]
        own = [f"http://{LOOPBACK}:{each.port}" for each in three]
        answer = await http.post(f"{own[0]}/api/auth/login", json={"code": code}, headers={"Origin": own[0]})
        assert answer.status_code == 200, answer.text
        cookie = answer.headers["set-cookie"].partition(";")[0]
        name, _, value = cookie.partition("=")
        other = name.replace(str(three[0].port), str(three[1].port))  # behind a proxy both have its port
        answer = await http.post(
            f"{own[1]}/api/auth/refresh", headers={"Cookie": f"{other}={value}", "Origin": own[1]}
        )
        assert answer.status_code == 200, answer.text


def test_the_proxies_time_limits_suit_the_servers() -> None:
    from jobctl.http_connection import KEEP_ALIVE_TIMEOUT_S
    from jobctl.settings import Stream
    from jobctl.web.events import MAX_WAIT_S

    nginx, caddy = (MANY / "nginx.conf").read_text(), (MANY / "Caddyfile").read_text()
    limits = [float(each) for each in re.findall(r"proxy_read_timeout (\d+)s;", nginx)]
    limits += [float(each) for each in re.findall(r"response_header_timeout (\d+)s", caddy)]
    assert len(limits) == 2
    assert min(limits) > max(Stream().ping_interval, MAX_WAIT_S)
    kept = [float(each) for each in re.findall(r"keepalive(?:_timeout)? (\d+)s", nginx + caddy)]
    assert len(kept) == 2
    assert max(kept) < KEEP_ALIVE_TIMEOUT_S


def test_each_server_stands_in_every_list_of_the_proxies() -> None:
    for name, times in (("nginx.conf", 2), ("Caddyfile", 2)):
        text = (MANY / name).read_text()
        assert [text.count(each) for each in ADDRESSES] == [times] * 3


def test_the_settings_of_the_example_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (MANY / "jobctl.toml").read_text()
    settings = Settings.model_validate(tomllib.loads(text))
    assert isinstance(settings.db, DatabaseUrl)
    assert settings.db.passwords == ()
    bouncer = re.findall(r"^# ((?:db|\[postgres\]|transaction_pooling|notify).*)$", text, re.MULTILINE)
    settings = Settings.model_validate(tomllib.loads("\n".join(bouncer)))
    assert settings.postgres.transaction_pooling
    assert settings.postgres.notify == "off"


def test_nginx_takes_the_example_as_it_is(tmp_path: Path, authority: ssl.SSLContext) -> None:
    binary = program("nginx", in_ci=True)
    folder = f"/etc/letsencrypt/live/{NAME}"
    changes = [(f"{folder}/fullchain.pem", f"{tmp_path}/cert.pem"), (f"{folder}/privkey.pem", f"{tmp_path}/key.pem")]
    (tmp_path / "site.conf").write_text(given((MANY / "nginx.conf").read_text(), *changes))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\nhttp {{ include {tmp_path}/site.conf; }}\n"
    )
    argv = [binary, "-t", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
