"""``jobctl demo``: the whole thing in one terminal, on real files, and what it cost."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from jobctl.cli.interrupts import Interrupted, Noted, exit_of_interrupt
from jobctl.cli.output import drawable, duration, emit, safe, say
from jobctl.errors import InvalidInput

if TYPE_CHECKING:
    from jobctl.cli.bill import Bill
    from jobctl.cli.view import View

LIMIT: Final = 200
"""Files by default: about 15 s on two cores, most of it the start of as many Python processes."""
MAX_BYTES: Final = 512 * 1024
SKIPPED: Final = frozenset({"__pycache__", "site-packages", ".git", "node_modules"})
SCREEN_LINES: Final = 24
"""Of the table: the bill below it is to be seen too."""


class Work(NamedTuple):
    """One file to pack."""

    source: Path
    size: int


def demo(
    path: Annotated[
        Path | None, typer.Option("--path", metavar="FOLDER", help="Its files; else Python's own library.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=5000, help="How many files.")] = LIMIT,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary folder.")] = False,
) -> int:
    """Pack a folder's files with a server of its own, live, and show what pushing saved over polling.

    Files are only read; everything is written to a temporary folder.
    """
    import shutil
    import sysconfig
    import tempfile

    source = (path or Path(sysconfig.get_path("stdlib"))).absolute()
    with Noted() as signals:
        try:
            work = find(source, limit, signals.check)
            folder = Path(tempfile.mkdtemp(prefix="jobctl-demo-"))
            try:
                return _play(source, work, folder, signals.check, keep=keep)
            finally:
                if keep:
                    say(f"kept: {folder}")
                else:
                    shutil.rmtree(folder, ignore_errors=True)
        except Interrupted as error:
            say("stopped; the server and its jobs are gone")
            return exit_of_interrupt(error)


def find(folder: Path, limit: int, check: Callable[[], None] = lambda: None) -> list[Work]:
    """The largest files below ``folder``, at most ``limit`` and none above 512 KiB; ``check`` may end the search.

    Raises:
        InvalidInput: there are none.
    """
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise InvalidInput(f"cannot read {folder}: {error.strerror}", field="path") from None
    if not is_folder:
        raise InvalidInput(f"{folder} is not a folder", field="path")
    found = []
    for place, inner, names in os.walk(folder):
        check()
        inner[:] = [name for name in inner if name not in SKIPPED]
        for each in (Path(place, name) for name in names):
            try:
                size = each.stat().st_size if each.is_file() and not each.is_symlink() else 0
            except OSError:
                continue
            if 0 < size <= MAX_BYTES and str(each).isprintable():
                found.append(Work(each, size))
    if not found:
        raise InvalidInput(f"there are no files in {folder}", field="path")
    return sorted(found, key=lambda work: (-work.size, work.source))[:limit]


def _play(source: Path, work: list[Work], folder: Path, check: Callable[[], None], *, keep: bool) -> int:
    from jobctl.cli.demo_server import server

    out = folder / "packed"
    out.mkdir()
    say(f"a server of its own checksums and compresses {len(work)} files of {source}")
    with server(folder, check=check, keep=keep) as url:
        bill, view = _follow(url, work, folder, out, check)
    _tell(work, out, bill, view)
    return view.exit_code


def _follow(
    url: str, work: list[Work], folder: Path, out: Path, check: Callable[[], None]
) -> "tuple[Bill, View]":
    """Enqueue all files in one batch, and follow them until the last has ended."""
    from contextlib import nullcontext

    from jobctl.cli import credentials
    from jobctl.cli.bill import Bill
    from jobctl.cli.follow import Follower, Order, Silent, StatusLines, run_follower
    from jobctl.cli.view import View
    from jobctl.client import api
    from jobctl.client.address import Address
    from jobctl.client.client import Client
    from jobctl.client.session import Session
    from jobctl.model import JobFilter

    secret = (folder / "state" / "secret").read_bytes().strip()

    def token() -> str:
        return credentials.sign(secret, subject="demo", role="admin")

    names = [str(out / f"{number:04d}-{each.source.name}") for number, each in enumerate(work)]
    jobs = [
        api.encode(api.job_fields("pack", {"source": str(each.source), "target": name}))
        for each, name in zip(work, names, strict=True)
    ]
    with Session(Address.parse(url), token) as session:
        since = session.send(api.stats()).position
        ids = session.get(api.enqueue_batch(jobs)).ids
    view = View(JobFilter(ids=ids))
    on_terminal = drawable(sys.stdout)
    order = Order(JobFilter(), since=since, until_done=True, fresh=True)
    follower = Follower(order, view, Silent() if on_terminal else StatusLines())
    client = Client(url, token)
    if on_terminal:
        from jobctl.cli.table import Screen, title

        screen: Any = Screen(view, lambda width: title(url, *follower.connection(), width), lines=SCREEN_LINES)
    else:
        screen = nullcontext()
    with screen as drawn:

        def tick() -> None:
            check()
            if drawn is not None:
                drawn.draw()

        seconds = _timed(lambda: run_follower(lambda: client, follower, tick=tick))
    return Bill(seconds, view.updates, session.requests + client.requests, client.connections), view


def _timed(work: Callable[[], None]) -> float:
    import time

    started = time.monotonic()
    work()
    return time.monotonic() - started


def _tell(work: list[Work], out: Path, bill: "Bill", view: "View") -> None:
    from jobctl.cli.bill import bill_lines

    counts = view.counts()
    read = sum(each.size for each in work)
    written = sum(each.stat().st_size for each in out.glob("*.gz"))
    _gather_sums(out)
    emit(
        f"\n{counts.get('completed', 0)} of {len(work)} files packed in {duration(bill.seconds)}: "
        f"{_mib(read)} became {_mib(written)} ({100 * written / read:.0f}%), each with its SHA-256\n\n"
    )
    emit("".join(f"  {safe(line)}\n" for line in bill_lines(bill)))
    emit("\nyour own: jobctl serve --app MODULE, then jobctl enqueue NAME k=v --wait, and jobctl watch\n")


def _gather_sums(out: Path) -> None:
    """One SHA256SUMS file of all, as sha256sum -c reads it."""
    parts = sorted(out.glob("*.sha256"))
    (out / "SHA256SUMS").write_text("".join(each.read_text() for each in parts))
    for each in parts:
        each.unlink()


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
