"""What a client may send over a WebSocket, right and wrong, and what it must hear.

By the classes of the Autobahn test suite (https://github.com/crossbario/autobahn-testsuite). That suite expects an
echo; here a well-formed message is a ``ping``, which is answered by a ``pong``, or one that is not understood, which is
answered by an ``error``.
"""

from collections.abc import Iterator
from typing import NamedTuple

from tests.abuse.target import BINARY, CLOSE, PING, PONG, TEXT, Heard, close, frame, text

KIB = 1024
LIMIT = 64 * KIB
PINGS = '{"type":"ping"}'


class Case(NamedTuple):
    """``sent`` in one piece, or in pieces of ``chop`` bytes; ``hears`` in this order. Without a code it goes on."""

    name: str
    sent: bytes
    hears: tuple[Heard, ...]
    chop: int = 0


def ask(size: int, filler: str = " ") -> bytes:
    """A ``ping`` of so many bytes of JSON."""
    body = PINGS + filler * size
    return body.encode()[:size] if filler == " " else body.encode()


def framing() -> Iterator[Case]:
    """Autobahn 1: lengths at the borders of each form, as text and as binary."""
    for size in (0, 1, 15, 124, 125, 126, 127, 128, 65535, LIMIT):
        heard = "pong" if size >= len(PINGS) else "error"
        yield Case(f"text of {size} bytes", text(ask(size)), (heard,))
        yield Case(f"binary of {size} bytes", frame(BINARY, bytes(size)), ("error",))
        yield Case(f"text of {size} bytes in pieces", text(ask(size)), (heard,), 997 if size > 999 else 1)
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        for size in (LIMIT + 1, LIMIT + 1000):
            yield Case(f"{name} of {size} bytes", frame(opcode, b" " * size), (1009,))
    for mask in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\1\2\3"):
        yield Case(f"mask {mask.hex()}", frame(TEXT, PINGS.encode(), mask=mask), ("pong",))
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        for size, form in ((0, 16), (1, 16), (125, 16), (0, 64), (125, 64), (126, 64), (65535, 64)):
            sent = frame(opcode, ask(size), form=form)
            yield Case(f"{name} of {size} bytes, the length in {form} bits", sent, (1002,))
    for size in (2**63, 2**64 - 1):
        yield Case(f"a length of {size}", frame(TEXT, PINGS.encode(), form=64, declared=size), (1002,))
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG, 0):
        yield Case(f"opcode {opcode} without a mask", frame(opcode, b"\3\xe8", mask=None), (1002,))
    for opcode in (CLOSE, PING, PONG):
        for form in (16, 64):
            name = f"opcode {opcode} of 2 bytes, the length in {form} bits"
            yield Case(name, frame(opcode, b"\3\xe8", form=form), (1002,))


def pings() -> Iterator[Case]:
    """Autobahn 2: pings and pongs."""
    for payload in (b"", b"Hello, world!", bytes((0, 255, 254, 253, 252, 251, 0, 255)), b"\xfe" * 125):
        yield Case(f"ping of {payload[:4]!r}", frame(PING, payload), (payload,))
        yield Case(f"ping of {payload[:4]!r} byte by byte", frame(PING, payload), (payload,), 1)
    for size in (126, 127, 1000, 70_000):
        yield Case(f"ping of {size} bytes", frame(PING, b"\xfe" * size), (1002,))
        yield Case(f"pong of {size} bytes", frame(PONG, b"\xfe" * size), (1002,))
    yield Case("a pong that nobody asked for", frame(PONG), ())
    yield Case("a pong with a payload", frame(PONG, b"unsolicited"), ())
    yield Case("a pong, a ping", frame(PONG, b"unsolicited") + frame(PING, b"p"), (b"p",))
    ten = [b"ping %d" % n for n in range(10)]
    yield Case("ten pings", b"".join(frame(PING, each) for each in ten), tuple(ten))
    yield Case("ten pings byte by byte", b"".join(frame(PING, each) for each in ten), tuple(ten), 1)
    yield Case("a thousand pongs", frame(PONG, b"x" * 125) * 1000, ())


def reserved() -> Iterator[Case]:
    """Autobahn 3 and 4: reserved bits and opcodes; no extension is ever agreed to."""
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            yield Case(f"opcode {opcode}, reserved bits {rsv:03b}", frame(opcode, b"\3\xe8", rsv=rsv), (1002,))
        yield Case(
            f"a continuation with reserved bits {rsv:03b}",
            frame(TEXT, PINGS.encode(), fin=False) + frame(0, b" ", rsv=rsv),
            (1002,),
        )
    yield Case("reserved bits after a good message", text(PINGS) + frame(TEXT, b"x", rsv=4), ("pong", 1002))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"opcode {opcode}", frame(opcode), (1002,))
        yield Case(f"opcode {opcode} with a payload", frame(opcode, b"x" * 64), (1002,))
        yield Case(f"opcode {opcode} after a good message", text(PINGS) + frame(opcode), ("pong", 1002))
        yield Case(f"opcode {opcode} byte by byte", text(PINGS) + frame(opcode, b"x"), ("pong", 1002), 1)


def fragments() -> Iterator[Case]:
    """Autobahn 5: what may be split, and what may stand in between."""
    body = PINGS.encode()
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        yield Case(f"a {name} in two pieces", frame(opcode, b"ab", fin=False) + frame(0, b"cd"), (1002,))
    for at in range(len(body) + 1):
        sent = frame(TEXT, body[:at], fin=False) + frame(0, body[at:])
        yield Case(f"text in two pieces, at {at}", sent, ("pong",))
    pieces = [frame(TEXT if n == 0 else 0, body[n : n + 1], fin=n == len(body) - 1) for n in range(len(body))]
    yield Case("text in fifteen pieces", b"".join(pieces), ("pong",))
    yield Case("text in fifteen pieces, byte by byte", b"".join(pieces), ("pong",), 1)
    between = frame(PING, b"!").join(pieces)
    yield Case("a ping in every gap", between, (b"!",) * 14 + ("pong",))
    yield Case("a ping in every gap, byte by byte", between, (b"!",) * 14 + ("pong",), 1)
    yield Case("a pong in every gap", frame(PONG, b"!").join(pieces), ("pong",))
    yield Case("a close in the gap", pieces[0] + close(1000) + pieces[1], (1000,))
    yield Case("binary in two pieces", frame(BINARY, b"a", fin=False) + frame(0, b"b"), ("error",))
    empty = frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 3
    yield Case("empty pieces around", empty + frame(0, body, fin=False) + frame(0), ("pong",))
    yield Case("nothing but empty pieces", empty + frame(0), ("error",))
    for fin in (True, False):
        yield Case(f"a continuation of nothing, fin {fin}", frame(0, b"x", fin=fin), (1002,))
        yield Case(f"a continuation after the end, fin {fin}", text(PINGS) + frame(0, b"x", fin=fin), ("pong", 1002))
        for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
            sent = frame(TEXT, body[:4], fin=False) + frame(opcode, body[4:], fin=fin)
            yield Case(f"new {name} inside, fin {fin}", sent, (1002,))
            sent = frame(BINARY, b"x", fin=False) + frame(opcode, b"y", fin=fin)
            yield Case(f"new {name} inside binary, fin {fin}", sent, (1002,))
    yield Case("two messages in pieces", b"".join(pieces) * 2, ("pong", "pong"))
    yield Case("a ping that is a piece inside", pieces[0] + frame(PING, b"x", fin=False), (1002,))


GOOD_TEXT = (
    "κόσμε", "\x00", "\x7f", "\x80", "߿", "ࠀ", "￿", "\U00010000", "\U0010ffff", "\ud7ff", "\ue000", "�",
    "\ufdd0\ufffe\uffff\U0001fffe\U0010ffff", "Hello-µ@ßöäüàá-UTF-8!!",
)  # fmt: skip
"""The borders of each length of UTF-8, non-characters too (Autobahn 6.5 to 6.11 and 6.22)."""
BAD_TEXT = {
    "a lone continuation": b"\x80",
    "two lone continuations": b"\xbf\xbf",
    "the overlong slash of 2": b"\xc0\xaf",
    "the overlong NUL of 2": b"\xc0\x80",
    "overlong 7f": b"\xc1\xbf",
    "overlong of 3": b"\xe0\x80\x80",
    "overlong 7ff": b"\xe0\x9f\xbf",
    "overlong of 4": b"\xf0\x80\x80\x80",
    "overlong ffff": b"\xf0\x8f\xbf\xbf",
    "overlong of 5": b"\xf8\x88\x80\x80\x80",
    "overlong of 6": b"\xfc\x84\x80\x80\x80\x80",
    "beyond the last": b"\xf4\x90\x80\x80",
    "far beyond the last": b"\xf7\xbf\xbf\xbf",
    "the first surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x81\xed\xb0\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
    "a cut character of 2": b"\xce ",
    "a cut character of 3": b"\xe2\x82 ",
    "a cut character of 4": b"\xf0\x9f\x98 ",
    "Autobahn's": "κόσμε".encode() + b"\xed\xa0\x80edited",
}


def utf8() -> Iterator[Case]:
    """Autobahn 6: text is UTF-8, wherever it is split, and is refused as soon as it is not."""
    for told in GOOD_TEXT:
        payload = b'{"type":"ping","x":"' + told.encode().replace(b"\0", b"\\u0000") + b'"}'
        name = told.encode("unicode_escape").decode()
        yield Case(f"good {name}", text(payload), ("pong",))
        for at in range(20, len(payload) - 1):
            sent = frame(TEXT, payload[:at], fin=False) + frame(0, payload[at:])
            yield Case(f"good {name} split at {at}", sent, ("pong",))
    long = b'{"type":"ping","x":"' + "κόσμε€😀".encode() + b'"}'
    yield Case("good, byte by byte", text(long), ("pong",), 1)
    ones = b"".join(frame(0 if n else TEXT, long[n : n + 1], fin=False) for n in range(len(long))) + frame(0)
    yield Case("good, in pieces of a byte", ones, ("pong",))
    for name, bad in BAD_TEXT.items():
        payload = b'{"x":"' + bad + b'"}'
        yield Case(f"bad: {name}", text(payload), (1007,))
        yield Case(f"bad: {name}, byte by byte", text(payload), (1007,), 1)
        for at in range(6, 6 + len(bad) + 1):
            sent = frame(TEXT, payload[:at], fin=False) + frame(0, payload[at:])
            yield Case(f"bad: {name}, split at {at}", sent, (1007,))
        yield Case(f"bad: {name}, the message does not end", frame(TEXT, payload, fin=False), (1007,))
        yield Case(f"bad: {name}, the frame does not end", frame(TEXT, payload, declared=5000), (1007,))
    for cut in (b"\xce", b"\xe2\x82", b"\xf0\x9f\x98"):
        yield Case(f"the message ends inside a character, {cut.hex()}", text(b'{"x":"' + cut), (1007,))
    yield Case("binary need not be UTF-8", frame(BINARY, b"\xff\xfe\xed\xa0\x80"), ("error",))


GOOD_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4400, 4999)
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535)
"""Reserved for an end without a code, not given out, or out of range (RFC 6455 section 7.4)."""


def closing() -> Iterator[Case]:
    """Autobahn 7: how a connection is ended."""
    yield Case("close without a body", close(None), (1000,))
    yield Case("close with one byte", frame(CLOSE, b"\3"), (1002,))
    for code in GOOD_CODES:
        yield Case(f"close {code}", close(code), (code,))
    for code in BAD_CODES:
        yield Case(f"close {code}", close(code), (1002,))
        yield Case(f"close {code} with a reason", close(code, b"because"), (1002,))
    yield Case("close with a reason", close(1000, "κόσμε".encode()), (1000,))
    yield Case("close with the longest reason", close(1000, b"x" * 123), (1000,))
    yield Case("close with a longer reason", close(1000, b"x" * 124), (1002,))
    yield Case("close byte by byte", close(1000, b"goodbye"), (1000,), 1)
    for name, bad in BAD_TEXT.items():
        yield Case(f"a reason with {name}", close(1000, bad), (1007,))
    yield Case("a reason that is cut", close(1000, "€".encode()[:2]), (1007,))
    yield Case("close twice", close(1000) + close(1001), (1000,))
    yield Case("a ping after the close", close(1000) + frame(PING, b"late"), (1000,))
    yield Case("a message after the close", close(1000) + text(PINGS), (1000,))
    yield Case("rubbish after the close", close(1000) + b"\xff" * 100, (1000,))
    yield Case("256 KiB after the close", close(1000) + text(b"x" * 256 * KIB), (1000,))
    yield Case("a message, a close", text(PINGS) + close(3000), ("pong", 3000))
    yield Case("a ping, a close", frame(PING, b"x") + close(1001), (b"x", 1001))


def limits() -> Iterator[Case]:
    """Autobahn 9: what is too much is refused once it is too much, however it comes."""
    for size in (16, 64, 1000, 4096):
        whole, rest = divmod(LIMIT - len(PINGS), size)
        fill = frame(0, b" " * size, fin=False) * whole
        begin = frame(TEXT, PINGS.encode(), fin=False)
        yield Case(f"64 KiB in pieces of {size}", begin + fill + frame(0, b" " * rest), ("pong",))
        yield Case(f"a byte more in pieces of {size}", begin + fill + frame(0, b" " * (rest + 1), fin=False), (1009,))
    binary = frame(BINARY, b" ", fin=False) + frame(0, b" " * 4096, fin=False) * 17
    yield Case("binary in pieces, without an end", binary, (1009,))
    euros = "€" * (LIMIT // 3 + 1)
    assert len(euros) < LIMIT < len(euros.encode())
    yield Case("bytes count, not characters", text(euros), (1009,))
    for declared in (LIMIT + 1, 2**30, 2**31, 2**32 + 1, 2**63 - 1):
        sent = frame(TEXT, b" " * (LIMIT + 1), form=64, declared=declared)
        yield Case(f"{declared} bytes are announced, 64 KiB and one come", sent, (1009,))


GROUPS = {group.__name__: list(group()) for group in (framing, pings, reserved, fragments, utf8, closing, limits)}


def unseen() -> Iterator[Case]:
    """The same door, before a token was shown: whatever is said is either broken or not an ``auth``."""
    yield Case("a ping", frame(PING, b"x"), (b"x",))
    yield Case("a pong", frame(PONG, b"x"), ())
    yield Case("binary", frame(BINARY, b"x"), ("auth_failed", 4401))
    yield Case("text", text(PINGS), ("auth_failed", 4401))
    yield Case("nothing", text(""), ("auth_failed", 4401))
    yield Case("half a message", frame(TEXT, b'{"ty', fin=False), ())
    yield Case("no UTF-8", text(b"\xff"), (1007,))
    yield Case("no mask", frame(TEXT, b"x", mask=None), (1002,))
    yield Case("reserved bits", frame(TEXT, b"x", rsv=4), (1002,))
    yield Case("too much", text(b" " * (LIMIT + 1)), (1009,))
    yield Case("2 GiB are announced", frame(TEXT, b" " * (LIMIT + 1), form=64, declared=2**31), (1009,))
    yield Case("too much in pieces", frame(TEXT, b" ", fin=False) + frame(0, b" " * 4096, fin=False) * 17, (1009,))
    yield Case("a close", close(1000), (1000,))
    yield Case("a bad close", close(1005), (1002,))
    yield Case("rubbish", b"\xff" * 100, (1002,))
    yield Case("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (1002,))


BEFORE_SIGN_IN = list(unseen())
