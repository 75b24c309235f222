"""All files of a report, beside ``run.json``."""

from pathlib import Path
from typing import Final

from bench.report import html, junit, markdown
from bench.result import Run, encode

RUN: Final = "run.json"


def write(run: Run, folder: Path) -> list[Path]:
    """Write ``run.json``, ``report.html``, ``report.md`` and ``junit.xml`` to ``folder``, which is made if need be.

    Each is whole or not there: all are made before the first is written.

    Raises:
        OSError: the folder does not take them.
        ValueError: a histogram of the run is none.
    """
    content = {
        RUN: encode(run), "report.html": html.render(run).encode(), "report.md": markdown.render(run).encode(),
        "junit.xml": junit.render(run).encode(),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in content.items():
        path = folder / name
        path.write_bytes(data)
        written.append(path)
    return written
