"""``jobctl open``: a link that signs a browser in."""

import os
import sys
from typing import Annotated

import typer

from jobctl.cli.connect import Target, TokenFile, Url, WaitServer
from jobctl.cli.output import safe, say


def open_(
    only_print: Annotated[bool, typer.Option("--print", help="Print the link, open nothing.")] = False,
    sub: Annotated[str | None, typer.Option("--sub", metavar="NAME", help="Whom it signs in; else you.")] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="user|admin", help="What they may do; else what you may.")
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
) -> int:
    """Open the server in the browser, signed in: by a link that works once, within five minutes."""
    from jobctl.cli.token import check
    from jobctl.client import tokens

    check(role, sub)
    target = Target(url, token_file, wait_server)
    with target.session() as session:
        made = session.get(tokens.make_code(subject=sub, role=role))
    link = safe(f"{target.address()}/#code={made.code}")
    if not only_print and _shown(link):
        say(f"opened {target.address()} in the browser, signed in as {made.subject} ({made.role})")
    else:
        sys.stdout.write(link + "\n")
    return 0


def _shown(link: str) -> bool:
    """Whether a browser took it. One that would run in this terminal is not asked."""
    import webbrowser

    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(link)
    except webbrowser.Error:
        return False
