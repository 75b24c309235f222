"""``jobctl watch``: follow jobs live."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from jobctl.cli.act import check_names, check_statuses
from jobctl.cli.connect import Target, TokenFile, Url, WaitServer
from jobctl.cli.interrupts import exit_of_interrupt
from jobctl.cli.output import ExitCode, drawable, say
from jobctl.errors import InvalidInput, WaitTimeout

if TYPE_CHECKING:
    from jobctl.cli.deadline import Deadline
    from jobctl.cli.follow import Follower
    from jobctl.cli.view import View
    from jobctl.model import JobFilter, Position

Many = list[str] | None


def watch(
    ids: Annotated[Many, typer.Argument(metavar="[ID ...]", help="These jobs; else all that match.")] = None,
    queue: Annotated[Many, typer.Option("--queue", metavar="NAME", help="In this queue; may be repeated.")] = None,
    name: Annotated[Many, typer.Option("--name", metavar="NAME", help="Of this name; may be repeated.")] = None,
    status: Annotated[Many, typer.Option("--status", metavar="STATUS", help="Entering or leaving it.")] = None,
    tag: Annotated[Many, typer.Option("--tag", metavar="TAG", help="With this tag; may be repeated.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only jobs that you enqueued.")] = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="EPOCH:SEQ", help="Everything after this position, then live.")
    ] = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Leave when all have ended; the exit code is theirs.")
    ] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="S", min=0, help="Leave after S s (4).")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="The counts too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The stream's messages, one a line.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line an update (as when piped).")] = False,
    table: Annotated[bool, typer.Option("--table", help="A live table (as on a terminal).")] = False,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
) -> int:
    """Follow jobs live; it reconnects by itself and misses nothing. Ctrl-C leaves, and cancels nothing."""
    if json + plain + table > 1:
        raise typer.BadParameter("--json, --plain and --table exclude each other")
    if table and not drawable(sys.stdout):
        raise typer.BadParameter("needs a terminal (and TERM)", param_hint="--table")
    from jobctl.model import Position

    place = Position.parse(since) if since else None
    wanted = _filter(ids, name, queue, status, tag, mine=mine)
    screen = table or (drawable(sys.stdout) and not json and not plain)
    import trio

    from jobctl.cli.deadline import Deadline
    from jobctl.cli.follow import Follower, JsonLines, Order, PlainLines, Silent
    from jobctl.cli.notices import Notices
    from jobctl.cli.view import View

    whole = screen and wanted == _filter(None, None, None, None, None, mine=False)
    deadline = None if timeout is None else Deadline.after(timeout)
    order = Order(
        wanted, since=place, stats=stats or (whole and not until_done), until_done=until_done, deadline=deadline,
        show_state=(screen or wanted.ids is not None) and place is None,
    )  # fmt: skip
    view = View(wanted)
    printer = Silent() if screen else JsonLines() if json else PlainLines()
    follower = Follower(order, view, printer, None if screen else Notices(trio.current_time))
    try:
        _run(Target(url, token_file, wait_server), follower, view, deadline, screen=screen)
    except KeyboardInterrupt as error:
        if (position := follower.position) is not None:
            say(f"left, nothing was cancelled; {_go_on(position)}")
        return exit_of_interrupt(error)
    except WaitTimeout as error:
        if (position := follower.position) is None:
            raise
        raise WaitTimeout(f"{error}; {_go_on(position)}") from None
    return view.exit_code if until_done else ExitCode.DONE


def _run(
    target: Target, follower: "Follower", view: "View", deadline: "Deadline | None", *, screen: bool
) -> None:
    from jobctl.cli.follow import run_follower

    target.reach(deadline)
    with target.explained():
        if not screen:
            run_follower(target.client, follower)
            return
        from jobctl.cli.table import Screen, title

        address = str(target.address())
        with Screen(view, lambda width: title(address, *follower.connection(), width)) as drawn:
            run_follower(target.client, follower, tick=drawn.draw)


def _filter(ids: Many, names: Many, queues: Many, statuses: Many, tags: Many, *, mine: bool) -> "JobFilter":
    from jobctl.model import MAX_FILTER_IDS, JobFilter
    from jobctl.states import Status

    if len(ids or ()) > MAX_FILTER_IDS:
        raise InvalidInput(f"at most {MAX_FILTER_IDS} ids are followed at once")
    check_statuses(statuses)
    check_names("--queue", queues)
    check_names("--name", names)
    wanted = tuple(Status(each) for each in statuses) if statuses else None
    return JobFilter(
        ids=tuple(dict.fromkeys(ids)) if ids else None, names=tuple(names) if names else None,
        queues=tuple(queues) if queues else None, statuses=wanted, tags=tuple(tags) if tags else None, mine=mine,
    )  # fmt: skip


def _go_on(position: "Position") -> str:
    return f"to go on from here: {_again(sys.argv[1:], str(position))}"


def _again(arguments: list[str], position: str) -> str:
    """The same command, from ``position`` on."""
    import shlex

    kept: list[str] = []
    skip = False
    for each in arguments:
        if skip or each.startswith("--since="):
            skip = False
        elif each == "--since":
            skip = True
        else:
            kept.append(each)
    return shlex.join(["jobctl", *kept, "--since", position])
