"""Issuing and listing tokens."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

from typing import Any

from rest_kit import ADMIN, SECRET, token  # noqa: F401
from sign_in_kit import DAY, Browser, SignInApi, api, build, store  # noqa: F401


async def issue(api: SignInApi, name: str = "ci", **fields: Any) -> dict[str, Any]:
    answer = await api.post("/api/tokens", {"name": name} | fields)
    assert answer.status == 201, answer.body
    data: dict[str, Any] = answer.data
    return data


async def listed(api: SignInApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/api/tokens")).data["tokens"]
    return found
