"""What the tests of servers behind a proxy share: nginx from ``configs/``, requests and streams over TLS."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
import trustme
from deployment_kit import given, listens

from tests.kit import LOOPBACK, Peer, until

NAME = "jobs.example.com"


def free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port: int = free.getsockname()[1]
    return port


@pytest.fixture
def authority(tmp_path: Path) -> ssl.SSLContext:
    """Trust in a certificate for ``NAME``, which is in ``cert.pem`` and ``key.pem``."""
    issuer = trustme.CA()
    certificate = issuer.issue_cert(NAME)
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    with (tmp_path / "cert.pem").open("wb") as file:
        for blob in certificate.cert_chain_pems:
            file.write(blob.bytes())
    context = ssl.create_default_context()
    issuer.configure_trust(context)
    return context


@asynccontextmanager
async def running(
    command: list[str], folder: Path, port: int, *, user: dict[str, Any] | None = None, **environment: str
) -> AsyncIterator[None]:
    with (folder / f"{Path(command[0]).name}.log").open("w+b") as log:
        process = subprocess.Popen(  # noqa: ASYNC220
            command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, **user or {}
        )
        try:
            await until(lambda: process.poll() is not None or listens(port), 20)
            if process.poll() is not None:
                log.seek(0)
                raise AssertionError(log.read().decode())
            yield
        finally:
            process.terminate()
            await trio.to_thread.run_sync(process.wait)


@asynccontextmanager
async def nginx_with(binary: str, site: str, folder: Path, *changes: tuple[str, str]) -> AsyncIterator[int]:
    """nginx with the text of a site of ``configs/``, changed where it must be; its TLS port."""
    port, plain = free_port(), free_port()
    (folder / "site.conf").write_text(
        given(
            site,
            *changes,
            ("listen 443 ssl;", f"listen {LOOPBACK}:{port} ssl;"),
            ("listen 80;", f"listen {LOOPBACK}:{plain};"),
            (f"/etc/letsencrypt/live/{NAME}/fullchain.pem", str(folder / "cert.pem")),
            (f"/etc/letsencrypt/live/{NAME}/privkey.pem", str(folder / "key.pem")),
        )
    )
    user = "user root; " if os.getuid() == 0 else ""  # or its workers could not enter the test's folder
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 256; }}\nhttp {{ access_log off;\n"
        f"client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n"
        f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\ninclude {folder}/site.conf; }}\n"
    )
    async with running([binary, "-c", str(folder / "nginx.conf"), "-p", str(folder)], folder, port):
        yield port


@asynccontextmanager
async def streaming(port: int, trust: ssl.SSLContext, token: str, **resume: Any) -> AsyncIterator[Peer]:
    """A peer that has subscribed, by TLS and from a page of the public name. ``resume``: ``since`` and ``epoch``."""
    tcp = await trio.open_tcp_stream(LOOPBACK, port)
    tls = trio.SSLStream(tcp, trust, server_hostname=NAME, https_compatible=True)
    async with tcp, trio.open_nursery() as nursery:
        origin = [("Origin", f"https://{NAME}")]
        connection = await trio_websocket.wrap_client_stream(
            nursery, tls, NAME, "/api/notifications/ws", extra_headers=origin
        )
        peer = Peer(connection)
        assert await peer.hear() == {"type": "auth_required"}
        await peer.say(type="auth", token=token)
        await peer.say(type="subscribe_jobs", stats=False, **resume)
        peer.subscribed = await peer.hear_until("jobs_subscribed")
        yield peer
        await connection.aclose()
        nursery.cancel_scope.cancel()


async def asked(port: int, trust: ssl.SSLContext, *lines: str, body: bytes = b"") -> tuple[int, str, bytes]:
    """One request over TLS to the public name: status, head, body."""
    tcp = await trio.open_tcp_stream(LOOPBACK, port)
    async with trio.SSLStream(tcp, trust, server_hostname=NAME, https_compatible=True) as stream:
        fixed = [f"Host: {NAME}", "Connection: close", f"Content-Length: {len(body)}"]
        await stream.send_all("\r\n".join([*lines, *fixed, "", ""]).encode() + body)
        raw = b""
        with trio.fail_after(20):
            while chunk := await stream.receive_some(65536):
                raw += chunk
    head, _, rest = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode().lower(), rest
