"""``jobctl token``: a short-lived token from the local secret."""

import sys
from typing import Annotated

import typer


def token(
    role: Annotated[str, typer.Option("--role", metavar="user|admin", help="What it may do.")] = "admin",
    sub: Annotated[str | None, typer.Option("--sub", metavar="NAME", help="Whom it speaks for; else you.")] = None,
) -> int:
    """Print a token that lives 15 minutes, and nothing else."""
    from jobctl.cli import credentials

    if role not in ("user", "admin"):
        raise typer.BadParameter("is user or admin", param_hint="--role")
    if sub is not None and not (sub.isprintable() and 0 < len(sub) <= 200):
        raise typer.BadParameter("is 1 to 200 printable characters", param_hint="--sub")
    sys.stdout.write(credentials.sign_local(subject=sub, role=role) + "\n")
    return 0
