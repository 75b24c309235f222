"""Mistakes in settings, and how each is named."""


from pathlib import Path

import pytest
from settings_kit import SECRET, _no_environment, refused, toml  # noqa: F401

from jobctl.errors import ConfigError
from jobctl.settings import load


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
        ("grace = inf", "grace: "),
        ("cancel_grace = 1e400", "cancel_grace: "),
        ("[commands.x]\nargv = 'ls'", 'commands.x.argv: Input should be a list, like ["one", "two"]'),
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


def test_a_mistake_of_the_file_is_told_though_something_else_is_said_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCTL_PORT", "8001")
    monkeypatch.setenv("JOBCTL_STREAM__DEAD_AFTER", "60")
    where = tmp_path / "jobctl.toml"
    assert refused(tmp_path, 'port = "8001"').startswith(f"{where}: port: ")
    assert refused(tmp_path, '[stream]\ndead_after = "60"').startswith(f"{where}: stream.dead_after: ")


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
