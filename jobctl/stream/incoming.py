"""What clients say: frames put together to messages, within the limit, and the close codes for those that break it."""

from collections.abc import Iterator

from wsproto import events as ws
from wsproto.connection import Connection as Parser
from wsproto.connection import ConnectionType
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from jobctl.protocol import close_codes, messages
from jobctl.protocol.close_codes import Close


class TooBig(Exception):
    """A message is longer than allowed."""


class Incoming:
    """Puts messages together from frames, within the limit; control events pass through."""

    __slots__ = ("_parser", "_parts", "_size")

    def __init__(self) -> None:
        self._parser = Parser(ConnectionType.SERVER)
        self._parts: list[str] = []
        self._size = 0

    def events(self, data: bytes) -> Iterator[ws.Event | str | None]:
        """What ``data`` completes: whole text messages as str, binary ones as None, everything else as it is."""
        self._parser.receive_data(data)
        for event in self._parser.events():
            if not isinstance(event, ws.Message):
                yield event
                continue
            self._size += _bytes_of(event.data)
            if self._size > messages.MAX_MESSAGE:
                raise TooBig
            if isinstance(event.data, str) and event.data:  # an empty piece costs nothing, also not here
                self._parts.append(event.data)
            if event.message_finished:
                yield "".join(self._parts) if isinstance(event.data, str) else None
                self._parts, self._size = [], 0


def fault(error: RemoteProtocolError | LocalProtocolError) -> Close:
    """The close code for bytes that are not the protocol: 1002, or 1007 for text that is not UTF-8."""
    hint = error.event_hint if isinstance(error, RemoteProtocolError) else None
    code = int(hint.code) if isinstance(hint, ws.CloseConnection) else close_codes.PROTOCOL_ERROR.code
    return close_codes.TABLE.get(code, close_codes.PROTOCOL_ERROR)


def _bytes_of(data: str | bytes | bytearray) -> int:
    return len(data) if not isinstance(data, str) or data.isascii() else len(data.encode())


def echo(code: int) -> Close:
    """The close to answer a client's close with."""
    return Close(int(code) if code and code != 1005 else 1000, "", False)
