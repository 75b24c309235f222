"""Who may come in, now: what a token says about itself, and whether it still stands.

``jobctl.auth`` and ``access.issuer`` check signatures, claims and times; that does not change while a token lives,
so what they find may be remembered. Whether it stands does: API tokens must be registered, and nobody comes in with
what was revoked. That is asked each time, of memory. Memory is fed from commits before anybody else hears of them, so
that what follows a revocation in the log, even in the same transaction, does not reach who was revoked.
"""

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

import trio

from jobctl import auth
from jobctl.access.codes import Codes
from jobctl.access.issuer import ExternalIssuer
from jobctl.access.keys import KeySet
from jobctl.access.sessions import Sessions
from jobctl.auth_settings import Auth
from jobctl.errors import StoreUnavailable, Unauthorized
from jobctl.events import AccessEnded, Commit, TokenIssued
from jobctl.model import Identity
from jobctl.store.base import Store

log = logging.getLogger("jobctl.access")

REMEMBER_S: Final = auth.ACCESS_TTL_S + 60
"""How long a revocation is remembered: by then every access token has expired by itself."""
HOUR_MS: Final = 3_600_000
"""How exactly the last use of a token is noted, and so how often at most."""
TOUCH_EVERY_S: Final = 1.0


class Access:
    """One per server.

    Args:
        store: Tokens and sessions, and the commits that change them. Listens from now on.
        secret: Signs.
        verifier: Says what of ours was signed with it, or before it.
        issuer: Whose tokens are taken besides our own.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        secret: bytes,
        *,
        verifier: auth.Verifier | None = None,
        issuer: ExternalIssuer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store.access
        self._secret = secret
        self.key_id = auth.key_id(secret)
        """Of what signs."""
        self.verifier = verifier or auth.Verifier(secret)
        self._issuer = issuer
        self._clock = clock
        self._registered: dict[str, TokenIssued] = {}
        self._used: dict[str, int] = {}  # by jti: the hour that is noted already
        self._ended: dict[str, float] = {}  # by jti or sid: until when to remember, the oldest first
        self._touched: dict[str, int] = {}
        self._touch = trio.Event()
        self.when_ended: Callable[[Collection[str]], None] = lambda _: None
        """Called with what was revoked, on the trio thread, before anybody hears of the commit."""
        self.when_doubted: Callable[[], None] = lambda: None
        """Called when an issuer has taken a key back: whoever came in by its tokens should come in anew."""
        if issuer is not None:
            issuer.keys.when_gone = self._doubt
        self.codes = Codes(clock)
        self.sessions = Sessions(
            store.access,
            lambda: self.verifier.secrets,
            self.codes,
            ended=self._ended.__contains__,
            clock=clock,
        )
        store.listen(self._committed)

    async def start(self) -> None:
        """Take from the store who may come in; before anybody is let in."""
        now = int(self._clock() * 1000)
        for row in await self.store.tokens():
            if row.revoked_at is None and row.expires_at > now:
                self._registered[row.jti] = TokenIssued(row.jti, row.subject, row.role, row.expires_at)
                self._used[row.jti] = row.last_used or 0
        self._end(await self.store.ended_since(now - REMEMBER_S * 1000))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Note when tokens were used, and keep an issuer's keys fresh."""
        async with trio.open_nursery() as nursery:
            if self._issuer is not None:
                nursery.start_soon(self._issuer.keys.run)
            task_status.started()
            while True:
                await self._touch.wait()
                self._touch = trio.Event()
                touched, self._touched = self._touched, {}
                try:
                    await self.store.touch(touched)
                except StoreUnavailable as error:  # a note of last use is not worth more trouble
                    log.debug("cannot note the use of tokens: %s", error)
                await trio.sleep(TOUCH_EVERY_S)

    # --- who a token speaks for ----------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Changes when what ``identify`` has found should be found anew."""
        return 0 if self._issuer is None else self._issuer.keys.generation

    def identify(self, token: str, *, now: float | None = None) -> Identity:
        """Who the token says it speaks for; its signature, claims and times are good. ``check`` it each time.

        Raises:
            Unauthorized: they are not.
            KeysUnknown: it is an issuer's; call ``fetch_keys`` and try again.
        """
        at = self._clock() if now is None else now
        if self._issuer is not None and len(token) <= auth.MAX_TOKEN and auth.algorithm_of(token) != "HS256":
            return self._issuer.verify(token, now=at)
        return self.verifier.verify(token, now=at)

    def check(self, who: Identity) -> None:
        """Whether it still stands. Expiry is the caller's to see.

        Raises:
            Unauthorized: it was revoked, or was never registered.
        """
        if who.token_id in self._ended or who.session in self._ended:
            raise Unauthorized
        if who.registered:
            known = self._registered.get(who.token_id)
            if known is None or (known.subject, known.role) != (who.subject, who.role):
                raise Unauthorized
            if who.expires_at * 1000 > known.expires_at:
                raise Unauthorized
            self._note_use(who.token_id)

    def verify(self, token: str) -> Identity:
        """``identify`` and ``check``."""
        who = self.identify(token)
        self.check(who)
        return who

    async def fetch_keys(self) -> None:
        """Ask the issuer for its keys, if it is time to; returns after a few seconds in any case."""
        if self._issuer is not None:
            await self._issuer.keys.refresh()

    def _doubt(self) -> None:
        self.when_doubted()

    def _note_use(self, jti: str) -> None:
        hour = int(self._clock() * 1000) // HOUR_MS * HOUR_MS
        if self._used.get(jti, 0) < hour:
            self._used[jti] = self._touched[jti] = hour
            self._touch.set()

    # --- who has changed -----------------------------------------------------------------------------------------

    def _committed(self, commit: Commit) -> None:
        if not commit.access:
            return
        ended = []
        for change in commit.access:
            if isinstance(change, AccessEnded):
                ended.append(change.id)
            else:
                self._forget_expired()
                self._registered[change.jti] = change
        if ended:
            self._end(ended)

    def _end(self, ids: Collection[str]) -> None:
        now = self._clock()
        while self._ended and next(iter(self._ended.values())) <= now:
            del self._ended[next(iter(self._ended))]
        for each in ids:
            self._registered.pop(each, None)
            self._used.pop(each, None)
            self._ended.pop(each, None)
            self._ended[each] = now + REMEMBER_S
        self.when_ended(frozenset(ids))

    def _forget_expired(self) -> None:
        now = self._clock() * 1000
        for jti in [each.jti for each in self._registered.values() if each.expires_at <= now]:
            del self._registered[jti]
            self._used.pop(jti, None)

    def mint(self, token: TokenIssued, issued_at: int) -> str:
        """The JWT of a registered token; times are ms."""
        now = issued_at / 1000
        return auth.mint(
            self._secret,
            subject=token.subject,
            role=token.role,
            ttl=token.expires_at / 1000 - now,
            now=now,
            token_id=token.jti,
        )


def open_access(store: Store, secret: bytes, settings: Auth) -> Access:
    """The ``Access`` that the settings ask for.

    Raises:
        ConfigError: an external issuer needs a package that is not installed.
    """
    issuer = None
    if settings.jwks_url is not None:
        issuer = ExternalIssuer(settings, KeySet(settings.jwks_url))
    previous = [each.get_secret_value().encode() for each in settings.previous_secrets]
    return Access(store, secret, verifier=auth.Verifier(secret, previous), issuer=issuer)
