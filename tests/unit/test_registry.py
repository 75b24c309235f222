"""Which handlers there are, and whether data fits them."""

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobctl.engine import registry as registry_module
from jobctl.engine.registry import Registry, load
from jobctl.errors import HandlersFailed, InvalidInput, UnknownHandler
from jobctl.settings import CommandSettings, Settings


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def fresh_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty default registry and an empty current folder, whose modules are forgotten afterwards."""
    monkeypatch.setattr(registry_module, "default", Registry())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def settings(**values: Any) -> Settings:
    return Settings(**values)


def test_the_decorator_returns_the_function_itself(registry: Registry) -> None:
    async def handler(ctx: object) -> None: ...

    assert registry.job("a")(handler) is handler


def test_names_are_sorted(registry: Registry) -> None:
    for name in ("b", "a", "c"):
        registry.job(name)(lambda ctx: None)
    assert registry.names() == ["a", "b", "c"]


def test_a_name_can_be_taken_once_only(registry: Registry) -> None:
    registry.job("twice")(lambda ctx: None)
    with pytest.raises(ValueError, match="two handlers named 'twice'"):
        registry.job("twice")(lambda ctx: None)


@pytest.mark.parametrize("name", ["", "has space", "x" * 101, "ä", "a/b", "a\n"])
def test_a_name_outside_the_alphabet_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(ValueError, match="a name is"):
        registry.job(name)


def test_the_bare_decorator_says_how_it_is_written(registry: Registry) -> None:
    with pytest.raises(TypeError, match="write @job"):
        registry.job(lambda ctx: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [{"timeout": 0}, {"timeout": float("nan")}, {"max_attempts": 0}])
def test_limits_out_of_bounds_are_refused(registry: Registry, limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="x: "):
        registry.job("x", **limits)


def test_functions_that_cannot_be_called_with_context_and_fields_are_refused(registry: Registry) -> None:
    def nothing() -> None: ...
    def only_keywords(*, ctx: object) -> None: ...
    def positional(ctx: object, a: int, /) -> None: ...
    def generator(ctx: object) -> Any:
        yield

    async def async_generator(ctx: object) -> Any:
        yield

    for number, fn in enumerate((nothing, only_keywords, positional, generator, async_generator)):
        with pytest.raises(TypeError):
            registry.job(f"f{number}")(fn)
    assert registry.names() == []


def test_missing_and_unknown_fields_are_named(registry: Registry) -> None:
    @registry.job("send")
    def send(ctx: object, to: str, subject: str = "hello") -> None: ...

    with pytest.raises(InvalidInput, match=r"send needs data\.to") as missing:
        registry.check("send", {"subject": "x"})
    assert missing.value.field == "data.to"
    with pytest.raises(InvalidInput, match="no field 'cc'; it takes: to, subject") as unknown:
        registry.check("send", {"to": "a", "cc": "b"})
    assert unknown.value.field == "data.cc"
    handler = registry.check("send", {"to": "a"})
    assert handler is not None
    assert handler.name == "send"


def test_a_handler_with_kwargs_takes_any_field_but_the_name_of_its_context(registry: Registry) -> None:
    registry.job("any")(lambda ctx, **fields: None)
    registry.check("any", {"whatever": 1})
    with pytest.raises(InvalidInput, match="no field 'ctx'"):
        registry.check("any", {"ctx": 1})


def test_the_context_is_not_a_field(registry: Registry) -> None:
    registry.job("one")(lambda ctx, a: None)
    with pytest.raises(InvalidInput, match="no field 'ctx'"):
        registry.check("one", {"a": 1, "ctx": 2})


def test_an_unknown_name_is_refused_with_the_known_ones(registry: Registry) -> None:
    registry.job("known")(lambda ctx: None)
    with pytest.raises(UnknownHandler, match="this server knows: known") as caught:
        registry.check("unknown", {})
    assert caught.value.known == ("known",)


def test_an_unknown_name_is_let_in_where_that_is_wanted() -> None:
    assert Registry(accept_unknown=True).check("unknown", {"a": 1}) is None


def test_the_description_shows_kind_fields_defaults_and_own_limits(registry: Registry) -> None:
    @registry.job("resize", timeout=5, max_attempts=7)
    async def resize(ctx: object, path: str, width: int = 640, odd: object = object()) -> None: ...

    registry.job("plain")(lambda ctx: None)
    shown = msgspec.json.decode(msgspec.json.encode(registry.describe()))
    assert shown == [
        {"name": "plain", "kind": "thread", "fields": []},
        {
            "name": "resize",
            "kind": "async",
            "fields": [
                {"name": "path", "required": True, "schema": {"type": "string"}},
                {"name": "width", "required": False, "default": 640, "schema": {"type": "integer"}},
                {"name": "odd", "required": False},
            ],
            "timeout": 5,
            "maxAttempts": 7,
        },
    ]


def test_an_object_with_an_async_call_is_an_async_handler(registry: Registry) -> None:
    class Handler:
        async def __call__(self, ctx: object, a: int) -> None: ...

    registry.job("object")(Handler())
    handler = registry.get("object")
    assert handler is not None
    assert handler.kind == "async"
    assert handler.required == {"a"}


# --- load ------------------------------------------------------------------------------------------------------------


def test_modules_of_the_current_folder_are_imported(fresh_default: Path) -> None:
    (fresh_default / "tasks_a.py").write_text("from jobctl import job\n@job('a')\nasync def a(ctx): pass\n")
    (fresh_default / "tasks_b.py").write_text("from jobctl import job\n@job('b')\ndef b(ctx): pass\n")
    assert load(settings(app="tasks_a, tasks_b")).names() == ["a", "b"]


def test_a_module_that_is_not_there_is_one_clear_line(fresh_default: Path) -> None:
    with pytest.raises(HandlersFailed, match=r"there is no module 'no_such_tasks' in .*"):
        load(settings(app="no_such_tasks"))


def test_a_file_name_in_place_of_a_module_gets_a_hint(fresh_default: Path) -> None:
    with pytest.raises(HandlersFailed, match=r"try --app tasks$"):
        load(settings(app="tasks.py"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import json\n\njson.loads('{')\n", r"cannot import 'broken': JSONDecodeError: .*\(broken\.py:3\)"),
        ("def f(:\n", r"cannot import 'broken': SyntaxError: .*\(broken\.py:1\)"),
        ("import sys\nsys.exit('bye')\n", r"cannot import 'broken': SystemExit: bye \(broken\.py:2\)"),
        (
            "import not_installed_at_all\n",
            r"ModuleNotFoundError: No module named 'not_installed_at_all' \(broken\.py:1\)",
        ),
        (
            "from jobctl import job\n@job('x')\ndef a(ctx): pass\n@job('x')\ndef b(ctx): pass\n",
            r"two handlers named 'x' \(broken\.py:4\)",
        ),
    ],
)
def test_a_module_that_fails_says_what_and_where(fresh_default: Path, source: str, expected: str) -> None:
    (fresh_default / "broken.py").write_text(source)
    with pytest.raises(HandlersFailed, match=expected) as caught:
        load(settings(app="broken"))
    assert "\n" not in str(caught.value)


def test_a_module_without_handlers_is_a_warning(fresh_default: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fresh_default / "empty_tasks.py").write_text("")
    assert load(settings(app="empty_tasks")).names() == []
    assert "empty_tasks registers no handler" in caplog.text


def test_commands_become_handlers_beside_functions(fresh_default: Path) -> None:
    registry = load(settings(commands={"sum": CommandSettings(argv=("sha256sum", "{path}"), timeout=9)}))
    (shown,) = msgspec.json.decode(msgspec.json.encode(registry.describe()))
    assert shown == {"name": "sum", "kind": "command", "fields": [{"name": "path", "required": True}], "timeout": 9}
    with pytest.raises(InvalidInput, match=r"sum needs data\.path"):
        registry.check("sum", {})
    with pytest.raises(InvalidInput, match="no field 'other'"):
        registry.check("sum", {"path": "x", "other": 1})


def test_a_command_cannot_take_the_name_of_a_function(fresh_default: Path) -> None:
    (fresh_default / "taken.py").write_text("from jobctl import job\n@job('sum')\ndef a(ctx): pass\n")
    with pytest.raises(HandlersFailed, match=r"commands\.sum: there are two handlers"):
        load(settings(app="taken", commands={"sum": CommandSettings(argv=("true",))}))
