"""Signing in: one-time codes, and sessions that a browser keeps in a cookie.

The refresh token is only ever in an ``HttpOnly; SameSite=Strict`` cookie for ``/api/auth``. A browser adds cookies by
itself, so what a cookie pays for is answered only to this server's own pages: they say so by ``Sec-Fetch-Site``, or,
where a browser does not send that (plain http to another machine), by ``Origin``. Pages of ``allowed_origins`` may use
the API with a token of their own, never the cookie.
"""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
import trio
from msgspec import Meta
from quart import Quart, Response
from quart_schema import document_request, document_response, operation_id, security_scheme, tag

from jobctl.access.sessions import Grant
from jobctl.auth import is_subject
from jobctl.errors import Forbidden, InvalidInput, RateLimited, Unauthorized
from jobctl.model import SCHEDULE_OWNER, LoginCode, Wire, wire_time
from jobctl.web.answers import data
from jobctl.web.body import decode, media_type
from jobctl.web.identity import Gate
from jobctl.web.openapi import fails
from jobctl.web.ratelimit import RateLimiter, address_key
from jobctl.web.request import ApiRequest, current, signed_in
from jobctl.web.wiring import Web

COOKIE: Final = "jobctl_refresh"
"""Followed by the port, where the address has one: browsers keep cookies by host, whatever the port, and two servers
on one machine would sign each other's users out."""
COOKIE_PATH: Final = "/api/auth"
LOGIN_RATE: Final = (30, 60.0)
"""Codes that one address may try in a minute. They cannot be guessed at any rate; this bounds what trying costs."""

Subject = Annotated[str, Meta(min_length=1, max_length=200, description="1 to 200 printable characters")]
Role = Literal["admin", "user"]


class CodeRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """Whom the code is to sign in; absent: who asks."""

    subject: Subject | None = None
    role: Role | None = None


class LoginRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """A one-time code."""

    code: Annotated[str, Meta(min_length=1, max_length=200)]


class SignedIn(Wire, frozen=True):
    """An access token, and whom it speaks for."""

    access_token: str
    expires_at: str
    subject: str
    role: str


class SignedInAnswer(Wire, frozen=True):
    """Signed in; the refresh token comes as a cookie."""

    data: SignedIn


class CodeAnswer(Wire, frozen=True):
    """The code. It works once, within five minutes."""

    data: LoginCode


class SignedOut(Wire, frozen=True):
    """Whether there was a session to end."""

    ended: bool


class SignedOutAnswer(Wire, frozen=True):
    """The session is over."""

    data: SignedOut


_code = msgspec.json.Decoder(CodeRequest)
_login = msgspec.json.Decoder(LoginRequest)


class SignInRoutes:
    """Codes, login, refresh, logout."""

    def __init__(self, web: Web, gate: Gate) -> None:
        self._access = web.access
        self._gate = gate
        self._limiter = RateLimiter(*LOGIN_RATE)
        self._metrics = web.metrics
        self._always_secure = web.settings.certfile is not None

    def register(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/api/auth/codes", "make_code", self.make_code, methods=["POST"])
        app.add_url_rule("/api/auth/login", "login", self.login, methods=["POST"])
        app.add_url_rule("/api/auth/refresh", "refresh", self.refresh, methods=["POST"])
        app.add_url_rule("/api/auth/logout", "logout", self.logout, methods=["POST"])

    @fails(400, 413, 415, 422)
    @document_response(CodeAnswer, 201)
    @document_request(CodeRequest)
    @operation_id("makeCode")
    @tag(["auth"])
    async def make_code(self) -> Response:
        """Make a one-time code to sign in with, for oneself or (an admin's business) for somebody else.

        A code lives five minutes and works once. What was signed in with it ends when the API token that made it is
        revoked or expires.
        """
        request = signed_in()
        who = request.who
        if not who.is_admin:
            raise Forbidden("codes are made by admins")
        media_type(request)
        raw = await request.body.read()
        asked = decode(_code, raw) if raw else CodeRequest()
        subject = checked_subject(asked.subject or who.subject)
        until = who.expires_at if who.foreign else None  # nobody here could end the sign-in by revoking the token
        text, code = self._access.codes.make(subject, asked.role or who.role, who.session or who.token_id, until)
        told = LoginCode(
            code=text, expires_at=wire_time(int(code.expires_at * 1000)), subject=code.subject, role=code.role
        )
        return _private(data(told, 201))

    @fails(400, 413, 415, 422, 503)
    @document_response(SignedInAnswer)
    @document_request(LoginRequest)
    @operation_id("login")
    @security_scheme([])
    @tag(["auth"])
    async def login(self) -> Response:
        """Sign in with a one-time code.

        The refresh token comes in the cookie `jobctl_refresh` (`jobctl_refresh_8000` at port 8000), for `/refresh` and
        `/logout` only. One address may try 30 codes a minute.
        """
        request = current()
        media_type(request)
        self._count(request)
        asked = decode(_login, await request.body.read())
        return self._signed_in(request, await self._access.sessions.login(asked.code))

    @fails(503)
    @document_response(SignedInAnswer)
    @operation_id("refresh")
    @security_scheme([])
    @tag(["auth"])
    async def refresh(self) -> Response:
        """Get a fresh access token for the session in the cookie of `/login`, and the next cookie.

        A refresh token works once. One that comes back more than a few seconds after it was used ends the whole
        session, its access tokens and its streams. Only this server's own pages are answered.
        """
        request = current()
        token = self._cookie(request)
        if token is None:
            raise Unauthorized
        return self._signed_in(request, await self._access.sessions.refresh(token))

    @fails(503)
    @document_response(SignedOutAnswer)
    @operation_id("logout")
    @security_scheme([])
    @tag(["auth"])
    async def logout(self) -> Response:
        """End the session in the cookie of `/login`, with its access tokens and streams, and clear the cookie."""
        request = current()
        token = self._cookie(request)
        ended = token is not None and await self._access.sessions.logout(token)
        response = _private(data(SignedOut(ended=ended)))
        self._set_cookie(request, response, "", 0)
        return response

    # --- cookies -------------------------------------------------------------------------------------------------

    def _signed_in(self, request: ApiRequest, grant: Grant) -> Response:
        told = SignedIn(
            access_token=grant.access_token,
            expires_at=wire_time(int(grant.expires_at * 1000)),
            subject=grant.subject,
            role=grant.role,
        )
        response = _private(data(told))
        self._set_cookie(request, response, grant.refresh, grant.keep_s)
        return response

    def _set_cookie(self, request: ApiRequest, response: Response, value: str, keep_s: int) -> None:
        response.set_cookie(
            cookie_name(request),
            value,
            max_age=keep_s,
            path=COOKIE_PATH,
            secure=self._always_secure or self._gate.scheme(request) == "https",
            httponly=True,
            samesite="Strict",
        )

    def _cookie(self, request: ApiRequest) -> str | None:
        """The refresh token.

        Raises:
            Forbidden: there is one, but it is not known to be a page of this server that uses it.
        """
        token = request.cookies.get(cookie_name(request))
        if token is not None and not self._gate.is_own_page(request):
            raise Forbidden("the cookie is for this server's own pages (Sec-Fetch-Site or Origin must say so)")
        return token

    def _count(self, request: ApiRequest) -> None:
        verdict = self._limiter.hit(address_key(self._gate.address(request)), trio.current_time())
        if not verdict.allowed:
            request.verdict = verdict
            self._metrics.rate_limited += 1
            raise RateLimited(verdict.retry_after_s)


def cookie_name(request: ApiRequest) -> str:
    """What the cookie is called at the address by which the browser knows this server."""
    try:
        port = urlsplit(f"//{request.headers.get('Host', '')}").port
    except ValueError:
        port = None
    return COOKIE if port is None else f"{COOKIE}_{port}"


def checked_subject(text: str, field: str = "subject") -> str:
    """``text``, if it can be somebody's name.

    Raises:
        InvalidInput: it cannot.
    """
    if not text.isprintable():
        raise InvalidInput(f"{field}: expected 1 to 200 printable characters", field=field)
    if not is_subject(text):
        raise InvalidInput(f"{field}: names that begin with {SCHEDULE_OWNER!r} are of schedules", field=field)
    return text


def _private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
