"""SIGHUP and the schedules of the configuration: taken over like at a start, while the server runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from jobctl.engine.registry import Registry
from jobctl.errors import ConfigError, StoreUnavailable
from jobctl.rehearsal import rehearse
from jobctl.schedule import ScheduleSpec, ScheduleState
from jobctl.settings import Settings, load
from tests.kit import Running, StartServer, until

FAR = 4_000_000_000_000


class Configured:
    """A server with a configuration file; it has the handlers ``backup`` (any data) and ``report`` (a day)."""

    def __init__(self, server: Running, path: Path) -> None:
        self.server, self.path = server, path
        server.service.read_again = self.read

    def read(self) -> Settings:
        kept = self.server.settings
        return load(self.path, **{name: getattr(kept, name) for name in ("port", "db", "state_dir", "durability")})

    def hup(self, text: str) -> None:
        self.path.write_text(text)
        self.server.service.reload()

    async def schedules(self) -> dict[str, ScheduleState]:
        return {state.spec.name: state for state in (await self.server.store.schedules.all()).value}

    async def has(self, *names: str) -> bool:
        return [*(await self.schedules())] == [*names]


@pytest.fixture
async def configured(start_server: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configured:
    monkeypatch.setattr("jobctl.logs.configure", lambda *_: None)
    registry = Registry()

    @registry.job("backup")
    async def backup(ctx: object, **_: object) -> None:
        pass

    @registry.job("report")
    async def report(ctx: object, day: str) -> None:
        pass

    return Configured(await start_server(registry, accept_unknown=False), tmp_path / "jobctl.toml")


def table(name: str, *, cron: str = "@daily", job: str = "backup", more: str = "") -> str:
    return f'[schedules.{name}]\ncron = "{cron}"\njob = "{job}"\n{more}\n'


def told(caplog: pytest.LogCaptureFixture, level: int) -> str:
    return "\n".join(each.getMessage() for each in caplog.records if each.levelno == level)


async def test_they_come_change_and_go_with_the_file(configured: Configured, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    configured.hup(table("a") + table("b"))
    await until(lambda: configured.has("a", "b"))
    configured.hup(table("b", cron="0 3 * * *") + table("c"))
    await until(lambda: configured.has("b", "c"))
    assert (await configured.schedules())["b"].spec.cron == "0 3 * * *"
    assert (await configured.schedules())["b"].source == "config"
    configured.hup("")
    await until(configured.has)
    await until(lambda: "removed with the configuration: b, c" in told(caplog, logging.INFO))
    said = told(caplog, logging.INFO)
    for what in ("added with the configuration: a, b", "changed with the configuration: b", "changed: schedules"):
        assert what in said
    assert told(caplog, logging.WARNING) == ""


async def test_what_has_not_changed_keeps_its_next_run_and_what_is_the_apis_stays(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    spec = ScheduleSpec(name="mine", cron="@hourly", timezone="UTC", job_name="backup")
    await configured.server.store.schedules.add(spec, created_by="root", next_run=FAR)
    configured.hup(table("a"))
    await until(lambda: configured.has("a", "mine"))
    before = (await configured.schedules())["a"]
    configured.hup(table("a") + table("mine") + table("z"))
    await until(lambda: configured.has("a", "mine", "z"))
    assert (await configured.schedules())["a"] == before
    assert (await configured.schedules())["mine"].source == "api"
    await until(lambda: "[schedules.mine] is not taken" in told(caplog, logging.WARNING))


@pytest.mark.parametrize(
    ("job", "more", "why"),
    [
        ("new-command", "", "no handler named 'new-command'"),
        ("report", "data = { date = 1 }", "data.day"),
    ],
)
async def test_what_these_handlers_do_not_take_is_named_and_stays_as_it_was(
    configured: Configured, caplog: pytest.LogCaptureFixture, job: str, more: str, why: str
) -> None:
    configured.hup(table("a") + table("gone"))
    await until(lambda: configured.has("a", "gone"))
    configured.hup(table("a", job=job, more=more) + table("b") + table("new", job=job, more=more))
    await until(lambda: configured.has("a", "b"))
    assert (await configured.schedules())["a"].spec.job_name == "backup"
    said = told(caplog, logging.WARNING)
    for name in ("a", "new"):
        assert f"[schedules.{name}] is not taken over" in said
    assert why in said
    assert "restart" in said


async def test_a_mistake_in_one_schedule_changes_nothing(
    configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    configured.hup(table("a"))
    await until(lambda: configured.has("a"))
    large = f'data = {{ text = "{"x" * 70_000}" }}'
    for mistake in (table("b", cron="0 0 31 2 *"), table("b", more=large)):
        configured.hup("grace = 1.0\n" + mistake)
        assert "schedules.b" in told(caplog, logging.ERROR)
        caplog.clear()
    assert configured.server.service.settings.grace == configured.server.settings.grace
    assert await configured.has("a")


async def test_the_last_of_several_counts(configured: Configured) -> None:
    for n in range(20):
        configured.hup(table(f"n{n}"))
    await until(lambda: configured.has("n19"))


async def test_while_the_database_takes_no_writes_they_wait(
    configured: Configured, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.engine.schedules.RETRY_S", 0.01)
    sync = configured.server.store.schedules.sync
    failures = 3

    async def full(*arguments: object, **options: object) -> object:
        nonlocal failures
        await trio.lowlevel.checkpoint()
        failures -= 1
        if failures >= 0:
            raise StoreUnavailable("the disk is full")
        return await sync(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(configured.server.store.schedules, "sync", full)
    configured.hup(table("a"))
    await until(lambda: configured.has("a"))
    assert "the disk is full" in told(caplog, logging.WARNING)


def test_a_rehearsal_of_a_start_looks_at_schedules_too(tmp_path: Path) -> None:
    path = tmp_path / "jobctl.toml"
    path.write_text(table("a", job="nobody"))
    with pytest.raises(ConfigError, match=r"schedules\.a: no handler named 'nobody'"):
        rehearse(load(path))
