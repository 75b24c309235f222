"""Settings: what may be said, which source wins, and how a mistake is named."""


import re
import tomllib
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel, BeforeValidator
from settings_kit import SECRET, _no_environment, refused, toml  # noqa: F401

from jobctl import reload, settings
from jobctl.database_url import DatabaseUrl
from jobctl.errors import ConfigError
from jobctl.settings import Settings, check_origin, load, parse_rate

SHOWN = Path(__file__).parents[2] / "configs" / "jobctl.toml"


def test_the_defaults_are_those_of_the_design() -> None:
    found = load(None)
    assert (found.host, found.port, found.db, found.durability) == ("127.0.0.1", 8000, Path("jobctl.db"), "full")
    assert (found.concurrency, found.grace, found.cancel_grace, found.rate_limit) == (10, 25, 10, "6000/1m")
    assert (found.stream.max_connections, found.stream.max_per_subject) == (10_000, 2_000)
    assert (found.stream.outbox_bytes, found.stream.dead_after) == (256 * 1024, 75)
    assert (found.stream.auth_timeout, found.stream.ping_interval) == (10, 30)
    assert (found.auth.secret, found.accept_unknown, found.app) == (None, False, None)


# --- which source wins ---------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml(tmp_path, 'port = 1\nconcurrency = 1\nhost = "file"\n')
    monkeypatch.setenv("JOBCTL_PORT", "2")
    monkeypatch.setenv("JOBCTL_CONCURRENCY", "2")
    found = load(path, port=3)
    assert (found.port, found.concurrency, found.host) == (3, 2, "file")


def test_what_the_command_line_does_not_say_is_left_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_PORT", "2")
    assert load(None, port=None, host=None).port == 2


def test_the_environment_changes_one_value_of_a_table_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml(tmp_path, "[stream]\nmax_connections = 1\noutbox_bytes = 8192\n")
    monkeypatch.setenv("JOBCTL_STREAM__MAX_CONNECTIONS", "2")
    found = load(path).stream
    assert (found.max_connections, found.outbox_bytes, found.ping_interval) == (2, 8192, 30)


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_PORT", "")
    monkeypatch.setenv("JOBCTL_SECRET", "")
    assert load(None).port == 8000


def test_one_load_leaves_nothing_for_the_next(tmp_path: Path) -> None:
    assert load(toml(tmp_path, "port = 1")).port == 1
    refused(tmp_path, "port = 1\nbogus = 1")
    assert load(None).port == 8000


def test_lists_and_tables_of_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_ALLOWED_ORIGINS", '["https://a.example"]')
    monkeypatch.setenv("JOBCTL_QUEUES", '{"mail": {"concurrency": 2}}')
    found = load(None)
    assert (found.allowed_origins, found.queues["mail"].concurrency) == (("https://a.example",), 2)


# --- the secret ----------------------------------------------------------------------------------------------------


def test_the_secret_of_the_environment_wins_over_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(tmp_path, f'[auth]\nsecret = "{"f" * 32}"')
    assert load(path).auth.secret.get_secret_value() == "f" * 32  # type: ignore[union-attr]
    monkeypatch.setenv("JOBCTL_SECRET", SECRET)
    assert load(path).auth.secret.get_secret_value() == SECRET  # type: ignore[union-attr]


@pytest.mark.parametrize("variable", ["JOBCTL_SECRET", "JOBCTL_AUTH__SECRET"])
def test_a_short_secret_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "not-that-long-after-all-31-bytes")
    load(None)
    monkeypatch.setenv(variable, "hunter2hunter2")
    with pytest.raises(ConfigError, match="at least 32 bytes") as caught:
        load(None)
    assert "hunter2" not in str(caught.value)


def test_a_secret_is_measured_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_SECRET", "ü" * 16)
    assert load(None).auth.secret is not None


def test_the_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_SECRET", SECRET)
    assert SECRET not in repr(load(None))


# --- types: the file has them, the environment has text --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = true", "port: a whole number belongs here, not true"),
        ('port = "20102"', "port: a whole number stands here without quotes"),
        ("port = 8000.0", "port: a whole number belongs here"),
        ("concurrency = true", "concurrency: a whole number belongs here, not true"),
        ("grace = false", "grace: a number belongs here, not false"),
        ('grace = "2.5"', "grace: a number stands here without quotes"),
        ("accept_unknown = 1", "accept_unknown: true or false belongs here"),
        ('accept_unknown = "yes"', "accept_unknown: true or false stands here without quotes"),
        ("[retention]\nlogs = true", "retention.logs: a number belongs here, not true"),
        ("[stream]\nping_interval = true", "stream.ping_interval: a number belongs here"),
        ("[queues.a]\nconcurrency = true", "queues.a.concurrency: a whole number belongs here"),
        ("[auth]\nmax_lifetime = true", "auth.max_lifetime: a number belongs here"),
        ('[schedules.a]\ncron = "@daily"\njob = "x"\nenabled = 0', "schedules.a.enabled: true or false belongs here"),
    ],
)
def test_the_types_of_the_file_are_not_guessed_at(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_every_number_and_switch_is_held_to_its_type() -> None:
    def loose(model: type[BaseModel]) -> set[str]:
        found = set()
        for name, field in model.model_fields.items():
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    found |= loose(kind)
            inner = [each for each in (field.annotation, *get_args(field.annotation)) if each in (int, float, bool)]
            if inner and not any(isinstance(each, BeforeValidator) for each in field.metadata):
                found.add(f"{model.__name__}.{name}")
        return found

    assert loose(Settings) == set()


def test_text_of_the_environment_becomes_what_the_setting_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "PORT": "2", "GRACE": "2.5", "ACCEPT_UNKNOWN": "true", "RETENTION__LOGS": "90s",
        "QUEUES": '{"a":{"concurrency":"2"}}',
        "LOG__LEVEL": "debug", "DB": "/x.db",
        "SCHEDULES": '{"s":{"cron":"@daily","job":"x","data":{"a":["b"]}}}',
    }.items():  # fmt: skip
        monkeypatch.setenv(f"JOBCTL_{name}", text)
    found = load(None)
    assert (found.port, found.grace, found.accept_unknown, found.retention.logs) == (2, 2.5, True, 90)
    assert (found.queues["a"].concurrency, found.log.level, found.db) == (2, "debug", Path("/x.db"))
    data = found.schedules["s"].data
    assert data == {"a": ["b"]}
    assert type(data["a"][0]) is str  # not one of ours: it goes into the database


# --- origins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["https://board.example", "https://Board.example/", "http://localhost:5173", "http://[::1]:8080", "tauri://localhost"],
)
def test_what_a_browser_sends_as_its_origin_is_taken(text: str) -> None:
    check_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "null", "board.example", "//board.example", "https://", "https://x.example/y", "https://x.example//",
        "https://x.example?q", "https://x.example#f", "https://a@x.example", "https://x.example:https", "https://b\xfccher.example",
        "https://*.example/", " https://x.example", "https://x.example:08443", "http://[::1", "https://x.example:",
    ],
)  # fmt: skip
def test_what_no_browser_ever_sends_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="can never match"):
        check_origin(text)


@pytest.mark.parametrize(
    ("text", "bare"), [("https://x.example:443", "https://x.example"), ("http://[::1]:80/", "http://[::1]")]
)
def test_the_usual_port_is_told_to_be_left_out(text: str, bare: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"browsers leave the usual port out: {bare}") + "$"):
        check_origin(text)


# --- rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/15m", (100, 900)),
        ("6000/1m", (6000, 60)),
        ("6000/m", (6000, 60)),
        ("1/s", (1, 1)),
        ("5/2h", (5, 7200)),
        ("1/30d", (1, 2_592_000)),
    ],
)
def test_a_rate_is_a_capacity_and_the_time_to_refill_it(text: str, rate: tuple[int, float]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "100/", "/m", "0/1m", "100/0m", "1/1w", "1.5/m", "-1/m", "1/m ", "1 / m", "1/1m\n"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a rate is written like"):
        parse_rate(text)


# --- the file that shows them all ----------------------------------------------------------------------------------


def every_name(model: type[BaseModel] = Settings, prefix: str = "") -> set[str]:
    """``port``, ``stream.max_connections``, ``queues.*.concurrency``, ..."""
    found = set()
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        where = f"{prefix}{name}" + (".*" if sections and get_origin(field.annotation) is dict else "")
        found |= every_name(sections[0], f"{where}.") if sections else {where}
    return found


def shown_names() -> dict[str, object]:
    """What ``configs/jobctl.toml`` sets once its examples are no comments any more."""
    lines = [re.sub(r"^# ?(?=\[|\w+ = )", "", line) for line in SHOWN.read_text("utf-8").splitlines()]
    found: dict[str, object] = {}
    real = every_name()
    named = {name.split(".*.")[0] for name in real if ".*." in name}

    def walk(table: dict[str, object], prefix: str) -> None:
        for name, value in table.items():
            where = f"{prefix}.*" if prefix in named else f"{prefix}.{name}".lstrip(".")
            if isinstance(value, dict) and where not in real:
                walk(value, where)
            else:
                found[where] = value

    walk(tomllib.loads("\n".join(lines)), "")
    return found


def test_the_configuration_that_is_shipped_loads_and_changes_nothing() -> None:
    assert load(SHOWN) == load(None)


def test_the_configuration_that_is_shipped_shows_every_setting_and_no_other() -> None:
    assert set(shown_names()) == every_name()


def test_the_configuration_that_is_shipped_shows_the_defaults() -> None:
    defaults = load(None).model_dump(mode="json")
    for name, value in shown_names().items():
        if name == "state_dir" or "*" in name:
            continue
        found = defaults
        for part in name.split("."):
            found = found[part]
        assert found in (None, value), name  # where nothing is the default, an example is shown


def test_the_names_that_a_mistake_is_compared_with_are_real() -> None:
    sections = {name.split(".")[0] for name in every_name() if "." in name}
    assert sections == settings._TABLES
    assert {name for name in settings._all_names() if "." in name} <= every_name()


# --- the database --------------------------------------------------------------------------------------------------


def test_a_database_is_a_file_or_an_address_of_postgresql(tmp_path: Path) -> None:
    assert load(None).db == Path("jobctl.db")
    assert load(None, db="x.db").db == Path("x.db")
    assert load(toml(tmp_path, 'db = "postgresql://ann@db/jobs"')).db == DatabaseUrl("postgresql://ann@db/jobs")


@pytest.mark.parametrize("given", ["mysql://db/jobs", "http://db", "postgresql://db/a b", "postgresql://[db/jobs"])
def test_an_address_of_something_else_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"^the command line: db\b.*: "):
        load(None, db=given)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:hunter2secret@db:5433/jobs?sslmode=require", "postgresql://ann@db:5433/jobs?sslmode=require"),
        ("postgres://:hunter2secret@db/jobs", "postgres://db/jobs"),
        ("postgresql:///jobs?host=/run/pg&password=hunter2secret", "postgresql:///jobs?host=/run/pg"),
        ("postgresql://ann@a:1,b:2/jobs", "postgresql://ann@a:1,b:2/jobs"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    settings = load(None, db=url)
    assert str(settings.db) == shown
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in settings.model_dump_json()
    assert isinstance(settings.db, DatabaseUrl)
    assert settings.db.secret == url


def test_a_password_is_hidden_from_the_log_as_written_and_as_meant() -> None:
    settings = load(None, db="postgresql://ann:hunter2%21secret@db/jobs")
    assert {"hunter2%21secret", "hunter2!secret"} <= set(reload.secrets_of(settings))
