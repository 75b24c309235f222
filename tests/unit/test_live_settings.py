"""Which settings a running server takes over, and where each in force comes from."""

from pathlib import Path

import pytest

from jobctl import reload
from jobctl.cli.effective import MASK, effective
from jobctl.settings import load

SECRET = "a secret of more than thirty-two bytes"


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "jobctl.toml"
    path.write_text(text)
    return path


def test_what_a_running_server_takes_over_is_told_from_what_needs_a_restart(tmp_path: Path) -> None:
    old = load(None)
    new = load(
        toml(
            tmp_path,
            f"""
            port = 9000
            rate_limit = "10/1m"
            trusted_proxies = ["10.0.0.0/8"]
            grace = 1.0
            [log]
            level = "debug"
            [stream]
            max_connections = 5
            [auth]
            previous_secrets = ["{SECRET}"]
            secret = "{SECRET}"
            [queues.slow]
            concurrency = 1
            """,
        )
    )
    changes = reload.compare(old, new)
    assert changes.later == ("auth.secret", "port", "queues")
    assert changes.taken == (
        "auth.previous_secrets", "grace", "log.level", "rate_limit", "stream.max_connections", "trusted_proxies",
    )  # fmt: skip


def test_what_is_taken_over_is_exactly_what_is_told(tmp_path: Path) -> None:
    old = load(None)
    text = f'port = 9000\ngrace = 1.0\n[auth]\nprevious_secrets = ["{SECRET}"]\nsecret = "{SECRET}"\n'
    new = load(toml(tmp_path, text))
    both = reload.merged(old, new)
    assert (both.port, both.grace, both.auth.secret) == (old.port, 1.0, None)
    assert both.auth.previous_secrets == new.auth.previous_secrets
    assert reload.compare(both, new).taken == ()
    assert reload.compare(both, new).later == ("auth.secret", "port")


def test_the_same_settings_have_no_changes() -> None:
    assert reload.compare(load(None), load(None)) == reload.Changes((), ())


def test_every_name_that_is_live_is_a_setting() -> None:
    settings = load(None)
    for name in reload.LIVE:
        value: object = settings
        for part in name.split("."):
            value = getattr(value, part)


def test_every_secret_is_known_wherever_it_stands(tmp_path: Path) -> None:
    found = reload.secrets_of(
        load(
            toml(
                tmp_path,
                f"""
                [auth]
                secret = "{SECRET} 1"
                previous_secrets = ["{SECRET} 2"]
                [webhooks.a]
                url = "https://example.com"
                secret = "{SECRET} 3"
                headers = {{ X-Key = "{SECRET} 4" }}
                """,
            )
        )
    )
    assert sorted(found) == [f"{SECRET} {n}" for n in range(1, 5)]


# --- where a setting comes from --------------------------------------------------------------------------------------


def test_each_setting_is_shown_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(
        tmp_path,
        """
        port = 1
        host = "file"
        grace = 2.0
        [stream]
        max_connections = 7
        [queues.slow]
        concurrency = 3
        """,
    )
    monkeypatch.setenv("JOBCTL_HOST", "environment")
    monkeypatch.setenv("JOBCTL_STREAM__MAX_CONNECTIONS", "8")
    monkeypatch.setenv("JOBCTL_LOG", '{"level": "debug"}')
    flags = {"port": 3, "host": None}
    found = {each.name: (each.value, each.origin) for each in effective(load(path, **flags), path, flags)}
    assert found["port"] == (3, "flag --port")
    assert found["host"] == ("environment", "env JOBCTL_HOST")
    assert found["grace"] == (2.0, f"file {path}")
    assert found["stream.max_connections"] == (8, "env JOBCTL_STREAM__MAX_CONNECTIONS")
    assert found["log.level"] == ("debug", "env JOBCTL_LOG")
    assert found["queues.slow.concurrency"] == (3, f"file {path}")
    assert found["concurrency"] == (10, "default")


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = toml(
        tmp_path,
        f"""
        [auth]
        previous_secrets = ["{SECRET}"]
        [webhooks.a]
        url = "https://example.com"
        secret = "{SECRET}"
        headers = {{ X-Key = "{SECRET}" }}
        [commands.c]
        argv = ["true"]
        env = {{ API_KEY = "{SECRET}" }}
        """,
    )
    monkeypatch.setenv("JOBCTL_SECRET", SECRET)
    found = effective(load(path), path, {})
    assert SECRET not in repr(found)
    shown = {each.name: each.value for each in found}
    assert shown["auth.secret"] == shown["webhooks.a.secret"] == MASK
    assert shown["auth.previous_secrets"] == [MASK]
    assert shown["commands.c.env"] == {"API_KEY": MASK}
    assert shown["webhooks.a.headers"] == {"X-Key": MASK}
    assert {each.origin for each in found if each.name == "auth.secret"} == {"env JOBCTL_SECRET"}


def test_the_previous_secret_of_the_environment_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_PREVIOUS_SECRET", SECRET)
    (found,) = [each for each in effective(load(None), None, {}) if each.name == "auth.previous_secrets"]
    assert (found.value, found.origin) == ([MASK], "env JOBCTL_PREVIOUS_SECRET")
