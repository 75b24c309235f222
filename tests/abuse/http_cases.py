"""Requests that two servers in a row could read differently, and what ours makes of each.

Either it is refused and the connection closed, or there is one way to read it, and that is taken. What hides in a
request never becomes one: ``SMUGGLED`` would stand in the server's log.
"""

from typing import Final

JOB: Final = b'{"name":"noop"}'
CHUNKED: Final = b"f\r\n" + JOB + b"\r\n0\r\n\r\n"
SMUGGLED: Final = b"GET /api/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
MARK: Final = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
"""The next request of a connection that goes on."""
LENGTH: Final = b"Content-Length: 15"
CODED: Final = b"Transfer-Encoding: chunked"

Cases = dict[str, tuple[bytes, tuple[int, ...]]]
"""What is sent, and the statuses until the connection is closed or ``MARK`` is answered (with 200, the last)."""


def job(*lines: bytes, body: bytes = JOB, version: bytes = b"1.1", end: bytes = b"\r\n") -> bytes:
    """A job that is enqueued where the body is read as ``JOB``; ``AUTH`` stands for the token."""
    head = [b"POST /api/jobs HTTP/" + version, b"Host: x", b"AUTH", *lines, b"", b""]
    return end.join(head) + body


def get(*lines: bytes, target: bytes = b"/healthz", method: bytes = b"GET", body: bytes = b"") -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: x", *lines, b"", b""]) + body


def refused(sent: bytes, status: int = 400) -> tuple[bytes, tuple[int, ...]]:
    return sent + SMUGGLED, (status,)


def read(sent: bytes, status: int = 201) -> tuple[bytes, tuple[int, ...]]:
    return sent + MARK, (status, 200)


FRAMING: Final[Cases] = {
    "a length and a coding": refused(job(LENGTH, CODED, body=CHUNKED)),
    "a coding and a length": refused(job(CODED, LENGTH, body=CHUNKED)),
    "a coding and no length at all": refused(job(CODED, b"Content-Length: 0", body=CHUNKED)),
    "a length of the coded body": refused(job(b"Content-Length: 26", CODED, body=CHUNKED)),
    "a length that ends early": refused(job(b"Content-Length: 6", CODED, body=b"0\r\n\r\n")),
    "a length that hides the next": refused(job(CODED, b"Content-Length: 50", body=b"0\r\n\r\n")),
    "a coding in HTTP/1.0": refused(job(CODED, version=b"1.0", body=CHUNKED)),
    "a coding in HTTP/1.0 that would go on": refused(
        job(CODED, b"Connection: keep-alive", version=b"1.0", body=CHUNKED)
    ),
    "two codings": refused(job(CODED, CODED, body=CHUNKED), 501),
    "two codings, one unknown": refused(job(CODED, b"Transfer-Encoding: x", body=CHUNKED), 501),
    **{
        f"the coding {coding!r}": refused(job(b"Transfer-Encoding: " + coding, body=CHUNKED), 501)
        for coding in (
            b"identity", b"xchunked", b"chunkedx", b"chunked;x", b"chunked, identity", b"identity, chunked",
            b"gzip, chunked", b"chunked, chunked", b'"chunked"', b"'chunked'", b"chun ked", b"", b",chunked",
            b"chunked,", b"cow", b"\xe9chunked", b"chunked\x7f",
        )
    },
    "a coding after a control character": refused(job(b"Transfer-Encoding: \x0bchunked", body=CHUNKED)),
    "a coding before a control character": refused(job(b"Transfer-Encoding: chunked\x0c", body=CHUNKED)),
    "a coding with a NUL": refused(job(b"Transfer-Encoding: chunked\0", body=CHUNKED)),
    "a space before the colon": refused(job(b"Transfer-Encoding : chunked", body=CHUNKED)),
    "a tab before the colon": refused(job(b"Transfer-Encoding\t: chunked", body=CHUNKED)),
    "a space before the name": refused(
        b"POST /api/jobs HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: x\r\nAUTH\r\n\r\n" + CHUNKED
    ),
    "a NUL in the name": refused(job(b"Transfer\0-Encoding: chunked", body=CHUNKED)),
    "a coding behind a bare CR": refused(job(b"X: y\r" + CODED, body=CHUNKED)),
    "a coding in other cases": read(job(b"tRANSFER-eNCODING: CHUNKED", body=CHUNKED)),
    "a coding without a space": read(job(b"Transfer-Encoding:chunked", body=CHUNKED)),
    "a coding after a tab": read(job(b"Transfer-Encoding:\tchunked\t ", body=CHUNKED)),
    "a coding on a folded line": read(job(b"Transfer-Encoding:\r\n chunked", body=CHUNKED)),
    "a coding inside a folded value": read(job(LENGTH, b"X: y\r\n Transfer-Encoding: chunked")),
    "a coding by another name": read(job(LENGTH, b"Transfer_Encoding: chunked", b"X-Transfer-Encoding: chunked")),
    "a coding in a value": read(job(LENGTH, b"X: Transfer-Encoding: chunked")),
    "a length twice, the same": read(job(LENGTH, LENGTH)),
    "a length as a list of the same": read(job(b"Content-Length: 15, 15")),
    "a length with zeros": read(job(b"Content-Length: 00015")),
    "two lengths": refused(job(LENGTH, b"Content-Length: 16")),
    "a length twice, written differently": refused(job(LENGTH, b"Content-Length: 015")),
    **{
        f"the length {length!r}": refused(job(b"Content-Length: " + length))
        for length in (
            b"15, 16", b"+15", b"-15", b"-0", b"1 5", b"15;", b"0xf", b"f", b"1e1", b"15.0", b"", b"15,", b",15",
            b"\xef\xbc\x91\xef\xbc\x95", b"15\x0b", b"15\0", b"9" * 21, b"9" * 400, b"1_5", b"NaN",
        )
    },
}  # fmt: skip

CHUNKS: Final[Cases] = {
    "an extension": read(job(CODED, body=CHUNKED.replace(b"f\r\n", b"f;name=value\r\n", 1))),
    "a quoted extension": read(job(CODED, body=CHUNKED.replace(b"f\r\n", b'f;name="a;b"\r\n', 1))),
    "a long extension": read(job(CODED, body=CHUNKED.replace(b"f\r\n", b"f;" + b"x" * 10_000 + b"\r\n", 1))),
    "an extension on the last": read(job(CODED, body=CHUNKED.replace(b"0\r\n", b"0;last\r\n", 1))),
    "spaces after the size": read(job(CODED, body=CHUNKED.replace(b"f\r\n", b"f  \r\n", 1))),
    "zeros before the size": read(job(CODED, body=CHUNKED.replace(b"f\r\n", b"000F\r\n", 1))),
    "a chunk a byte": read(job(CODED, body=b"".join(b"1\r\n%c\r\n" % byte for byte in JOB) + b"0\r\n\r\n")),
    "trailers": read(job(CODED, body=CHUNKED[:-2] + b"X-Sum: 1\r\nY: 2\r\n\r\n")),
    "trailers that would frame": read(job(CODED, body=CHUNKED[:-2] + b"Content-Length: 99\r\n\r\n")),
    "trailers that would sign in": (
        b"POST /api/jobs HTTP/1.1\r\nHost: x\r\n" + CODED + b"\r\n\r\n" + CHUNKED[:-2] + b"AUTH\r\n\r\n" + MARK,
        (401, 200),
    ),
    **{
        f"the size {size!r}": refused(job(CODED, body=CHUNKED.replace(b"f\r\n", size + b"\r\n", 1)))
        for size in (
            b"0xf", b"-f", b"+f", b" f", b"g", b"", b";", b"f,", b"1 5", b"f\0", b"f\x0b", b"\xef\xbc\x91", b"f\rx",
            b"1_5", b"f" * 21,
        )
    },
    "a size that ends in a bare LF": refused(job(CODED, body=CHUNKED.replace(b"f\r\n", b"f\n", 1))),
    "an extension with a bare LF": refused(job(CODED, body=CHUNKED.replace(b"f\r\n", b"f;a\nb\r\n", 1))),
    "other bytes after a chunk": refused(job(CODED, body=b"f\r\n" + JOB + b"xx0\r\n\r\n")),
    "a bare LF after a chunk": refused(job(CODED, body=b"f\r\n" + JOB + b"\n0\r\n\r\n")),
    "a chunk longer than it says": refused(job(CODED, body=b"e\r\n" + JOB + b"\r\n0\r\n\r\n")),
    "a request where trailers stand": refused(job(CODED, body=CHUNKED[:-2])),
    "trailers that are none": refused(job(CODED, body=CHUNKED[:-2] + b"no trailer\r\n\r\n")),
}  # fmt: skip

HEADS: Final[Cases] = {
    "bare LFs": read(b"GET /healthz HTTP/1.1\nHost: x\n\n", 200),
    "a folded line": read(get(b"X: a\r\n b\r\n\tc"), 200),
    "many headers": read(get(*[b"X-%d: y" % n for n in range(2000)]), 200),
    "an absolute target of another host": read(get(target=b"http://elsewhere.example/healthz"), 200),
    "a body of a GET": read(get(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), 200),
    "a chunked body of a GET": read(get(CODED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), 200),
    "a body of a DELETE": read(
        get(b"Content-Length: %d" % len(SMUGGLED), target=b"/api/jobs/x", method=b"DELETE", body=SMUGGLED), 401
    ),
    "an upgrade to another protocol, with a body": read(
        get(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED), 200
    ),
    "the end, and more": (get(b"Connection: close") + SMUGGLED, (200,)),
    "HTTP/1.0, and more": (b"GET /healthz HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" + SMUGGLED, (200,)),
    "two spaces": refused(b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tabs": refused(b"GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n"),
    "a space after the version": refused(b"GET /healthz HTTP/1.1 \r\nHost: x\r\n\r\n"),
    "a space in the target": refused(get(target=b"/healthz /x")),
    "no version": refused(b"GET /healthz\r\nHost: x\r\n\r\n"),
    "a version in small letters": refused(b"GET /healthz http/1.1\r\nHost: x\r\n\r\n"),
    "another protocol": refused(b"GET /healthz HTTPS/1.1\r\nHost: x\r\n\r\n"),
    "version 1.10": refused(b"GET /healthz HTTP/1.10\r\nHost: x\r\n\r\n"),
    "version 0.9": refused(b"GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    "version 9.9": refused(b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", 505),
    "an empty line first": refused(b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a NUL in the target": refused(get(target=b"/health\0z")),
    "DEL in the target": refused(get(target=b"/health\x7fz")),
    "a NUL in a value": refused(get(b"X: a\0b")),
    "a bare CR in a value": refused(get(b"X: a\rb")),
    "a bare CR that ends a line": refused(b"GET /healthz HTTP/1.1\rHost: x\r\n\r\n"),
    "a line without a colon": refused(get(b"X")),
    "a name with a space": refused(get(b"X Y: z")),
    "no name": refused(get(b": x")),
    "a name that is not ASCII": refused(get(b"X\xe9: y")),
    "a method with a colon": refused(get(method=b"GE:T")),
    "no host": refused(b"GET /healthz HTTP/1.1\r\n\r\n"),
    "two hosts": refused(b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    "two hosts in other cases": refused(b"GET /healthz HTTP/1.1\r\nHost: x\r\nhOST: y\r\n\r\n"),
    "a small method": refused(get(method=b"get"), 501),
    "CONNECT": refused(get(method=b"CONNECT", target=b"x:80"), 501),
    "an authority as target": refused(get(target=b"x:80")),
    "a head without end": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 200_000, (431,)),
    "a target without end": (b"GET /" + b"x" * 200_000, (431,)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), (400,)),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", (400,)),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
    "the preface of HTTP/2 and a path that is not ASCII": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + "/é€".encode() * 20,
        (505,),
    ),
    "a flood of priorities": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + b"".join(b"\0\0\5\2\0\0\0%c%c\0\0\0\0\1" % divmod(n, 256) for n in range(3, 4003, 2)),
        (505,),
    ),
}  # fmt: skip
