"""A network that fails: packets that are dropped, and a stretch of the way that takes bytes and passes none on."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys
from typing import Final

import trio

from tests.kit import LOOPBACK

DROPS_PACKETS: Final = sys.platform == "linux"
_SO_ATTACH_FILTER: Final = 26
_DROP_ALL: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""BPF, one instruction: return 0, that is, of no packet anything."""


def deafen(sock: socket.socket | trio.socket.SocketType) -> None:
    """Drop every packet that comes to ``sock`` before TCP sees it (Linux): neither data nor acknowledgements count.

    To the other end that is a machine that has lost its power, or a firewall that has forgotten the connection.
    """
    program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))


class Relay:
    """A way to ``port`` that passes bytes on in both directions, but none while it is ``stopped``."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.stopped = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        with trio.socket.socket() as listening:
            await listening.bind((LOOPBACK, 0))
            listening.listen()
            self.port = listening.getsockname()[1]
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    near, _ = await listening.accept()
                    far = trio.socket.socket()  # closed with the other end
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    await far.connect((LOOPBACK, self._target))
                    nursery.start_soon(self._join, near, far)

    async def _join(self, near: trio.socket.SocketType, far: trio.socket.SocketType) -> None:
        with near, far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, near, far)
                nursery.start_soon(self._pass_on, far, near)

    async def _pass_on(self, source: trio.socket.SocketType, to: trio.socket.SocketType) -> None:
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            while data := await source.recv(1024):
                while self.stopped:
                    await trio.sleep(0.02)
                await trio.SocketStream(to).send_all(data)
            to.shutdown(socket.SHUT_WR)
