"""Which server, and with what token: the options that client commands share, and what follows from them."""

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from jobctl.cli.output import say
from jobctl.errors import SignInFailed, Unanswered, Unreachable, WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobctl.cli.deadline import Deadline
    from jobctl.client.address import Address
    from jobctl.client.client import Client
    from jobctl.client.session import Session

DEFAULT_URL: Final = "http://127.0.0.1:8000"

Url = Annotated[
    str | None, typer.Option("--url", metavar="URL", help=f"The server; else JOBCTL_URL, else {DEFAULT_URL}.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="Holds the token; else JOBCTL_TOKEN, else one is made locally."),
]
WaitServer = Annotated[
    float | None, typer.Option("--wait-server", metavar="S", min=0, help="Wait up to S seconds until it is ready.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's data as JSON.")]


@dataclass(frozen=True, slots=True)
class Target:
    """What the shared options say."""

    url: str | None
    token_file: Path | None
    wait_server: float | None = None

    def address(self) -> "Address":
        """Where the server is."""
        from jobctl.client.address import Address

        return Address.parse(self.url or os.environ.get("JOBCTL_URL") or DEFAULT_URL)

    @property
    def token_source(self) -> str:
        """Where the token comes from, for a person."""
        from jobctl.cli import credentials

        if self.token_file is not None:
            return f"of {self.token_file}"
        if os.environ.get("JOBCTL_TOKEN"):
            return "of JOBCTL_TOKEN"
        place = "JOBCTL_SECRET" if os.environ.get("JOBCTL_SECRET") else str(credentials.state_dir() / "secret")
        return f"signed with {place}"

    def token(self) -> str | Callable[[], str]:
        """The token, or what gives a fresh one."""
        from jobctl.cli import credentials

        if (path := self.token_file) is not None:
            return lambda: credentials.read_token_file(path)
        if given := os.environ.get("JOBCTL_TOKEN"):
            return credentials.checked(given.strip(), "JOBCTL_TOKEN")
        return credentials.sign_local

    @contextmanager
    def session(
        self, *, timeout: float | None = None, deadline: "Deadline | None" = None
    ) -> "Iterator[Session]":
        """Blocking calls to the server, which is waited for if that was asked.

        Args:
            timeout: Seconds for one answer.
            deadline: For everything.

        Raises:
            WaitTimeout: it is over.
        """
        from jobctl.client.session import TIMEOUT_S, Session

        address, token = self.address(), self.token()
        _warn_if_readable(address)
        give = (lambda: token) if isinstance(token, str) else token
        until = None if deadline is None else deadline.at
        try:
            with Session(address, give, timeout=timeout or TIMEOUT_S, deadline=until, tell=say) as session:
                if self.wait_server is not None:
                    _await_ready(session, address, self.wait_server, until)
                with self.explained():
                    yield session
        except WaitTimeout as error:
            raise (error if deadline is None else deadline.passed(error)) from None

    def reach(self, deadline: "Deadline | None" = None) -> None:
        """Before the async client: wait for the server if that was asked, and fail at once where there is none."""
        from jobctl.client import api

        with self.session(deadline=deadline) as session:
            session.send(api.stats())

    def options(self) -> str:
        """The options that another command needs to find the same server, with a space before them."""
        import shlex

        given = {"--url": self.url, "--token-file": self.token_file and str(self.token_file)}
        return "".join(f" {shlex.join((name, value))}" for name, value in given.items() if value)

    def client(self) -> "Client":
        """The async client, patient: that there is a server has been seen by ``reach``."""
        from jobctl.client.client import Client

        return Client(str(self.address()), self.token(), patience=30.0)

    @contextmanager
    def explained(self) -> "Iterator[None]":
        """Say what to do next where the server cannot be reached or refuses the token."""
        try:
            yield
        except Unanswered as error:
            raise Unanswered(f"{error}; its log may say why, and `jobctl doctor` looks closer") from None
        except Unreachable as error:
            raise Unreachable(f"{error}; is `jobctl serve` running there? (--url, JOBCTL_URL)") from None
        except SignInFailed as error:
            if str(error).startswith("no token"):
                raise
            raise SignInFailed(
                f"{self.address()} refuses the token {self.token_source}; "
                "give one of that server with --token-file or JOBCTL_TOKEN"
            ) from None


def _await_ready(session: "Session", address: "Address", seconds: float, deadline: float | None) -> None:
    give_up = time.monotonic() + seconds
    pause = 0.05
    while not session.ready():
        if deadline is not None and time.monotonic() + pause > deadline:
            raise WaitTimeout(f"{address} was not ready")
        if time.monotonic() + pause > give_up:
            raise Unreachable(f"{address} was not ready within {seconds:g} s; the server's log says why")
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)


def _warn_if_readable(address: "Address") -> None:
    if not address.secure and not address.is_loopback:
        say(f"warning: the token goes to {address} over plain http, where others may read it; use https")
