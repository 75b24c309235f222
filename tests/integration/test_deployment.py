"""What stands in ``configs/`` for production, each tried for real: nginx and Caddy with TLS, systemd's side."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import logging
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import trio
import trustme
from deployment_kit import CONFIGS, given, program, server  # noqa: F401
from proxied_kit import NAME, asked, authority, free_port, nginx_with, running, streaming  # noqa: F401

from tests.kit import LOOPBACK, Running, StartServer


@pytest.fixture
async def nginx(server: Running, tmp_path: Path, authority: ssl.SSLContext) -> AsyncIterator[int]:
    """nginx with configs/nginx.conf before the server; its TLS port."""
    upstream = ("server 127.0.0.1:8000;", f"server {LOOPBACK}:{server.port};")
    site = (CONFIGS / "nginx.conf").read_text()
    async with nginx_with(program("nginx", in_ci=True), site, tmp_path, upstream) as port:
        yield port


@pytest.fixture
async def caddy(server: Running, tmp_path: Path, authority: ssl.SSLContext) -> AsyncIterator[int]:
    """Caddy with configs/Caddyfile before the server; its port."""
    binary = program("caddy")
    port = free_port()
    site = given(
        (CONFIGS / "Caddyfile").read_text(),
        (f"{NAME} {{", f"{NAME}:{port} {{\n\tbind {LOOPBACK}\n\ttls cert.pem key.pem"),
        ("reverse_proxy 127.0.0.1:8000", f"reverse_proxy {LOOPBACK}:{server.port}"),
    )
    (tmp_path / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    command = [binary, "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    folders = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    async with running(command, tmp_path, port, **folders):
        yield port


async def through_a_proxy(port: int, trust: ssl.SSLContext, server: Running) -> None:
    """What both must do."""
    token = server.token()
    bearer = f"Authorization: Bearer {token}"
    async with streaming(port, trust, token) as peer:
        # HTTP beside the stream: an update arrives at once, though the proxy could gather more.
        job = json.dumps({"name": "noop"}).encode()
        status, _, _ = await asked(
            port, trust, "POST /api/jobs HTTP/1.1", bearer, f"Origin: https://{NAME}",
            "Content-Type: application/json", body=job,
        )  # fmt: skip
        assert status == 201
        assert (await peer.hear())["type"] == "job_update"
        await peer.say(type="ping")
        assert (await peer.hear())["type"] == "pong"

    # The largest batch passes, and metrics do not.
    lines = b"\n".join(b'{"name":"noop","data":{"x":"%b"}}' % (b"x" * 60_000) for _ in range(270))
    assert 15 * 2**20 < len(lines) <= 16 * 2**20
    status, _, text = await asked(
        port, trust, "POST /api/jobs/batch HTTP/1.1", bearer, "Content-Type: application/x-ndjson", body=lines
    )
    assert status == 201, text
    assert (await asked(port, trust, "GET /metrics HTTP/1.1", bearer))[0] == 404

    # The rate is counted for who asks, and a made-up X-Forwarded-For is nobody.
    remaining = []
    for n in range(3):
        made_up = f"X-Forwarded-For: 203.0.113.{n}"
        status, head, _ = await asked(port, trust, "GET /api/jobs HTTP/1.1", made_up)
        assert status == 401
        found = re.search(r"x-ratelimit-remaining: (\d+)", head)
        assert found
        remaining.append(int(found[1]))
    assert remaining == [remaining[0], remaining[0] - 1, remaining[0] - 2]

    # A page elsewhere gets no further than without a proxy.
    status, _, _ = await asked(port, trust, "GET /api/jobs HTTP/1.1", bearer, "Origin: https://evil.example")
    assert status == 403


async def test_nginx_as_in_configs_serves_api_and_stream_over_tls(
    server: Running, nginx: int, authority: ssl.SSLContext
) -> None:
    await through_a_proxy(nginx, authority, server)


async def test_caddy_as_in_configs_serves_api_and_stream_over_tls(
    server: Running, caddy: int, authority: ssl.SSLContext
) -> None:
    await through_a_proxy(caddy, authority, server)


async def test_nginx_sends_plain_http_to_https(server: Running, nginx: int, tmp_path: Path) -> None:
    (plain,) = re.findall(rf"listen {re.escape(LOOPBACK)}:(\d+);", (tmp_path / "site.conf").read_text())
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"http://{LOOPBACK}:{plain}/api/jobs?limit=1", headers={"Host": NAME})
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{NAME}/api/jobs?limit=1")


def test_the_proxies_time_limits_suit_the_servers() -> None:
    """A stream is pinged every 30 s, a long poll waits 60 s, an idle upstream connection is closed after 75 s."""
    from jobctl.http_connection import KEEP_ALIVE_TIMEOUT_S
    from jobctl.settings import Stream
    from jobctl.web.events import MAX_WAIT_S

    nginx = (CONFIGS / "nginx.conf").read_text()
    caddy = (CONFIGS / "Caddyfile").read_text()
    limits = [float(each) for each in re.findall(r"proxy_read_timeout (\d+)s;", nginx)]
    limits += [float(each) for each in re.findall(r"response_header_timeout (\d+)s", caddy)]
    assert len(limits) == 3
    assert min(limits) > max(Stream().ping_interval, MAX_WAIT_S)
    kept = [float(each) for each in re.findall(r"keepalive(?:_timeout)? (\d+)s", nginx + caddy)]
    assert len(kept) == 2
    assert max(kept) < KEEP_ALIVE_TIMEOUT_S


# --- a renewed certificate -------------------------------------------------------------------------------------------


def put(folder: Path, certificate: trustme.LeafCert, *, key: bool = True) -> None:
    with (folder / "cert.pem").open("wb") as file:
        for blob in certificate.cert_chain_pems:
            file.write(blob.bytes())
    if key:
        certificate.private_key_pem.write_to_path(folder / "key.pem")


async def shown(port: int, trust: ssl.SSLContext) -> bytes:
    """The certificate that a new connection sees."""
    tcp = await trio.open_tcp_stream(LOOPBACK, port)
    async with trio.SSLStream(tcp, trust, server_hostname=NAME, https_compatible=True) as stream:
        await stream.do_handshake()
        found: bytes = stream.getpeercert(binary_form=True)
    return found


async def test_a_renewed_certificate_is_served_after_a_sighup_and_a_broken_one_is_not(
    tmp_path: Path, start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer = trustme.CA()
    trust = ssl.create_default_context()
    issuer.configure_trust(trust)
    put(tmp_path, issuer.issue_cert(NAME))
    server = await start_server(certfile=tmp_path / "cert.pem", keyfile=tmp_path / "key.pem")
    server.service.read_again = lambda: server.settings
    first = await shown(server.port, trust)
    put(tmp_path, issuer.issue_cert(NAME))
    assert await shown(server.port, trust) == first
    caplog.set_level(logging.INFO)
    server.service.reload()
    second = await shown(server.port, trust)
    assert second != first
    server.service.reload()
    said = [each.getMessage().partition("changed: ")[2] for each in caplog.records if "changed: " in each.getMessage()]
    assert said == [f"the certificate in {tmp_path / 'cert.pem'}", "nothing"]
    put(tmp_path, issuer.issue_cert(NAME), key=False)  # its key has not been written yet
    server.service.read_again = lambda: server.settings.model_copy(update={"rate_limit": "1/1h", "grace": 0.5})
    server.service.reload()
    assert server.service.settings == server.settings
    assert (server.service.app.gate._rate, server.service.runner._grace) == ("6000/1m", 25)
    assert "the settings stay as they are: cannot use the certificate" in caplog.text
    assert await shown(server.port, trust) == second


@pytest.mark.parametrize(
    ("soft", "most", "expected"),
    [(256, 10**6, [65_536]), (256, 10_240, [65_536, 10_240]), (65_536, 10**6, []), (20_000, 15_000, [65_536])],
)
def test_as_many_descriptors_are_taken_as_the_system_gives(
    soft: int, most: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobctl import lifetime

    asked: list[int] = []

    def set_limit(_: int, limits: tuple[int, int]) -> None:
        asked.append(limits[0])
        if limits[0] > most:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(lifetime.resource, "getrlimit", lambda _: (soft, lifetime.resource.RLIM_INFINITY))
    monkeypatch.setattr(lifetime.resource, "setrlimit", set_limit)
    lifetime.raise_descriptor_limit()
    assert asked == expected
