"""The page and its files, as they are served: without a token, with a strict policy, and nothing beside them."""

import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jobctl.cli.output import GLYPHS
from jobctl.states import TERMINAL, Status
from jobctl.web import dashboard
from tests.integration.rest_kit import Api, api, make_api

__all__ = ["api", "make_api"]

MARKUP_OR_CODE = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
ROOT = Path(__file__).parents[2]
STATIC = ROOT / "jobctl" / "web" / "static"
NAMES = sorted(path.name for path in STATIC.iterdir())


def needed(imports: str, waiting: set[str]) -> set[str]:
    """These files and what they import, by the pattern for it; but nothing that comes last, or only when signed out."""
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        if name not in {"later.js", "sign-in.js"}:
            waiting |= set(re.findall(imports, (STATIC / name).read_text())) - found
    return found


async def test_the_page_needs_no_token_and_may_load_from_here_only(api: Api) -> None:
    answer = await api.get("/", bearer=None)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert len([name for name, _ in answer.pairs if name == "content-security-policy"]) == 1


async def test_the_query_is_the_pages_own_business(api: Api) -> None:
    page = await api.get("/?status=failed&job=x", bearer=None)
    assert page.body == (await api.get("/", bearer=None)).body


@pytest.mark.parametrize("name", NAMES)
async def test_each_file_comes_with_its_type_and_not_twice(api: Api, name: str) -> None:
    answer = await api.get(f"/static/{name}", bearer=None)
    assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())
    assert answer.headers["content-type"] == dashboard.TYPES[Path(name).suffix]
    assert answer.headers["content-security-policy"] == (
        dashboard.POLICY if name == "index.html" else "default-src 'none'"
    )
    tag = answer.headers["etag"]
    again = await api.get(f"/static/{name}", bearer=None, headers=[("If-None-Match", tag)])
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)


@pytest.mark.parametrize("target", ["/", "/static/main.js", "/static/nothing"])
async def test_files_have_the_headers_of_every_other_answer(api: Api, target: str) -> None:
    """They do not come by the way of the others."""
    answer = await api.get(target, bearer=None, headers=[("X-Request-Id", "mine-1")])
    assert answer.headers["x-request-id"] == "mine-1"
    assert ("vary", "Authorization, Origin") in answer.pairs
    for name in ("x-content-type-options", "referrer-policy", "content-security-policy", "cache-control"):
        assert [each for each, _ in answer.pairs].count(name) == 1
    hostile = await api.get(target, bearer=None, headers=[("X-Request-Id", "a b\xe9")])
    assert re.fullmatch("[0-9a-f]{16}", hostile.headers["x-request-id"])


@pytest.mark.parametrize("target", ["/", "/static/main.js"])
async def test_head_and_ranges_and_other_methods(api: Api, target: str) -> None:
    get, head = await api.get(target, bearer=None), await api.call("HEAD", target, bearer=None)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(get.body)))
    ranged = await api.get(target, bearer=None, headers=[("Range", "bytes=0-9")])
    assert (ranged.status, ranged.body) == (200, get.body)
    refused = await api.post(target, bearer=None)
    refused.problem(405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS"


async def test_files_are_counted_and_logged_like_the_rest(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.app.access = "debug"
    caplog.set_level("DEBUG", "jobctl.web")
    tag = (await api.get("/static/main.js", bearer=None)).headers["etag"]
    await api.get("/static/app.js", bearer=None, headers=[("If-None-Match", tag), ("If-None-Match", "*")])
    await api.call("HEAD", "/", bearer=None)
    counted = {key: n for key, n in api.app._metrics.requests.counts.items() if key[0] in {"/", "/static/{name}"}}
    assert counted == {
        ("/static/{name}", "GET", "200"): 1, ("/static/{name}", "GET", "304"): 1, ("/", "HEAD", "200"): 1,
    }  # fmt: skip
    logged = [each for each in caplog.records if each.name == "jobctl.web"]
    assert [each.getMessage() for each in logged] == ["GET /static/main.js 200", "GET /static/app.js 304", "HEAD / 200"]
    assert {(each.client, each.subject) for each in logged} == {("127.0.0.1", None)}


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("GZIP , br", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("xgzip", False),
    ],
)
async def test_it_is_compressed_for_who_takes_that_under_a_tag_of_its_own(
    api: Api, accepted: str, packed: bool
) -> None:
    answer = await api.get("/static/main.js", bearer=None, headers=[("Accept-Encoding", accepted)])
    plain = (STATIC / "main.js").read_bytes()
    assert (answer.headers.get("content-encoding") == "gzip") == packed
    assert (gzip.decompress(answer.body) if packed else answer.body) == plain
    assert answer.headers["etag"].endswith('-gzip"') == packed
    assert ("vary", "Accept-Encoding") in answer.pairs


async def test_nothing_on_the_page_is_inline_or_from_elsewhere(api: Api) -> None:
    page = (await api.get("/", bearer=None)).body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=", page)
    assert "http:" not in page
    assert "https:" not in page
    for name in NAMES:
        text = (STATIC / name).read_text()
        assert not re.search(MARKUP_OR_CODE, text), name
        outside = re.findall(r"https?://[^\s\"'`)]+", text)
        assert not [address for address in outside if not address.startswith("http://www.w3.org/")], name


async def test_what_the_first_look_shows_is_fetched_at_once_and_the_rest_after_it(api: Api) -> None:
    """A preload of what comes later would take its turn before the first list does: six connections, in HTTP/1.1."""
    page = (await api.get("/", bearer=None)).body.decode()
    first = needed(r'(?:from |import |import\()"\./([^"]+)"', {"main.js"}) - {"later.js", "sign-in.js"}
    assert sorted(re.findall(r'(?:modulepreload" href|module" src)="/static/([^"]+)"', page)) == sorted(first)
    assert {"table.js", "row.js", "shell.js"} < first
    assert not first & {"drawer.js", "schedules.js", "queues.js"}


async def test_what_asks_for_the_list_is_fetched_before_what_shows_it(api: Api) -> None:
    """What has a low priority lets those requests pass that the first modules make."""
    page = (await api.get("/", bearer=None)).body.decode()
    asks = needed(r'(?:from |import )"\./([^"]+)"', {"main.js"})
    links = re.findall(r'(?:modulepreload" href|module" src)="/static/([^"]+)"( fetchpriority="low")?', page)
    assert {name for name, low in links if not low} == asks
    assert [bool(low) for _, low in links] == sorted(bool(low) for _, low in links)
    assert len(asks) <= 7  # one more than a browser has connections: the style sheet is the eighth
    assert "session.js" in asks


async def test_it_is_small(api: Api) -> None:
    """All of it, as a browser gets it the first time: heads and compressed bodies."""
    heads = bodies = 0
    for path in ["/", *(f"/static/{name}" for name in NAMES if name != "index.html")]:
        answer = await api.get(path, bearer=None, headers=[("Accept-Encoding", "gzip")])
        heads += sum(len(f"{name}: {value}\r\n") for name, value in answer.pairs)
        bodies += len(answer.body)
    assert bodies < 90_000
    assert heads + bodies < 110_000


@pytest.mark.parametrize("name", NAMES)
def test_each_file_is_one_idea(name: str) -> None:
    assert len((STATIC / name).read_text().splitlines()) <= 400


def test_states_and_glyphs_are_those_of_the_command_line() -> None:
    text = (STATIC / "states.js").read_text()
    glyphs = dict(re.findall(r'^  (\w+): "(.)",$', text, re.MULTILINE))
    assert glyphs == {name: glyph for name, (glyph, _) in GLYPHS.items()}
    [listed] = re.findall(r"STATUSES = \[(.*)\]", text)
    assert re.findall(r'"(\w+)"', listed) == [status.value for status in Status]
    [ended] = re.findall(r"TERMINAL = new Set\(\[(.*)\]\)", text)
    assert set(re.findall(r'"(\w+)"', ended)) == {status.value for status in TERMINAL}


def test_a_wheel_has_every_file(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr.decode()
    [wheel] = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"jobctl/web/static/{name}" for name in NAMES} <= inside
