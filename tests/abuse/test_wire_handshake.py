"""The opening handshake of RFC 6455 in its variants, right and wrong, against the listening server."""

import base64
import hashlib

import pytest

from tests.abuse.target import KEY, STREAM, Http, Target, Wire

USUAL = {
    "Host": "x",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def request(first: str = f"GET {STREAM} HTTP/1.1", body: bytes = b"", **changed: str | list[str] | None) -> bytes:
    """The usual request with other headers: several of one name, or none of it."""
    names = {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [first]
    for name, value in (USUAL | names).items():
        lines += [f"{name}: {each}" for each in ([value] if isinstance(value, str) else value or ())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


AGREED = {
    "as usual": request(),
    "names in other cases": request().replace(b"Connection", b"cOnNeCtIoN").replace(b"Sec-WebSocket", b"sec-WEBsocket"),
    "values in other cases": request(Connection="uPGRADE", Upgrade="WebSocket"),
    "more spaces": request(Connection=" \t Upgrade \t", Upgrade="  websocket  ", Sec_WebSocket_Key=f"  {KEY} "),
    "several options": request(Connection="keep-alive, Upgrade, x"),
    "several lines of options": request(Connection=["Upgrade", "keep-alive"]),
    "and the other way round": request(Connection=["keep-alive", "Upgrade"]),
    "several upgrades": request(Upgrade="foo, websocket"),
    "several lines of upgrades": request(Upgrade=["websocket", "foo"]),
    "a subprotocol": request(Sec_WebSocket_Protocol="chat"),
    "several subprotocols": request(Sec_WebSocket_Protocol=["chat, superchat", "x"]),
    "an extension": request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
    "several extensions": request(
        Sec_WebSocket_Extensions=["permessage-deflate; server_no_context_takeover", "x-webkit-deflate-frame, foo"]
    ),
    "an extension that is none": request(Sec_WebSocket_Extensions='";;,=\\'),
    "a query": request(f"GET {STREAM}?x=1&y HTTP/1.1"),
    "an absolute target": request(f"GET http://elsewhere.example{STREAM} HTTP/1.1"),
    "its own page": request(Origin="http://x"),
    "an empty body": request(Content_Length="0"),
    "another key": request(Sec_WebSocket_Key=base64.b64encode(bytes(range(16))).decode()),
    "a token in the query": request(f"GET {STREAM}?token=x HTTP/1.1"),
    "a token in the head": request(Authorization="Bearer x"),
    "a name of the host with a port": request(Host="board.example:8000"),
}

REFUSED = {
    "no key": (request(Sec_WebSocket_Key=None), 400),
    "an empty key": (request(Sec_WebSocket_Key=""), 400),
    "a key that is no base64": (request(Sec_WebSocket_Key="!" * 24), 400),
    "a key of 15 bytes": (request(Sec_WebSocket_Key=base64.b64encode(bytes(15)).decode()), 400),
    "a key of 17 bytes": (request(Sec_WebSocket_Key=base64.b64encode(bytes(17)).decode()), 400),
    "a key without its padding": (request(Sec_WebSocket_Key=KEY.rstrip("=")), 400),
    "a key with a space inside": (request(Sec_WebSocket_Key=f"{KEY[:8]} {KEY[8:]}"), 400),
    "a huge key": (request(Sec_WebSocket_Key="A" * 40_000), 400),
    "two keys": (request(Sec_WebSocket_Key=[KEY, KEY]), 400),
    "a key of other letters": (request(Sec_WebSocket_Key="\xe9" * 24), 400),
    "no version": (request(Sec_WebSocket_Version=None), 400),
    "an old version": (request(Sec_WebSocket_Version="8"), 426),
    "version 12": (request(Sec_WebSocket_Version="12"), 426),
    "version 14": (request(Sec_WebSocket_Version="14"), 426),
    "version 013": (request(Sec_WebSocket_Version="013"), 426),
    "version 13.0": (request(Sec_WebSocket_Version="13.0"), 426),
    "an empty version": (request(Sec_WebSocket_Version=""), 426),
    "a list of versions": (request(Sec_WebSocket_Version="13, 8"), 426),
    "two versions": (request(Sec_WebSocket_Version=["13", "8"]), 426),
    "a page elsewhere": (request(Origin="https://evil.example"), 403),
    "a page of no origin": (request(Origin="null"), 403),
    "two origins": (request(Origin=["http://x", "https://evil.example"]), 403),
    "two origins that agree": (request(Origin=["http://x", "http://x"]), 403),
    "an empty origin": (request(Origin=""), 403),
    "no host": (request(Host=None), 400),
    "two hosts": (request(Host=["x", "x"]), 400),
    "no upgrade": (request(Upgrade=None), 401),
    "another upgrade": (request(Upgrade="foo"), 401),
    "a look-alike upgrade": (request(Upgrade="websockets"), 401),
    "no connection": (request(Connection=None), 401),
    "another connection": (request(Connection="keep-alive"), 401),
    "a body": (request(body=b"hello", Content_Length="5"), 401),
    "a chunked body": (request(body=b"0\r\n\r\n", Transfer_Encoding="chunked"), 401),
    "HTTP/1.0": (request(f"GET {STREAM} HTTP/1.0", Connection=["Upgrade", "keep-alive"]), 401),
    "POST": (request(f"POST {STREAM} HTTP/1.1", Content_Length="0"), 401),
    "HEAD": (request(f"HEAD {STREAM} HTTP/1.1"), 401),
    "a slash at the end": (request(f"GET {STREAM}/ HTTP/1.1"), 401),
    "more slashes": (request(f"GET /{STREAM} HTTP/1.1"), 401),
    "an escaped path": (request(f"GET {STREAM[:-2]}%77s HTTP/1.1"), 401),
    "dots in the path": (request(f"GET /api/x/..{STREAM[4:]} HTTP/1.1"), 401),
    "capitals in the path": (request(f"GET {STREAM.upper()} HTTP/1.1"), 404),
    "HTTP/2": (request(f"GET {STREAM} HTTP/2.0"), 505),
    "another HTTP": (request(f"GET {STREAM} HTTP/1.2"), 505),
    "CONNECT": (request(f"CONNECT {STREAM} HTTP/1.1"), 501),
}


@pytest.mark.parametrize("sent", AGREED.values(), ids=AGREED.keys())
def test_a_good_handshake_is_agreed_to_without_extension_or_subprotocol(unharmed: Target, sent: bytes) -> None:
    with Wire(unharmed) as wire:
        wire.send(sent)
        head = wire.until(b"\r\n\r\n")
        assert head is not None
        first, *lines = head.decode("ascii").strip().split("\r\n")
        assert first.startswith("HTTP/1.1 101 ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        key = sent.lower().partition(b"sec-websocket-key:")[2]
        given = sent[len(sent) - len(key) :].partition(b"\r\n")[0].strip()
        accept = base64.b64encode(hashlib.sha1(given + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        assert headers == {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept}
        assert wire.heard() == "auth_required"


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_handshake_is_answered_in_http_and_opens_nothing(unharmed: Target, sent: bytes, status: int) -> None:
    with Http(unharmed) as http:
        http.send(sent)
        head = http.until(b"\r\n\r\n")
        assert head is not None
        assert int(head.split()[1]) == status
        if status in (400, 403, 426):
            assert b"connection: close" in head.lower()
            assert http.rest() == b""
        if status == 426:
            assert b"Sec-WebSocket-Version: 13" in head
