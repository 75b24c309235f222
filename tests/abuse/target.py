"""A ``jobctl serve`` in a process of its own, and bare sockets to attack it with."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from jobctl import auth

ROOT = Path(__file__).parents[2]
SECRET = b"the secret of the server that is attacked"
STREAM = "/api/notifications/ws"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PATIENCE_S = 20.0
"""Longer than anything here takes; what reaches it has failed."""
UPGRADE = (
    f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
).encode()
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Target:
    """A running server, its process and its log."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        self.port = 0
        self._bystander: Wire | None = None

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path, *words: str, config: str = "", app: str = "") -> Iterator[Self]:
        """Serve until the end of the block; ``app`` is the source of its handlers."""
        (folder / "jobctl.toml").write_text(f'accept_unknown = true\ndurability = "normal"\n{config}')
        (folder / "attacked.py").write_text(app)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBCTL_", "PYTEST"))}
        own = {"PYTHONPATH": str(ROOT), "JOBCTL_SECRET": SECRET.decode(), "JOBCTL_STATE_DIR": str(folder / "state")}
        words = ("serve", "--config", "jobctl.toml", "--port", "0", "--app", "attacked", *words)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobctl", *words], cwd=folder, env=kept | own, stdout=log, stderr=log
            )
        target = cls(folder, process)
        try:
            target.port = target._listening()
            yield target
        finally:
            if target._bystander is not None:
                target._bystander.close()
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _listening(self) -> int:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.process.poll() is None:
            for line in self.log().splitlines():
                if "jobctl listens on" in line:
                    return int(line.partition("http://127.0.0.1:")[2].split()[0])
            time.sleep(0.02)
        raise AssertionError(self.log())

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def token(self, subject: str = "root", role: str = "admin", **more: Any) -> str:
        return auth.mint(SECRET, subject=subject, role=role, **more)

    def memory(self) -> int:
        """Resident bytes of the process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def assert_alive(self) -> None:
        """Somebody who has been here all along is still served."""
        assert self.process.poll() is None, self.log()
        if self._bystander is None:
            self._bystander = Wire.signed_in(self)
        self._bystander.send(text('{"type":"ping"}'))
        assert self._bystander.said() == "pong"

    def assert_well(self) -> None:
        """And so is somebody new."""
        self.assert_alive()
        with Http(self) as http:
            http.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert http.answer().status == 200


class Bare:
    """A TCP connection."""

    def __init__(self, target: Target, buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(("127.0.0.1", target.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes, *, chop: int = 0) -> None:
        """Send; in pieces of ``chop`` bytes where it is given. Whether the other side still listens is its business."""
        pieces = [data[at : at + chop] for at in range(0, len(data), chop)] if chop else [data]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self.sock.sendall(piece)

    def more(self) -> bool:
        """Read what there is; False at the end."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return False
        self.unread += data
        return bool(data)

    def take(self, size: int) -> bytes | None:
        """Exactly so many bytes; None where the other side has closed before."""
        while len(self.unread) < size:
            if not self.more():
                return None
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def until(self, mark: bytes) -> bytes | None:
        """All up to and with ``mark``; None where the other side has closed before."""
        while mark not in self.unread:
            if not self.more():
                return None
        at = self.unread.index(mark) + len(mark)
        data, self.unread = self.unread[:at], self.unread[at:]
        return data

    def rest(self) -> bytes:
        """All until the other side closes."""
        while self.more():
            pass
        data, self.unread = self.unread, b""
        return data


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Http(Bare):
    """Requests as bytes."""

    def answer(self) -> Answer:
        """The next response; ``EOFError`` where there is none."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            raise EOFError(self.unread)
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        body = b""
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self._needed(self.until(b"\r\n")), 16):
                body += self._needed(self.take(size + 2))[:-2]
            self._needed(self.take(2))
        elif status not in (204, 304) and status >= 200:
            body = self._needed(self.take(int(headers["content-length"])))
        return Answer(status, headers, body)

    @staticmethod
    def _needed(data: bytes | None) -> bytes:
        if data is None:
            raise EOFError
        return data

    def ask(self, method: str, path: str, token: str = "", body: bytes = b"", **headers: str) -> Answer:
        """One well-formed request and its answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.answer()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x37\xfa\x21\x3d",
    form: int | None = None, declared: int | None = None,
) -> bytes:  # fmt: skip
    """A client's frame, right or wrong.

    Args:
        rsv: The three reserved bits.
        mask: None sends it unmasked.
        form: How the length is written: 7, 16 or 64 bits; None is the shortest that there is.
        declared: The length that is written; None is the payload's.
    """
    size = len(payload) if declared is None else declared
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    short = {7: size, 16: 126, 64: 127}[form]
    head = bytes([fin << 7 | rsv << 4 | opcode, (0x80 if mask is not None else 0) | short])
    head += {7: b"", 16: size.to_bytes(2, "big") if form == 16 else b"", 64: b""}[form]
    if form == 64:
        head += size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


def text(payload: str | bytes) -> bytes:
    """A whole text message."""
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    """A close frame; None has no body."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


Heard = str | bytes | int
"""What comes from the server: the ``type`` of a message, the payload of a pong, or the code of a close."""


class Wire(Bare):
    """A stream connection of which nothing is hidden."""

    @classmethod
    def opened(cls, target: Target, upgrade: bytes = UPGRADE) -> Self:
        """After the handshake and ``auth_required``."""
        wire = cls(target)
        wire.send(upgrade)
        head = wire.until(b"\r\n\r\n")
        assert head is not None
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert wire.heard() == "auth_required"
        return wire

    @classmethod
    def signed_in(cls, target: Target, token: str | None = None) -> Self:
        wire = cls.opened(target)
        wire.send(text(json.dumps({"type": "auth", "token": token or target.token()})))
        assert wire.heard() == "connected"
        return wire

    def frame(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next frame; None at the end."""
        head = self.take(2)
        if head is None:
            return None
        assert head[0] & 0xF0 == 0x80, "a server's frames are whole and without reserved bits"
        size = head[1]
        assert size < 0x80, "a server's frames are not masked"
        if size >= 126:
            size = int.from_bytes(self.take(2 if size == 126 else 8) or b"", "big")
        payload = self.take(size)
        assert payload is not None, "the end in the middle of a frame"
        return head[0] & 0x0F, payload

    def heard(self) -> Heard | None:
        """The next thing that the server says; None at the end. Its heartbeat is answered."""
        found = self.frame()
        while found is not None and found[0] == PING:
            self.send(frame(PONG, found[1]))
            found = self.frame()
        if found is None:
            return None
        opcode, payload = found
        if opcode == TEXT:
            return str(json.loads(payload)["type"])
        if opcode == PONG:
            return payload
        assert opcode == CLOSE, opcode
        payload[2:].decode()
        return int.from_bytes(payload[:2], "big")

    def said(self) -> Heard | None:
        """The next thing, apart from the server's own counts."""
        while (heard := self.heard()) == "job_stats_update":
            pass
        return heard

    def message(self) -> dict[str, Any] | None:
        """The next message, whole; None when the server closes."""
        while (found := self.frame()) is not None:
            if found[0] == TEXT:
                told: dict[str, Any] = json.loads(found[1])
                return told
            if found[0] == CLOSE:
                return None
        return None

    def say(self, **message: Any) -> None:
        self.send(text(json.dumps(message)))
