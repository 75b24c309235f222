"""Tokens of an external issuer: what its claims are worth here, and everything that must not be believed."""
# ruff: noqa: F811  (fixtures are imported by name)

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
from issuer_kit import EC, ED, OTHER_RSA, RSA, At, Issuer, at, claims, issuer, jwk, signed  # noqa: F401
from rest_kit import SECRET, Api, handlers  # noqa: F401
from rest_kit import token as local_token
from sign_in_kit import store  # noqa: F401

from jobctl.access import keys
from jobctl.store.sqlite import SqliteStore
from tests.kit import LOOPBACK

PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


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
    store: SqliteStore, issuer: Issuer, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TIMEOUT_S", "WAIT_S"):
        monkeypatch.setattr(keys, name, 60.0)
    issuer.gate = trio.Event()
    at = At(store, issuer)
    with trio.fail_after(20):
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
