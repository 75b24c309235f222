"""The keys of an external issuer: when they are fetched, and what becomes of tokens where they cannot be."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from issuer_kit import EC, ED, KEYS, OTHER_RSA, RSA, At, Issuer, at, issuer, jwk, settings, signed  # noqa: F401
from rest_kit import SECRET, Api, handlers  # noqa: F401
from rest_kit import token as local_token  # noqa: F401
from sign_in_kit import store  # noqa: F401

from jobctl.access import keys
from jobctl.access.access import open_access
from jobctl.access.keys import parse_keys
from jobctl.errors import ConfigError
from jobctl.store.sqlite import SqliteStore
from tests.kit import StartServer

# --- keys ----------------------------------------------------------------------------------------------------------


async def test_an_unknown_kid_is_asked_for_once_a_minute(
    store: SqliteStore, issuer: Issuer, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = At(store, issuer)
    await nursery.start(at.access.run)
    await at.access.fetch_keys()
    assert issuer.asked == 1
    fresh = signed(OTHER_RSA, kid="r2")
    issuer.show(*KEYS, jwk(OTHER_RSA, kid="r2"))
    for _ in range(5):
        assert await at.status(fresh) == 401, "not a minute has passed"
    assert issuer.asked == 1
    assert await at.status(signed()) == 200
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    keyset._not_before = trio.current_time()  # a minute has passed
    answers: list[int] = []

    async def ask(token: str) -> None:
        answers.append(await at.status(token))

    async with trio.open_nursery() as asking:
        for _ in range(6):
            asking.start_soon(ask, fresh)
        for number in range(6):
            asking.start_soon(ask, signed(OTHER_RSA, kid=f"made-up-{number}"))
    assert sorted(answers) == [200] * 6 + [401] * 6
    assert issuer.asked == 2
    for number in range(20):
        assert await at.status(signed(OTHER_RSA, kid=f"more-{number}")) == 401
    assert issuer.asked == 2
    assert keys.AT_MOST_EVERY_S == 60


async def test_who_asks_and_leaves_does_not_keep_others_from_fresh_keys(at: At, issuer: Issuer) -> None:
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    issuer.show(*KEYS, jwk(OTHER_RSA, kid="r2"))
    issuer.gate = trio.Event()
    keyset._not_before = trio.current_time()
    with trio.move_on_after(0.02):
        await at.status(signed(OTHER_RSA, kid="made-up"))
    issuer.gate.set()
    assert await at.status(signed(OTHER_RSA, kid="r2")) == 200
    assert issuer.asked == 2


async def test_a_key_that_was_taken_back_is_forgotten_with_what_it_signed(at: At, issuer: Issuer) -> None:
    token = signed()
    assert await at.status(token) == 200
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    issuer.show(jwk(EC, kid="e1"))
    keyset._not_before = trio.current_time()
    await keyset.refresh()
    assert await at.status(token) == 401
    assert await at.status(signed(EC, "ES256", "e1")) == 200


@pytest.mark.parametrize("kid", ["r1", None])
async def test_a_key_that_was_replaced_under_its_name_takes_what_it_signed_along(
    at: At, issuer: Issuer, kid: str | None
) -> None:
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    issuer.show(jwk(RSA) if kid is None else jwk(RSA, kid=kid))
    keyset._not_before = trio.current_time()
    await keyset.refresh()
    token = signed(kid=kid)
    assert await at.status(token) == 200
    issuer.show(jwk(OTHER_RSA) if kid is None else jwk(OTHER_RSA, kid=kid))
    keyset._not_before = trio.current_time()
    await keyset.refresh()
    assert await at.status(token) == 401
    assert await at.status(signed(OTHER_RSA, kid=kid)) == 200


OTHERS = json.dumps({"keys": [jwk(OTHER_RSA, kid="r2")]}).encode()
"""Would be good keys, if the answer were."""


@pytest.mark.parametrize(
    ("body", "status", "more"),
    [
        (OTHERS, "500 Internal Server Error", ()),
        (b"nonsense", "200 OK", ()),
        (b"[]", "200 OK", ()),
        (b'{"keys":{}}', "200 OK", ()),
        (b"[" * 100_000, "200 OK", ()),
        (OTHERS + b" " * keys.MAX_BYTES, "200 OK", ()),
        (OTHERS, "302 Found", ("Location: https://evil.example/keys",)),
        (b"\x1f\x8b\x08", "200 OK", ("Content-Encoding: gzip",)),
    ],
)
async def test_while_the_issuer_fails_the_keys_that_are_here_stay(
    at: At, issuer: Issuer, caplog: pytest.LogCaptureFixture, body: bytes, status: str, more: Any
) -> None:
    issuer.respond(body, status, *more)
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    keyset._not_before = trio.current_time()
    await keyset.refresh()
    assert issuer.asked == 2
    assert "cannot fetch the issuer's keys" in caplog.text
    assert await at.status(signed()) == 200


async def test_an_issuer_that_does_not_answer_holds_nobody_up_for_long(
    at: At, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(keys, "WAIT_S", 60.0)
    issuer.gate = trio.Event()
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    keyset._not_before = trio.current_time()
    with trio.fail_after(20):
        assert await at.status(signed(OTHER_RSA, kid="new")) == 401
    assert await at.status(signed()) == 200


def test_of_a_key_set_only_keys_for_signatures_that_are_strong_enough_are_used() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    usable = [jwk(RSA, kid="r1"), jwk(EC, kid="e1"), jwk(ED, kid="d1"), jwk(RSA, kid="only", alg="RS256")]
    not_usable: list[Any] = [
        {"kty": "oct", "kid": "hs", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"},
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["encrypt"]),
        jwk(RSA, alg="RSA-OAEP"),
        jwk(RSA, alg="HS256"),
        jwk(RSA, alg=["RS256"]),
        jwk(RSA, kid=7),
        jwk(weak),
        jwk(ec.generate_private_key(ec.SECP256K1())),
        {"kty": "RSA"},
        {"kty": "RSA", "n": "AQAB", "e": 1},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": ["RSA"]},
        {},
    ]
    found = parse_keys(json.dumps({"keys": not_usable + usable}).encode())
    assert [each.kid for each in found] == ["r1", "e1", "d1", "only"]
    assert found[1].algorithms == {"ES256"}
    assert found[3].algorithms == {"RS256"}
    assert not any(each.startswith("HS") for key in found for each in key.algorithms)
    assert len(parse_keys(json.dumps({"keys": [jwk(EC)] * 500}).encode())) == keys.MAX_KEYS


def test_a_private_key_that_an_issuer_shows_by_mistake_is_read_as_its_public_one() -> None:
    private = jwt.algorithms.RSAAlgorithm.to_jwk(RSA, as_dict=True)
    assert "d" in private
    (found,) = parse_keys(json.dumps({"keys": [private | {"key_ops": ["sign", "verify"]}]}).encode())
    assert isinstance(found.key, rsa.RSAPublicKey)


async def test_without_a_kid_the_only_key_that_fits_is_taken(at: At, issuer: Issuer) -> None:
    assert await at.status(signed(kid=None)) == 200
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    issuer.show(*KEYS, jwk(OTHER_RSA, kid="r2"))
    keyset._not_before = trio.current_time()
    await keyset.refresh()
    assert await at.status(signed(kid=None, jti="x2")) == 401, "two would fit"


# --- settings and the stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"algorithms": ["HS256"]}, "algorithms"),
        ({"algorithms": ["RS256", "none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"issuer": None}, "jwks_url needs issuer"),
        ({"audience": None, "roles": {}}, "audience and roles"),
        ({"roles": {"ops": "root"}}, "roles"),
        ({"jwks_url": "http://login.example/keys"}, "https"),
        ({"jwks_url": "http://127.0.0.1.evil.example/keys"}, "https"),
        ({"jwks_url": "file:///etc/keys"}, "URL"),
        ({"jwks_url": "https://"}, "URL"),
        ({"jwks_url": "https://u:p@login.example/"}, "URL"),
        ({"jwks_url": "https://[::1/"}, "URL"),
        ({"max_lifetime": 0}, "max_lifetime"),
    ],
)
def test_a_setting_that_would_open_the_door_too_far_is_refused(changed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings("https://login.example/keys", **changed)


@pytest.mark.parametrize("url", ["http://localhost:1/k", "http://127.0.0.2/k", "http://[::1]:9/k", "https://l.example/k"])
def test_keys_come_over_https_or_from_this_machine(url: str) -> None:
    assert settings(url).jwks_url == url


async def test_without_the_package_for_it_the_start_says_what_to_install(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwt.algorithms, "has_crypto", False)
    with pytest.raises(ConfigError, match=r"pip install 'jobctl\[jwks\]'"):
        open_access(store, SECRET, settings("https://login.example/keys"))


async def test_the_stream_takes_the_issuers_tokens_and_fetches_a_key_for_one(
    start_server: StartServer, issuer: Issuer
) -> None:
    server = await start_server(auth=settings(issuer.url).model_dump())
    keyset = server.service.access._issuer.keys  # type: ignore[union-attr]
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=signed())
        assert (await peer.hear())["type"] == "connected"
    issuer.show(*KEYS, jwk(OTHER_RSA, kid="r2"))
    keyset._not_before = trio.current_time()
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=signed(OTHER_RSA, kid="r2"))
        assert (await peer.hear())["type"] == "connected"
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=signed(OTHER_RSA, kid="r3"))
        assert (await peer.hear())["type"] == "auth_failed"
        assert (await peer.closed())[0] == 4401


async def test_who_is_on_the_stream_comes_back_when_the_issuer_takes_a_key_back(
    start_server: StartServer, issuer: Issuer
) -> None:
    server = await start_server(auth=settings(issuer.url).model_dump())
    keyset = server.service.access._issuer.keys  # type: ignore[union-attr]
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=signed())
        assert (await peer.hear())["type"] == "connected"
        issuer.show(jwk(EC, kid="e1"))
        keyset._not_before = trio.current_time()
        await keyset.refresh()
        assert (await peer.closed())[0] == 1001
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=signed())
        assert (await peer.hear())["type"] == "auth_failed"
