"""The server's log: what is bound to a line, and what never leaves."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from jobctl import auth, logs

SECRET = 'canary "secret" of\tmore than 32 bytes, with quotes and ü'


@pytest.fixture
def out(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr(logs, "_secrets", [])
    structlog.reset_defaults()
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = before
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_lines_are_json_with_what_a_machine_looks_for(out: io.StringIO) -> None:
    logs.configure("info", "json", stream=out)
    logging.getLogger("jobctl.x").info("hello %s", "you", extra={"status": 200})
    logging.getLogger("jobctl.x").debug("not this")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"], line["status"]) == ("hello you", "info", "jobctl.x", 200)
    assert line["timestamp"].endswith("Z")


def test_request_and_job_are_bound_to_every_line(out: io.StringIO) -> None:
    logs.configure("info", "json", stream=out)
    asked, ran = logs.request.set("req-1"), logs.running.set(("resize", "id-1"))
    logging.getLogger("a.library").info("inside")
    logging.getLogger("jobctl").info("its own", extra={"request_id": "req-2"})
    logs.request.reset(asked)
    logs.running.reset(ran)
    logging.getLogger("jobctl").info("outside")
    inside, own, outside = lines(out)
    assert (inside["request_id"], inside["job_name"], inside["job_id"]) == ("req-1", "resize", "id-1")
    assert own["request_id"] == "req-2"
    assert not {"request_id", "job_name", "job_id"} & outside.keys()


def fail(text: str) -> None:
    raise ValueError(text)


def spill(secret: str, token: str) -> None:
    """Every way that a careless line may take."""
    log = logging.getLogger("careless")
    log.info("a secret %s and %r", secret, secret)
    held = {"secret": secret, "bytes": secret.encode()}
    log.info("in an extra", extra={"header": f"Bearer {token}", "settings": held})
    log.info("a token %s", token)
    try:
        fail(f"cannot sign with {secret}")
    except ValueError:
        log.exception("failed for Authorization: Bearer %s", "opaque-token-of-somebody-else")


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_and_tokens_never_leave(out: io.StringIO, form: str) -> None:
    logs.configure("debug", form, stream=out)
    token = auth.mint(SECRET.encode(), subject="root", role="admin")
    logs.hide(SECRET)
    spill(SECRET, token)
    said = out.getvalue()
    for canary in ("canary", token, token.rpartition(".")[2], "opaque-token"):
        assert canary not in said
    assert said.count("[hidden]") >= 6
    assert "cannot sign with" in said


def test_of_a_secret_that_begins_like_another_nothing_is_left(out: io.StringIO) -> None:
    logs.configure("info", "json", stream=out)
    logs.hide(*("hunter2-hunter2" + "x" * n for n in range(9)))
    logging.getLogger("jobctl").info("it is hunter2-hunter2%s.", "x" * 8)
    assert lines(out)[0]["event"] == "it is [hidden]."


def test_the_canary_is_seen_where_nothing_hides_it(out: io.StringIO) -> None:
    """Or the test above would prove nothing."""
    logs.configure("debug", "json", stream=out)
    spill(SECRET, "short")
    assert out.getvalue().count("canary") >= 5


def test_text_too_short_to_be_a_secret_is_not_hidden(out: io.StringIO) -> None:
    logs.configure("info", "json", stream=out)
    logs.hide("", "no")
    logging.getLogger("jobctl").info("nobody")
    assert lines(out)[0]["event"] == "nobody"


def test_a_terminal_is_safe_from_what_is_logged(out: io.StringIO) -> None:
    logs.configure("info", "console", stream=out)
    logging.getLogger("jobctl").info("job failed: \x1b[2J\u202egpj.exe", extra={"path": "/\x9b31m"})
    try:
        fail("\x1b]0;owned\x07")
    except ValueError:
        logging.getLogger("jobctl").exception("a handler failed")
    said = out.getvalue()
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(said)
    assert "\\x1b[2J\\u202egpj.exe" in said
    assert "raise ValueError(text)" in said


def test_a_trace_on_a_terminal_does_not_show_variables(out: io.StringIO) -> None:
    logs.configure("info", "console", stream=out)
    try:
        password = "".join(("correct", " horse"))  # noqa: FLY002
        fail(str(len(password)))
    except ValueError:
        logging.getLogger("jobctl").exception("failed")
    assert "correct horse" not in out.getvalue()


def test_it_can_be_configured_again(out: io.StringIO) -> None:
    logs.configure("error", "json", stream=out)
    logging.getLogger("jobctl").info("one")
    logs.configure("debug", "json", stream=out)
    logging.getLogger("jobctl").debug("two")
    assert [line["event"] for line in lines(out)] == ["two"]


def test_there_is_no_colour_on_a_terminal_with_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        out = Terminal()
        logs.configure("info", "auto", stream=out)
        logging.getLogger("jobctl").info("hello")
        assert ("\x1b[" in out.getvalue()) is coloured


# --- structlog -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
def test_structlog_in_a_handler_speaks_through_the_same_log(
    out: io.StringIO, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = structlog.get_logger()  # at the top of a module that may be imported first
    logs.configure("info", form, stream=out)
    token = auth.mint(SECRET.encode(), subject="root", role="admin")
    logs.hide(SECRET)
    ran = logs.running.set(("resize", "id-1"))
    log.info("signed in", token=token, key=SECRET)
    log.bind(size=3).warning("%d files", 2)
    log.debug("not this")
    try:
        fail(f"cannot sign with {SECRET}")
    except ValueError:
        log.exception("failed")
    logs.running.reset(ran)
    said = out.getvalue()
    assert capsys.readouterr() == ("", "")
    for canary in ("canary", token, "not this"):
        assert canary not in said
    assert said.count("id-1") == 3
    assert "cannot sign with" in said
    if form == "json":
        first, second, third = lines(out)
        assert (first["event"], first["level"], first["logger"]) == ("signed in", "info", __name__)
        assert (first["token"], first["job_name"], first["job_id"]) == ("[hidden]", "resize", "id-1")
        assert (second["event"], second["size"], second["level"]) == ("2 files", 3, "warning")
        assert "ValueError" in third["exception"]
        assert all(each["timestamp"].endswith("Z") for each in (first, second, third))


def test_structlog_that_a_program_has_configured_itself_stays_so(out: io.StringIO) -> None:
    logs.configure("info", "json", stream=out)
    logs.configure("error", "json", stream=out)  # a reload is none of the program's own
    structlog.get_logger().info("not this")
    own = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.PrintLoggerFactory(own)
    )
    logs.configure("info", "json", stream=out)
    structlog.get_logger().info("hello")
    assert (own.getvalue(), out.getvalue()) == ("event='hello'\n", "")


def test_a_plain_line_is_what_structlog_makes_of_it(out: io.StringIO) -> None:
    logs.configure("info", "json", stream=out)
    (handler,) = logging.getLogger().handlers
    formatter = handler.formatter
    assert formatter is not None
    made = logging.makeLogRecord(
        {"name": "a.b", "levelname": "WARNING", "levelno": 30, "msg": "%s: %d é", "args": ("x", 1), "path": Path("/y")}
        | {"request_id": "mine", "n": 1.5, "nothing": None}
    )
    request = logs.request.set("another")
    running = logs.running.set(("mail", "42"))
    try:
        short = formatter.format(made)
        whole = structlog.stdlib.ProcessorFormatter.format(formatter, made)  # type: ignore[arg-type]
    finally:
        logs.request.reset(request)
        logs.running.reset(running)
    stamp = re.compile(r'"timestamp": "[^"]*Z"')
    assert stamp.sub("", short) == stamp.sub("", whole)
    assert stamp.search(short)
    assert json.loads(short)["request_id"] == "mine"
