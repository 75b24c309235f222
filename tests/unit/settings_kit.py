"""Configuration files for the tests of settings. Import the fixture by name."""

from pathlib import Path

import pytest

from jobctl.errors import ConfigError
from jobctl.settings import load

SECRET = "s" * 32


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [each for each in os.environ if each.upper().startswith("JOBCTL_")]:
        monkeypatch.delenv(name)


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "jobctl.toml"
    path.write_text(text)
    return path


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(toml(tmp_path, text))
    assert "\n" not in str(caught.value)
    return str(caught.value)
