"""``jobctl token``: a short-lived token from the local secret; and API tokens, which the server registers."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import emit, print_json, safe, say
from jobctl.cli.quick import QuickCommand, QuickGroup

if TYPE_CHECKING:
    from jobctl.model import ApiToken

app: Final = typer.Typer(
    cls=QuickGroup, help="Print a short-lived token, or issue, list and revoke API tokens.", rich_markup_mode=None
)


@app.callback(invoke_without_command=True)
def token(
    context: typer.Context,
    role: Annotated[
        str | None, typer.Option("--role", metavar="user|admin", help="What it may do; else admin.")
    ] = None,
    sub: Annotated[str | None, typer.Option("--sub", metavar="NAME", help="Whom it speaks for; else you.")] = None,
) -> int:
    """Print a token that lives 15 minutes, made from the local secret, and nothing else."""
    if context.invoked_subcommand is not None:
        if role is not None or sub is not None:
            raise typer.BadParameter(f"goes after {context.invoked_subcommand}", param_hint="--role, --sub")
        return 0
    from jobctl.cli import credentials

    check(role, sub)
    sys.stdout.write(credentials.sign_local(subject=sub, role=role or "admin") + "\n")
    return 0


@app.command(cls=QuickCommand)
def create(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to call it; only one live token may.")],
    role: Annotated[str, typer.Option("--role", metavar="user|admin", help="What it may do.")] = "user",
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=366, help="How long it lives.")] = 90,
    sub: Annotated[
        str | None, typer.Option("--sub", metavar="NAME", help="Whom it speaks for; else its own name.")
    ] = None,
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Issue an API token, for CI and services, and print it: this once, the server keeps no copy."""
    from jobctl.client import api, tokens

    check(role, sub)
    call = tokens.issue(name, role=role, days=days, subject=sub)
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    issued = api.decode(call, answer)
    done = f"the token is issued, and lost: `jobctl token revoke {issued.name}`"
    if json:
        print_json(answer.data, done=done)
        return 0
    emit(safe(issued.token) + "\n", done=done)
    say(f"{issued.name}: {issued.role}, speaks for {issued.subject}, until {issued.expires_at}; it is not shown again")
    return 0


@app.command("list", cls=QuickCommand)
def list_tokens(
    url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """List API tokens, newest first; never the tokens themselves."""
    from jobctl.client import api, tokens

    call = tokens.tokens()
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    rows = [("NAME", "ROLE", "SUBJECT", "CREATED", "EXPIRES", "LAST USED", "STATE", "ID")]
    for each in api.decode(call, answer).tokens:
        dates = (each.created_at[:10], each.expires_at[:10], f"{each.last_used_at[:13]}h" if each.last_used_at else "-")
        state = _state(each)
        rows.append((safe(each.name), safe(each.role), safe(each.subject), *dates, state, safe(each.jti)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


@app.command(cls=QuickCommand)
def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME|ID", help="The token's name (of a live one), or its id.")],
    url: Url = None,
    token_file: TokenFile = None,
    wait_server: WaitServer = None,
    json: Json = False,
) -> int:
    """Shut an API token out, at once: its requests are refused and its streams cut off."""
    from jobctl.client import api, tokens

    call = tokens.revoke(which)
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    gone = api.decode(call, answer)
    told = safe(f"{gone.name} revoked ({gone.jti})")
    if json:
        print_json(answer.data, done=told)
    else:
        emit(told + "\n", done=told)
    return 0


def check(role: str | None, sub: str | None) -> None:
    """See that they can be a role and a subject, where they are given."""
    if role not in (None, "user", "admin"):
        raise typer.BadParameter("is user or admin", param_hint="--role")
    if sub is not None and not (sub.isprintable() and 0 < len(sub) <= 200):
        raise typer.BadParameter("is 1 to 200 printable characters", param_hint="--sub")
    if sub is not None:
        from jobctl.model import SCHEDULE_OWNER

        if sub.startswith(SCHEDULE_OWNER):
            raise typer.BadParameter(
                f"is a person's or a program's; what begins with {SCHEDULE_OWNER} owns jobs of schedules, and no token "
                "speaks for it",
                param_hint="--sub",
            )


def _state(token: "ApiToken") -> str:
    from datetime import UTC, datetime

    if token.revoked_at is not None:
        return "revoked"
    if datetime.fromisoformat(token.expires_at) <= datetime.now(UTC):
        return "expired"
    return "secret changed" if token.secret_changed else "live"
