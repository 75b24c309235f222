"""Handlers that are somebody else's HTTP server: how a job is sent, and what its answer means.

The body is signed: ``Jobctl-Signature: v1=HMAC-SHA256(secret, timestamp "." body)`` in hex, with the time-stamp in
``Jobctl-Timestamp`` (seconds since the epoch), so that a receiver can refuse forgeries and old requests.

What the answer means:

    2xx                     completed; a JSON body is the result
    429, 503                again, after ``Retry-After`` where there is one
    408, 425, 5xx           again, after the usual backoff; so are time-outs and lost connections
    3xx, any other 4xx      failed for good; redirects are not followed

A connection of its own for each request, on ``h11``: an HTTP client would bring pools, proxies, redirects, cookies and
a resolution of its own, each of which would have to be turned off again.
"""

import email.utils
import hashlib
import hmac
import ipaddress
import logging
import math
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import h11
import msgspec
import trio

from jobctl import __version__
from jobctl.engine.addresses import Forbidden, Resolver, resolve, system_resolver, why_not
from jobctl.engine.context import Run
from jobctl.errors import HandlersFailed
from jobctl.model import MAX_RESULT, Wire, clip
from jobctl.retry import backoff
from jobctl.store.base import Claim, Completed, Failed, Outcome

if TYPE_CHECKING:
    from jobctl.settings import WebhookSettings

CONNECT_S: Final = 10.0
"""For one address, TLS included; a name may have several."""
MAX_ADDRESSES: Final = 4
CHUNK: Final = 16 * 1024
MAX_RETRY_AFTER_S: Final = 7 * 86400.0
"""A receiver that asks for more is asked again in a week."""
_SHOWN: Final = 500
"""Characters of a refusal's body that become part of the job's error."""
_AGAIN: Final = frozenset({408, 425, 429})
_SAYS_WHEN: Final = frozenset({429, 503})
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)(?:([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?|[0-9a-f.]*:[0-9a-f:.]*)")
_TARGET: Final = re.compile(r"[!-~]*")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,4000}[\x21-\x7e])?")
_OURS: Final = frozenset(
    {
        "host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te", "trailer",
        "expect", "keep-alive", "proxy-connection", "jobctl-timestamp", "jobctl-signature",
    }
)  # fmt: skip
"""Headers that are set here, or would change how the request is read."""
_TOO_MUCH: Final = Failed(f"the answer has more than {MAX_RESULT:,} bytes, which no result may have", retry=False)
log = logging.getLogger("jobctl.engine")


class Delivery(Wire, frozen=True):
    """What is sent. ``attempt`` counts from 1."""

    id: str
    name: str
    queue: str
    attempt: int
    max_attempts: int
    created_at: str
    tags: tuple[str, ...]
    data: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, its body read to the end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TooMuch(Exception):
    """The answer's body exceeds what a result may have."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A checked ``[webhooks.NAME]``. ``host`` is without brackets, ``authority`` as in the ``Host`` header."""

    name: str
    host: str
    port: int
    authority: str
    target: str
    secret: bytes
    headers: tuple[tuple[str, str], ...] = ()
    allow_private: bool = False
    tls: ssl.SSLContext | None = None
    resolver: Resolver = system_resolver
    clock: Callable[[], float] = time.time

    @classmethod
    def build(cls, name: str, settings: "WebhookSettings") -> "Webhook":
        """Check and take apart.

        Raises:
            HandlersFailed: the URL or a header is not usable, or the URL names an address that is not allowed.
        """
        where = f"webhooks.{name}"
        try:
            parts = urlsplit(settings.url)
            port = parts.port
        except ValueError:
            raise HandlersFailed(f"{where}: {settings.url!r} is not a URL") from None
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
            raise HandlersFailed(f"{where}: the url is like https://hooks.example/jobs, not {settings.url!r}")
        if "@" in parts.netloc or parts.fragment or port == 0 or not _TARGET.fullmatch(parts.path + parts.query):
            raise HandlersFailed(
                f"{where}: the url has no user, password or fragment, and its path is escaped ASCII; what proves who "
                "you are goes into headers"
            )
        try:
            reason = why_not(ipaddress.ip_address(host))
        except ValueError:
            reason = None  # a name: looked up, and looked at, before every request
        if reason is not None and not settings.allow_private:
            raise HandlersFailed(f"{where}: {host} is {reason}; allow_private = true lets jobs be sent there")
        secure = parts.scheme == "https"
        default = 443 if secure else 80
        bracketed = f"[{host}]" if ":" in host else host
        return cls(
            name=name,
            host=host,
            port=port or default,
            authority=bracketed if port in (None, default) else f"{bracketed}:{port}",
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            secret=settings.secret.get_secret_value().encode(),
            headers=_checked(where, {key: value.get_secret_value() for key, value in settings.headers.items()}),
            allow_private=settings.allow_private,
            tls=ssl.create_default_context() if secure else None,
        )

    async def deliver(self, run: Run, draw: float) -> Outcome:
        """Send the run's job and say how it went; the caller bounds the time. ``draw`` is for the backoff."""
        attempt = run.job.attempts + 1
        try:
            answer = await self.post(_body(run.claim))
        except Forbidden as error:
            return Failed(f"not sent: {error}; allow_private = true in [webhooks.{self.name}] allows it", retry=False)
        except TooMuch:
            return _TOO_MUCH
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            return Failed(f"no answer from {self.authority}: {_reason(error)}", delay=backoff(attempt, draw))
        run.write("log", f"{self.authority} answered {answer.status} ({len(answer.body):,} bytes)")
        if 200 <= answer.status < 300 and (why := unread(answer)) is not None:
            run.write("log", f"the answer says that it is JSON, and is not, so the job has no result: {why}")
        return outcome_of(answer, delay=backoff(attempt, draw), now=self.clock())

    async def post(self, body: bytes) -> Answer:
        """One request on a connection of its own.

        Raises:
            Forbidden: an address of the host is not allowed; nothing was sent.
            TooMuch: the answer is larger than a result may be.
            OSError, trio.BrokenResourceError, h11.RemoteProtocolError: no connection, or no answer.
        """
        timestamp = str(int(self.clock()))
        headers = [
            ("Host", self.authority),
            ("User-Agent", f"jobctl/{__version__}"),
            ("Accept", "application/json"),
            *((key, value) for key, value in self.headers),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Jobctl-Timestamp", timestamp),
            ("Jobctl-Signature", f"v1={sign(self.secret, timestamp, body)}"),
            ("Connection", "close"),
        ]
        protocol = h11.Connection(h11.CLIENT)
        request = h11.Request(method="POST", target=self.target, headers=headers)
        raw = protocol.send(request) + protocol.send(h11.Data(data=body)) + protocol.send(h11.EndOfMessage())
        stream = await self._connect()
        try:
            await stream.send_all(raw)
            return await _read(protocol, stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _connect(self) -> trio.abc.Stream:
        """To the first address that answers, of those that were looked at."""
        places = await resolve(self.host, self.port, allow_private=self.allow_private, resolver=self.resolver)
        failure: Exception = OSError(f"{self.host} has no address")
        for family, place in places[:MAX_ADDRESSES]:
            try:
                with trio.fail_after(CONNECT_S):
                    return await self._open(family, place)
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                failure = OSError("no answer in time") if isinstance(error, trio.TooSlowError) else error
        raise failure

    async def _open(self, family: int, place: Any) -> trio.abc.Stream:
        raw = trio.socket.socket(family)
        try:
            await raw.connect(place)
            stream = trio.SocketStream(raw)
            if self.tls is None:
                return stream
            secured = trio.SSLStream(stream, self.tls, server_hostname=self.host, https_compatible=True)
            await secured.do_handshake()
        except BaseException:
            raw.close()
            raise
        return secured


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """The signature of a body, in hex."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def outcome_of(answer: Answer, *, delay: float, now: float) -> Outcome:
    """What an answer means for the job; ``delay`` is the backoff where the answer does not name its own."""
    status = answer.status
    if 200 <= status < 300:
        result = _result(answer.body)
        return Completed(result) if len(result) <= MAX_RESULT else _TOO_MUCH
    if 300 <= status < 400:
        to = answer.headers.get("location")
        return Failed(
            f"answered {status}{f' (to {clip(to, _SHOWN)})' if to else ''}; redirects are not followed", retry=False
        )
    text = clip(answer.body.decode("utf-8", "replace").strip(), _SHOWN)
    error = f"answered {status}" + (f"\n{text}" if text else "")
    if 400 <= status < 500 and status not in _AGAIN:
        return Failed(error, retry=False)
    asked = retry_after(answer.headers.get("retry-after"), now) if status in _SAYS_WHEN else None
    return Failed(error, delay=delay if asked is None else asked)


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds of a ``Retry-After`` (RFC 9110 section 10.2.3: seconds, or a date); None where there is none."""
    if not text:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else None


def unread(answer: Answer) -> str | None:
    """Why a body that is said to be JSON is no result (it has NaN, or is cut off); None where nothing is amiss."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not answer.body or not (kind == "application/json" or kind.endswith("+json")):
        return None
    try:
        msgspec.json.decode(answer.body)
    except _NO_JSON as error:
        return str(error)
    return None


_NO_JSON: Final = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError)


def _result(body: bytes) -> bytes:
    """The JSON of a body, compact; ``null`` for one that is none ("OK" is no result)."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body)) if body else b"null"
    except _NO_JSON:
        return b"null"


def _body(claim: Claim) -> bytes:
    job = claim.job
    return msgspec.json.encode(
        Delivery(
            id=job.id,
            name=job.name,
            queue=job.queue,
            attempt=job.attempts + 1,
            max_attempts=job.max_attempts,
            created_at=job.created_at,
            tags=job.tags,
            data=msgspec.Raw(claim.data),
        )
    )


async def _read(protocol: h11.Connection, stream: trio.abc.Stream) -> Answer:
    """The response, its body no longer than a result may be."""
    status, headers, parts, size = 0, dict[str, str](), list[bytes](), 0
    while True:
        event = protocol.next_event()
        match event:
            case h11.NEED_DATA:
                protocol.receive_data(bytes(await stream.receive_some(CHUNK)))
            case h11.Response():
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            case h11.Data():
                size += len(event.data)
                if size > MAX_RESULT:
                    if 200 <= status < 300:
                        raise TooMuch
                    return Answer(status, headers, b"".join(parts))  # what is shown of a refusal is much shorter
                parts.append(bytes(event.data))
            case h11.EndOfMessage():
                return Answer(status, headers, b"".join(parts))
            case h11.ConnectionClosed() | h11.PAUSED:
                raise OSError("the connection was closed before an answer")
            case _:
                pass  # 1xx


def _checked(where: str, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for key, value in headers.items():
        if not _TOKEN.fullmatch(key) or key.lower() in _OURS:
            raise HandlersFailed(f"{where}: headers cannot have {key!r}")
        if not _VALUE.fullmatch(value):
            raise HandlersFailed(f"{where}: the value of the header {key!r} is not printable ASCII")
    return tuple(headers.items())


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, trio.BrokenResourceError) and error.__cause__ else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, h11.RemoteProtocolError):
        return f"what came is not HTTP ({cause})"
    return (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).lower()
