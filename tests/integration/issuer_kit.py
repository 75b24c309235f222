"""An external issuer: its keys, its tokens, and the app beside it. Import the fixtures by name."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from rest_kit import SECRET, Api, handlers
from rest_kit import token as local_token  # noqa: F401
from sign_in_kit import store  # noqa: F401

from jobctl.access.access import open_access
from jobctl.auth_settings import Auth
from jobctl.settings import Settings
from jobctl.store.sqlite import SqliteStore
from jobctl.web.app import App, Web, create_app
from tests.kit import LOOPBACK

ISSUER = "https://login.example/"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


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
