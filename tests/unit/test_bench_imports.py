"""Locust patches the interpreter: what it runs must not import trio, and nothing else may import it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bench

HERE = Path(bench.__file__).parent
PATCHES = {"locust", "gevent"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name.split(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def test_only_locustfiles_import_locust():
    files = [*HERE.rglob("*.py"), *(HERE.parent / "jobctl").rglob("*.py")]
    who = {path.relative_to(HERE.parent).parts[:2] for path in files if PATCHES & {*imported(path)}}
    assert who == {("bench", "locustfiles")}


def test_a_locustfile_runs_without_trio(tmp_path):
    code = "import sys, bench.locustfiles.scenario; sys.exit('trio' in sys.modules or 'locust' not in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False, env={"PYTHONPATH": str(HERE.parent), "JOBCTL_BENCH_BLOCK": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
