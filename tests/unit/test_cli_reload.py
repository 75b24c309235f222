"""``jobctl serve --reload``: what is watched, and what a change does."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from jobctl.cli import reload
from jobctl.cli.reload import Files, Server, differences, restart, syntax_error


def touch(path: Path, text: str = "x = 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tasks.py", "pkg/deep/more.py", "notes.txt", ".git/hook.py", "__pycache__/tasks.py",
                 "node_modules/gyp.py", "env/bin/tool.py", "env/pyvenv.cfg", "lib/site-packages/x.py"):  # fmt: skip
        touch(tmp_path / name)
    return tmp_path


def names(files: Files) -> set[str]:
    return {str(Path(path).relative_to(files.folder)) for path in files.look()}


def test_sources_are_watched_and_what_others_made_is_not(folder: Path) -> None:
    assert names(Files(folder, ())) == {"tasks.py", "pkg/deep/more.py"}


def test_the_configuration_is_watched_also_before_it_exists(folder: Path) -> None:
    files = Files(folder, (Path("jobctl.toml"),))
    before = files.look()
    touch(folder / "jobctl.toml", "")
    assert differences(before, files.look()) == [str(folder / "jobctl.toml")]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (lambda f: touch(f / "tasks.py", "x = 2222\n"), ["tasks.py"]),
        (lambda f: os.utime(f / "tasks.py", ns=(1, 1)), ["tasks.py"]),
        (lambda f: touch(f / "new.py"), ["new.py"]),
        (lambda f: (f / "tasks.py").unlink(), ["tasks.py"]),
        (lambda f: (f / "tasks.py").rename(f / "b.py"), ["b.py", "tasks.py"]),
        (lambda f: touch(f / "notes.txt", "other"), []),
        (lambda f: None, []),
    ],
)
def test_what_changed_is_named(folder: Path, change: object, changed: list[str]) -> None:
    files = Files(folder, ())
    before = files.look()
    change(folder)  # type: ignore[operator]
    assert differences(before, files.look()) == [str(folder / name) for name in changed]


def test_a_tree_without_end_is_not_walked_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "MAX_FILES", 1)
    assert len(Files(folder, ()).look()) == 1


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"x = 1\n", None),
        (b"def f(:\n", "a.py:1: invalid syntax"),
        (b"x = 1\n  y = 2\n", "a.py:2: unexpected indent"),
        (b"x = '\xff'\n", "a.py"),
        (b"x = 1\0\n", "a.py"),
    ],
)
def test_what_cannot_be_compiled_is_told_with_its_place(tmp_path: Path, source: bytes, problem: str | None) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(source)
    told = syntax_error([str(tmp_path / "gone.py"), str(tmp_path / "jobctl.toml"), str(path)], tmp_path)
    assert told is None if problem is None else (told or "").startswith(problem)


class Fake(Server):
    def __init__(self, *, running: bool, problem: str | None = None) -> None:
        super().__init__([], {})
        self.calls: list[str] = []
        self._up = running
        self._problem = problem

    @property
    def running(self) -> bool:
        return self._up

    def rehearse(self) -> str | None:
        self.calls.append("rehearse")
        return self._problem

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")


def test_a_change_stops_the_old_server_and_starts_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = Fake(running=True)
    paths = [str(touch(tmp_path / f"{n}.py")) for n in range(5)]
    restart(paths, tmp_path, server)
    assert server.calls == ["rehearse", "stop", "start"]
    assert capsys.readouterr().err == "jobctl: 0.py, 1.py, 2.py and 2 more changed; starting again\n"


@pytest.mark.parametrize(
    ("running", "rest"), [(True, "the server goes on as it is"), (False, "waiting for the next change")]
)
def test_a_syntax_error_is_shown_and_nothing_is_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], running: bool, rest: str
) -> None:
    server = Fake(running=running)
    restart([str(touch(tmp_path / "a.py", "x = (\n"))], tmp_path, server)
    assert server.calls == []
    assert capsys.readouterr().err == f"jobctl: a.py changed, but a.py:1: '(' was never closed; {rest}\n"


def test_what_a_start_would_refuse_is_shown_and_the_server_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Fake(running=True, problem="there is no setting 'bogus'")
    restart([str(touch(tmp_path / "jobctl.toml"))], tmp_path, server)
    assert server.calls == ["rehearse"]
    said = "jobctl.toml changed, but there is no setting 'bogus'; the server goes on as it is"
    assert capsys.readouterr().err == f"jobctl: {said}\n"


def test_where_no_server_runs_the_start_itself_tells(tmp_path: Path) -> None:
    server = Fake(running=False, problem="there is no setting 'bogus'")
    restart([str(touch(tmp_path / "jobctl.toml"))], tmp_path, server)
    assert server.calls == ["stop", "start"]


# --- the process ---------------------------------------------------------------------------------------------------

COUNTS = """
import signal, sys, time
wanted, seen = int(sys.argv[1]), 0
def stop(*_):
    global seen
    seen += 1
    print("told", flush=True)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("up", flush=True)
while seen < wanted:
    time.sleep(0.01)
time.sleep(0.1 if seen else 0)
sys.exit(7 + seen)
"""


def process(tmp_path: Path, signals: int, grace: str = "0") -> Server:
    script = touch(tmp_path / "server.py", COUNTS)
    return Server([sys.executable, str(script), str(signals)], {**os.environ, "JOBCTL_GRACE": grace})


def says(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    give_up = time.monotonic() + 10
    while word not in capfd.readouterr().out:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_a_signal_is_passed_on_once_and_the_exit_code_is_the_servers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with process(tmp_path, 1) as server:
        server.start()
        says("up", capfd)
        os.kill(os.getpid(), signal.SIGTERM)
        says("told", capfd)
        assert server.stopping
        server.start()  # a restart that was under way does not start another one
        assert server.wait() == 8
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_that_does_not_stop_is_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "STOP_S", 0.1)
    with process(tmp_path, 99, grace="nonsense") as server:
        monkeypatch.setattr(server, "_grace", 0.0)
        server.start()
        says("up", capfd)
        server.stop()
        assert not server.running
        assert server.wait() == 128 + signal.SIGKILL


def test_an_end_of_its_own_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with process(tmp_path, 0) as server:
        assert server.ended_by_itself() is None
        server.start()
        server.rest(10.0)
        assert [server.ended_by_itself(), server.ended_by_itself()] == [7, None]


def test_restarting_servers_get_little_grace_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reload._environment()["JOBCTL_GRACE"] == "2.0"
    monkeypatch.setenv("JOBCTL_GRACE", "9")
    assert reload._environment()["JOBCTL_GRACE"] == "9"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("print('jobctl: ok')", None),
        ("print('jobctl: no such thing\\nnoise', file=sys.stderr); sys.exit(2)", "no such thing"),
        ("print('noise', file=sys.stderr); sys.exit(1)", "noise"),
        ("sys.exit(3)", "a start would end with exit code 3"),
        ("import time; time.sleep(60)", "its import takes more than 0 s"),
    ],
)
def test_a_rehearsal_tells_in_a_line_why_not(
    tmp_path: Path, script: str, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "REHEARSAL_S", 0.2 if "sleep" in script else 30.0)
    path = touch(tmp_path / "rehearsal.py", f"import sys\n{script}\n")
    assert Server([], {**os.environ}, [sys.executable, str(path)]).rehearse() == problem


def test_whoever_wants_to_leave_does_not_wait_for_a_rehearsal(tmp_path: Path) -> None:
    path = touch(tmp_path / "rehearsal.py", "import time\ntime.sleep(60)\n")
    server = Server([], {**os.environ}, [sys.executable, str(path)])
    server.stopping = True
    assert server.rehearse() is None
