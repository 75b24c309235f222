"""Who takes part in the fan-out benchmark, how each is started, and whether it can be here."""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bench import npm
from bench.fan import update
from bench.fan.order import Command, Done, Order, Ready
from bench.processes import READY_S, Process
from bench.side_by_side import installed
from jobctl import auth

ANSWER_S: Final = 60.0
"""For a command: some need half a minute of CPU for what takes others a second."""
PER_SUBJECT: Final = 2000
"""Connections that one subject may have (``stream.max_per_subject``)."""
SPARE: Final = 200
"""Descriptors that a process needs besides its connections."""
OURS: Final = "jobctl"
STORE: Final = "jobctl, store included"
FLOOR: Final = "floor"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server. ``share``: how much of the work it is given, so that nobody waits long for the slow ones."""

    name: str
    argv: Callable[[Path], Sequence[str]]
    """Its command line, given the file with its order."""
    share: float = 1.0
    package: str | None = None
    """What has to be installed."""


def _python(module: str) -> Callable[[Path], Sequence[str]]:
    return lambda order: (sys.executable, "-m", f"bench.fan.{module}", str(order))


def _node(order: Path) -> Sequence[str]:
    return ("node", str(Path(__file__).with_name("node_peer.mjs")), str(order), str(npm.modules() / "ws"))


CONTESTANTS: Final = {
    each.name: each
    for each in (
        Contestant(FLOOR, _python("floor")),
        Contestant(OURS, _python("ours")),
        Contestant("websockets", _python("websockets_peer"), package="websockets"),
        Contestant("node-ws", _node),
        Contestant("uvicorn", _python("uvicorn_peer"), 0.4, package="uvicorn"),
        Contestant("quart-hypercorn", _python("quart_peer"), 0.1, package="quart"),
    )
}
PEERS: Final = tuple(name for name in CONTESTANTS if name not in (FLOOR, OURS))


def why_absent(name: str) -> str | None:
    """Why this one cannot take part; None if it can."""
    package = CONTESTANTS[name].package
    if package is not None:
        return None if installed(package) else f"{package} is not installed: pip install 'jobctl[bench-peers]'"
    if name == "node-ws":
        return npm.why_absent("ws")
    return None


def version_of(name: str) -> str | None:
    """What a reader needs to know of it."""
    package = CONTESTANTS[name].package
    if name == "node-ws":
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)  # noqa: S607
        return f"{npm.version_of('ws')} on node {node.stdout.strip()}"
    return installed(package) if package else None


class Server(NamedTuple):
    """One that runs."""

    process: Process
    port: int

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def begin(self, command: Command) -> None:
        """Have it begin; ``finish`` waits for it."""
        self.process.say(msgspec.json.encode(command))

    def finish(self) -> Done:
        """Its answer."""
        return msgspec.json.decode(self.process.hear(ANSWER_S), type=Done)

    def await_empty(self) -> None:
        """Until it has noticed that everybody is gone."""
        self.begin(Command(empty=True))
        self.finish()


@contextmanager
def started(name: str, secret: str, cores: Sequence[int], *, store: bool = False) -> Iterator[Server]:
    """A fresh server, in a folder of its own; both are gone at the end."""
    with tempfile.TemporaryDirectory(prefix="jobctl-fanout-") as place:
        folder = Path(place)
        (folder / "empty").mkdir()
        order = folder / "order.json"
        order.touch(0o600)
        order.write_bytes(msgspec.json.encode(Order(str(folder), secret, update.payload(), store)))
        process = Process(name, CONTESTANTS[name].argv(order), folder, folder / "empty", cores)
        try:
            yield Server(process, msgspec.json.decode(process.hear(READY_S), type=Ready).port)
        finally:
            process.end()


def new_secret() -> str:
    """Signs the tokens of a run."""
    return secrets.token_urlsafe(48)


def tokens(secret: str, n: int) -> list[str]:
    """One a connection, all different, of as few subjects as may be."""
    key = secret.encode()
    return [auth.mint(key, subject=f"watcher-{k // PER_SUBJECT}", role="admin") for k in range(n)]


def raise_descriptor_limit(wanted: int) -> int:
    """Have this process, and those that it starts, hold so many connections; how many they can."""
    import resource

    wanted += SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most - SPARE


