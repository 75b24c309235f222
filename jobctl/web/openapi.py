"""The OpenAPI document: shapes that only it needs, and what quart-schema does not say by itself.

quart-schema walks the routes and reads its decorators. It is not let near requests (its own decoding takes ``"4"``
for 4, and its hook into every response costs time), and three things are put right here: it drops the definitions
that a msgspec type refers to, knows one media type only, and documents no patterns of path parameters.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta
from quart import Quart
from quart_schema import HttpSecurityScheme, Info, QuartSchema, document_response
from quart_schema.openapi import OpenAPIProvider

from jobctl.model import EnqueueRequest, Job, JobPage, LogLine, Queue, Stats, Wire
from jobctl.protocol.messages import JobDeleted, JobsPruned, JobUpdate
from jobctl.web.problems import STATUS, Problem

F = TypeVar("F", bound=Callable[..., Any])

PATH: Final = "/api/openapi.json"
_REFERENCES: Final = "#/components/schemas/{name}"
_ALWAYS: Final = (401, 403, 429, 500)
POSITION: Final = "X-Jobctl-Position"
_HEADERS: Final = {
    "ETag": "tag of exactly this answer, for If-None-Match",
    POSITION: "EPOCH:SEQ, the place in the event log at which this was true",
    "Retry-After": "seconds",
}


class JobAnswer(Wire, frozen=True):
    """The job."""

    data: Job


class JobsAnswer(Wire, frozen=True):
    """A page of jobs."""

    data: JobPage


class StatsAnswer(Wire, frozen=True):
    """The counts."""

    data: Stats


class DeletedJob(Wire, frozen=True):
    """What is gone."""

    id: str


class DeletedAnswer(Wire, frozen=True):
    """The job is gone."""

    data: DeletedJob


class LogPageShown(Wire, frozen=True):
    """Lines of a log; ask again with the last line's `n` while `hasMore`."""

    lines: tuple[LogLine, ...]
    has_more: bool


class LogsAnswer(Wire, frozen=True):
    """Lines of the log."""

    data: LogPageShown


class History(Wire, frozen=True):
    """Stream messages, oldest first."""

    events: tuple[JobUpdate | JobDeleted, ...]


class HistoryAnswer(Wire, frozen=True):
    """The changes of one job."""

    data: History


class EventsShown(Wire, frozen=True):
    """Stream messages after `since`, oldest first, and the position to go on from."""

    events: tuple[JobUpdate | JobDeleted | JobsPruned, ...]
    position: str
    recovered: bool


class EventsAnswer(Wire, frozen=True):
    """A stretch of the log. Where `recovered` is false, something is missing: fetch lists again."""

    data: EventsShown


class QueuesShown(Wire, frozen=True):
    """Every queue, by name."""

    queues: tuple[Queue, ...]


class QueuesAnswer(Wire, frozen=True):
    """The queues."""

    data: QueuesShown


class QueueAnswer(Wire, frozen=True):
    """The queue."""

    data: Queue


class HandlerShown(Wire, frozen=True):
    """A handler: its name, its kind, and the fields that it takes (further members as the kind has them)."""

    name: str
    kind: str
    fields: Any


class HandlersShown(Wire, frozen=True):
    """What this server can run."""

    handlers: tuple[HandlerShown, ...]


class HandlersAnswer(Wire, frozen=True):
    """The handlers."""

    data: HandlersShown


class Health(Wire, frozen=True):
    """One word."""

    status: str


class OpenApi(Wire, frozen=True):
    """An OpenAPI document."""

    openapi: str
    info: Any
    paths: Any
    components: Any


class IdempotencyHeader(msgspec.Struct):
    """What makes a request safe to repeat."""

    idempotency_key: Annotated[str, Meta(pattern="^[ -~]{1,200}$")] | None = None


class PlainText(Wire, frozen=True):
    """Lines of text."""


class NotModified(Wire, frozen=True):
    """The client has it already (`If-None-Match`)."""


def fails(*statuses: int) -> Callable[[F], F]:
    """Document that a route answers with problems of these statuses, besides those that every one has."""

    def decorate(function: F) -> F:
        for status in sorted({*statuses, *_ALWAYS}):
            function = document_response(Problem, status)(function)
        return function

    return decorate


class Provider(OpenAPIProvider):
    """quart-schema's walk over the routes, with msgspec's own schemas."""

    def build_path_parameter(self, name: str, converter: Any) -> dict[str, Any]:
        """A path parameter with the form that its converter asks for."""
        return {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": f"^{converter.regex.replace('(?:', '(')}$"},
        }

    def build_querystring_parameters(self, model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """One parameter for each field of ``model``; several values are repeated or separated by commas."""
        schema, components = _schema(model)
        shape = components.pop(schema["$ref"].rpartition("/")[2])
        parameters = []
        for name, kind in shape["properties"].items():
            parameter = {"name": name, "in": "query", "required": False, "schema": kind}
            if description := kind.pop("description", None):
                parameter["description"] = description
            if "anyOf" in kind:  # a parameter that is not given is absent, never null
                parameter["schema"] = next(each for each in kind["anyOf"] if each != {"type": "null"})
            if kind.get("type") == "array":
                parameter |= {"style": "form", "explode": True}
            parameters.append(parameter)
        return parameters, components

    def build_request_body(self, model: Any, source: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002
        """JSON, and NDJSON where several jobs are taken."""
        schema, components = _schema(model)
        content = {"application/json": {"schema": schema}}
        if model == list[EnqueueRequest]:
            content["application/x-ndjson"] = {"schema": {"type": "string", "description": "one job a line"}}
        return {"required": True, "content": content}, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002
        """An answer; a problem has a media type of its own and 304 no body."""
        description = inspect.getdoc(model) or ""
        if model is NotModified:
            return {"description": description}, {}
        if model is PlainText:
            return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}, {}
        schema, components = _schema(model)
        media = "application/problem+json" if model is Problem else "application/json"
        return {"description": description.splitlines()[0], "content": {media: {"schema": schema}}}, components


def _schema(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([model], ref_template=_REFERENCES)
    return schema, components


def document(app: Quart) -> bytes:
    """The OpenAPI document of all routes of ``app``, as JSON."""
    app.config.setdefault("QUART_SCHEMA_CONVERT_CASING", False)
    app.config.setdefault("QUART_SCHEMA_CONVERSION_PREFERENCE", "msgspec")
    extension = QuartSchema(
        openapi_path=PATH,
        swagger_ui_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        info=Info(title="jobctl", version="1", description="A durable job queue. Failures are RFC 9457 problems."),
        security_schemes={"bearer": HttpSecurityScheme(scheme="bearer", bearer_format="JWT")},
        security=[{"bearer": []}],
        conversion_preference="msgspec",
    )
    schema = Provider(app, extension).schema()
    schema["components"]["headers"] = {
        name: {"description": description, "schema": {"type": "string"}} for name, description in _HEADERS.items()
    }
    for path in schema["paths"].values():
        for operation in path.values():
            operation["description"] = re.sub(r"\s+", " ", operation.get("description", "")).strip()
            operation["responses"] = _responses(operation["responses"])
    return msgspec.json.encode(schema, order="sorted")


def _responses(told: Mapping[int, Any]) -> dict[str, Any]:
    sent = {304: ("ETag", POSITION), 429: ("Retry-After",), 503: ("Retry-After",)}
    if 304 in told:
        sent[200] = sent[304]
    responses = {}
    for status, response in sorted(told.items()):
        more: dict[str, Any] = {}
        if names := sent.get(status):
            more["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        if codes := [code for code, of in STATUS.items() if of == status]:
            more["description"] = f"`code`: {', '.join(codes)}"
        responses[str(status)] = response | more
    return responses
