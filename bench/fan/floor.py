"""The floor: as little as a server of one thread can do. It lets people in, and sends to each with one ``send``.

Run as ``python -m bench.fan.floor ORDER.json``; see ``order``.
"""

import base64
import hashlib
import select
import socket
import sys
import time
from pathlib import Path
from typing import Final

import jwt
import msgspec

from bench.conversation import say
from bench.fan.order import Command, Done, Order, Ready
from bench.fan.speaking import CONNECTED, GREETING, SUBSCRIBED
from jobctl.stream import frames

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BACKLOG: Final = 4096


class Floor:
    """Everybody who has come, and where they are in the conversation."""

    def __init__(self, order: Order) -> None:
        self._secret = order.secret
        self._frame = frames.text(order.payload.encode())
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(0, select.EPOLLIN)
        self._sockets: dict[int, socket.socket] = {}
        self._heard: dict[int, bytes] = {}
        self._wanted = False  # an answer, once nobody is there

    def run(self) -> None:
        """Until stdin ends."""
        say(Ready(self._listener.getsockname()[1]))
        while True:
            for fd, _ in self._epoll.poll():
                if fd == 0:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    self._obey(msgspec.json.decode(line, type=Command))
                elif fd == self._listener.fileno():
                    self._accept()
                else:
                    self._hear(fd)

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets[sock.fileno()] = sock
                self._heard[sock.fileno()] = b""
                self._epoll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            pass

    def _hear(self, fd: int) -> None:
        sock = self._sockets[fd]
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._epoll.unregister(fd)
            del self._sockets[fd]
            sock.close()
            self._say_if_empty()
        elif data.startswith(b"GET "):
            key = data.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            accepted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
            sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n" + frames.text(GREETING)
            )
        elif b'"auth"' in data:  # the mask is 0
            token = data.partition(b'"token":"')[2].partition(b'"')[0].decode()
            jwt.decode(token, self._secret, algorithms=["HS256"], audience="jobctl")
            sock.sendall(frames.text(CONNECTED))
        else:
            sock.sendall(frames.text(SUBSCRIBED))

    def _obey(self, command: Command) -> None:
        if command.empty:
            self._wanted = True
            self._say_if_empty()
            return
        data = self._frame * command.batch
        sends = [sock.send for sock in self._sockets.values()]
        start = time.monotonic()
        for n in range(command.flushes):
            time.sleep(max(0.0, start + n / command.rate - time.monotonic()))
            for send in sends:
                send(data)
        say(Done())

    def _say_if_empty(self) -> None:
        if self._wanted and not self._sockets:
            self._wanted = False
            say(Done())


if __name__ == "__main__":
    Floor(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)).run()
