"""What commands print and say to the shell, and the pure parts behind them."""


from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from output_kit import job

from jobctl import auth, errors
from jobctl.cli import credentials, lines, ndjson, output
from jobctl.cli.bill import Bill, bill_lines
from jobctl.cli.connect import Target
from jobctl.cli.enqueue import parse_data
from jobctl.cli.output import ExitCode, duration, exit_of, exit_of_jobs, safe, safe_json
from jobctl.client.address import Address
from jobctl.errors import ApiError, ConfigError, InvalidInput, JobctlError, SignInFailed
from jobctl.model import Progress

# --- exit codes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("x"), 2),
        (errors.ConfigError("x"), 2),
        (errors.DatabaseInUse("x"), 2),
        (errors.NotFound("x"), 2),
        (errors.Unreachable("x"), 3),
        (errors.SignInFailed("x"), 3),
        (errors.ClientError("x"), 3),
        (errors.WaitTimeout("x"), 4),
        (ApiError(404, {"code": "not_found"}), 2),
        (ApiError(409, {"code": "illegal_transition"}), 2),
        (ApiError(422, {"code": "unknown_handler"}), 2),
        (ApiError(403, {"code": "forbidden"}), 3),
        (ApiError(429, {"code": "rate_limited"}), 3),
        (ApiError(503, {"code": "store_unavailable"}), 3),
        (ApiError(500, {"code": "database_damaged"}), 1),
        (ApiError(502, {}), 3),
    ],
)
def test_each_error_has_its_exit_code(error: JobctlError, code: int) -> None:
    assert exit_of(error) == code


def test_the_exit_codes_are_those_of_the_contract() -> None:
    assert {each.name: each.value for each in ExitCode} == {
        "DONE": 0, "FAILED": 1, "USAGE": 2, "UNREACHABLE": 3, "TIMED_OUT": 4, "CANCELLED": 5, "INVALID": 6,
        "INCONCLUSIVE": 7, "INTERNAL": 70, "OUTPUT": 74, "INTERRUPTED": 130,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 0),
        (["completed"], 0),
        (["completed", "failed"], 1),
        (["cancelled", "completed"], 5),
        (["cancelled", "failed", "completed"], 1),
    ],
)
def test_a_failure_wins_over_a_cancellation_and_that_over_success(statuses: list[str], code: int) -> None:
    assert exit_of_jobs(statuses) == code


# --- text from outside -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 日本 🎉", "plain äöü 日本 🎉"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("bell\x07 del\x7f", r"bell\x07 del\x7f"),
        ("csi\x9b31m", r"csi\x9b31m"),
        ("abc\u202edcba", r"abc\u202edcba"),
        ("\u2066x\u2069\u200e\u200f\u061c", r"\u2066x\u2069\u200e\u200f\u061c"),
        ("line\u2028par\u2029", r"line\u2028par\u2029"),
        ("zero\u200bwidth\ufeff\xad", r"zero\u200bwidth\ufeff\xad"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("lone\ud800", r"lone\ud800"),
    ],
)
def test_control_escape_and_bidi_characters_are_shown_escaped(text: str, shown: str) -> None:
    assert safe(text) == shown
    assert safe(text).encode("utf-8")


def test_json_on_a_terminal_is_the_same_value_without_invisible_characters() -> None:
    value = {"k": "a\x9bb\u202ec\U000e0041d\x7f", "n": 1}
    shown = safe_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(shown) == value
    assert safe(shown) == shown


def test_json_that_is_piped_goes_through_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json('{"a":"\u202e"}')
    assert capsys.readouterr().out == '{"a":"\u202e"}\n'


def test_an_error_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("two\nlines \x1b[31m")
    assert capsys.readouterr().err == "jobctl: two\\nlines \\x1b[31m\n"


def test_no_colour_when_piped_or_asked_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.paint("x", "failed", Terminal()) == "\x1b[31mx\x1b[0m"
    assert output.paint("x", "failed", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.paint("x", "failed", Terminal()) == "x"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0.0s"), (0.44, "0.4s"), (12.7, "12s"), (185, "3m05s"), (7800, "2h10m"), (4 * 86400 + 3 * 3600, "4d03h")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


# --- lines -----------------------------------------------------------------------------------------------------


def test_a_plain_line_says_what_happened_and_hides_nothing_dangerous() -> None:
    failed = job("id1", "failed", name="n", error="boom \x1b[2J\nlast", attempts=3)
    line = lines.job_line(failed, "2026-01-01T00:00:00.000Z")
    assert line.endswith("✘ failed    id1 n attempt=3/3 boom \\x1b[2J")
    assert "\x1b" not in line


def test_a_run_that_goes_on_counts_as_an_attempt() -> None:
    assert lines.attempt(job("a", "running", attempts=1)) == "2/3"
    assert lines.attempt(job("a", "failed", attempts=3)) == "3/3"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "running", "progress": Progress(value=0.4, message="resizing"), "error": "old"}, "resizing"),
        ({"status": "running", "error": "old"}, "again after: old"),
        ({"status": "completed", "error": "old"}, ""),
        ({"status": "retrying", "error": "a\nb"}, "a"),
    ],
)
def test_the_message_is_what_matters_now(fields: dict[str, Any], said: str) -> None:
    assert lines.message(job("a", **fields)) == said


# --- jobs from a file ------------------------------------------------------------------------------------------


def read(text: str, **defaults: Any) -> list[tuple[int, bytes]]:
    return list(ndjson.jobs(io.BytesIO(text.encode()), defaults))


def test_lines_are_taken_as_they_are_and_empty_ones_skipped() -> None:
    assert read('{"name":"a"}\n\n  {"name":"b", "data":{"x":1}}\r\n') == [
        (1, b'{"name":"a"}'),
        (3, b'{"name":"b", "data":{"x":1}}'),
    ]


def test_what_a_line_leaves_out_is_taken_from_the_command_line() -> None:
    [(_, line), (_, other)] = read('{"data":{"x":1}}\n{"name":"b","queue":"r"}', name="a", queue="q")
    assert json.loads(line) == {"name": "a", "queue": "q", "data": {"x": 1}}
    assert json.loads(other) == {"name": "b", "queue": "r"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: Expected `object`, got `array`"),
        ("{}", 'line 2: no "name"'),
        ('{"name":"a","colour":"red"}', "line 2: Object contains unknown field `colour`"),
        ('{"name":"a","priority":"4"}', "line 2: priority: "),
        ('{"name":"sp ace"}', "line 2: name: "),
        ('{"name":"a","data":"' + "x" * ndjson.MAX_LINE + '"}', "line 2: longer than"),
        ("[" * 100_000, "line 2: "),
    ],
)
def test_a_bad_line_is_named_by_its_number(line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read('{"name":"a"}\n' + line)
    assert str(caught.value).startswith(said)


def test_batches_are_bounded_by_jobs_and_by_bytes() -> None:
    items = [(n, b"x" * 10) for n in range(1, 8)]
    assert [batch.numbers for batch in ndjson.batches(items, size=3, weight=1000)] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [batch.numbers for batch in ndjson.batches(items, size=100, weight=25)] == [[1, 2], [3, 4], [5, 6], [7]]
    assert [batch.numbers for batch in ndjson.batches(items[:2], size=100, weight=1)] == [[1], [2]]
    assert list(ndjson.batches([])) == []


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"), ndjson.opened(tmp_path / "none", io.BytesIO()):
        pass


def test_stdin_can_be_read_twice() -> None:
    with ndjson.opened(Path("-"), io.BytesIO(b"a\nb\n")) as file:
        assert file.readlines() == [b"a\n", b"b\n"]
        file.seek(0)
        assert file.read() == b"a\nb\n"


# --- values of the command line --------------------------------------------------------------------------------


def test_fields_are_texts_or_json_and_win_over_data() -> None:
    assert parse_data('{"a":1,"b":2}', ["b=x=y", "c:=[1,null]", "d=", "e.f:=1e3"]) == {
        "a": 1, "b": "x=y", "c": [1, None], "d": "", "e.f": 1000.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ("[]", []), ("{", []), ('{"a":NaN}', []), ("[" * 100_000, []), (None, ["x"]), (None, ["=x"]), (None, [":=1"]),
        (None, ["k:=nope"]), (None, ["a=1", "a=2"]), (None, ["a=1", "a:=2"]), (None, ["k:=Infinity"]),
    ],
)  # fmt: skip
def test_what_is_no_field_is_refused(data: str | None, fields: list[str]) -> None:
    with pytest.raises(InvalidInput):
        parse_data(data, fields)


@pytest.mark.parametrize(
    ("url", "host", "port", "text"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "http://127.0.0.1:8000"),
        ("https://jobs.example/base/", "jobs.example", 443, "https://jobs.example:443/base"),
        ("http://[::1]:81", "::1", 81, "http://[::1]:81"),
        ("http://my_server.:81", "my_server.", 81, "http://my_server.:81"),
    ],
)
def test_an_address_is_taken_apart(url: str, host: str, port: int, text: str) -> None:
    found = Address.parse(url)
    assert (found.host, found.port, str(found)) == (host, port, text)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://x", "http://", "http://u:p@h", "http://h?token=x", "http://h#x", "http://h:99999", "http://ä",
     "http://a..b", "http://.a", f"http://{'a' * 64}.example"],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Address.parse(url)


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://127.0.0.9", True), ("http://localhost", True), ("http://[::1]", True), ("http://10.0.0.1", False),
        ("http://h", False),
    ],
)  # fmt: skip
def test_only_loopback_stays_on_this_machine(url: str, stays: bool) -> None:
    assert Address.parse(url).is_loopback is stays


# --- tokens ----------------------------------------------------------------------------------------------------

SECRET = b"a secret of more than 32 bytes for tests"


def test_a_locally_signed_token_is_one_that_the_server_takes() -> None:
    token = credentials.sign(SECRET, subject="jö", role="user", now=1000.0)
    who = auth.Verifier(SECRET).verify(token, now=1001.0)
    assert (who.subject, who.role, who.expires_at) == ("jö", "user", 1000.0 + auth.ACCESS_TTL_S)
    ours, theirs = (
        msgspec.json.decode(__import__("base64").urlsafe_b64decode(each.split(".")[1] + "=="))
        for each in (token, auth.mint(SECRET, subject="jö", role="user", now=1000.0))
    )
    assert {**ours, "jti": 0} == {**theirs, "jti": 0}


def test_without_a_secret_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_STATE_DIR", str(tmp_path))
    with pytest.raises(SignInFailed, match=r"jobctl serve.*--token-file.*JOBCTL_TOKEN"):
        credentials.local_secret()
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    assert credentials.local_secret() == SECRET
    monkeypatch.setenv("JOBCTL_SECRET", "short")
    with pytest.raises(ConfigError, match="at least 32"):
        credentials.local_secret()


def test_a_token_file_wins_over_the_environment_and_that_over_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from.the.file\n")
    assert Target(None, None).token() is credentials.sign_local
    monkeypatch.setenv("JOBCTL_TOKEN", "from.the.environment")
    assert Target(None, None).token() == "from.the.environment"
    given = Target(None, file).token()
    assert callable(given)
    assert given() == "from.the.file"
    file.write_text("renewed.by.ci")
    assert given() == "renewed.by.ci"


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak", "é", "x" * 9000])
def test_what_cannot_be_a_token_is_not_sent_nor_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        credentials.read_token_file(file)
    assert str(caught.value) == f"the file {file} does not hold a token"


# --- the bill --------------------------------------------------------------------------------------------------


def test_the_bill_is_counted_as_its_assumptions_say() -> None:
    bill = Bill(seconds=10.0, updates=101, requests=2, connections=1)
    assert bill.gap == pytest.approx(0.1)
    assert bill.polled == 303
    assert bill.polled_in_window == 27_000
    assert bill.lazy_in_window == 90
    assert "2 HTTP requests and 1 connection brought 101 updates" in bill_lines(bill)[0]


def test_a_bill_without_updates_divides_by_nothing() -> None:
    assert Bill(0.0, 0, 2, 1).polled_in_window == 0
    assert bill_lines(Bill(0.0, 0, 2, 1))


@pytest.mark.parametrize("text", ["1e999", "-1e999", '{"a": 1e999}', "[NaN]"])
def test_a_number_that_json_cannot_hold_is_refused_and_not_turned_into_null(text: str) -> None:
    from jobctl.cli.values import parse_json

    with pytest.raises(InvalidInput, match=r"out of range|no NaN"):
        parse_json(text, "a")


def test_the_message_of_a_failure_is_its_first_line_not_the_end_of_its_traceback() -> None:
    error = "RuntimeError: boom\n\nTraceback (most recent call last):\n    raise RuntimeError\n    ^^^^^^^^^^"
    assert lines.message(job("a", "failed", error=error)) == "RuntimeError: boom"
