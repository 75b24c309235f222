"""Somebody else's HTTP server on the loopback, and an engine that sends to it. Import the fixtures by name."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from engine_kit import Engine, engine

from jobctl.engine.registry import Handler, Registry
from jobctl.engine.webhooks import Webhook
from jobctl.settings import WebhookSettings

SECRET = "a secret of the webhook's own"


class Receiver:
    """An HTTP server that answers every request with the same bytes, and keeps what came."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0
        self.open = 0
        self.hang = False

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.open += 1
        try:
            raw = b""
            while b"\r\n\r\n" not in raw:
                raw += (chunk := bytes(await stream.receive_some()))
                if not chunk:
                    return
            head, _, body = raw.partition(b"\r\n\r\n")
            line, *lines = head.decode().split("\r\n")
            headers = {key.lower(): value for key, _, value in (each.partition(": ") for each in lines)}
            while len(body) < int(headers["content-length"]):
                body += bytes(await stream.receive_some())
            self.requests.append((line, headers, body))
            if self.hang:
                await stream.receive_some()
            else:
                await stream.send_all(self.answer)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    def says(self, status: int, body: bytes | str = b"", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else body.encode()
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Length: {len(raw)}",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        self.answer = "\r\n".join([*lines, "", ""]).encode() + raw


@pytest.fixture
async def receiver(nursery: trio.Nursery) -> Receiver:
    found = Receiver()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    found.port = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, found.serve, [listener])
    return found


def hook(url: str, **settings: Any) -> Webhook:
    return Webhook.build("hook", WebhookSettings(**{"url": url, "secret": SECRET, "allow_private": True} | settings))


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, receiver: Receiver, nursery: trio.Nursery) -> AsyncIterator[Start]:
    """Starts an engine whose handler ``hook`` sends to the receiver; drained at the end."""
    stop, stopped = trio.Event(), trio.Event()

    async def hold(registry: Registry, task_status: trio.TaskStatus[Engine]) -> None:
        async with engine(tmp_path, registry) as running:
            task_status.started(running)
            await stop.wait()
        stopped.set()

    async def begin(webhook: Webhook | None = None) -> Engine:
        webhook = webhook or hook(f"http://127.0.0.1:{receiver.port}/jobs?a=1")
        running: Engine = await nursery.start(hold, Registry([Handler("hook", "webhook", (), webhook=webhook)]))
        return running

    yield begin
    stop.set()
    await stopped.wait()
