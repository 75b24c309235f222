"""The README's recipes for CI, run as the shell scripts that they are."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TASKS = """
from jobctl import NoRetry, job

@job("thumbnail")
async def thumbnail(ctx, path):
    if path == "broken.png":
        raise NoRetry("it is no picture | <b>at all</b>")
"""


def recipes() -> list[str]:
    """The YAML blocks of the section, in order: GitHub's and GitLab's."""
    section = (ROOT / "README.md").read_text("utf-8").split("\n## In CI\n")[1].split("\n## ")[0]
    return re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)


def github() -> str:
    """The script of the step that runs the jobs, with the install step before it."""
    text = recipes()[0]
    (install,) = re.findall(r"- run: (pip install .*)", text)
    (script,) = re.findall(r"run: \|\n((?: {10}.*\n)+)", text)
    return install + "\n" + re.sub(r"^ {10}", "", script, flags=re.MULTILINE)


def gitlab() -> str:
    """The lines of ``script``; the runner joins them in one shell."""
    return gitlab_lines("script")


def gitlab_lines(of: str) -> str:
    (script,) = re.findall(rf"^  {of}:\n((?: {{4}}- .*\n)+)", recipes()[1], re.MULTILINE)
    return re.sub(r"^ {4}- ", "", script, flags=re.MULTILINE)


class Runner:
    """A CI runner: ``jobctl`` and ``pip`` on the path, a free port, a folder with the job's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir()
        self._program(programs / "jobctl", f'exec "{sys.executable}" -m jobctl "$@"')
        self._program(programs / "pip", '[ "$*" = "install jobctl" ]')
        (folder / "tasks.py").write_text(TASKS)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBCTL_")},
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "JOBCTL_STATE_DIR": str(folder / "state"),
            "JOBCTL_PORT": str(port),
            "JOBCTL_URL": f"http://127.0.0.1:{port}",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "CI": "true",
        }

    @staticmethod
    def _program(path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, shell: list[str], script: str, *paths: str) -> subprocess.CompletedProcess[str]:
        jobs = [f'{{"name": "thumbnail", "data": {{"path": "{path}"}}}}\n' for path in paths]
        (self.folder / "jobs.ndjson").write_text("".join(jobs))
        (self.folder / "script").write_text(script)
        # A runner ends what a step has left behind; its process group stands for that.
        process = subprocess.Popen(
            [*shell, "script"], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(shell, process.returncode, out, err)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


SHELLS = [(["bash", "-e"], github), (["bash", "-eo", "pipefail"], gitlab)]
"""As each of them runs a script."""


@pytest.mark.parametrize(("shell", "recipe"), SHELLS)
def test_a_recipe_succeeds_when_all_jobs_do_writes_a_summary_and_stops_its_server_in_order(
    runner: Runner, shell: list[str], recipe: object
) -> None:
    done = runner.run(shell, recipe(), "cat.png", "dog.png")  # type: ignore[operator]
    assert done.returncode == 0, done.stderr + (runner.folder / "server.log").read_text()
    assert len(re.findall(r"^[0-9a-f-]{36}$", done.stdout, re.MULTILINE)) == 2
    summary = (runner.folder / "summary.md").read_text("utf-8")
    assert summary.startswith("### jobctl: 2 completed\n")
    assert summary.count("| thumbnail | completed | 1/3 |") == 2
    if recipe is github:  # GitLab's runner ends what is left, GitHub's script itself
        assert '"event": "stopped"' in (runner.folder / "server.log").read_text()


@pytest.mark.parametrize(("shell", "recipe"), SHELLS)
def test_a_recipe_fails_when_a_job_does_and_the_summary_says_which(
    runner: Runner, shell: list[str], recipe: object
) -> None:
    done = runner.run(shell, recipe(), "cat.png", "broken.png")  # type: ignore[operator]
    assert done.returncode == 1, done.stderr
    assert "it is no picture" in done.stderr
    rows = (runner.folder / "summary.md").read_text("utf-8").splitlines()
    assert rows[0] == "### jobctl: 1 completed, 1 failed"
    assert rows[4].startswith("| ✘ |")
    assert rows[4].endswith("it is no picture \\| &lt;b&gt;at all&lt;/b&gt; |")


@pytest.mark.parametrize(("shell", "recipe"), SHELLS)
def test_a_recipe_ends_at_once_with_the_reason_where_the_server_cannot_start(
    runner: Runner, shell: list[str], recipe: object
) -> None:
    script = recipe().replace("--app tasks", "--app nosuch")  # type: ignore[operator]
    done = runner.run(shell, script, "cat.png")
    assert done.returncode == 2  # not 3, of --wait-server
    assert done.stderr.startswith("jobctl: there is no module 'nosuch'")
    assert len(done.stderr.splitlines()) == 1


def test_githubs_recipe_makes_no_noise_beside_the_reason_where_its_server_has_died(runner: Runner) -> None:
    script = github().replace("jobctl serve --app tasks", "sh -c 'exit 2'")
    script = script.replace("--wait-server 30", "--wait-server 0.2")
    done = runner.run(["bash", "-e"], script, "cat.png")
    assert done.returncode == 3
    said = f"{runner.environment['JOBCTL_URL']} was not ready within 0.2 s; the server's log says why"
    assert done.stderr == f"jobctl: {said}\n"


@pytest.mark.parametrize(
    ("status", "log", "shown"), [("success", "why", ""), ("failed", "why", "why"), ("failed", "", "")]
)
def test_gitlabs_recipe_shows_the_log_of_a_job_that_failed(runner: Runner, status: str, log: str, shown: str) -> None:
    if log:
        (runner.folder / "server.log").write_text(log)
    runner.environment["CI_JOB_STATUS"] = status
    done = runner.run(["bash", "-eo", "pipefail"], gitlab_lines("after_script"))
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")


def test_the_summary_is_written_when_the_time_is_up(runner: Runner) -> None:
    script = github().replace("--wait-timeout 1200", "--wait-timeout 5 --delay 60")
    assert script != github()
    done = runner.run(["bash", "-e"], script, "cat.png")
    assert done.returncode == 4, done.stderr
    assert (runner.folder / "summary.md").read_text("utf-8").startswith("### jobctl: 1 pending\n")
