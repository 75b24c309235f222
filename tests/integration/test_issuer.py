"""Tokens of an external issuer: its keys, what its claims are worth here, and everything that must not be believed."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from functools import partial
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from rest_kit import SECRET, Api, handlers
from rest_kit import token as local_token
from sign_in_kit import store

from jobctl.access import keys
from jobctl.access.access import open_access
from jobctl.access.keys import parse_keys
from jobctl.auth_settings import Auth
from jobctl.errors import ConfigError
from jobctl.settings import Settings
from jobctl.store.sqlite import SqliteStore
from jobctl.web.app import App, Web, create_app
from tests.kit import LOOPBACK, StartServer

ISSUER = "https://login.example/"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    kind = {rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm, ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm}
    algorithm = next((each for base, each in kind.items() if isinstance(key, base)), jwt.algorithms.OKPAlgorithm)
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "use": "sig", **more}


KEYS = [jwk(RSA, kid="r1"), jwk(EC, kid="e1"), jwk(ED, kid="d1")]


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    told = {"iss": ISSUER, "aud": "jobctl", "sub": "ann", "role": "dev", "iat": now, "exp": now + 600, "jti": "x1"}
    return {name: value for name, value in (told | changed).items() if value is not None}


def signed(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r1", header: Any = None, **changed: Any) -> str:
    headers = {**({} if kid is None else {"kid": kid}), **(header or {})}
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers=headers)


class Issuer:
    """An HTTP server that has the keys."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.answer = b""
        self.gate: trio.Event | None = None
        self.show(*KEYS)

    def show(self, *shown: Any) -> None:
        self.respond(json.dumps({"keys": shown}).encode())

    def respond(self, body: bytes, status: str = "200 OK", *more: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *more, "", ""]
        self.answer = "\r\n".join(lines).encode() + body

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            self.asked += 1
            if self.gate is not None:
                await self.gate.wait()
            await stream.send_all(self.answer)


@pytest.fixture
async def issuer(nursery: trio.Nursery) -> Issuer:
    issuer = Issuer()
    listeners = await nursery.start(partial(trio.serve_tcp, issuer.serve, 0, host=LOOPBACK))
    issuer.url = f"http://{LOOPBACK}:{listeners[0].socket.getsockname()[1]}/keys"
    return issuer


def settings(url: str, **changed: Any) -> Auth:
    given = {"jwks_url": url, "issuer": ISSUER, "audience": "jobctl", "roles": {"dev": "user", "ops": "admin"}}
    return Auth(**given | changed)


class At:
    """The app with an issuer. Nothing is fetched before ``run``."""

    def __init__(self, store: SqliteStore, issuer: Issuer, **changed: Any) -> None:
        chosen = Settings(auth=settings(issuer.url, **changed))
        self.access = open_access(store, SECRET, chosen.auth)
        registry = handlers()
        app = create_app(Web(store=store, registry=registry, access=self.access, settings=chosen, ready=list))
        assert isinstance(app, App)
        self.api = Api(app, store, registry)

    async def status(self, token: str, target: str = "/api/jobs/stats") -> int:
        return (await self.api.get(target, bearer=token)).status


@pytest.fixture
async def at(store: SqliteStore, issuer: Issuer, nursery: trio.Nursery) -> At:
    at = At(store, issuer)
    await nursery.start(at.access.run)
    await at.access.fetch_keys()
    return at


# --- who comes in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r1"), (EC, "ES256", "e1"), (ED, "EdDSA", "d1")])
async def test_a_token_of_the_issuer_lets_in_whom_it_names(at: At, key: Any, algorithm: str, kid: str) -> None:
    token = signed(key, algorithm, kid)
    job = await at.api.enqueue(token)
    assert job["createdBy"] == "ann"
    assert await at.status(token, "/api/queues") == 403
    assert await at.status(signed(role="ops"), "/api/queues") == 200
    assert await at.status(local_token()) == 200, "our own are good as before"


async def test_the_keys_are_fetched_at_the_start_without_holding_it_up(
    store: SqliteStore, issuer: Issuer, nursery: trio.Nursery
) -> None:
    issuer.gate = trio.Event()
    at = At(store, issuer)
    with trio.fail_after(2):
        await nursery.start(at.access.run)
        assert await at.status(local_token()) == 200
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await at.status(signed()))

    async with trio.open_nursery() as asking:
        for _ in range(5):
            asking.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert answers == []
        issuer.gate.set()
    assert answers == [200] * 5
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("changed", "config", "role"),
    [
        ({"role": "dev"}, {}, "user"),
        ({"role": "ops"}, {}, "admin"),
        ({"role": ["dev", "ops", "x"]}, {}, "admin"),
        ({"role": ["x", "dev", 1, None]}, {}, "user"),
        ({"role": "admin"}, {}, None),
        ({"role": "user"}, {}, None),
        ({"role": "DEV"}, {}, None),
        ({"role": "dev ops"}, {}, None),
        ({"role": []}, {}, None),
        ({"role": None}, {}, None),
        ({"role": 1}, {}, None),
        ({"role": True}, {}, None),
        ({"role": {"dev": 1}}, {}, None),
        ({"scope": "openid dev"}, {"role_claim": "scope"}, "user"),
        ({"scp": "ops x"}, {"role_claim": "scp"}, "admin"),
        ({"realm_access": {"roles": ["ops"]}}, {"role_claim": "realm_access.roles"}, "admin"),
        ({"realm_access": "ops"}, {"role_claim": "realm_access.roles"}, None),
        ({"https://x.example/roles": ["ops"]}, {"role_claim": "https://x.example/roles"}, "admin"),
    ],
)
async def test_only_values_that_are_named_in_the_settings_give_a_role(
    store: SqliteStore, issuer: Issuer, nursery: trio.Nursery, changed: Any, config: Any, role: str | None
) -> None:
    at = At(store, issuer, **config)
    await nursery.start(at.access.run)
    await at.access.fetch_keys()
    token = signed(**changed)
    if role is None:
        assert await at.status(token) == 401
    else:
        assert at.access.verify(token).role == role


@pytest.mark.parametrize(
    ("changed", "subject"),
    [({"email": "a@b.example"}, "a@b.example"), ({"email": ""}, None), ({"email": ["a"]}, None), ({}, None),
     ({"email": "a\nb"}, None), ({"email": "a" * 201}, None)],
)  # fmt: skip
async def test_the_subject_is_the_claim_that_was_chosen(
    store: SqliteStore, issuer: Issuer, nursery: trio.Nursery, changed: Any, subject: str | None
) -> None:
    at = At(store, issuer, subject_claim="email")
    await nursery.start(at.access.run)
    await at.access.fetch_keys()
    if subject is None:
        assert await at.status(signed(**changed)) == 401
    else:
        assert at.access.verify(signed(**changed)).subject == subject


async def test_a_token_of_the_issuer_ends_here_after_an_hour_whatever_it_says(at: At) -> None:
    now = time.time()
    who = at.access.verify(signed(exp=int(now) + 30 * 86400))
    assert who.expires_at == pytest.approx(now + 3600, abs=2)
    assert await at.status(signed(iat=int(now) - 3700, exp=int(now) + 86400)) == 401
    assert at.access.verify(signed(exp=int(now) + 60)).expires_at == pytest.approx(now + 60, abs=2)


# --- what is not believed ------------------------------------------------------------------------------------------


def now() -> int:
    """When a token is made, which may be long after the tests were collected."""
    return int(time.time())


def hs256(secret: bytes, **header: Any) -> str:
    """A token whose MAC is made with ``secret``; PyJWT itself refuses to use a PEM for it."""
    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    head = part({"alg": "HS256", "typ": "JWT", **header}) + b"." + part(claims(role="ops"))
    return (head + b"." + base64.urlsafe_b64encode(hmac.digest(secret, head, hashlib.sha256)).rstrip(b"=")).decode()


DER = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
FORGERIES: dict[str, Any] = {
    "another key under the same kid": lambda: signed(OTHER_RSA),
    "another issuer": lambda: signed(iss="https://evil.example/"),
    "our own issuer": lambda: signed(iss="jobctl"),
    "no issuer": lambda: signed(iss=None),
    "another audience": lambda: signed(aud="other"),
    "no audience": lambda: signed(aud=None),
    "expired": lambda: signed(exp=now() - 1),
    "no expiry": lambda: signed(exp=None),
    "issued in the future": lambda: signed(iat=now() + 600, exp=now() + 900),
    "no time of issue": lambda: signed(iat=None),
    "not yet valid": lambda: signed(nbf=now() + 600),
    "no subject": lambda: signed(sub=None),
    "a public key in the PEM's clothes as the secret": lambda: hs256(PEM),
    "the same, under its kid": lambda: hs256(PEM, kid="r1"),
    "a public key in DER as the secret": lambda: hs256(DER, kid="r1"),
    "the modulus as the secret": lambda: hs256(jwk(RSA)["n"].encode(), kid="r1"),
    "alg none": lambda: jwt.encode(claims(role="ops"), None, algorithm="none", headers={"kid": "r1"}),
    "an algorithm that is not allowed": lambda: signed(RSA, "RS512"),
    "PSS, not allowed": lambda: signed(RSA, "PS256"),
    "EC's algorithm with the RSA key's kid": lambda: signed(EC, "ES256", "r1"),
    "RSA's algorithm with the EC key's kid": lambda: signed(RSA, "RS256", "e1"),
    "a key of its own": lambda: signed(OTHER_RSA, header={"jwk": jwk(OTHER_RSA)}),
    "a kid that is a path": lambda: signed(OTHER_RSA, kid="../../etc/passwd"),
    "an extension": lambda: signed(header={"crit": ["x"], "x": 1}),
    "cut": lambda: signed()[:-6],
    "a part too many": lambda: signed() + ".x",
    "huge": lambda: signed(pad="x" * 9000),
}


@pytest.mark.parametrize("case", FORGERIES)
async def test_whatever_is_wrong_with_it_the_answer_is_the_same(at: At, case: str) -> None:
    answer = await at.api.get("/api/jobs/stats", bearer=FORGERIES[case]())
    assert answer.problem(401, "unauthorized")["detail"] == "Invalid or expired token"


async def test_a_key_that_the_token_points_to_is_never_fetched(at: At, issuer: Issuer, nursery: trio.Nursery) -> None:
    evil = Issuer()
    evil.show(jwk(OTHER_RSA, kid="r1"))
    started = await nursery.start(partial(trio.serve_tcp, evil.serve, 0, host=LOOPBACK))
    url = f"http://{LOOPBACK}:{started[0].socket.getsockname()[1]}/keys"
    for name in ("jku", "x5u"):
        assert await at.status(signed(OTHER_RSA, header={name: url})) == 401
        assert await at.status(signed(OTHER_RSA, kid="new", header={name: url})) == 401
        assert await at.status(signed(OTHER_RSA, kid=url, header={name: url})) == 401
    assert evil.asked == 0


async def test_our_own_tokens_are_not_the_issuers_to_make(at: At) -> None:
    now = int(time.time())
    own = {"iss": "jobctl", "aud": "jobctl", "sub": "root", "role": "admin", "iat": now, "exp": now + 60, "jti": "1"}
    assert await at.status(jwt.encode(own, RSA, algorithm="RS256", headers={"kid": "r1"})) == 401


async def test_an_issuers_token_cannot_stand_for_a_registered_one(at: At, store: SqliteStore) -> None:
    who = at.access.verify(signed(jti="x1", sid="s1"))
    assert (who.token_id, who.session, who.registered) == ("ext:x1", None, False)


async def test_a_sign_in_by_an_issuers_token_ends_with_it(at: At) -> None:
    token = signed(role="ops", exp=int(time.time()) + 600)
    code = (await at.api.post("/api/auth/codes", bearer=token)).data["code"]
    own_page = [("Sec-Fetch-Site", "same-origin")]
    first = await at.api.post("/api/auth/login", {"code": code}, bearer=None, headers=own_page)
    assert first.status == 200
    again = (await at.api.post("/api/auth/codes", bearer=first.data["accessToken"])).data["code"]
    second = await at.api.post("/api/auth/login", {"code": again}, bearer=None, headers=own_page)
    for answer in (first, second):
        keep = re.search(r"Max-Age=(\d+)", dict(answer.pairs)["set-cookie"])
        assert keep is not None
        assert 500 < int(keep[1]) <= 600


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
    issuer.gate = trio.Event()
    keyset = at.access._issuer.keys  # type: ignore[union-attr]
    keyset._not_before = trio.current_time()
    with trio.fail_after(2):
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
