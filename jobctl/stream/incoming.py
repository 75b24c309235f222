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

    __slots__ = ("_parser", "_size", "_text")

    def __init__(self) -> None:
        self._parser = Parser(ConnectionType.SERVER)
        self._text = bytearray()  # not the pieces: an object for each character would be thirty times its size
        self._size = 0

    def events(self, data: bytes) -> Iterator[ws.Event | bytes | None]:
        """What ``data`` completes: whole text messages as UTF-8, binary ones as None, everything else as it is."""
        self._parser.receive_data(data)
        for event in self._parser.events():
            if not isinstance(event, ws.Message):
                yield event
                continue
            piece = event.data.encode() if isinstance(event.data, str) else event.data
            self._size += len(piece)
            if self._size > messages.MAX_MESSAGE:
                raise TooBig
            if isinstance(event.data, str):
                self._text += piece
            if event.message_finished:
                yield bytes(self._text) if isinstance(event.data, str) else None
                self._text, self._size = bytearray(), 0


def fault(error: RemoteProtocolError | LocalProtocolError) -> Close:
    """The close code for bytes that are not the protocol: 1002, or 1007 for text that is not UTF-8."""
    hint = error.event_hint if isinstance(error, RemoteProtocolError) else None
    code = int(hint.code) if isinstance(hint, ws.CloseConnection) else close_codes.PROTOCOL_ERROR.code
    return close_codes.TABLE.get(code, close_codes.PROTOCOL_ERROR)


def echo(code: int) -> Close:
    """The close to answer a client's close with."""
    return Close(int(code) if code and code != 1005 else 1000, "", False)
