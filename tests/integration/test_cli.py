"""The command line, as a shell sees it: exit codes, stdout, stderr; against a real server."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
from cli_kit import Cli, Result, Terminal, cli  # noqa: F401
from cli_server_kit import MISSING, server  # noqa: F401

from jobctl import auth
from tests.kit import Running, StartServer, until

# --- enqueue ---------------------------------------------------------------------------------------------------


async def test_enqueue_prints_the_id_and_nothing_else(server: Running, cli: Cli) -> None:
    done = await cli("enqueue", "ok", "path=a b.png", "n:=640", 'deep:={"x":[1,null]}', "--queue", "q", "--tag", "a",
                     "--tag", "b", "--priority", "-5", "--delay", "60", "--max-attempts", "2", "--timeout", "9.5",
                     "--unique", "u", "--data", '{"n":1,"m":2}')  # fmt: skip
    assert (done.code, done.err) == (0, "")
    [job_id] = done.lines
    [shown] = (await cli("jobs", "show", job_id, "--json")).json
    assert shown["data"] == {"path": "a b.png", "n": 640, "deep": {"x": [1, None]}, "m": 2}
    assert (shown["queue"], shown["tags"], shown["priority"]) == ("q", ["a", "b"], -5)
    assert (shown["maxAttempts"], shown["timeout"], shown["uniqueKey"]) == (2, 9.5, "u")
    assert shown["scheduledFor"] > shown["createdAt"]
    again = await cli("enqueue", "ok", "--unique", "u", "--json")
    assert again.json[0]["id"] == job_id


async def test_enqueue_of_a_name_that_the_server_does_not_know_lists_those_it_does(server: Running, cli: Cli) -> None:
    done = await cli("enqueue", "nope")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("jobctl: no handler named 'nope'; this server knows: fail, hold, ok, slow")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("enqueue",), ("enqueue", "ok", "nonsense"), ("enqueue", "ok", "k:=nope"), ("enqueue", "ok", "--priority", "x"),
        ("enqueue", "ok", "--delay", "1", "--at", "2030-01-01T00:00:00Z"), ("enqueue", "ok", "--wait-timeout", "1"),
        ("enqueue", "ok", "--data", "[]"), ("enqueue", "ok", "a=1", "--file", "x"), ("enqueue", "--file", "none"),
        ("watch", "--json", "--plain"), ("watch", "--table"), ("watch", "--since", "x"), ("watch", "--status", "x"),
        ("watch", "--queue", "a b"), ("watch", "--name", "x\n"), ("queues", "pause", "a/b"),
        ("nope",), ("jobs", "nope"), ("jobs", "show"), ("--url", "x"), ("token", "--role", "root"),
        ("jobs", "list", "--limit", "0"), ("jobs", "list", "--url", "localhost:8000"), ("queues", "pause"),
        ("token", "extra"), ("demo", "--path", "/nope"), ("serve", "--config", "none.toml"), ("serve", "--port", "x"),
        ("serve", "--concurrency", "0"), ("serve", "--host", ""), ("serve", "--db", "/"), ("serve", "--certfile", "x"),
        ("jobs", "list", "--search", b"\xff"), ("db", "check", "/"),
        ("jobs", "show", b"\xff"), ("jobs", "list", "--status", "x"), ("queues", "pause", b"\xff"),
        ("db", "check", b"\xff"), ("enqueue", "ok", b"k=\xff"), ("enqueue", "ok", "n:=" + "9" * 5000),
        ("enqueue", "ok", "--idempotency-key", ""), ("open", "--role", "x"), ("token", "--sub", b"\xff"),
    ],
)  # fmt: skip
async def test_wrong_usage_is_one_line_and_exit_code_2(
    cli: Cli, tmp_path: Path, arguments: tuple[str | bytes, ...]
) -> None:
    auth.ensure_secret(tmp_path / "state")
    cli.url = "http://127.0.0.1:1"
    done = await cli(*(each if isinstance(each, str) else os.fsdecode(each) for each in arguments))
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("jobctl: ")
    assert done.err.count("\n") == 1


async def test_a_wrong_time_is_told_with_its_unit(cli: Cli) -> None:
    done = await cli("enqueue", "ok", "--delay", "3s")
    assert done.err.startswith("jobctl: Invalid value for '--delay': '3s' is not a number (in seconds)")


async def test_a_folder_that_is_gone_is_one_line(cli: Cli) -> None:
    command = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m jobctl serve --port 0"
    done = await trio.run_process(
        ["bash", "-c", command], capture_stderr=True, check=False, env=cli.env(), cwd=cli.folder
    )
    assert done.returncode == 2
    assert done.stderr == b"jobctl: No such file or directory (the current folder is gone)\n"


async def test_a_file_is_enqueued_in_batches_with_an_id_a_line(server: Running, cli: Cli) -> None:
    file = cli.folder / "jobs.ndjson"
    file.write_text("".join(f'{{"name":"ok","data":{{"n":{n}}},"delay":60}}\n' for n in range(2500)))
    done = await cli("enqueue", "--file", str(file))
    assert (done.code, done.err) == (0, "")
    assert len(set(done.lines)) == 2500
    assert (await server.store.stats(owner=None)).value.pending == 2500


async def test_stdin_is_a_file_and_options_fill_in_what_its_lines_leave_out(server: Running, cli: Cli) -> None:
    text = b'{"data":{"n":1}}\n\n{"name":"slow","queue":"r"}'
    done = await cli("enqueue", "ok", "--file", "-", "--queue", "q", "--delay", "60", stdin=text)
    assert done.code == 0, done.err
    first, second = [(await cli("jobs", "show", each, "--json")).json[0] for each in done.lines]
    assert (first["name"], first["queue"]) == ("ok", "q")
    assert (second["name"], second["queue"]) == ("slow", "r")


async def test_a_bad_line_is_named_before_anything_is_sent(server: Running, cli: Cli) -> None:
    done = await cli("enqueue", "--file", "-", stdin=b'{"name":"ok"}\n{"name":"ok","data":[]}\n')
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("jobctl: line 2: data: Expected `object`")
    assert (await server.store.stats(owner=None)).value.total == 0


async def test_a_line_that_the_server_refuses_is_named_by_its_number_in_the_file(server: Running, cli: Cli) -> None:
    lines = b'{"name":"ok"}\n\n' * 1000 + b'{"name":"nope"}\n'
    done = await cli("enqueue", "--file", "-", stdin=lines)
    assert done.code == 2
    assert len(done.lines) == 1000
    assert "line 2001: no handler named 'nope'" in done.err
    assert "1,000 jobs are enqueued, those before line 2001" in done.err


async def test_enqueue_waits_and_its_exit_code_is_the_jobs(server: Running, cli: Cli) -> None:
    done = await cli("enqueue", "slow", "--wait")
    assert (done.code, done.err) == (0, "")
    failed = await cli("enqueue", "fail", "--wait")
    assert failed.code == 1
    assert len(failed.lines) == 1
    assert f"jobctl: fail {failed.lines[0]} failed: broken \\x1b[2J pipe\n" in failed.err
    assert "  line 14 \\x1b[31m\n" in failed.err
    assert "line 4 " not in failed.err  # the last ten lines only
    late = await cli("enqueue", "hold", "--wait", "--wait-timeout", "0.3")
    assert late.code == 4
    assert late.err.startswith("jobctl: timed out after 0.3 s")


async def test_a_failure_among_several_wins_and_a_cancellation_is_told(server: Running, cli: Cli) -> None:
    many = await cli("enqueue", "--file", "-", "--wait", stdin=b'{"name":"ok"}\n{"name":"fail"}\n{"name":"slow"}\n')
    assert many.code == 1
    assert len(many.lines) == 3

    async def cancel() -> None:
        while not (page := await cli("jobs", "list", "--name", "hold", "--status", "running")).lines:
            await trio.sleep(0.1)
        await cli("jobs", "cancel", page.lines[0].split("\t")[0])

    results: list[Result] = []

    async def wait() -> None:
        results.append(await cli("enqueue", "hold", "--wait"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(cancel)
    assert results[0].code == 5


async def test_waiting_with_json_prints_the_final_jobs(server: Running, cli: Cli) -> None:
    done = await cli("enqueue", "ok", "n:=1", "--wait", "--json")
    assert [each["status"] for each in done.json] == ["completed"]
    assert done.json[0]["result"] == {"n": 1}


async def test_ctrl_c_while_waiting_detaches_and_cancels_nothing(server: Running, cli: Cli) -> None:
    done = await cli.interrupted("enqueue", "hold", "--wait", when=lambda out: b"\n" in out)
    assert done.code == 130
    job_id = done.out.strip()
    assert f"jobctl watch {job_id} --until-done" in done.err
    assert (await server.store.job(job_id, owner=None)).value.status == "running"


# --- where the server is, and who one is -----------------------------------------------------------------------


async def test_no_server_is_exit_code_3_at_once(cli: Cli, tmp_path: Path) -> None:
    auth.ensure_secret(tmp_path / "state")
    cli.url = "http://127.0.0.1:1"
    for arguments in (("enqueue", "ok"), ("watch",), ("jobs", "list"), ("queues", "list"), ("enqueue", "ok", "--wait")):
        done = await cli(*arguments)
        assert done.code == 3
        assert done.err.startswith("jobctl: cannot reach http://127.0.0.1:1: connection refused; is `jobctl serve`")
        assert done.err.count("\n") == 1


async def test_no_token_is_exit_code_3_and_says_what_to_do(cli: Cli) -> None:
    for command in (("jobs", "list"), ("token",), ("watch",)):
        done = await cli(*command)
        assert done.code == 3
        assert "--token-file" in done.err
        assert done.err.count("\n") == 1


async def test_a_refused_token_is_exit_code_3_and_says_which(server: Running, cli: Cli) -> None:
    for command in (("jobs", "list"), ("watch",), ("enqueue", "ok", "--wait")):
        done = await cli(*command, env={"JOBCTL_TOKEN": "nonsense"})
        assert done.code == 3
        assert "refuses the token of JOBCTL_TOKEN" in done.err
        assert "nonsense" not in done.err


async def test_a_token_file_speaks_for_its_subject(server: Running, cli: Cli) -> None:
    file = cli.folder / "token"
    file.write_text(server.token("ann", "user"))
    job_id = (await cli("enqueue", "ok", "--token-file", str(file))).out.strip()
    assert (await server.store.job(job_id, owner=None)).value.created_by == "ann"
    other = (await cli("enqueue", "ok")).out.strip()
    hidden = await cli("jobs", "show", other, "--token-file", str(file))
    assert hidden.code == 2
    assert (await cli("queues", "list", "--token-file", str(file))).code == 3


async def test_wait_server_waits_until_there_is_one(start_server: StartServer, cli: Cli, unused_port: int) -> None:
    cli.url = f"http://127.0.0.1:{unused_port}"
    results: list[Result] = []

    async def early() -> None:
        results.append(await cli("enqueue", "later", "--wait-server", "20"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(early)
        await trio.sleep(0.5)
        await start_server(port=unused_port)
    assert results[0].code == 0
    late = await cli("jobs", "list", "--wait-server", "0.2", "--url", "http://127.0.0.1:1")
    said = "http://127.0.0.1:1 was not ready within 0.2 s; the server's log says why"
    assert (late.code, late.err) == (3, f"jobctl: {said}\n")


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_token_prints_a_token_and_nothing_else(server: Running, cli: Cli) -> None:
    verify = auth.Verifier(server.secret).verify
    admin = await cli("token")
    assert (admin.code, admin.err, len(admin.lines)) == (0, "", 1)
    assert verify(admin.out.strip()).role == "admin"
    user = verify((await cli("token", "--role", "user", "--sub", "ann")).out.strip())
    assert (user.subject, user.role) == ("ann", "user")
    assert user.expires_at == pytest.approx(time.time() + 900, abs=20)


async def test_a_token_over_plain_http_to_another_machine_is_warned_of(cli: Cli, tmp_path: Path) -> None:
    auth.ensure_secret(tmp_path / "state")
    done = await cli("jobs", "list", "--url", "http://host.invalid:1")
    assert done.code == 3
    assert "warning: the token goes to http://host.invalid:1 over plain http" in done.err


# --- jobs and queues -------------------------------------------------------------------------------------------


async def test_jobs_are_listed_shown_and_acted_on(server: Running, cli: Cli) -> None:
    held = (await cli("enqueue", "hold")).out.strip()
    done = (await cli("enqueue", "ok", "--tag", "t", "--wait")).out.strip()
    listed = await cli("jobs", "list")
    assert [line.split("\t")[0] for line in listed.lines] == [done, held]
    assert [line.split("\t")[0] for line in (await cli("jobs", "list", "--status", "running")).lines] == [held]
    more = await cli("jobs", "list", "--limit", "1")
    cursor = more.err.strip().rpartition(" ")[2]
    assert [line.split("\t")[0] for line in (await cli("jobs", "list", "--cursor", cursor)).lines] == [held]
    assert [each["id"] for each in (await cli("jobs", "list", "--tag", "t", "--json")).json[0]["jobs"]] == [done]
    shown = await cli("jobs", "show", done)
    assert "completed" in shown.out
    assert (await cli("jobs", "logs", done)).lines[-1].endswith("| hello")
    assert (await cli("jobs", "logs", done, "--json")).json[0]["lines"][-1]["text"] == "hello"
    assert (await cli("jobs", "cancel", held)).out == f"{held} cancelling\n"
    waits = (await cli("enqueue", "ok", "--delay", "60")).out.strip()
    assert (await cli("jobs", "cancel", waits)).out == f"{waits} cancelled\n"
    refused = await cli("jobs", "delete", MISSING, done)
    assert refused.code == 2
    assert refused.out == f"{done} deleted\n"
    assert refused.err == f"jobctl: there is no job {MISSING}\n"
    await until(lambda: not server.service.runner.live)
    assert (await cli("jobs", "retry", held)).out == f"{held} pending\n"


async def test_queues_are_listed_paused_and_resumed(server: Running, cli: Cli) -> None:
    await cli("enqueue", "ok", "--delay", "60", "--queue", "q")
    assert (await cli("queues", "pause", "q")).out == "q paused\n"
    table = await cli("queues", "list")
    assert [line.split()[:4] for line in table.lines] == [
        ["QUEUE", "STATE", "LIMIT", "PENDING"],
        ["default", "active", "-", "0"],
        ["q", "paused", "-", "1"],
    ]
    assert (await cli("queues", "resume", "q", "--json")).json[0]["paused"] is False
    assert (await cli("queues", "pause", "nope")).code == 2


# --- the process -----------------------------------------------------------------------------------------------


async def modules_after(cli: Cli, *arguments: str) -> set[str]:
    code = f"import sys; from jobctl.cli.main import _guarded; assert _guarded({list(arguments)!r}) == 0; "
    code += "print('MODULES', *sys.modules, file=sys.stderr)"
    done = await trio.run_process(
        [sys.executable, "-c", code], capture_stdout=True, capture_stderr=True, env=cli.env(), cwd=cli.folder
    )
    return set(done.stderr.decode().rpartition("MODULES")[2].split())


async def test_help_and_enqueue_import_nothing_heavy(server: Running, cli: Cli) -> None:
    heavy = {"trio", "rich", "httpx2", "pydantic", "quart", "apsw", "jwt", "cryptography", "stamina", "asyncio"}
    assert not (heavy | {"msgspec", "http.client", "jobctl.model"}) & await modules_after(cli, "--help")
    found = await modules_after(cli, "enqueue", "ok")
    assert "http.client" in found
    assert not heavy & found


async def test_help_and_version_answer(cli: Cli) -> None:
    done = await cli("--help")
    assert done.code == 0
    for name in ("serve", "enqueue", "watch", "jobs", "queues", "token", "demo"):
        assert f"  {name} " in done.out
    assert (await cli("--version")).out.startswith("jobctl 0.")
    for command in ("serve", "enqueue", "watch", "jobs list", "queues pause", "token", "demo"):
        assert (await cli(*command.split(), "--help")).out.startswith(f"Usage: jobctl {command}")
    bare = await cli()
    assert bare.code == 2
    assert bare.err.startswith("Usage: jobctl")


async def test_a_defect_is_one_line_with_a_hint_and_debug_shows_where(cli: Cli) -> None:
    code = "import sys, jobctl.cli.credentials as c; c.sign_local = lambda **_: 1/0; sys.argv = ['jobctl', 'token']; "
    code += "from jobctl.cli.main import run; run()"
    for debug, said in (("", b"jobctl: internal error: ZeroDivisionError"), ("1", b"Traceback")):
        done = await trio.run_process(
            [sys.executable, "-c", code], check=False, capture_stderr=True, env=cli.env({"JOBCTL_DEBUG": debug})
        )
        assert said in done.stderr
        assert done.returncode == (1 if debug else 70)
    assert b"JOBCTL_DEBUG" not in done.stderr


async def test_serve_and_ctrl_c(cli: Cli, tmp_path: Path, unused_port: int) -> None:
    process = await trio.lowlevel.open_process(
        cli.arguments("serve", "--port", str(unused_port), "--db", str(tmp_path / "x.db")),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=cli.env({"JOBCTL_DEBUG": "1"}), cwd=cli.folder,
    )  # fmt: skip
    cli.url = f"http://127.0.0.1:{unused_port}"
    assert (await cli("queues", "list", "--wait-server", "20")).code == 0
    second = await cli("serve", "--port", "0", "--db", str(tmp_path / "x.db"))
    assert second.code == 2
    assert second.err.strip().splitlines()[-1].startswith("jobctl: ")
    process.send_signal(signal.SIGINT)
    with trio.fail_after(20):
        assert await process.wait() == 0
