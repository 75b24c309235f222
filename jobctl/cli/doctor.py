"""``jobctl doctor``: can this machine work with that server? Each step is looked at by itself, with what to do."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from jobctl import __version__
from jobctl.cli.connect import Json, Target, TokenFile, Url
from jobctl.cli.output import ExitCode, colour, print_json, safe
from jobctl.cli.skew import MAX_SKEW_S, apart, skew_of, untimely
from jobctl.errors import ApiError, JobctlError, SignInFailed, Unanswered, Unreachable

if TYPE_CHECKING:
    import trio

    from jobctl.client.address import Address
    from jobctl.client.session import Session

ANSWER_S: Final = 5.0
"""For one answer: a server that is well gives it within milliseconds."""
STREAM_S: Final = 10.0
PROXY: Final = (
    "a proxy on the way must pass the upgrade on: HTTP/1.1 with the headers Upgrade and Connection; "
    "see configs/nginx.conf and configs/Caddyfile"
)

NTP: Final = "set both clocks by NTP: a token from the server's future is refused, and times look wrong"

State = Literal["ok", "warning", "failed", "skipped"]
_GLYPHS: Final = {"ok": ("✔", 32), "warning": ("!", 33), "failed": ("✘", 31), "skipped": ("·", 90)}


class Check(NamedTuple):
    """What became of one step; ``advice`` where something is to be done."""

    name: str
    state: State
    detail: str
    advice: str = ""
    exit_code: int = ExitCode.DONE


def doctor(url: Url = None, token_file: TokenFile = None, json: Json = False) -> int:
    """Check, step by step, that this machine can work with the server. Exit code 0, 1 (not well) or 3 (no access)."""
    target = Target(url, token_file)
    address = target.address()
    found: list[Check] = []
    for check in _checks(target, address):
        found.append(check)
        if not json:
            _print(check)
    code = max((check.exit_code for check in found), default=0)
    if json:
        _print_json(str(address), found, ok=code == 0)
    return int(code)


def _checks(target: Target, address: "Address") -> Iterator[Check]:
    from jobctl.client.session import Session

    rest = ["clock", "ready", "sign-in", "version", "stream"]

    def token() -> str:
        given = target.token()
        return given if isinstance(given, str) else given()

    with Session(address, token, patience=0.0, timeout=ANSWER_S) as session:
        try:
            reach, clock, skew = _reach(session, address)
        except _Over as over:
            yield over.check
            yield from _skipped(rest, "no server")
            return
        yield reach
        yield clock
        yield _ready(session)
        sign_in, version = _sign_in(session, target, token, skew)
        yield sign_in
        yield version
    if sign_in.state != "ok":
        yield from _skipped(["stream"], "not signed in")
    else:
        yield _stream(address, token)


class _Over(Exception):
    """There is nobody to ask further."""

    def __init__(self, check: Check) -> None:
        self.check = check


def _skipped(names: list[str], why: str) -> Iterator[Check]:
    for name in names:
        yield Check(name, "skipped", why)


def _reach(session: "Session", address: "Address") -> tuple[Check, Check, float]:
    """What became of the first two steps, and how many seconds this machine's clock is ahead of the server's."""
    began = time.time()
    try:
        status, headers, body = session.probe("/healthz")
    except Unanswered as error:
        advice = "it is stuck or overloaded, or something else listens there; see its log"
        raise _Over(Check("reach", "failed", str(error), advice, ExitCode.UNREACHABLE)) from None
    except Unreachable as error:
        advice = "start `jobctl serve` there, or say where it is with --url or JOBCTL_URL"
        if "certificate" in str(error).lower():
            advice = "the certificate is not trusted here: install its issuer, or name it in SSL_CERT_FILE"
        else:
            _check_scheme(address)
        raise _Over(Check("reach", "failed", str(error), advice, ExitCode.UNREACHABLE)) from None
    took = time.time() - began
    if status != 200 or b'"status":"ok"' not in body:
        _check_scheme(address)
        what = f"{address} answers HTTP {status}, and not as a jobctl server does"
        advice = "is this the right URL? A proxy in front may not have found the server"
        raise _Over(Check("reach", "failed", what, advice, ExitCode.UNREACHABLE))
    date, now = headers.get("date", ""), (began + time.time()) / 2
    reach = Check("reach", "ok", f"{address} answers within {took * 1000:.0f} ms")
    return reach, _clock(date, now), skew_of(date, now) or 0.0


def _check_scheme(address: "Address") -> None:
    """Whether http was asked for where https is spoken, or the reverse.

    Raises:
        _Over: so it is.
    """
    from jobctl.cli.scheme import speaks_http, speaks_tls

    right = "http" if address.secure else "https"
    if speaks_http(address) if address.secure else speaks_tls(address):
        detail = f"the server at {address.authority} speaks {right}, not {address.scheme}"
        advice = f"give its URL as {address._replace(scheme=right)}"
        raise _Over(Check("reach", "failed", detail, advice, ExitCode.UNREACHABLE))


def _clock(date: str, now: float) -> Check:
    skew = skew_of(date, now)
    if skew is None:
        return Check("clock", "warning", "the server does not say what time it is", "a proxy removes the Date header")
    if abs(skew) <= MAX_SKEW_S:
        return Check("clock", "ok", "in step with the server's, to a second" if abs(skew) < 1 else f"{skew:+.0f} s")
    return Check("clock", "warning", f"this machine's is {apart(skew)} the server's", NTP)


def _ready(session: "Session") -> Check:
    from jobctl.client import api

    try:
        status, headers, body = session.probe("/readyz")
        if status == 200:
            return Check("ready", "ok", "the server takes work, its database can be written")
        api.parse(status, headers, body)
        detail = f"HTTP {status}"
    except JobctlError as error:
        detail = str(error)
    return Check("ready", "failed", detail, "the server says what is wrong; its log has more", ExitCode.FAILED)


def _sign_in(session: "Session", target: Target, token: Callable[[], str], skew: float) -> tuple[Check, Check]:
    from jobctl.client import api

    unknown = Check("version", "skipped", "not signed in")
    try:
        told = session.get(api.server())
    except SignInFailed as error:
        no_token = str(error).startswith("no token")
        detail = str(error) if no_token else f"the token {target.token_source} is refused"
        advice = "give a token of that server with --token-file or JOBCTL_TOKEN"
        if not no_token and (why := untimely(token(), time.time(), skew)):
            detail += f": {why}"
            advice = NTP if abs(skew) > MAX_SKEW_S else advice
        return Check("sign-in", "failed", detail, advice, ExitCode.UNREACHABLE), unknown
    except ApiError as error:
        detail = f"HTTP {error.status}: {error}"
        if error.status == 404:
            old = Check("version", "warning", "the server is older than this program", "update it")
            return Check("sign-in", "ok", f"with the token {target.token_source}"), old
        return Check("sign-in", "failed", detail, "see the server's log", ExitCode.UNREACHABLE), unknown
    except JobctlError as error:
        return Check("sign-in", "failed", str(error), "", ExitCode.UNREACHABLE), unknown
    signed_in = Check("sign-in", "ok", f"as {told['subject']} ({told['role']}), with the token {target.token_source}")
    theirs = str(told["version"])
    if theirs == __version__:
        return signed_in, Check("version", "ok", f"{theirs}, both")
    detail = f"the server is {theirs}, this program {__version__}"
    return signed_in, Check("version", "warning", detail, "use the same version on both sides")


def _stream(address: "Address", token: Callable[[], str]) -> Check:
    import trio

    from jobctl.cli import running
    from jobctl.client.connection import Closed, Rejected

    at = ["connect"]
    found: list[Check] = []

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            try:
                with trio.fail_after(STREAM_S):
                    await _converse(nursery, address, token(), at)
            except Rejected as rejected:
                found.append(_no_stream(f"the upgrade to a WebSocket was answered with HTTP {rejected.status}"))
            except Closed as closed:
                code = f" with code {closed.code}" if closed.code else ""
                found.append(_no_stream(f"the connection was closed{code} (step: {at[0]})"))
            except trio.TooSlowError:
                found.append(_no_stream(f"nothing came for {STREAM_S:.0f} s (step: {at[0]})"))
            except (OSError, ValueError) as error:
                found.append(_no_stream(f"{error} (step: {at[0]})"))
            else:
                took = trio.current_time() - began
                found.append(Check("stream", "ok", f"signed in, subscribed and answered within {took * 1000:.0f} ms"))
            nursery.cancel_scope.cancel()
        return 0

    running.run(main)
    return found[0]


async def _converse(nursery: "trio.Nursery", address: "Address", token: str, at: list[str]) -> None:
    """Connect, sign in, subscribe, ping; ``at`` holds the step."""
    import json

    from jobctl.client.connection import open_connection
    from jobctl.protocol import messages

    connection = await open_connection(nursery, address, None)

    async def hear(kind: str) -> None:
        while True:
            message: dict[str, Any] = json.loads(await connection.receive())
            if message.get("type") == kind:
                return
            if message.get("type") in ("auth_failed", "error"):
                raise ValueError(str(message.get("message") or message["type"]))

    try:
        await hear("auth_required")
        for step, said, answer in (
            ("sign in", messages.Auth(token=token), "connected"),
            ("subscribe", messages.SubscribeJobs(stats=False), "jobs_subscribed"),
            ("ping", messages.Ping(), "pong"),
        ):
            at[0] = step
            await connection.send(messages.encode(said))
            await hear(answer)
    finally:
        await connection.aclose()


def _no_stream(detail: str) -> Check:
    return Check("stream", "failed", detail, PROXY, ExitCode.FAILED)


def _print(check: Check) -> None:
    glyph, code = _GLYPHS[check.state]
    if colour(sys.stdout):
        glyph = f"\x1b[{code}m{glyph}\x1b[0m"
    sys.stdout.write(f"{glyph} {check.name:<8} {safe(check.detail)}\n")
    if check.advice and check.state != "ok":
        sys.stdout.write(f"           {safe(check.advice)}\n")
    sys.stdout.flush()


def _print_json(url: str, checks: list[Check], *, ok: bool) -> None:
    import json

    told = [
        {"name": each.name, "state": each.state, "detail": each.detail, "advice": each.advice or None}
        for each in checks
    ]
    print_json(json.dumps({"url": url, "ok": ok, "checks": told}))


