"""Send one job, or the jobs of a file, and know at any moment what has been enqueued and how to go on.

Every request carries an idempotency key that follows from one key for the whole command. Where something ends it half
way, the same command with that key enqueues what is missing and nothing twice, for as long as the server keeps keys.
"""

import re
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from jobctl.cli.output import drawable, emit, hint, print_json, safe, shorten
from jobctl.errors import ApiError, ClientError, InvalidInput

if TYPE_CHECKING:
    from jobctl.cli.ndjson import Batch
    from jobctl.client.api import Answer
    from jobctl.client.session import Session

KEY: Final = re.compile(r"[\x20-\x7e]{1,160}")
"""What the server takes, less the room for a line's number."""


@dataclass(slots=True)
class Sent:
    """What has been enqueued so far.

    Attributes:
        key: Of the whole command.
        ids: Of the jobs, in their order.
        replayed: Those of ``ids`` that an earlier command with this key has made.
        unknown: What has been sent and not been answered, in words.
        rest: The line from which on nothing is enqueued; 0 where all are, or there are no lines.
    """

    key: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    ids: list[str] = field(default_factory=list)
    replayed: list[str] = field(default_factory=list)
    unknown: str = ""
    rest: int = 0

    @property
    def whole(self) -> bool:
        """Whether all is enqueued."""
        return bool(self.ids) and not self.unknown and not self.rest

    @contextmanager
    def sending(self, session: "Session", what: str) -> Iterator[None]:
        """``what`` is being sent; it may have arrived also where no answer comes."""
        try:
            yield
        except BaseException:
            self.unknown = what if session.uncertain else ""
            raise

    def take(self, answer: "Answer", ids: Iterable[str]) -> list[str]:
        """These are enqueued."""
        found = list(ids)
        self.ids += found
        if answer.replayed:
            self.replayed += found
        return found

    def so_far(self) -> str:
        """What a person has to know before giving the command again; empty where nothing has been done."""
        told = [f"whether {self.unknown} arrived is not known"] if self.unknown else []
        if len(self.ids) == 1 and not self.rest:
            told.append(f"the job is enqueued: {self.ids[0]}")
        elif self.ids:
            told.append(f"{len(self.ids):,} jobs are enqueued" + f", those before line {self.rest}" * bool(self.rest))
        if self.unknown or (self.ids and self.rest):
            told.append(f"to go on and enqueue nothing twice, give the same command with --idempotency-key {self.key}")
        return "; ".join(told)


class Work(Protocol):
    """What is to be sent."""

    def send(self, session: "Session", sent: Sent) -> Iterator[tuple[bytes, list[str]]]:
        """What the API says, and the ids, of each request."""


class One(NamedTuple):
    """One job; ``texts`` are those fields of its data that were given as ``k=v``."""

    fields: dict[str, Any]
    texts: frozenset[str] = frozenset()

    def send(self, session: "Session", sent: Sent) -> Iterator[tuple[bytes, list[str]]]:
        """What the API says, and the id."""
        from jobctl.client import api

        call = api.enqueue(self.fields, key=sent.key)
        with sent.sending(session, "the job"):
            try:
                answer = session.send(call)
            except ApiError as error:
                raise self._with_form(error) from None
        if answer.status == 200:
            hint("a job with this --unique key is live already; that one is meant")
        yield answer.data, sent.take(answer, [api.decode(call, answer).id])

    def _with_form(self, error: ApiError) -> ClientError:
        """What is written ``k=v`` is a text; where that is the mistake, say how the other is written."""
        name = str(error.problem.get("field", "")).removeprefix("data.")
        if name not in self.texts or not str(error).endswith("got string"):
            return error
        from jobctl.cli.values import parse_json

        value = str(self.fields["data"][name])
        try:
            parse_json(value, name)
        except InvalidInput:
            value = "JSON"
        return with_words(error, f"write {name}:={shorten(value, 40)} for a value that is not a text")


class Lines(NamedTuple):
    """The jobs of a file; ``defaults`` fill in what a line leaves out."""

    path: Path
    defaults: dict[str, Any]

    def send(self, session: "Session", sent: Sent) -> Iterator[tuple[bytes, list[str]]]:
        """What the API says, and the ids, of each batch. All lines are checked before the first is sent."""
        from jobctl.cli import ndjson
        from jobctl.client import api

        with ndjson.opened(self.path, sys.stdin.buffer) as file:
            total = sum(1 for _ in ndjson.jobs(file, self.defaults))
            if not total:
                raise InvalidInput(f"{self.path} holds no job")
            file.seek(0)
            for batch in ndjson.batches(ndjson.jobs(file, self.defaults)):
                sent.rest = batch.numbers[0]
                call = api.enqueue_batch(batch.lines, key=f"{sent.key}:{batch.numbers[0]}")
                with sent.sending(session, _lines(batch)):
                    try:
                        answer = session.send(call)
                    except ApiError as error:
                        raise _with_line(error, batch) from None
                ids = sent.take(answer, api.decode(call, answer).ids)
                sent.rest = batch.numbers[-1] + 1 if len(sent.ids) < total else 0
                yield answer.data, ids
                if drawable(sys.stderr):
                    sys.stderr.write(f"\r\x1b[K{len(sent.ids):,} of {total:,} enqueued" + "\n" * (not sent.rest))
                    sys.stderr.flush()


def submit(session: "Session", work: Work, sent: Sent, *, as_json: bool, silent: bool) -> None:
    """Send it all, and print the ids (or what the API says) unless ``silent``.

    Raises:
        OutputFailed: they cannot be printed; it says what is enqueued.
    """
    for data, ids in work.send(session, sent):
        if silent:
            continue
        if as_json:
            print_json(data, done=sent.so_far())
        else:
            emit("".join(f"{safe(job_id)}\n" for job_id in ids), done=sent.so_far())


def with_words(error: ClientError, words: str) -> ClientError:
    """The same error, saying ``words`` too."""
    if not words:
        return error
    told = f"{error}; {words}"
    if isinstance(error, ApiError):
        return ApiError(error.status, {**error.problem, "detail": told})
    return type(error)(told)


def _lines(batch: "Batch") -> str:
    first, last = batch.numbers[0], batch.numbers[-1]
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _with_line(error: ApiError, batch: "Batch") -> ApiError:
    """The server names a job by its place in the batch; a person looks for its line in the file."""
    found = re.match(r"jobs\[(\d+)\]", str(error.problem.get("field", "")))
    known = found and int(found[1]) < len(batch.numbers)
    lines = f"line {batch.numbers[int(found[1])]}" if found and known else _lines(batch)
    message = re.sub(r"^line [0-9]+: ", "", str(error))
    return ApiError(error.status, {**error.problem, "detail": f"{lines}: {message}"})
