"""API tokens, for admins: for CI and services that run longer than fifteen minutes, and can be shut out at once."""

import secrets
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from quart import Quart, Response
from quart_schema import document_request, document_response, operation_id, tag

from jobctl.errors import Forbidden
from jobctl.events import TokenIssued
from jobctl.model import ApiToken, IssuedToken, Name, Wire, wire_time
from jobctl.store.tokens import NewToken, TokenRow
from jobctl.web.answers import data, tagged
from jobctl.web.body import decode, media_type, query
from jobctl.web.jobs import NoParameters
from jobctl.web.openapi import NotModified, fails
from jobctl.web.request import ApiRequest, signed_in
from jobctl.web.sign_in import Role, Subject, checked_subject
from jobctl.web.wiring import Web

MAX_DAYS: Final = 366
DEFAULT_DAYS: Final = 90
_DAY_MS: Final = 86_400_000


class TokenRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """A token to be issued. It speaks for `subject`, which is its own name unless said otherwise."""

    name: Name
    role: Role = "user"
    days: Annotated[int, Meta(ge=1, le=MAX_DAYS, description="how long it lives")] = DEFAULT_DAYS
    subject: Subject | None = None


class TokenAnswer(Wire, frozen=True):
    """The token's entry."""

    data: ApiToken


class IssuedAnswer(Wire, frozen=True):
    """The token itself, told this once, with its entry."""

    data: IssuedToken


class TokensShown(Wire, frozen=True):
    """Every API token, newest first."""

    tokens: tuple[ApiToken, ...]


class TokensAnswer(Wire, frozen=True):
    """The tokens."""

    data: TokensShown


_decoder = msgspec.json.Decoder(TokenRequest)


class TokenRoutes:
    """Issues, lists and revokes API tokens."""

    def __init__(self, web: Web) -> None:
        self._access = web.access

    def register(self, app: Quart) -> None:
        """Add the routes."""
        app.add_url_rule("/api/tokens", "tokens", self.tokens, methods=["GET"])
        app.add_url_rule("/api/tokens", "issue_token", self.issue, methods=["POST"])
        app.add_url_rule("/api/tokens/<token_id:jti>", "revoke_token", self.revoke, methods=["DELETE"])

    @fails(422, 503)
    @document_response(TokensAnswer)
    @document_response(NotModified, 304)
    @operation_id("tokens")
    @tag(["auth"])
    async def tokens(self) -> Response:
        """List the API tokens; never the tokens themselves.

        `lastUsedAt` is exact to the hour. One that has expired is listed for another 30 days. `secretChanged`: it was
        signed with a secret that is accepted no more.
        """
        request = _admin()
        query(request, NoParameters)
        found = await self._access.store.tokens()
        return tagged(request, {"tokens": [self._shown(row) for row in found]}, None)

    @fails(400, 409, 413, 415, 422, 503)
    @document_response(IssuedAnswer, 201)
    @document_request(TokenRequest)
    @operation_id("issueToken")
    @tag(["auth"])
    async def issue(self) -> Response:
        """Issue an API token. It is shown this once and kept nowhere; 409 where a live one has the name.

        One of the name that a former secret signed, which is accepted no more, is revoked.
        """
        request = _admin()
        media_type(request)
        asked = decode(_decoder, await request.body.read())
        new = NewToken(
            jti=secrets.token_hex(16),
            name=asked.name,
            subject=checked_subject(asked.subject or asked.name),
            role=asked.role,
            created_by=request.who.subject,
            life_ms=asked.days * _DAY_MS,
            key=self._access.key_id,
            accepted=self._access.verifier.key_ids,
        )
        row = await self._access.store.issue(new)
        token = self._access.mint(TokenIssued(row.jti, row.subject, row.role, row.expires_at), row.created_at)
        told = IssuedToken(token=token, **msgspec.structs.asdict(self._shown(row)))
        response = data(told, 201)
        response.headers["Cache-Control"] = "no-store"
        return response

    @fails(404, 503)
    @document_response(TokenAnswer)
    @operation_id("revokeToken")
    @tag(["auth"])
    async def revoke(self, jti: str) -> Response:
        """Revoke an API token, by its `jti` or, while it is live, by its name.

        It is refused from now on, its streams are cut off, and what was signed in with codes that it made ends too.
        """
        _admin()
        return data(self._shown(await self._access.store.revoke(jti)))

    def _shown(self, row: TokenRow) -> ApiToken:
        return ApiToken(
            jti=row.jti,
            name=row.name,
            subject=row.subject,
            role=row.role,
            created_by=row.created_by,
            created_at=wire_time(row.created_at),
            expires_at=wire_time(row.expires_at),
            last_used_at=None if row.last_used is None else wire_time(row.last_used),
            revoked_at=None if row.revoked_at is None else wire_time(row.revoked_at),
            secret_changed=row.key is not None and row.key not in self._access.verifier.key_ids,
        )


def _admin() -> ApiRequest:
    request = signed_in()
    if not request.who.is_admin:
        raise Forbidden("tokens are for admins")
    return request
