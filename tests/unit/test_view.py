"""The live table: what it shows, and how it fits."""


from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from output_kit import PLACE, job, update

from jobctl.cli import output
from jobctl.cli.follow import Follower, Order, Silent
from jobctl.cli.output import ExitCode
from jobctl.cli.view import MAX_ENDED, View
from jobctl.client.live import Resynced
from jobctl.model import JobFilter, Progress
from jobctl.protocol.messages import JobDeleted, JobsPruned, JobUpdate
from jobctl.states import Status


def test_ids_are_done_when_each_has_ended_or_is_gone() -> None:
    view = View(JobFilter(ids=("a", "b", "c")))
    view.reset(Resynced(PLACE, (job("a"), job("b"), job("c", "completed"))))
    assert not view.done
    assert view.apply(update(2, "a", "completed", 2))
    view.apply(JobDeleted(id="b", seq=3, timestamp="t"))
    assert view.done
    assert view.exit_code == ExitCode.CANCELLED  # b was deleted before it ended


def test_jobs_that_are_not_followed_are_not_taken() -> None:
    view = View(JobFilter(ids=("a",)))
    assert not view.apply(update(2, "b", "failed", 1))
    assert view.exit_code == ExitCode.DONE


def test_an_older_version_changes_nothing() -> None:
    view = View(JobFilter())
    assert view.apply(update(5, "a", "completed", 3))
    assert not view.apply(update(4, "a", "running", 2))
    assert view.done


def test_without_ids_it_is_done_when_nothing_that_matches_is_live() -> None:
    view = View(JobFilter(queues=("q",)))
    view.reset(Resynced(PLACE, (job("a"), job("b", "running"))))
    view.apply(update(2, "a", "cancelled", 2))
    assert not view.done
    view.apply(update(3, "b", "failed", 2))
    assert view.done
    assert view.exit_code == ExitCode.FAILED


def test_a_status_filter_counts_only_those_in_that_status_as_live() -> None:
    view = View(JobFilter(statuses=(Status.RUNNING,)))
    view.apply(update(1, "a", "running", 1))
    assert not view.done
    view.apply(update(2, "a", "retrying", 2))
    assert view.done


def test_a_job_that_is_retried_by_hand_is_live_again() -> None:
    view = View(JobFilter(ids=("a",)))
    view.apply(update(1, "a", "failed", 1))
    assert view.done
    view.apply(update(2, "a", "pending", 2))
    assert not view.done
    view.apply(update(3, "a", "completed", 3))
    assert view.exit_code == ExitCode.DONE


def test_a_new_state_drops_live_jobs_that_are_not_in_it() -> None:
    view = View(JobFilter())
    view.apply(update(1, "a", "running", 1))
    news = view.reset(Resynced(PLACE, (job("b", "running"),)))
    assert [each.id for each in news] == ["b"]
    assert set(view.live) == {"b"}


def test_rows_show_what_runs_then_what_ended_and_keep_room_for_what_waits() -> None:
    view = View(JobFilter())
    for n in range(30):
        view.apply(update(n, f"w{n:02}", "pending", 1))
    for n in range(30):
        view.apply(update(100 + n, f"e{n:02}", "completed", 1))
    for n in range(3):
        view.apply(update(200 + n, f"r{n}", "running", 1))
    rows = [each.id for each in view.rows(9)]
    assert rows == ["r0", "r1", "r2", "e29", "e28", "e27", "e26", "w00", "w01"]
    assert len(view.rows(2)) == 2
    assert len(view.rows(1000)) == 63


def test_rows_of_pruned_jobs_go_and_how_they_ended_is_still_known() -> None:
    view = View(JobFilter())
    for job_id, status, ended in (("old", "failed", "10"), ("other", "completed", "10"), ("young", "failed", "20")):
        done = job(job_id, status, completed_at=f"2026-01-01T00:00:{ended}.000Z")
        view.apply(JobUpdate(job=done, seq=1, timestamp=""))
    before = "2026-01-01T00:00:20.000Z"
    assert view.apply(JobsPruned(statuses=("failed",), finished_before=before, count=1, seq=2, timestamp=""))
    assert {each.id for each in view.rows(10)} == {"other", "young"}
    assert view.counts()["failed"] == 2


def test_the_view_of_a_long_watch_stays_small() -> None:
    view = View(JobFilter())
    for n in range(MAX_ENDED * 3):
        view.apply(update(n, f"e{n}", "completed", 1))
    assert len(view.jobs) == MAX_ENDED
    assert view.counts()["completed"] == MAX_ENDED * 3


@pytest.mark.parametrize(("shown", "printed"), [(True, []), (False, ["raw"])])
def test_only_a_state_that_was_shown_makes_an_update_old_news(shown: bool, printed: list[str]) -> None:
    class Recorder(Silent):
        def update(self, update: Any, text: str | None) -> None:
            found.append(text)

    found: list[str | None] = []
    view = View(JobFilter())
    view.reset(Resynced(PLACE, (job("a", "running", 5),)))
    follower = Follower(Order(JobFilter(), until_done=True, show_state=shown), view, Recorder())
    follower._take(update(4, "a", "running", 5), "raw")
    assert found == printed


def test_the_table_is_never_higher_than_the_screen() -> None:
    from rich.console import Console
    from rich.text import Text

    from jobctl.cli.table import render

    view = View(JobFilter())
    for n in range(50):
        far = Progress(value=2.0, message="m\x1b[2J")
        view.apply(update(n, f"job-{n}", "running", 1, name="日本" * 40, progress=far))
    console = Console(width=60, height=12, file=io.StringIO(), force_terminal=True)
    shown = console.render_lines(render(view, Text("title"), 12, datetime.now(UTC)))
    assert len(shown) == 11  # and one for the cursor
    text = "".join(segment.text for line in shown for segment in line)
    assert "\x1b[2J" not in text
    assert "38 more not shown" in text or "…" in text


@pytest.mark.parametrize("width", [20, 39, 40, 47, 48, 55, 56, 71, 72, 80, 120])
def test_the_table_shows_every_status_and_whole_progress_however_narrow_it_is(width: int) -> None:
    from rich.console import Console

    from jobctl.cli.table import render, title

    view = View(JobFilter())
    view.apply(update(1, "a", "running", 1, name="thumbnail", progress=Progress(value=0.5, message="m")))
    view.apply(update(2, "b", "completed", 1, name="thumbnail"))
    console = Console(width=width, height=12, file=io.StringIO(), force_terminal=True)
    first = title("http://127.0.0.1:8000", True, "live", width)
    shown = console.render_lines(render(view, first, 12, datetime.now(UTC), width))
    text = ["".join(segment.text for segment in line) for line in shown]
    assert "● live" in text[0]
    assert any("▶ running" in line for line in text)
    assert any("✔ complet" in line for line in text)
    assert width < 40 or any("50%" in line for line in text)


def test_a_terminal_that_cannot_be_drawn_on_is_written_to_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, drawable in (("xterm", True), ("dumb", False), ("unknown", False), ("", False)):
        monkeypatch.setenv("TERM", name)
        assert output.drawable(Terminal()) is drawable
        assert not output.drawable(io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.colour(Terminal())
