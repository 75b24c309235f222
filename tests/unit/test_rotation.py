"""Secrets that signed before: taken, never used; and what a token says about how long it lives."""

import json
from pathlib import Path

import pytest

from jobctl.access import access
from jobctl.auth import ACCESS_TTL_S, Verifier, algorithm_of, ensure_secret, mint
from jobctl.errors import ConfigError, Unauthorized
from jobctl.settings import load

NEW, OLD, OLDER = (name.encode() * 10 for name in ("new-", "old-", "older-"))
NOW = 1_790_000_000.0


def test_a_token_of_a_secret_before_is_taken_and_of_no_other() -> None:
    verifier = Verifier(NEW, [OLD, OLDER])
    for secret in (NEW, OLD, OLDER):
        assert verifier.verify(mint(secret, subject="ann", role="user", now=NOW), now=NOW).subject == "ann"
    with pytest.raises(Unauthorized):
        verifier.verify(mint(b"x" * 40, subject="ann", role="user", now=NOW), now=NOW)
    with pytest.raises(Unauthorized):
        Verifier(NEW).verify(mint(OLD, subject="ann", role="user", now=NOW), now=NOW)


def test_an_expired_token_of_a_secret_before_is_expired() -> None:
    token = mint(OLD, subject="ann", role="user", now=NOW)
    with pytest.raises(Unauthorized):
        Verifier(NEW, [OLD]).verify(token, now=NOW + ACCESS_TTL_S)


def test_a_running_server_can_let_go_of_a_secret() -> None:
    verifier = Verifier(NEW, [OLD])
    token = mint(OLD, subject="ann", role="user", now=NOW)
    verifier.verify(token, now=NOW)
    verifier.replace_previous([])
    with pytest.raises(Unauthorized):
        verifier.verify(token, now=NOW)


def test_nothing_is_signed_with_a_secret_before(monkeypatch: pytest.MonkeyPatch) -> None:
    signed_with = []

    def spy(secret: bytes, **_: object) -> str:
        signed_with.append(secret)
        return "token"

    class Nothing:
        access = None

        def listen(self, _: object) -> None: ...

    monkeypatch.setenv("JOBCTL_PREVIOUS_SECRET", OLD.decode())
    here = access.open_access(Nothing(), NEW, load(None).auth)  # type: ignore[arg-type]
    monkeypatch.setattr("jobctl.auth.mint", spy)
    here.mint(access.TokenIssued("j", "ann", "user", 2000), 1000)
    assert signed_with == [NEW]
    assert here.sessions._secrets()[0] == NEW
    monkeypatch.undo()
    assert here.identify(mint(OLD, subject="ann", role="user")).subject == "ann"


@pytest.mark.parametrize("where", ["environment", "nested environment", "file"])
def test_secrets_before_are_given_by_file_or_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = None
    if where == "file":
        path = tmp_path / "jobctl.toml"
        path.write_text(f'[auth]\nprevious_secrets = ["{OLD.decode()}"]\n')
    elif where == "environment":
        monkeypatch.setenv("JOBCTL_PREVIOUS_SECRET", OLD.decode())
    else:
        monkeypatch.setenv("JOBCTL_AUTH__PREVIOUS_SECRETS", json.dumps([OLD.decode()]))
    found = load(path).auth
    assert [each.get_secret_value() for each in found.previous_secrets] == [OLD.decode()]
    assert OLD.decode() not in repr(found) + str(load(path))


@pytest.mark.parametrize("value", ["canary", "canary" * 5])
def test_a_short_secret_before_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JOBCTL_PREVIOUS_SECRET", value)
    with pytest.raises(ConfigError, match="at least 32 bytes") as caught:
        load(None)
    assert "canary" not in str(caught.value)


def test_the_secret_of_the_configuration_is_the_one_that_signs(tmp_path: Path) -> None:
    assert ensure_secret(tmp_path / "state", "f" * 32) == b"f" * 32
    assert not (tmp_path / "state").exists(), "none is made where one is given"
    with pytest.raises(ConfigError, match="31 bytes"):
        ensure_secret(tmp_path, "f" * 31)


@pytest.mark.parametrize(("ttl", "registered"), [(60, False), (900, False), (901, False), (902, True), (86400, True)])
def test_a_token_that_lives_longer_than_an_access_token_has_to_be_registered(ttl: float, registered: bool) -> None:
    token = mint(NEW, subject="ann", role="user", ttl=ttl, now=NOW)
    assert Verifier(NEW).verify(token, now=NOW).registered is registered


def test_a_token_keeps_its_id_and_its_session() -> None:
    who = Verifier(NEW).verify(mint(NEW, subject="a", role="user", now=NOW, token_id="t1", session="s1"), now=NOW)
    assert (who.token_id, who.session) == ("t1", "s1")


@pytest.mark.parametrize("token", ["", ".", "a.b.c", "\x00", "e30.e30.x", "WzFd.e30.x", "eyJhbGciOjF9.e30.x"])
def test_what_names_no_algorithm_names_none(token: str) -> None:
    assert algorithm_of(token) is None

