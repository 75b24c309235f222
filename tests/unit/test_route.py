"""Rules match as Werkzeug's do, and are made without what only ``url_for`` would need."""

from __future__ import annotations

import pytest
from werkzeug.routing import Map, Rule

from jobctl.web.app import App
from jobctl.web.route import Route


def bound() -> Map:
    route = Route("/api/jobs/<name>/logs", endpoint="logs", methods=["GET"])
    return Map([route])


def test_a_route_is_made_without_compiling_its_builders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rule, "_get_func_code", lambda *_: pytest.fail("a builder was compiled"))
    routes = bound()
    assert routes.bind("x").match("/api/jobs/a/logs", method="GET") == ("logs", {"name": "a"})


def test_the_app_has_no_other_routes() -> None:
    assert App.url_rule_class is Route


def test_who_asks_for_a_url_still_gets_it() -> None:
    routes = bound()
    there = routes.bind("x")
    assert there.build("logs", {"name": "a b"}) == "/api/jobs/a%20b/logs"
    assert there.build("logs", {"name": "a", "from": "1"}) == "/api/jobs/a/logs?from=1"
