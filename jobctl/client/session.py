"""The API over ``http.client``: blocking, one kept connection, and quick to import.

For commands that make a call or two: ``http.client`` is imported in 25 ms, httpx2 in 110 ms, trio in 180 ms.
What to send and what an answer means is ``client.api``'s business, as it is for the async client.
"""

import http.client
import math
import random
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar

from jobctl.client import api
from jobctl.client.address import Address
from jobctl.errors import ClientError, SignInFailed, Unanswered, Unreachable, WaitTimeout

T = TypeVar("T")

TIMEOUT_S: Final = 60.0
"""For one answer: a full group commit of a large batch on a slow disk stays far below it."""


class Session:
    """Calls to one server. Use as a context manager.

    Args:
        address: Where.
        token: Gives the token; called again, once, when the server refuses it.
        patience: Seconds for which a lost connection is tried again; a first connection that fails is reported at once,
            unless ``from_start``.
        from_start: Try a first connection again too: the server may be about to come back.
        timeout: Seconds for one answer.
        deadline: On the clock of ``time.monotonic``; no call goes on beyond it.
        sleep: Waits so many seconds.
        tell: Is told, once, why an answer is so long in coming.
    """

    def __init__(
        self,
        address: Address,
        token: Callable[[], str],
        *,
        patience: float = 30.0,
        from_start: bool = False,
        timeout: float = TIMEOUT_S,
        deadline: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._address = address
        self._token = token
        self._patience = patience
        self._timeout = timeout
        self._deadline = math.inf if deadline is None else deadline
        self._sleep = sleep
        self._tell = tell
        self._bearer: str | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._reached = from_start
        self.requests = 0
        """HTTP requests answered so far."""
        self.uncertain = False
        """The last call has been sent, and not been answered: whether it was carried out nobody knows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def get(self, call: api.Call[T]) -> T:
        """Send ``call``, decode the answer's value."""
        return api.decode(call, self.send(call))

    def send(self, call: api.Call[Any]) -> api.Answer:
        """Send ``call`` until it is answered, as its own rules and the patience allow.

        Raises:
            Unreachable: no answer; ``Unanswered``, where it came to a connection and to no more.
            SignInFailed: the server refuses the token, and a fresh one.
            ApiError: the server refuses the call.
            WaitTimeout: the deadline has come.
        """
        give_up = time.monotonic() + self._patience
        tries, renewed, self.uncertain = 0, False, False
        while True:
            tries += 1
            try:
                return self._once(call)
            except SignInFailed:
                stale, self._bearer = self._bearer, None
                if renewed or stale == self._bearer_token():
                    raise
                renewed = True
            except ClientError as error:
                delay = api.retry_delay(call, error, tries, random.random())  # noqa: S311 - jitter, not a secret
                if delay is None or not self._reached or time.monotonic() + delay > give_up:
                    raise
                if time.monotonic() + delay > self._deadline:
                    raise WaitTimeout(str(error)) from None
                if tries > 1 and self._tell is not None:  # a single failure is over before it is read
                    left = min(give_up, self._deadline) - time.monotonic()
                    self._tell(f"{error}; trying again for {left:.0f} s")
                    self._tell = None
                self._sleep(delay)

    def probe(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower-case names) and body of a GET without a token. Raises ``Unreachable``."""
        return self._exchange("GET", path, None, {})

    def ready(self) -> bool:
        """Whether the server says that it is ready."""
        try:
            status, _, _ = self.probe("/readyz")
        except Unreachable:
            return False
        return status == 200

    def _once(self, call: api.Call[Any]) -> api.Answer:
        headers = {"Authorization": f"Bearer {self._bearer_token()}", **dict(call.headers)}
        status, found, body = self._exchange(call.method, call.path, call.body, headers)
        self._reached = True
        self.requests += 1
        return api.parse(status, found, body)

    def _bearer_token(self) -> str:
        if self._bearer is None:
            self._bearer = self._token()
        return self._bearer

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        connected = False
        left = self._deadline - time.monotonic()
        try:
            connection = self._connect(max(0.001, min(self._timeout, left)))
            connected = self.uncertain = True
            connection.request(method, self._address.prefix + path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            if isinstance(error, TimeoutError) and (connected or left < self._timeout):
                raise self._silence(left) from None
            raise Unreachable(f"cannot reach {self._address}: {_reason(error)}") from None
        except BaseException:  # Ctrl-C in the middle of an answer: the connection is of no more use
            self._drop()
            raise
        self.uncertain = response.status >= 500 and response.status != 503  # of a proxy, perhaps
        if response.will_close:
            self._drop()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kept = self._connection
        if kept is not None:
            if kept.sock is not None and not _can_be_read(kept.sock):
                kept.sock.settimeout(timeout)
                return kept
            self._drop()  # an idle connection that can be read from has been closed by the server
        host, port = self._address.host, self._address.port
        kind = http.client.HTTPSConnection if self._address.secure else http.client.HTTPConnection
        fresh = kind(host, port, timeout=timeout)
        try:
            fresh.connect()
        except TimeoutError:
            if fresh.sock is None:
                raise
            fresh.close()
            raise self._silence(timeout) from None  # in the middle of TLS's handshake
        self._connection = fresh
        return fresh

    def _silence(self, left: float) -> ClientError:
        if left < self._timeout:  # the deadline was nearer
            return WaitTimeout(f"no answer from {self._address}")
        return Unanswered(f"{self._address} accepts connections but does not answer within {self._timeout:g} s")

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _can_be_read(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:  # select() itself takes no descriptor above 1,023
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException):
        return "the connection was closed in the middle of an answer"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
