"""Tokens: what is not exactly ours is refused, and every refusal is the same."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest

from jobctl import auth
from jobctl.auth import Verifier, ensure_secret, is_exposed, key_id, mint, read_secret, secret_path
from jobctl.errors import ConfigError, Unauthorized
from tests.forgeries import Forger

SECRET = b"a secret of more than 32 bytes, for tests"
NOW = 1_790_000_000.0
FORGER = Forger(SECRET, NOW)
CLAIMS, GOOD, FORGERIES, signed = FORGER.claims, FORGER.good, FORGER.forgeries(), FORGER.signed


@pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES.keys())
def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(token: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        Verifier(SECRET).verify(token, now=NOW)
    assert type(caught.value) is Unauthorized
    assert (str(caught.value), caught.value.code) == ("Invalid or expired token", "unauthorized")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_the_table_of_forgeries_is_made_from_a_token_that_is_good() -> None:
    who = Verifier(SECRET).verify(GOOD, now=NOW)
    assert (who.subject, who.role, who.expires_at, who.token_id) == ("ann", "user", NOW + 900, "t1")
    assert len(FORGERIES) >= 90


@pytest.mark.parametrize(
    "claims",
    [
        {"role": "admin"},
        {"sub": "a" * 200},
        {"sub": "Jörg Müller <j@example.org>"},
        {"iat": int(NOW) + 5},
        {"iat": NOW - 0.5, "exp": NOW + 0.5},
        {"exp": int(NOW) + 10**9},
        {"something": "else"},
    ],
)
def test_what_is_within_the_rules_is_taken(claims: dict[str, Any]) -> None:
    Verifier(SECRET).verify(signed(CLAIMS | claims), now=NOW)


def test_a_clock_that_is_five_seconds_ahead_is_forgiven_and_no_more() -> None:
    Verifier(SECRET).verify(signed(CLAIMS | {"iat": int(NOW) + 5}), now=NOW)
    with pytest.raises(Unauthorized):
        Verifier(SECRET).verify(signed(CLAIMS | {"iat": int(NOW) + 6}), now=NOW)


def test_a_minted_token_is_taken_until_it_expires() -> None:
    verifier = Verifier(SECRET)
    token = mint(SECRET, subject="ann", role="admin", ttl=60, now=NOW)
    assert verifier.verify(token, now=NOW).is_admin
    verifier.verify(token, now=NOW + 59.9)
    with pytest.raises(Unauthorized):
        verifier.verify(token, now=NOW + 60)


def test_without_a_given_time_the_clock_decides() -> None:
    verifier = Verifier(SECRET)
    verifier.verify(mint(SECRET, subject="ann", role="user"))
    with pytest.raises(Unauthorized):
        verifier.verify(mint(SECRET, subject="ann", role="user", ttl=-1))


def test_every_token_has_an_id_of_its_own() -> None:
    ids = {Verifier(SECRET).verify(mint(SECRET, subject="a", role="user")).token_id for _ in range(100)}
    assert len(ids) == 100


def test_only_known_roles_are_minted() -> None:
    with pytest.raises(ValueError, match="admin, user"):
        mint(SECRET, subject="ann", role="root")


def test_other_libraries_read_our_tokens() -> None:
    token = mint(SECRET, subject="ann", role="user")
    assert jwt.decode(token, SECRET, algorithms=["HS256"], audience="jobctl")["sub"] == "ann"


# --- the secret ----------------------------------------------------------------------------------------------------


def test_the_first_start_makes_a_secret_that_only_its_user_can_read(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state"
    secret = ensure_secret(state)
    assert len(secret) >= 32
    assert stat.S_IMODE(secret_path(state).stat().st_mode) == 0o600
    assert [each.name for each in state.iterdir()] == ["secret"]
    assert ensure_secret(state) == read_secret(state) == secret


def test_the_environment_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_secret(tmp_path)
    monkeypatch.setenv("JOBCTL_SECRET", "e" * 32)
    assert ensure_secret(tmp_path) == b"e" * 32


def test_there_is_no_secret_before_the_first_start(tmp_path: Path) -> None:
    assert read_secret(tmp_path) is None
    secret_path(tmp_path).write_bytes(b" \n")
    assert read_secret(tmp_path) is None


def test_a_line_end_in_the_file_is_not_part_of_the_secret(tmp_path: Path) -> None:
    secret_path(tmp_path).write_bytes(b"x" * 32 + b"\n")
    assert ensure_secret(tmp_path) == b"x" * 32


@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_short_secret_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "file":
        secret_path(tmp_path).write_bytes(b"x" * 31)
    else:
        monkeypatch.setenv("JOBCTL_SECRET", "x" * 31)
    place = f"in {secret_path(tmp_path)}" if where == "file" else "of JOBCTL_SECRET"
    with pytest.raises(ConfigError) as caught:
        ensure_secret(tmp_path)
    assert str(caught.value) == f"the secret {place} has 31 bytes; HS256 needs at least 32"
    with pytest.raises(ConfigError, match=r"the secret of auth\.secret has 5 bytes"):
        ensure_secret(tmp_path, "short")


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_a_secret_that_others_can_read_is_exposed(tmp_path: Path, mode: int, exposed: bool) -> None:
    assert not is_exposed(secret_path(tmp_path))
    ensure_secret(tmp_path)
    secret_path(tmp_path).chmod(mode)
    assert is_exposed(secret_path(tmp_path)) is exposed


def test_servers_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        found.append(ensure_secret(tmp_path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_secrets_are_told_apart_without_showing_them() -> None:
    other = b"another secret of more than 32 bytes"
    assert key_id(SECRET) == key_id(SECRET) != key_id(other)
    verifier = Verifier(SECRET)
    assert verifier.key_ids == {key_id(SECRET)}
    verifier.replace_previous([other])
    assert verifier.key_ids == {key_id(SECRET), key_id(other)}


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ConfigError, match="state"):
        ensure_secret(tmp_path / "state")
    (tmp_path / "other").mkdir()
    secret_path(tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}{os.sep}other"):
        ensure_secret(tmp_path / "other")


def test_a_token_that_is_known_is_still_refused_when_it_has_ended_or_its_secret_is_gone() -> None:
    verifier = Verifier(SECRET)
    token = mint(SECRET, subject="ann", role="user", ttl=60, now=NOW)
    assert verifier.verify(token, now=NOW) == verifier.verify(token, now=NOW)
    with pytest.raises(Unauthorized):
        verifier.verify(token, now=NOW + 60)
    with pytest.raises(Unauthorized):
        Verifier(b"another secret of more than 32 bytes").verify(token, now=NOW)


def test_what_is_refused_is_not_kept() -> None:
    kept = auth._claims.cache_info().currsize
    for token in FORGERIES.values():
        with pytest.raises(Unauthorized):
            Verifier(b"a fresh secret of more than 32 bytes, too").verify(token, now=NOW)
    assert auth._claims.cache_info().currsize == kept
