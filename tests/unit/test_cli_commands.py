"""The list of commands: what it says of those that are not imported, and that they are not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.main import get_command

from jobctl.cli import commands, main


def help_of(app: typer.Typer, width: int) -> str:
    command: Any = get_command(app)
    context = typer.Context(command, info_name="jobctl", max_content_width=width, terminal_width=width)
    return str(command.get_help(context))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_list_says_of_each_command_what_its_own_help_says(width: int) -> None:
    whole = help_of(main.app, width)
    assert help_of(commands.build(""), width) == whole
    assert all(f"\n  {name} " in whole for name in (*commands.COMMANDS, *commands.GROUPS))


@pytest.mark.parametrize(
    ("arguments", "called"),
    [([], ""), (["--help"], ""), (["serve", "--port", "1"], "serve"), (["-h", "jobs"], "jobs"), (["--", "x"], "x")],
)
def test_the_first_word_that_is_no_option_is_the_command(arguments: list[str], called: str) -> None:
    assert commands.called(arguments) == called


def imported(*arguments: str) -> set[str]:
    code = "import sys\nfrom jobctl.cli import main\n"
    code += f"main._guarded({list(arguments)!r})\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stderr.split())


def test_only_the_command_that_is_called_is_imported() -> None:
    places = {**commands.COMMANDS, **commands.GROUPS}
    modules = {f"jobctl.cli.{place.where.partition(':')[0]}" for place in places.values()}
    assert not imported("--help") & (modules | {"rich", "msgspec", "trio", "pydantic"})
    assert imported("queues", "--help") & modules == {"jobctl.cli.queues"}


def test_every_command_can_be_called() -> None:
    for name in (*commands.COMMANDS, *commands.GROUPS):
        command: Any = get_command(commands.build(name))
        callbacks = {each: getattr(inner.callback, "__wrapped__", None) for each, inner in command.commands.items()}
        assert {each for each, callback in callbacks.items() if callback is not commands._elsewhere} == {name}
