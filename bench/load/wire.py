"""What TCP carried on a socket, as the kernel counted it (TCP_INFO)."""

import socket
import struct
import sys
from typing import Final, NamedTuple, Protocol

_SIZE: Final = 256
_RECEIVED: Final = 128
_SENT: Final = 200
"""Offsets in ``struct tcp_info`` of linux/tcp.h: ``tcpi_bytes_received`` (Linux 4.1) and ``tcpi_bytes_sent`` (4.19)."""


class Wire(NamedTuple):
    """Bytes of TCP payload, what was sent again included."""

    sent: int
    received: int


class Carrier(Protocol):
    """A connection of a client, and the application bytes that it has carried so far."""

    sock: socket.socket
    sent: int
    received: int


def wire_bytes(sock: socket.socket) -> Wire | None:
    """What an open TCP socket has carried; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:
        return None
    if len(info) < _SENT + 8:
        return None
    return Wire(struct.unpack_from("=Q", info, _SENT)[0], struct.unpack_from("=Q", info, _RECEIVED)[0])
