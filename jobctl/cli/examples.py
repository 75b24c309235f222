"""An example or two for the ``--help`` of every command, so that none needs a manual page."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "serve": (
        "jobctl serve --app tasks",
        "jobctl serve --app tasks --reload",
        "jobctl serve --config /etc/jobctl.toml --host 0.0.0.0 --certfile tls.crt --keyfile tls.key",
    ),
    "enqueue": (
        "jobctl enqueue thumbnail path=cat.png width:=640",
        "jobctl enqueue report --queue slow --delay 3600 --unique report-today",
        "jobctl enqueue --file jobs.ndjson --wait --wait-timeout 600",
    ),
    "watch": (
        "jobctl watch --queue slow --status failed",
        "jobctl watch ID --until-done",
        "jobctl watch --json | jq .job.status",
    ),
    "jobs list": (
        "jobctl jobs list --status failed --status cancelled --queue slow",
        "jobctl jobs list --all --json > jobs.ndjson",
    ),
    "jobs show": ("jobctl jobs show ID", "jobctl jobs show ID --json | jq .result"),
    "jobs logs": ("jobctl jobs logs ID", "jobctl jobs logs ID --follow"),
    "jobs retry": ("jobctl jobs retry ID ID", "jobctl jobs retry --status failed --queue mail --yes"),
    "jobs cancel": ("jobctl jobs cancel ID", "jobctl jobs cancel --status pending --name report"),
    "jobs delete": ("jobctl jobs delete ID", "jobctl jobs delete --status cancelled --tag test --yes"),
    "schedules list": ("jobctl schedules list", "jobctl schedules list --json | jq '.schedules[].nextRun'"),
    "schedules add": (
        "jobctl schedules add nightly --cron '30 2 * * *' --timezone Europe/Zurich --job backup target=/srv",
        "jobctl schedules add sweep --cron @hourly --job sweep --missed once",
    ),
    "schedules show": ("jobctl schedules show nightly", "jobctl schedules show nightly --json"),
    "schedules edit": ("jobctl schedules edit nightly --cron '0 3 * * 1-5'", "jobctl schedules edit nightly depth:=3"),
    "schedules enable": ("jobctl schedules enable nightly",),
    "schedules disable": ("jobctl schedules disable nightly",),
    "schedules trigger": ('jobctl watch "$(jobctl schedules trigger nightly)" --until-done',),
    "schedules remove": ("jobctl schedules remove nightly",),
    "queues list": ("jobctl queues list", "jobctl queues list --json"),
    "queues pause": ("jobctl queues pause mail",),
    "queues resume": ("jobctl queues resume mail",),
    "work": ("jobctl work --db postgresql://jobs@db.example/jobs --app tasks --concurrency 20",),
    "migrate": ("jobctl migrate --db postgresql://jobs@db.example/jobs",),
    "workers": ("jobctl workers", "jobctl workers --json | jq '.workers[].running'"),
    "jobs prune": ("jobctl jobs prune --older-than 7d --status completed",),
    "open": ("jobctl open", "jobctl open --print --sub ann --role user"),
    "doctor": ("jobctl doctor --url https://jobs.example",),
    "config show": ("jobctl config show", "jobctl config show --config /etc/jobctl.toml --json"),
    "config check": ("jobctl config check --config /etc/jobctl.toml",),
    "db backup": ('jobctl db backup "backup-$(date +%F).db"',),
    "db check": ("jobctl db check backup.db",),
    "db copy": ("jobctl db copy jobctl.db postgresql://jobctl@db.example/jobctl",),
    "db restore": ("jobctl db restore backup.db --db jobctl.db",),
    "token create": ("jobctl token create --name ci --days 90 > ci.token",),
    "token list": ("jobctl token list",),
    "token revoke": ("jobctl token revoke ci",),
    "token": ('curl -H "Authorization: Bearer $(jobctl token)" localhost:8000/api/jobs',),
    "bench report": ("jobctl bench report run.json", "jobctl bench report run.json --out report"),
    "bench compare": ("jobctl bench compare before/run.json after/run.json",),
    "bench check": ("jobctl bench check run.json --thresholds gates.toml --strict",),
    "bench": ("jobctl bench", "jobctl bench --profile ci --out bench-run"),
    "bench run": (
        "jobctl bench run --scenario idle --scenario poll --scenario ws --clients 20 --updates 1",
        "jobctl bench run --profile ci --thresholds configs/bench-ci-gates.toml --strict",
    ),
    "demo": ("jobctl demo", "jobctl demo --path ~/Documents --limit 100"),
}


def commands(app: typer.Typer, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with what is called to reach it: ``jobs list``."""
    for command in app.registered_commands:
        yield f"{path} {command.name or command.callback.__name__}".strip(), command  # type: ignore[union-attr]
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{path} {group.name}".strip())


def attach(app: typer.Typer) -> None:
    """Put the examples below each command's help."""
    for path, command in (*commands(app), *((str(group.name), group) for group in app.registered_groups)):
        if (shown := EXAMPLES.get(path)) and not command.epilog:
            title = "Example:" if len(shown) == 1 else "Examples:"
            # A line with \b tells the formatter to leave the paragraph as it is.
            command.epilog = "\n".join(("\b", title, *(f"  {each}" for each in shown)))
