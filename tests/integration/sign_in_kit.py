"""What the tests of signing in share: the app with a clock to move, and a browser that keeps its cookie."""

import time
from collections.abc import AsyncIterator, Sequence
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from rest_kit import ADMIN, SECRET, Answer, Api, handlers

from jobctl import auth
from jobctl.access.access import Access
from jobctl.settings import Settings
from jobctl.store.sqlite import SqliteStore, open_store
from jobctl.web.app import App, Web, create_app

HOME = "http://127.0.0.1:8000"
COOKIE = "jobctl_refresh_8000"
DAY = 86400.0


class Clock:
    """The present, which can be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def ms(self) -> int:
        return int(self() * 1000)


class SignInApi(Api):
    """The app, who may come in, and the clock of both."""

    access: Access
    clock: Clock


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "jobs.db", state_dir=tmp_path / "state", durability="normal") as store:
        yield store


def build(
    store: SqliteStore, *, secret: bytes = SECRET, previous: Sequence[bytes] = (), **settings: Any
) -> SignInApi:
    """The app over ``store``; settings are given by name."""
    clock = Clock()
    store.clock = clock.ms
    access = Access(store, secret, verifier=auth.Verifier(secret, previous), clock=clock)
    registry = handlers()
    app = create_app(Web(store=store, registry=registry, access=access, settings=Settings(**settings), ready=list))
    assert isinstance(app, App)
    api = SignInApi(app, store, registry)
    api.access, api.clock = access, clock
    return api


@pytest.fixture
def api(store: SqliteStore) -> SignInApi:
    return build(store)


async def make_code(api: Api, **fields: Any) -> str:
    answer = await api.post("/api/auth/codes", fields or None)
    assert answer.status == 201, answer.body
    code: str = answer.data["code"]
    return code


def cookie(answer: Answer) -> Morsel[str] | None:
    """What the answer sets the cookie to."""
    lines = [value for name, value in answer.pairs if name == "set-cookie"]
    assert len(lines) <= 1
    return SimpleCookie(lines[0])[COOKIE] if lines else None


class Browser:
    """A page of the server's own, and the cookie that the browser keeps for it."""

    def __init__(self, api: Api, *, scheme: str = "http") -> None:
        self.api = api
        self.scheme = scheme
        self.refresh_token = ""
        self.access_token = ""

    async def post(self, path: str, body: Any = None, *, headers: Any = None, **more: Any) -> Answer:
        sent = [("Sec-Fetch-Site", "same-origin"), ("Origin", HOME)] if headers is None else list(headers)
        if self.refresh_token:
            sent.append(("Cookie", f"theme=dark; {COOKIE}={self.refresh_token}"))
        answer = await self.api.post(path, body, bearer=None, headers=sent, scheme=self.scheme, **more)
        return self.keep(answer)

    def keep(self, answer: Answer) -> Answer:
        if (morsel := cookie(answer)) is not None:
            self.refresh_token = morsel.value
        if answer.status == 200 and b"accessToken" in answer.body:
            self.access_token = answer.data["accessToken"]
        return answer

    async def login(self, **fields: Any) -> Answer:
        answer = await self.post("/api/auth/login", {"code": await make_code(self.api, **fields)})
        assert answer.status == 200, answer.body
        return answer

    async def refresh(self) -> Answer:
        return await self.post("/api/auth/refresh")

    async def logout(self) -> Answer:
        return await self.post("/api/auth/logout")

    async def works(self) -> bool:
        """Whether the access token is good."""
        status = (await self.api.get("/api/jobs/stats", bearer=self.access_token)).status
        assert status in (200, 401)
        return status == 200


__all__ = ["ADMIN", "Browser", "Clock", "SignInApi", "api", "build", "cookie", "make_code", "store"]
