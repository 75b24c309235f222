"""The Markdown summary of a CI run."""

from pathlib import Path

import pytest

from jobctl.cli.summary import MAX_ROWS, append, check_writable, chosen, markdown
from jobctl.errors import ConfigError
from jobctl.model import Job
from jobctl.states import Status


def job(n: int, status: str = "completed", name: str = "resize", error: str | None = None) -> Job:
    return Job(
        id=f"id-{n}", name=name, queue="default", data=None, status=Status(status), priority=0, attempts=1,
        max_attempts=3, error=error, result=None, progress=None, created_at="2026-09-21T14:13:20.000Z",
        started_at="2026-09-21T14:13:21.000Z", completed_at="2026-09-21T14:13:22.500Z", scheduled_for=None,
        processing_by=None, created_by="ann", unique_key=None, timeout=60.0, tags=(), version=3,
        cancel_requested=False,
    )  # fmt: skip


def summary(*jobs: Job) -> str:
    return markdown({each.id: each.status.value for each in jobs}, {each.id: each for each in jobs})


def test_it_is_a_heading_with_the_counts_and_a_row_a_job_bad_ones_first() -> None:
    text = summary(job(1), job(2, "failed", error="ValueError: no"), job(3, "cancelled"))
    assert text.splitlines() == [
        "### jobctl: 1 completed, 1 cancelled, 1 failed",
        "",
        "| | job | name | status | runs | took | error |",
        "|---|---|---|---|---|---|---|",
        "| ✘ | `id-2` | resize | failed | 1/3 | 1.5s | ValueError\\: no |",
        "| ∅ | `id-3` | resize | cancelled | 1/3 | 1.5s |  |",
        "| ✔ | `id-1` | resize | completed | 1/3 | 1.5s |  |",
        "",
    ]


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("a | b", "a \\| b"),
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert\\(1\\)&gt;"),
        ("&lt;b&gt; AT&T", "&amp;lt;b&amp;gt; AT&amp;T"),
        ("thanks @octocat #1", "thanks \\@octocat \\#1"),
        ("[click](https://evil.example)", "\\[click\\]\\(https\\://evil\\.example\\)"),
        ("`code` $x$ **bold**", "\\`code\\` \\$x\\$ \\*\\*bold\\*\\*"),
        ("first\nsecond", "first"),
        ("esc \x1b[31m \u202e", "esc \\\\x1b\\[31m \\\\u202e"),
        ("x" * 5000, "x" * 299 + "…"),
    ],
)
def test_text_from_outside_is_only_text(error: str, shown: str) -> None:
    row = summary(job(1, "failed", error=error)).splitlines()[4]
    assert row == f"| ✘ | `id-1` | resize | failed | 1/3 | 1.5s | {shown} |"


def test_thousands_of_jobs_get_no_thousands_of_rows() -> None:
    statuses = {f"id-{n}": "completed" for n in range(5000)} | {"bad": "failed"}
    assert chosen(statuses)[0] == "bad"
    text = markdown(statuses, {})
    assert len(text.splitlines()) < MAX_ROWS + 10
    assert text.endswith("and 4,901 completed more\n\n")
    assert "| ✘ | `bad` | | failed | | | |" in text


def test_it_is_added_to_what_other_steps_have_written(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("### tests\n")
    check_writable(path)
    append(path, "### jobctl\n")
    assert path.read_text() == "### tests\n### jobctl\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for function in (check_writable, lambda path: append(path, "x")):
        with pytest.raises(ConfigError, match="No such file"):
            function(tmp_path / "no" / "where")
