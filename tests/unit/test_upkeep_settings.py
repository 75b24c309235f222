"""``[retention]`` and ``[schedules.NAME]``."""

from pathlib import Path

import pytest

from jobctl.errors import ConfigError
from jobctl.settings import load

DAY = 86400


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "jobctl.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [('"7d"', 7 * DAY), ('"12h"', DAY / 2), ("90", 90), ("1.5", 1.5), ('"forever"', None), ('" forever "', None)],
)
def test_a_span_is_text_or_seconds_or_for_ever(tmp_path: Path, text: str, seconds: float | None) -> None:
    assert load(toml(tmp_path, f"[retention]\nevents = {text}")).retention.events == seconds


def test_a_span_is_shown_as_a_person_writes_it() -> None:
    shown = load(None).retention.model_dump(mode="json")
    assert (shown["completed"], shown["logs"]) == ("7d", "3d")
    assert load(None).retention.model_copy(update={"logs": None}).model_dump(mode="json")["logs"] == "forever"


def test_the_environment_says_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCTL_RETENTION__LOGS", "1h")
    monkeypatch.setenv("JOBCTL_RETENTION__MAX_EVENTS", "5000")
    found = load(None).retention
    assert (found.logs, found.max_events, found.completed) == (3600, 5000, 7 * DAY)


def test_a_schedule_takes_the_defaults(tmp_path: Path) -> None:
    (found,) = load(toml(tmp_path, '[schedules.nightly]\ncron = "@daily"\njob = "backup"')).schedules.values()
    assert (found.timezone, found.queue, found.missed, found.enabled) == ("UTC", "default", "skip", True)
    assert found.data == {}
    assert (found.priority, found.max_attempts, found.timeout, found.tags) == (0, None, None, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[retention]\ncompleted = "soon"', "retention.completed: 'soon' is no span of time"),
        ('[retention]\ncompleted = "0s"', "retention.completed: "),
        ("[retention]\nlogs = -1", "retention.logs: "),
        ("[retention]\nmax_events = 0", "retention.max_events: "),
        ("[retention]\nmax_event = 1", "did you mean retention.max_events?"),
        ('[schedules.a]\ncron = "0 0 31 2 *"\njob = "x"', "schedules.a: cron: '0 0 31 2 *' never comes true"),
        ('[schedules.a]\ncron = "@daily"\njob = "x"\ntimezone = "Mars"', "schedules.a: timezone: there is no"),
        ('[schedules.a]\njob = "x"', "schedules.a.cron: "),
        ('[schedules.a]\ncron = "@daily"', "schedules.a.job: "),
        ('[schedules.a]\ncron = "@daily"\njob = "x y"', "schedules.a.job: "),
        ('[schedules.a]\ncron = "@daily"\njob = "x\\n"', "schedules.a.job: "),
        ('[schedules.a]\ncron = "@daily"\njob = "x"\nmissed = "all"', "schedules.a.missed: "),
        ('[schedules."a b"]\ncron = "@daily"\njob = "x"', "'a b': a name is 1 to 100"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(toml(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
