"""``jobctl serve --reload``, whole: change, break, mend, leave."""
# ruff: noqa: F811  (fixtures are imported by name)

import signal
import subprocess

import trio
from cli_kit import Cli, cli  # noqa: F401

TASKS = "from jobctl import job\n@job('{}')\ndef handler(ctx): ...\n"


async def test_the_server_runs_what_was_saved_last(cli: Cli) -> None:
    tasks = cli.folder / "tasks.py"
    tasks.write_text(TASKS.format("first"))
    process = await trio.lowlevel.open_process(
        cli.arguments("serve", "--reload", "--app", "tasks", "--port", "0", "--db", "x.db"),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=cli.env(), cwd=cli.folder,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""

    async def hears(words: str) -> None:
        nonlocal said
        with trio.fail_after(30):
            while words not in said:
                said += (await process.stderr.receive_some()).decode()  # type: ignore[union-attr]
        said = said.partition(words)[2]

    try:
        await hears("handlers: first)")
        tasks.write_text("def f(:\n")
        await hears("tasks.py changed, but tasks.py:1: invalid syntax; the server goes on as it is")
        tasks.write_text("nobody_knows_this\n")
        await hears("tasks.py changed, but cannot import 'tasks': NameError: name 'nobody_knows_this' is not defined")
        await hears("(tasks.py:1); the server goes on as it is")
        tasks.write_text(TASKS.format("first"))
        await hears("handlers: first)")
        (cli.folder / "jobctl.toml").write_text("bogus = 1\n")
        await hears("jobctl.toml changed, but jobctl.toml: there is no setting 'bogus'; the server goes on as it is")
        (cli.folder / "jobctl.toml").unlink()
        await hears("handlers: first)")
        tasks.write_text(TASKS.format("other"))
        await hears("handlers: other)")
        process.send_signal(signal.SIGINT)
        await hears("stopped")
        with trio.fail_after(15):
            assert await process.wait() == 0
    finally:
        process.terminate()
        with trio.move_on_after(15, shield=True):
            await process.wait()
        await process.stderr.aclose()
