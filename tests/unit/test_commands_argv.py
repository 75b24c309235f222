"""How a command's arguments are made, and its output cut into lines."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.engine.commands import Command, parse_template
from jobctl.engine.output import Lines
from jobctl.engine.reporter import MAX_LINE
from jobctl.errors import HandlersFailed, InvalidInput
from jobctl.settings import CommandSettings

VALUES = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))).filter(
    lambda text: not text.startswith("-")
)


def build(*argv: str, **more: Any) -> Command:
    return Command.build("cmd", CommandSettings(argv=("true", *argv), **more))


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("plain", (("plain", None),)),
        ("", (("", None),)),
        ("{path}", (("", "path"), ("", None))),
        ("--file={path}", (("--file=", "path"), ("", None))),
        ("{a}x{b}y", (("", "a"), ("x", "b"), ("y", None))),
        ("{{}}", (("{}", None),)),
        ("{{{a}}}", (("{", "a"), ("}", None))),
    ],
)
def test_a_template_is_split_at_its_fields(argument: str, parts: object) -> None:
    assert parse_template(argument) == parts


@pytest.mark.parametrize("argument", ["{", "}", "{a", "a}", "{}", "{a b}", "{1}", "{a!r}", "{a:>3}", "a\0"])
def test_a_malformed_template_is_refused_at_the_start(argument: str) -> None:
    with pytest.raises(HandlersFailed, match=r"^commands\.cmd: "):
        build(argument)


@given(VALUES)
def test_whatever_a_value_holds_it_stays_one_argument(value: str) -> None:
    assert build("{a}", "--b={a}", "c").render({"a": value}) == ["true", value, f"--b={value}", "c"]


@pytest.mark.parametrize("value", ["a b", "$(reboot)", "`id`", "a;b", "a\nb", "'\"", "*", "{b}", "{{", "%s", "\\"])
def test_nothing_in_a_value_is_interpreted(value: str) -> None:
    assert build("{a}").render({"a": value}) == ["true", value]


@pytest.mark.parametrize(("value", "text"), [(1, "1"), (0.5, "0.5"), (True, "true"), (False, "false"), ("", "")])
def test_scalars_become_text(value: object, text: str) -> None:
    assert build("{a}").render({"a": value}) == ["true", text]


@pytest.mark.parametrize("value", ["-rf", "-", "--x", -1, -0.5])
def test_a_value_that_could_be_an_option_is_refused(value: object) -> None:
    for command in (build("{a}"), build("--file={a}"), build("{b}{a}")):
        with pytest.raises(InvalidInput, match="could be taken for an option") as caught:
            command.check({"a": value, "b": ""})
        assert caught.value.field == "data.a"


def test_a_dash_is_let_through_where_the_operator_says_so() -> None:
    assert build("{a}", allow_dash=True).render({"a": "-rf"}) == ["true", "-rf"]


@pytest.mark.parametrize("value", [None, [], {}, ["x"], "a\0b"])
def test_a_value_that_cannot_be_an_argument_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        build("{a}").check({"a": value})
    assert caught.value.field == "data.a"


def test_a_missing_field_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"cmd needs data\.a"):
        build("{a}").check({})


def test_a_field_used_twice_is_listed_once_and_in_order() -> None:
    assert build("{b}", "{a}{b}").fields == ("b", "a")


def test_the_program_itself_takes_no_field() -> None:
    with pytest.raises(HandlersFailed, match="the program is fixed"):
        Command.build("cmd", CommandSettings(argv=("{program}",)))


@pytest.mark.parametrize("program", ["no-such-program-anywhere", "/no/such/program", "", "/etc/passwd"])
def test_a_program_that_cannot_be_run_is_refused_at_the_start(program: str) -> None:
    with pytest.raises(HandlersFailed, match=r"commands\.cmd: there is no program"):
        Command.build("cmd", CommandSettings(argv=(program,)))


def test_a_program_is_looked_for_from_its_own_folder_and_path(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    Command.build("cmd", CommandSettings(argv=("./tool",), cwd=tmp_path))
    Command.build("cmd", CommandSettings(argv=("tool",), env={"PATH": str(tmp_path)}))
    with pytest.raises(HandlersFailed):
        Command.build("cmd", CommandSettings(argv=("./tool",)))


def test_a_folder_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(HandlersFailed, match="there is no folder"):
        build(cwd=tmp_path / "absent")


@pytest.mark.parametrize("env", [{"JOBCTL_SECRET": "x"}, {"JOBCTL_TOKEN": "x"}, {"A=B": "x"}, {"A": "\0"}, {"": "x"}])
def test_an_environment_that_must_not_or_cannot_be_is_refused_at_the_start(env: dict[str, str]) -> None:
    with pytest.raises(HandlersFailed, match=r"commands\.cmd: env"):
        build(env=env)


def test_the_environment_is_small_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOBCTL_SECRET", "JOBCTL_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("LC_TIME", "C")
    env = build(env={"MINE": "1"}).env
    assert "hidden" not in env.values()
    assert env["MINE"] == "1"
    assert env["LC_TIME"] == "C"
    assert env["PATH"] == os.environ["PATH"]


# --- lines -----------------------------------------------------------------------------------------------------------


def cut(*chunks: bytes) -> list[str]:
    lines = Lines()
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.feed(b"", last=True)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\nb"], ["a", "b"]),
        ([b"a\r\nb\rc"], ["a", "b", "c"]),
        ([b"a\r", b"\nb"], ["a", "b"]),
        ([b"\n\n"], ["", ""]),
        ([b"\xc3", b"\xa4\n"], ["ä"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"\xc3"], ["\ufffd"]),
        ([b""], []),
    ],
)
def test_output_is_cut_into_lines(chunks: list[bytes], expected: list[str]) -> None:
    assert cut(*chunks) == expected


def test_a_line_without_end_is_split_and_never_held_whole() -> None:
    lines = Lines()
    pieces: list[str] = []
    for _ in range(100):
        pieces += lines.feed("ä".encode() * 1000)
    assert len(pieces) >= 100 * 2000 // MAX_LINE - 1
    pieces += lines.feed(b"", last=True)
    assert "".join(pieces) == "ä" * 100_000
    assert max(len(piece.encode()) for piece in pieces) <= MAX_LINE


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_how_output_arrives_does_not_change_its_lines(chunks: list[bytes]) -> None:
    assert cut(*chunks) == cut(b"".join(chunks))
