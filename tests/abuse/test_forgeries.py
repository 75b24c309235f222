"""Tokens that are not quite ours, against the listening server: one and the same answer, whatever is wrong with them.

What each check finds is tested in ``tests/unit/test_auth.py`` and ``tests/integration/test_issuer.py`` (others' keys);
that nothing is told after a token's end, in ``tests/integration/test_stream*.py`` and ``test_tokens.py``.
"""

import json
import time
from collections.abc import Iterator

import pytest

from jobctl import auth
from tests.abuse.target import CLOSE, SECRET, TEXT, Answer, Http, Target, Wire, close, text
from tests.forgeries import Forger

UNSENDABLE = 40_000
"""Longer ones do not come through as a header, nor do they tell anything then: the head is refused, 431."""


@pytest.fixture(scope="session")
def forger() -> Forger:
    return Forger(SECRET, time.time())


def registered(target: Target) -> Iterator[tuple[str, str]]:
    """API tokens that once were good, or look like one that is."""
    with Http(target) as http:
        made = http.ask("POST", "/api/tokens", target.token(), b'{"name":"forged","days":30}').json["data"]
        revoked = http.ask("POST", "/api/tokens", target.token(), b'{"name":"revoked"}').json["data"]
        assert http.ask("DELETE", "/api/tokens/revoked", target.token()).status == 200
    yield "revoked", revoked["token"]
    day = 86400.0
    for name, changed in {
        "an id that is another's": {"subject": "root"},
        "an id with another role": {"role": "admin"},
        "an id that lives longer": {"ttl": 60 * day},
        "an id that there is not": {"token_id": made["jti"][:-1] + "x"},
        "a long life without an entry": {"token_id": None},
    }.items():
        fields = {"subject": "forged", "role": "user", "ttl": 20 * day, "token_id": made["jti"]} | changed
        yield name, auth.mint(SECRET, **fields)  # type: ignore[arg-type]


@pytest.fixture
def forgeries(target: Target, forger: Forger) -> Iterator[dict[str, str]]:
    with Http(target) as http:
        assert http.ask("GET", "/api/jobs", forger.good).status == 200, "the one that they are made from is good"
        yield {**forger.forgeries(), **dict(registered(target))}
        http.ask("DELETE", "/api/tokens/forged", target.token())


def told(answer: Answer) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    own = {"x-request-id", "x-ratelimit-remaining", "x-ratelimit-reset", "date"}
    return answer.status, answer.body, tuple(pair for pair in answer.headers.items() if pair[0] not in own)


def test_the_rest_api_tells_no_forgery_from_another(
    unharmed: Target, forgeries: dict[str, str], forger: Forger
) -> None:
    answers, sent = {}, 0
    with Http(unharmed) as http:
        for name, token in forgeries.items():
            raw = token.encode("utf-8", "surrogatepass")
            if any(byte < 0x20 for byte in raw) or token.strip() in ("", forger.good) or len(raw) > UNSENDABLE:
                continue
            sent += 1
            for path in ("/api/jobs", "/api/tokens", "/api/nothing"):
                http.send(b"GET %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n" % (path.encode(), raw))
                answers.setdefault(told(http.answer()), f"{name} at {path}")
        http.send(b"GET /api/jobs HTTP/1.1\r\nHost: x\r\n\r\n")
        answers.setdefault(told(http.answer()), "none at all")
    assert sent >= 100
    assert len(answers) == 1, answers
    ((status, body, _),) = answers
    assert (status, json.loads(body)["detail"]) == (401, "Invalid or expired token")


@pytest.mark.parametrize("renewing", [False, True], ids=["first", "renewing"])
def test_the_stream_tells_no_forgery_from_another(
    unharmed: Target, forgeries: dict[str, str], renewing: bool
) -> None:
    answers, sent, unreadable = {}, 0, list[str]()
    for name, token in forgeries.items():
        message = text(json.dumps({"type": "auth", "token": token}))
        if len(message) > UNSENDABLE:
            continue  # a message too big for anybody: 1009
        sent += 1
        with (Wire.signed_in if renewing else Wire.opened)(unharmed) as wire:
            wire.send(message)
            first = wire.frame()
            if renewing and first is not None and json.loads(first[1])["type"] == "error":
                unreadable.append(name)  # no text at all, so no token: as any message that makes no sense
                continue
            answers.setdefault((first, wire.frame(), wire.frame()), name)
    assert unreadable == (["a lone surrogate"] if renewing else [])
    assert sent >= 110
    assert len(answers) == 1, answers
    ((said, closed, end),) = answers
    assert said is not None
    assert said[0] == TEXT
    assert json.loads(said[1]) == {"type": "auth_failed", "message": "Invalid or expired token"}
    assert closed == (CLOSE, (4401).to_bytes(2, "big") + b"unauthorized")
    assert end is None


def test_a_token_is_not_taken_from_anywhere_else(unharmed: Target) -> None:
    good = unharmed.token()
    places = {
        "query": f"GET /api/jobs?token={good} HTTP/1.1\r\nHost: x\r\n\r\n",
        "another query": f"GET /api/jobs?access_token={good} HTTP/1.1\r\nHost: x\r\n\r\n",
        "cookie": f"GET /api/jobs HTTP/1.1\r\nHost: x\r\nCookie: jobctl={good}; jobctl_refresh={good}\r\n\r\n",
        "another header": f"GET /api/jobs HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {good}\r\n\r\n",
        "the proxy's header": f"GET /api/jobs HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer {good}\r\n\r\n",
        "basic": f"GET /api/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {good}\r\n\r\n",
        "the target": f"GET http://{good}@x/api/jobs HTTP/1.1\r\nHost: x\r\n\r\n",
    }
    with Http(unharmed) as http:
        for place, request in places.items():
            http.send(request.encode())
            assert http.answer().status == 401, place
    with Wire.opened(unharmed, UPGRADE_WITH.replace(b"TOKEN", good.encode())) as wire:
        wire.send(text(json.dumps({"type": "subscribe_jobs"})))
        assert [wire.heard(), wire.heard()] == ["auth_failed", 4401], "signing in is a message of its own"
        wire.send(close())


UPGRADE_WITH = (
    b"GET /api/notifications/ws?token=TOKEN HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n"
    b"Cookie: jobctl_refresh=TOKEN\r\nSec-WebSocket-Protocol: TOKEN\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
