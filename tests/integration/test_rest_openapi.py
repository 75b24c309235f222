"""The OpenAPI document: every route is in it, and what it refers to is there."""
# ruff: noqa: F401, F811  (fixtures are imported by name)

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from rest_kit import MISSING, Api, api, make_api

from jobctl.model import EnqueueRequest, Job
from jobctl.web.problems import STATUS


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    answer = await api.get("/api/openapi.json", bearer=None)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    told: dict[str, Any] = msgspec.json.decode(answer.body)
    return told


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_it_is_openapi_3_1_with_bearer_tokens(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "jobctl"
    assert document["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    assert document["security"] == [{"bearer": []}]


async def test_it_has_every_route_and_no_other(document: dict[str, Any], api: Api) -> None:
    rules = {
        (method, re.sub("<[a-z_]+:([a-z_]+)>", r"{\1}", rule.rule))
        for rule in api.app.url_map.iter_rules()
        for method in rule.methods or ()
        if method != "HEAD" and rule.rule not in {"/", "/static/<name>"}  # the dashboard is no part of the API
    }
    assert {(method, path) for method, path, _ in operations(document)} == rules


async def test_every_reference_leads_somewhere_and_ids_are_unique(document: dict[str, Any]) -> None:
    for reference in references(document):
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


async def test_every_operation_says_what_it_does_and_how_it_fails(document: dict[str, Any]) -> None:
    public = {"/healthz", "/readyz", "/api/openapi.json", "/api/auth/login", "/api/auth/refresh", "/api/auth/logout"}
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert (operation.get("security") == []) == (path in public)
        statuses = {int(status) for status in operation["responses"]}
        assert statuses & {200, 201}, (method, path)
        if path not in public:
            assert {401, 403, 429, 500} <= statuses
        for status, response in operation["responses"].items():
            assert response["description"], (method, path, status)
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
                assert int(status) in STATUS.values()
        parameters = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert parameters == {part[1:-1] for part in path.split("/") if part.startswith("{")}


async def test_bodies_and_parameters_are_those_that_are_taken(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(schemas["EnqueueRequest"]["properties"]) == set(EnqueueRequest.__struct_encode_fields__)
    assert set(schemas["Job"]["properties"]) == set(Job.__struct_encode_fields__)
    paths = document["paths"]
    asked = {each["name"] for each in paths["/api/jobs"]["get"]["parameters"]}
    assert asked == {"status", "name", "queue", "tag", "createdBy", "q", "limit", "cursor"}
    assert {each["name"] for each in paths["/api/events"]["get"]["parameters"]} == {"since", "limit", "wait"}
    assert set(paths["/api/jobs/batch"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "application/x-ndjson",
    }
    headers = [each for each in paths["/api/jobs"]["post"]["parameters"] if each["in"] == "header"]
    assert [each["name"] for each in headers] == ["idempotency-key"]


async def test_no_page_is_served_that_loads_scripts_from_elsewhere(api: Api) -> None:
    for target in ("/docs", "/redocs", "/scalar"):
        (await api.get(target)).problem(404, "not_found")
