"""A whole run with secrets that can be recognised, and then a look at everything that it has left and said.

The logs by themselves are tested in ``tests/unit/test_logs.py`` and ``tests/integration/test_operations.py``.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.abuse.target import ROOT, SECRET, Answer, Http, Target, Wire

pytestmark = pytest.mark.slow

FORMER = "a former secret, CanaryFormerSecretCanary"
HOOK = "CanaryOfTheWebhooksSecret"
HEADER = "CanaryOfTheWebhooksHeader"

CONFIG = f"""
backup_dir = "."
[log]
level = "debug"
format = "json"
[auth]
previous_secrets = ["{FORMER}"]
[webhooks.hook]
url = "http://127.0.0.1:9/"
secret = "{HOOK}"
allow_private = true
headers = {{ Authorization = "Bearer {HEADER}" }}
timeout = 2
[commands.environ]
argv = ["env"]
[commands.list]
argv = ["ls", "-la", "/proc/self/fd"]
"""
APP = """
import os
from jobctl import job

@job("fails", max_attempts=1)
def fails(ctx, **data):
    ctx.log(f"the environment has {sorted(os.environ)}")
    raise ValueError("it failed")
"""


class Run:
    """What was done, what must not be found, and everything that was seen."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.secrets: dict[str, str] = {
            "the secret": SECRET.decode(), "the former secret": FORMER, "the webhook's secret": HOOK,
            "the webhook's header": HEADER,
        }  # fmt: skip
        self.seen: dict[str, bytes] = {}
        self.ids: list[str] = []

    def keep(self, what: str, data: bytes) -> None:
        self.seen[what] = self.seen.get(what, b"") + data

    def cli(self, *words: str, **env: str) -> str:
        """Run a command; what it says is seen, and how it was called."""
        own = {"JOBCTL_URL": f"http://127.0.0.1:{self.target.port}", "PYTHONPATH": str(ROOT)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBCTL_", "PYTEST"))}
        state = {"JOBCTL_STATE_DIR": str(self.target.folder / "state"), "JOBCTL_SECRET": SECRET.decode()}
        process = subprocess.Popen(
            [sys.executable, "-m", "jobctl", *words], cwd=self.target.folder, env=kept | own | state | env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.keep("a command line", Path(f"/proc/{process.pid}/cmdline").read_bytes())
        out, err = process.communicate(timeout=60)
        self.keep(f"jobctl {words[0]}", out + err)
        assert b"Traceback" not in err, err
        return out.decode()


def everything(run: Run) -> None:
    """A day in the life of a server, in a few seconds."""
    target, admin = run.target, run.target.token()
    run.secrets["an access token"] = admin
    token_file = target.folder / "token"
    with Http(target) as http:
        made = http.ask("POST", "/api/tokens", admin, b'{"name":"ci","role":"admin"}')
        run.secrets["an API token"] = made.json["data"]["token"]
        token_file.write_text(run.secrets["an API token"])
        code = http.ask("POST", "/api/auth/codes", admin, b"").json["data"]["code"]
        run.secrets["a code"] = code
        login = http.ask("POST", "/api/auth/login", body=json.dumps({"code": code}).encode())
        remember(run, "at login", login)
        name, _, refresh = login.headers["set-cookie"].partition(";")[0].partition("=")
        renewed = http.ask(
            "POST", "/api/auth/refresh", Cookie=f"{name}={refresh}", Sec_Fetch_Site="same-origin", Origin="http://x"
        )
        remember(run, "at refresh", renewed)
        for wrong in ("login", "refresh"):  # a code and a cookie that are of no more use
            http.ask("POST", f"/api/auth/{wrong}", body=json.dumps({"code": code}).encode())
        for job in (
            {"name": "fails", "data": {"a": 1}},
            {"name": "hook", "maxAttempts": 1},
            {"name": "environ"},
            {"name": "list"},
        ):
            answer = http.ask("POST", "/api/jobs", admin, json.dumps(job).encode())
            run.ids.append(answer.json["data"]["id"])
        for path in (f"/api/jobs?q={code}", f"/api/nothing/{admin}", f"/api/jobs?token={admin}", f"/?code={code}"):
            run.keep("answers", http.ask("GET", path, admin).body)
        run.keep("answers", http.ask("GET", "/api/jobs", "not.a.token").body)
        run.keep("answers", http.ask("GET", "/api/jobs", admin + "x").body)
        wait_for_jobs(run, http, admin)
        paths = [
            "/api/jobs?limit=200", "/api/jobs/stats", "/api/tokens", "/api/queues", "/api/handlers", "/api/server",
            "/api/jobs/schedules", "/api/openapi.json", "/metrics", "/readyz", "/", "/api/events?since=x:0&limit=1000",
            *(f"/api/jobs/{job_id}{part}" for job_id in run.ids for part in ("", "/logs", "/events")),
        ]  # fmt: skip
        for path in paths:
            answer = http.ask("GET", path, admin)
            run.keep("answers", answer.body + repr(answer.headers).encode())
        epoch = http.ask("GET", "/api/server", admin).json["data"]["epoch"]
        run.keep("events", http.ask("GET", f"/api/events?since={epoch}:0&limit=1000", admin).body)
        run.keep("answers", http.ask("POST", "/api/admin/backup", admin, b'{"path":"copy.db"}').body)
    stream(run, admin, epoch)
    commands(run, token_file)
    run.keep("the server's command line", Path(f"/proc/{target.process.pid}/cmdline").read_bytes())


def remember(run: Run, when: str, answer: Answer) -> None:
    """The tokens that an answer brings are secrets from now on."""
    assert answer.status == 200, answer.body
    run.secrets[f"the access token {when}"] = answer.json["data"]["accessToken"]
    run.secrets[f"the refresh token {when}"] = answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


def wait_for_jobs(run: Run, http: Http, admin: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        jobs = [http.ask("GET", f"/api/jobs/{each}", admin).json["data"]["status"] for each in run.ids]
        if all(status in ("completed", "failed") for status in jobs):
            return
        time.sleep(0.05)
    raise AssertionError(jobs)


def stream(run: Run, admin: str, epoch: str) -> None:
    """Everything once more over the stream, and a token that it refuses."""
    with Wire.signed_in(run.target, admin) as wire:
        wire.say(type="subscribe_jobs", since=0, epoch=epoch, schedules=True)
        for job_id in run.ids:
            wire.say(type="subscribe_logs", id=job_id, after=0)
        wire.say(type="nonsense", token=admin)
        wire.say(type="ping")
        wire.sock.settimeout(0.5)
        try:
            while (found := wire.frame()) is not None:
                run.keep("the stream", found[1])
        except TimeoutError:
            pass
    with Wire.opened(run.target) as wire:
        wire.say(type="auth", token=admin + "x")
        run.keep("the stream", wire.rest())


def commands(run: Run, token_file: Path) -> None:
    """What people and CI do, with a token from a file, from the environment, and signed on the spot."""
    given = ("--token-file", str(token_file))
    run.cli("jobs", "list", *given)
    run.cli("jobs", "show", run.ids[0], *given)
    run.cli("watch", *run.ids[:1], "--until-done", "--plain", JOBCTL_TOKEN=run.secrets["an API token"])
    run.cli("token", "list", "--json", *given)
    run.cli("doctor", *given)
    run.cli("doctor", JOBCTL_TOKEN=run.secrets["an API token"] + "x")
    run.cli("config", "show", "--config", "jobctl.toml")
    run.cli("config", "check", "--config", "jobctl.toml", "--app", "attacked")
    run.cli("jobs", "list", JOBCTL_TOKEN=run.secrets["an API token"] + "x")
    run.cli("enqueue", "fails", "--url", "http://127.0.0.1:1", *given)
    run.secrets["a token that a command has signed"] = run.cli("token").strip()
    run.seen.pop("jobctl token")  # to print it is that command's purpose
    link = run.cli("open", "--print", *given).strip()
    run.seen.pop("jobctl open")
    run.secrets["the code of a link"] = link.partition("#code=")[2]
    assert len(run.secrets["the code of a link"]) > 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("secrets")
    with Target.started(folder, config=CONFIG, app=APP) as target:
        made = Run(target)
        everything(made)
    made.keep("the log", (folder / "log").read_bytes())
    for path in (*folder.glob("*.db*"), *(folder / "state").rglob("*")):
        if path.is_file():
            made.keep(f"the file {path.name}", path.read_bytes())
    yield made


def forms(secret: str) -> Iterator[bytes]:
    """The secret, and what of it would do as well."""
    yield secret.encode()
    yield json.dumps(secret)[1:-1].encode()
    if secret.count(".") == 2:
        yield secret.rpartition(".")[2].encode()  # a JWT's signature


def test_no_secret_is_in_anything_that_a_whole_run_has_said_or_left(run: Run) -> None:
    found = [
        (secret, place)
        for secret, value in run.secrets.items()
        for place, data in run.seen.items()
        for form in forms(value)
        if form in data
    ]
    assert found == []
    assert_seen(run)
    paths = [json.loads(line).get("path", "") for line in run.seen["the log"].splitlines() if line.startswith(b"{")]
    assert any(paths)
    assert not [path for path in paths if re.search(r"[?&#]|eyJ", path)], "no address that was logged holds one"
    assert b"JOBCTL_JOB_ID" in run.seen["answers"], "`env` as a job: what it prints is in its log"
    assert b"JOBCTL_SECRET" not in run.seen["answers"].replace(b"'JOBCTL_SECRET'", b"")


def assert_seen(run: Run) -> None:
    """Else there would be nothing to find."""
    assert {"the log", "answers", "events", "the stream", "a command line", "jobctl doctor"} <= run.seen.keys()
    assert any(place.startswith("the file") and place.endswith(".db") for place in run.seen)
    assert b"it failed" in run.seen["events"]
    assert b"it failed" in run.seen["the stream"]
    assert len(run.seen["the log"].splitlines()) > 30
    assert len(set(run.secrets.values())) == len(run.secrets) >= 12
    assert all(len(value) >= 20 for value in run.secrets.values())
