"""Jobs as plain lines of text: for pipes, logs and CI."""

from datetime import UTC, datetime

from jobctl.cli.output import GLYPHS, duration, safe, shorten
from jobctl.model import Job, LogLine, Stats, StatusCounts
from jobctl.states import LIVE, Status

MESSAGE_CHARS = 200


def job_line(job: Job, at: str) -> str:
    """One update: ``12:00:01.250 ✔ completed ID name queue=… attempt=1/3 …``."""
    glyph = GLYPHS[job.status][0]
    parts = [clock(at), f"{glyph} {job.status.value:<9}", job.id, safe(job.name)]
    if job.queue != "default":
        parts.append(f"queue={safe(job.queue)}")
    if job.attempts > 1 or (job.attempts and job.status in LIVE):
        parts.append(f"attempt={attempt(job)}")
    if job.progress is not None and job.status is Status.RUNNING:
        parts.append(f"{job.progress.value:.0%}")
    if job.cancel_requested and job.status is Status.RUNNING:
        parts.append("cancel-requested")
    if (seconds := run_seconds(job)) is not None and job.completed_at:
        parts.append(duration(seconds))
    if text := message(job):
        parts.append(text)
    return " ".join(parts)


def deleted_line(job_id: str, at: str) -> str:
    """A job that is gone."""
    return f"{clock(at)} - deleted   {safe(job_id)}"


def stats_line(stats: Stats, at: str) -> str:
    """The counts."""
    return f"{clock(at)} # stats     {counts_text(stats)}"


def counts_text(stats: StatusCounts) -> str:
    """``running 2, pending 10, completed 5``: what is not zero."""
    return ", ".join(f"{name} {count}" for name, count in counts(stats).items()) or "no jobs"


def counts(stats: StatusCounts) -> dict[str, int]:
    """The counts that are not zero, those that move first."""
    names = ("running", "retrying", "pending", "completed", "failed", "cancelled")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


def log_line(line: LogLine) -> str:
    """One line of a job's log."""
    mark = "!" if line.stream == "stderr" else "|"
    return f"{clock(line.at)} {mark} {safe(line.text)}"


def message(job: Job) -> str:
    """What there is to say about a job's state, on one safe line: how far it is, else what went wrong."""
    error = shorten(safe(job.error.strip().partition("\n")[0]), MESSAGE_CHARS) if job.error else ""
    match job.status:
        case Status.RUNNING if job.progress is not None and job.progress.message:
            return shorten(safe(job.progress.message), MESSAGE_CHARS)
        case Status.RUNNING:
            return f"again after: {error}" if error else ""
        case Status.COMPLETED | Status.PENDING:
            return ""
        case _:
            return error


def attempt(job: Job) -> str:
    """Which run of how many: ``2/3``; ``attempts`` on the wire counts those that have ended."""
    return f"{job.attempts + (job.status is Status.RUNNING)}/{job.max_attempts}"


def clock(at: str) -> str:
    """The time of day, local, of an RFC 3339 time."""
    return moment(at).astimezone().strftime("%H:%M:%S.%f")[:-3]


def moment(at: str) -> datetime:
    """An RFC 3339 time; one that is none becomes the epoch (it is only shown)."""
    try:
        return datetime.fromisoformat(at)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def run_seconds(job: Job, now: datetime | None = None) -> float | None:
    """How long the last run took, or takes so far."""
    if job.started_at is None:
        return None
    end = moment(job.completed_at) if job.completed_at else now or datetime.now(UTC)
    return max(0.0, (end - moment(job.started_at)).total_seconds())
