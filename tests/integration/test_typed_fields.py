"""Typed fields from the request to the handler, and the configuration's webhooks among the handlers."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from engine_kit import engine
from rest_kit import Api, make_api

from jobctl.engine import registry as registry_module
from jobctl.engine.registry import Registry, load
from jobctl.errors import ConfigError, HandlersFailed
from jobctl.settings import Settings, WebhookSettings
from jobctl.settings import load as load_settings


class Order(msgspec.Struct):
    number: int
    when: datetime | None = None


def typed() -> Registry:
    registry = Registry()

    @registry.job("resize")
    def resize(ctx: Any, path: Path, width: int = 640, mode: Literal["fit", "fill"] = "fit") -> Any:
        return [type(path).__name__, width, mode, ctx.data]

    @registry.job("ship")
    async def ship(ctx: Any, order: Order) -> Any:
        return [type(order).__name__, order.number, order.when == datetime(2026, 1, 1, tzinfo=UTC)]

    return registry


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ({"name": "resize", "data": {"path": "a", "width": "640"}}, "data.width",
         "data.width: expected integer, got string"),
        ({"name": "resize", "data": {"path": None}}, "data.path", "data.path: expected string (a path), got NoneType"),
        ({"name": "resize", "data": {"path": "a", "mode": "x"}}, "data.mode",
         "data.mode: invalid enum value 'x'; it is one of 'fill', 'fit'"),
        ({"name": "resize", "data": {}}, "data.path", "resize needs data.path"),
        ({"name": "ship", "data": {"number": 1.5}}, "data.number", "data.number: expected integer, got number"),
        ({"name": "ship", "data": {"order": {"number": 1}}}, "data.number", "ship needs data.number"),
    ],
)  # fmt: skip
async def test_a_value_that_does_not_fit_is_422_with_its_field(
    make_api: Callable[..., Api], body: dict[str, Any], field: str, detail: str
) -> None:
    api = make_api(registry=typed())
    problem = (await api.post("/api/jobs", body)).problem(422, "invalid")
    assert (problem["field"], problem["detail"]) == (field, detail)
    problem = (await api.post("/api/jobs/batch", [{"name": "ship", "data": {"number": 1}}, body])).problem(
        422, "invalid"
    )
    assert problem["field"] == f"jobs[1].{field}"
    assert (await api.get("/api/jobs/stats")).data["total"] == 0


async def test_the_handlers_list_has_a_schema_a_field(make_api: Callable[..., Api]) -> None:
    [resize, ship] = (await make_api(registry=typed()).get("/api/handlers")).data["handlers"]
    assert resize["fields"][1] == {"name": "width", "required": False, "default": 640, "schema": {"type": "integer"}}
    assert [field["name"] for field in ship["fields"]] == ["number", "when"]


async def test_a_handler_gets_its_own_types_and_the_context_what_came(tmp_path: Path) -> None:
    async with engine(tmp_path, typed()) as running:
        job = await running.run("resize", {"path": "a/b.png", "width": 3})
        assert msgspec.json.decode(job.result) == ["PosixPath", 3, "fit", {"path": "a/b.png", "width": 3}]
        job = await running.run("ship", {"number": 7, "when": "2026-01-01T00:00:00Z"})
        assert msgspec.json.decode(job.result) == ["Order", 7, True]


async def test_a_job_that_was_enqueued_for_another_handler_fails_for_good(tmp_path: Path) -> None:
    async with engine(tmp_path, typed()) as running:
        job = await running.run("ship", {"number": "7"}, max_attempts=3)
        assert (job.status, job.attempts, job.error) == ("failed", 1, "data.number: expected integer, got string")


def test_an_annotation_that_cannot_be_checked_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "default", Registry())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "odd_tasks.py").write_text(
        "from jobctl import job\nclass Thing: ...\n@job('a')\ndef a(ctx, thing: Thing): ...\n"
    )
    with pytest.raises(HandlersFailed, match=r"TypeError: a: thing is annotated Thing, .* \(odd_tasks\.py:3\)"):
        load(Settings(app="odd_tasks"))


def test_webhooks_become_handlers_and_take_any_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "default", Registry())
    hook = WebhookSettings(url="https://hooks.example/x", secret="a secret of 16 bytes or more", timeout=9)
    registry = load(Settings(webhooks={"invoice": hook}))
    assert msgspec.json.decode(msgspec.json.encode(registry.describe())) == [
        {"name": "invoice", "kind": "webhook", "fields": [], "timeout": 9.0}
    ]
    assert registry.check("invoice", {"any": ["thing"]}) is not None
    registry_module.default.job("invoice")(lambda ctx: None)
    with pytest.raises(HandlersFailed, match=r"webhooks\.invoice: there are two handlers"):
        load(Settings(webhooks={"invoice": hook}))


def test_a_secret_that_is_too_short_is_refused_and_not_shown(tmp_path: Path) -> None:
    config = tmp_path / "jobctl.toml"
    config.write_text('[webhooks.x]\nurl = "https://x/"\nsecret = "shhh-secret"\n')
    with pytest.raises(ConfigError, match=r"webhooks\.x\.secret: a webhook's secret has at least 16 bytes") as caught:
        load_settings(config)
    assert "shhh" not in str(caught.value)
    shown = repr(WebhookSettings(url="https://x/", secret="s" * 16, headers={"Authorization": "Bearer t0p"}))
    assert "ssss" not in shown
    assert "t0p" not in shown
