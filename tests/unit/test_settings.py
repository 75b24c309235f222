"""Settings: what may be said, which source wins, and how a mistake is named."""

import re
import tomllib
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel, BeforeValidator

from jobctl import settings
from jobctl.errors import ConfigError
from jobctl.settings import Settings, check_origin, load, parse_rate

SECRET = "s" * 32
SHOWN = Path(__file__).parents[2] / "configs" / "jobctl.toml"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [each for each in os.environ if each.upper().startswith("JOBCTL_")]:
        monkeypatch.delenv(name)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "jobctl.toml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(toml(tmp_path, text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 8001", "no setting 'prot'; did you mean port?"),
        ("[stream]\nmax_conections = 1", "no setting 'stream.max_conections'; did you mean stream.max_connections?"),
        ("[auth]\nsecrte = 1", "did you mean auth.secret?"),
        ("zzzzzz = 1", "no setting 'zzzzzz'"),
        ("[queues.mail]\nconcurency = 1", "no setting 'queues.mail.concurency'"),
        ("[commands.x]\nargv = ['a']\nshell = true", "no setting 'commands.x.shell'"),
        ('port = "http"', "port: "),
        ("port = 65536", "port: "),
        ("port = -1", "port: "),
        ("concurrency = 0", "concurrency: "),
        ('durability = "none"', "durability: "),
        ("grace = -1", "grace: "),
        ("auth = 3", "auth: "),
        ("queues = []", "queues: "),
        ("[queues.mail]\nconcurrency = 0", "queues.mail.concurrency: "),
        ('[queues."a b"]', "'a b': a name is 1 to 100 of"),
        ("[commands.x]", "commands.x.argv: "),
        ("[commands.x]\nargv = []", "commands.x.argv: "),
        ("[commands.x]\nargv = ['a']\ntimeout = 0", "commands.x.timeout: "),
        ('rate_limit = "fast"', "rate_limit: a rate is written like 100/15m"),
        ('certfile = "c.pem"', "certfile and keyfile go together"),
        ("[stream]\noutbox_bytes = 1", "stream.outbox_bytes: "),
        ('[log]\nlevel = "loud"', "log.level: "),
        ('allowed_origins = ["https://x.example/y"]', "allowed_origins: 'https://x.example/y' can never match"),
        ('[auth]\nissuer = "https://login.example/"', "auth: issuer does nothing without jwks_url"),
        ('[auth]\naudience = "x"', "auth: audience does nothing without jwks_url"),
        ('[auth]\nissuer = "jobctl"', "auth.issuer: 'jobctl' is what this server's own tokens say"),
        ("port = ", "is not TOML"),
        ("port = " + "9" * 5000, "is not TOML"),
        ("port = " + "[" * 100_000, "nests too deep"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    told = refused(tmp_path, text)
    assert said in told
    assert str(tmp_path / "jobctl.toml") in told


def test_a_wrong_table_is_named_though_the_secret_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCTL_SECRET", SECRET)
    assert "auth: " in refused(tmp_path, "auth = 3")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JOBCTL_PROT", "1", "JOBCTL_PROT is no setting; did you mean JOBCTL_PORT?"),
        ("JOBCTL_STRAEM__DEAD_AFTER", "1", "JOBCTL_STRAEM__DEAD_AFTER is no setting"),
        ("JOBCTL_STREAM__BOGUS", "1", "no setting 'stream.bogus'"),
        ("JOBCTL_PORT__X", "1", "JOBCTL_PORT__X is no setting"),
        ("JOBCTL_PORT", "http", "port: "),
        ("JOBCTL_ALLOWED_ORIGINS", "https://a.example", "JOBCTL_ALLOWED_ORIGINS is a list or a table and must be JSON"),
        ("JOBCTL_AUTH", "zzz", "JOBCTL_AUTH is a list or a table and must be JSON"),
        ("JOBCTL_QUEUES", "[]", "queues: "),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load(None)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JOBCTL_SECRET", "short", "JOBCTL_SECRET: auth.secret: a secret has"),
        ("JOBCTL_PREVIOUS_SECRET", "short", "JOBCTL_PREVIOUS_SECRET: auth.previous_secrets: a secret has"),
        ("JOBCTL_PORT", "abc", "JOBCTL_PORT: port: "),
        ("JOBCTL_STREAM__DEAD_AFTER", "x", "JOBCTL_STREAM__DEAD_AFTER: stream.dead_after: "),
        ("JOBCTL_STREAM", '{"dead_after": "x"}', "JOBCTL_STREAM: stream.dead_after: "),
        ("JOBCTL_STREAM__BOGUS", "1", "JOBCTL_STREAM__BOGUS: there is no setting 'stream.bogus'"),
        ("JOBCTL_CERTFILE", "c.pem", "JOBCTL_CERTFILE: certfile and keyfile go together"),
        ("JOBCTL_AUTH__JWKS_URL", "https://x.example/k", "JOBCTL_AUTH__JWKS_URL and THE FILE: auth: jwks_url needs"),
    ],
)
def test_a_mistake_of_the_environment_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    text = f'port = 8001\n[stream]\ndead_after = 60\n[auth]\nsecret = "{SECRET}"\nprevious_secrets = ["{SECRET}"]'
    monkeypatch.setenv(name, value)
    assert refused(tmp_path, text).startswith(said.replace("THE FILE", str(tmp_path / "jobctl.toml")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = -1", "THE FILE: port: "),
        ("[stream]\nping_interval = 0", "THE FILE: stream.ping_interval: "),
        ("[commands.x]", "THE FILE: commands.x.argv: "),
    ],
)
def test_a_mistake_of_the_file_is_not_blamed_on_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("JOBCTL_SECRET", SECRET)
    monkeypatch.setenv("JOBCTL_STREAM__DEAD_AFTER", "1")
    monkeypatch.setenv("JOBCTL_CONCURRENCY", "1")
    assert refused(tmp_path, text).startswith(said.replace("THE FILE", str(tmp_path / "jobctl.toml")))


def test_the_environment_wins_over_the_file_in_a_table_that_the_secret_is_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml(tmp_path, '[auth]\nsubject_claim = "sub"\nrole_claim = "file"')
    monkeypatch.setenv("JOBCTL_SECRET", SECRET)
    monkeypatch.setenv("JOBCTL_AUTH__SUBJECT_CLAIM", "email")
    found = load(path).auth
    assert (found.subject_claim, found.role_claim) == ("email", "file")
    assert found.secret is not None


def test_only_a_name_that_is_near_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_BOGUS", "1")
    with pytest.raises(ConfigError, match=r"^the environment variable JOBCTL_BOGUS is no setting$"):
        load(None)


@pytest.mark.parametrize("name", ["JOBCTL_URL", "JOBCTL_TOKEN", "JOBCTL_DEBUG"])
def test_the_clients_variables_are_no_mistake(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    load(None)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"host = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(path)


def test_nobody_changes_a_setting_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(None).port = 1  # type: ignore[misc]


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
