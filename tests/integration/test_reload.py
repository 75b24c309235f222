"""Settings that change while the server runs, and what a start refuses or warns of."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import logging
from pathlib import Path

import httpx2
import pytest
import trio
from operations_kit import bearer, http  # noqa: F401

from jobctl import auth
from jobctl.errors import ConfigError
from jobctl.rehearsal import rehearse
from jobctl.settings import Settings, load
from tests.kit import LOOPBACK, Running, StartServer


class Reloading:
    """A server whose settings come from a file."""

    def __init__(self, server: Running, path: Path) -> None:
        self.server, self.path = server, path
        server.service.read_again = self.read

    def read(self) -> Settings:
        kept = self.server.settings
        same = ("port", "db", "state_dir", "accept_unknown", "durability")
        return load(self.path, **{name: getattr(kept, name) for name in same})

    def with_file(self, text: str) -> None:
        self.path.write_text(text)
        self.server.service.reload()


@pytest.fixture
def reloading(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reloading:
    monkeypatch.setattr("jobctl.logs.configure", lambda *_: None)
    return Reloading(server, tmp_path / "jobctl.toml")


async def test_a_reload_takes_over_what_it_can_and_names_the_rest(
    reloading: Reloading, http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = reloading.server
    page = {**bearer(server), "Origin": "https://board.example"}
    assert (await http.get("/api/handlers", headers=page)).status_code == 403
    reloading.with_file(
        """
        concurrency = 3
        durability = "normal"
        rate_limit = "2/1h"
        allowed_origins = ["https://board.example"]
        grace = 1.5
        [stream]
        max_connections = 1
        [health]
        max_lag = 9.0
        [log]
        access = "off"
        """
    )
    taken = "allowed_origins, grace, health.max_lag, log.access, rate_limit, stream.max_connections"
    assert [each.getMessage() for each in caplog.records if each.name == "jobctl"][-2:] == [
        f"read the settings again; changed: {taken}",
        "these settings changed too, and need a restart: concurrency",
    ]
    caplog.clear()
    statuses = [(await http.get("/api/handlers", headers=page)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert not [each for each in caplog.records if each.name == "jobctl.web"]
    assert server.service.runner._grace == 1.5
    assert server.service.engine.watchdog.max_lag == 9.0
    assert server.service.settings.concurrency == 10
    async with server.peer():
        peer = await trio.open_tcp_stream(LOOPBACK, server.port)
        await peer.aclose()
        async with server.connect() as second:
            assert (await second.closed())[0] == 4429
    reloading.with_file(reloading.path.read_text())
    assert "changed: nothing" in "".join(each.getMessage() for each in caplog.records)


@pytest.mark.parametrize(
    "text",
    ["port = ", "nonsense = 1\n", 'grace = 1.0\ntrusted_proxies = ["nowhere"]\n', 'grace = 1.0\nrate_limit = "x"\n'],
)
async def test_a_mistake_in_the_file_changes_nothing(
    reloading: Reloading, http: httpx2.AsyncClient, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = reloading.server.service.settings
    reloading.with_file(text)
    assert reloading.server.service.settings is before
    assert reloading.server.service.runner._grace == before.grace
    (told,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert told.startswith("the settings stay as they are: ")
    assert (await http.get("/api/handlers", headers=bearer(reloading.server))).status_code == 200


async def test_a_withdrawn_secret_is_refused_from_then_on(reloading: Reloading, http: httpx2.AsyncClient) -> None:
    old = b"the secret before this one, also of 32 bytes"
    token = auth.mint(old, subject="root", role="admin")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await http.get("/api/handlers", headers=headers)).status_code == 401
    reloading.with_file(f'[auth]\nprevious_secrets = ["{old.decode()}"]\n')
    assert (await http.get("/api/handlers", headers=headers)).status_code == 200
    reloading.with_file("")
    assert (await http.get("/api/handlers", headers=headers)).status_code == 401


def test_a_rehearsal_refuses_what_a_start_would(tmp_path: Path) -> None:
    rehearse(load(None))
    with pytest.raises(ConfigError, match="trusted_proxies"):
        rehearse(load(None, trusted_proxies=("nowhere",)))


async def test_a_start_warns_of_a_secret_that_others_can_read_and_of_a_missing_backup_folder(
    start_server: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    auth.ensure_secret(tmp_path / "state")
    auth.secret_path(tmp_path / "state").chmod(0o644)
    await start_server(backup_dir=tmp_path / "nosuch")
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert f"run: chmod 600 {tmp_path}/state/secret" in told[0]
    assert told[1] == f"backup_dir: there is no folder {tmp_path}/nosuch; backups are refused until there is"
