"""One who watches: subscribes to everything and reads it. ``python -m bench.queues.watcher PORT``, the token on stdin.

It says when it is subscribed, and only counts bytes from then on, so that it costs as little as a reader can.
"""

import socket
import sys
from typing import Final

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, Request, TextMessage

from bench.queues.load import HOST, Caller
from jobctl.protocol import messages

PATH: Final = "/api/notifications/ws"
READY: Final = b'{"subscribed":true}\n'


def main(port: int, token: str) -> None:
    """Read until the server goes."""
    sock, _ = subscribe(port, token)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    sock.settimeout(None)
    while sock.recv(1 << 20):
        pass


def subscribe(port: int, token: str) -> tuple[socket.socket, WSConnection]:
    """A stream of everything, from now on."""
    sock = Caller(port).sock
    ws = WSConnection(ConnectionType.CLIENT)
    sock.sendall(ws.send(Request(host=HOST, target=PATH)))
    said: dict[type[object], messages.Message] = {
        messages.AuthRequired: messages.Auth(token=token), messages.Connected: messages.SubscribeJobs(),
    }  # fmt: skip
    while True:
        ws.receive_data(sock.recv(65536) or None)
        for event in ws.events():
            told = _told(event)
            if isinstance(told, messages.JobsSubscribed):
                return sock, ws
            if (answer := said.get(type(told))) is not None:
                sock.sendall(ws.send(TextMessage(messages.encode(answer).decode())))


def _told(event: Event) -> messages.Message | None:
    if isinstance(event, TextMessage):
        return messages.decode_server(event.data)
    if isinstance(event, AcceptConnection):
        return None
    raise SystemExit(f"watcher: {event}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.readline().strip())
