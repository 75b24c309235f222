"""Behind nginx with upstream keep-alive: one upstream connection carries HTTP first and then a stream."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio_websocket

from tests.kit import LOOPBACK, Peer, Running, until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

CONF = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream jobctl {{ server 127.0.0.1:{upstream}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://jobctl;
            proxy_http_version 1.1;
            proxy_set_header Host $host:{port};
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


@pytest.fixture
async def proxy(server: Running, tmp_path: Path) -> AsyncIterator[int]:
    """nginx before the server; its port."""
    if NGINX is None:
        if os.environ.get("CI"):
            pytest.fail("nginx is needed in CI")
        pytest.skip("nginx is not installed")
    with socket.socket() as free:
        free.bind((LOOPBACK, 0))
        port: int = free.getsockname()[1]
    conf = tmp_path / "nginx.conf"
    conf.write_text(CONF.format(folder=tmp_path, upstream=server.port, port=port))
    process = subprocess.Popen([NGINX, "-c", str(conf), "-p", str(tmp_path)], stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        await until(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        await trio.to_thread.run_sync(process.wait)


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), 1).close()
    except OSError:
        return False
    return True


async def test_http_and_the_stream_share_an_upstream_connection(server: Running, proxy: int) -> None:
    import httpx2

    headers = {"Authorization": f"Bearer {server.token()}"}
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{proxy}", headers=headers) as http:
        for _ in range(5):
            assert (await http.get("/api/jobs")).status_code == 200
            stream = await trio.open_tcp_stream(LOOPBACK, proxy)
            async with stream, trio.open_nursery() as nursery:
                connection = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,
                    f"{LOOPBACK}:{proxy}",
                    "/api/notifications/ws",
                    extra_headers=[("Origin", f"http://{LOOPBACK}:{proxy}")],
                )
                peer = Peer(connection)
                assert await peer.hear() == {"type": "auth_required"}
                await peer.say(type="auth", token=server.token())
                await peer.say(type="subscribe_jobs", stats=False)
                await peer.hear_until("jobs_subscribed")
                answer = await http.post("/api/jobs", content=json.dumps({"name": "noop"}))
                assert answer.status_code == 201
                update = await peer.hear()
                assert update["job"]["id"] == answer.json()["data"]["id"]
                await connection.aclose()
                nursery.cancel_scope.cancel()
