"""What the clients of each scenario do, from their arrival to the end of the measured time.

Every poll and arrival has a time of its own, counted from the start and not from the one before: a poll that takes long
delays no other, and how late each began is recorded (no coordinated omission).
"""

import random
import time
from collections.abc import Callable
from typing import Any, Final

import h11
import msgspec

from bench.clock import seconds_until
from bench.load.http import Answer, HttpConnection
from bench.load.order import Order
from bench.load.record import Recorder
from bench.load.stream import Stream
from bench.scenarios import EVENTS, JOBS, SCHEDULES, STATS, THREE

BACKOFF_S: Final = 0.5
"""Before a cut client comes back: a random part of it (full jitter), before scaling; as the real client does."""
LONG_WAIT_S: Final = 30.0
"""That a long poll asks for, before scaling: the most that the server grants."""
PAGE: Final = 1000
_PATHS: Final = {JOBS: "/api/jobs", STATS: "/api/jobs/stats", SCHEDULES: "/api/jobs/schedules"}
FAILURES: Final = (OSError, h11.RemoteProtocolError, h11.LocalProtocolError, msgspec.DecodeError)


class _Job(msgspec.Struct, gc=False):
    id: str
    version: int


class _Jobs(msgspec.Struct):
    jobs: list[_Job]


class _List(msgspec.Struct):
    data: _Jobs


class _Event(msgspec.Struct, gc=False):
    seq: int
    job: _Job | None = None


class _Events(msgspec.Struct):
    events: list[_Event]
    position: str
    recovered: bool


class _Log(msgspec.Struct):
    data: _Events


_list: Final = msgspec.json.Decoder(_List).decode
_log: Final = msgspec.json.Decoder(_Log).decode


class Client:
    """One simulated user, with a token of its own."""

    def __init__(self, order: Order, number: int, recorder: Recorder) -> None:
        self.order = order
        self.number = number
        self.recorder = recorder
        self.token = order.tokens[number]
        self.arrival = order.start + order.phases[number]
        self._http: HttpConnection | None = None
        self._bodies: dict[str, bytes] = {}
        self._etags: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._streams = 0
        self._draw = random.Random(order.seed * 1_000_003 + number)  # noqa: S311 - repeatable, not secret
        self.told: Callable[[str, Answer], None] = lambda route, answer: None
        """Called with every answer; the load engine keeps statistics of its own."""

    def run(self) -> None:
        """Do what the scenario is. Never raises for what a server may do: that is recorded."""
        act = {"poll": self._poll, "longpoll": self._long_poll, "stream": self._stream}
        try:
            act[self.order.kind]()
        except FAILURES as error:
            self.fail(error)
        else:
            self.recorder.finished += 1
        finally:
            self.hang_up()

    def fail(self, error: Exception) -> None:
        """Record that something went wrong."""
        self.recorder.failed(self.number, f"client {self.number}: {type(error).__name__}: {error}")

    # --- asking --------------------------------------------------------------------------------------------------

    def ask(self, route: str, due: int, query: str = "") -> Answer:
        """One request; its answer, recorded."""
        if self._http is None or not self._http.reusable:
            self.hang_up()
            self._http = HttpConnection(self.order.place)
            self.recorder.opened(self.number, "http", self._http)
        tag = self._etags.get(route) if self.order.etag else None
        headers = () if tag is None else (("If-None-Match", tag),)
        answer = self._http.get(_PATHS.get(route, route.removeprefix("GET ")) + query, self.token, headers)
        if b"etag" in answer.headers:
            self._etags[route] = answer.headers[b"etag"].decode("latin-1")
        empty, jobs = self._look(route, answer)
        self.recorder.answer(
            self.number, route, answer.status, due=due, sent=answer.sent, arrived=answer.arrived,
            seq=answer.seq if answer.status in (200, 304) else None, size=answer.size, empty=empty, jobs=jobs,
        )  # fmt: skip
        self.told(route, answer)
        return answer

    def _look(self, route: str, answer: Answer) -> tuple[bool, list[tuple[Any, ...]]]:
        """Whether an answer told nothing new, and which states of jobs it did tell."""
        if answer.status == 304:
            return True, []
        if answer.status != 200:
            return False, []
        if route == EVENTS:
            events = _log(answer.body).data.events
            return not events, [(each.job.id, each.job.version, each.seq) for each in events if each.job is not None]
        before = self._bodies.get(route)
        self._bodies[route] = answer.body
        if before == answer.body:
            return True, []
        return False, self._news(answer.body) if route == JOBS else []

    def _news(self, body: bytes) -> list[tuple[Any, ...]]:
        news = []
        for job in _list(body).data.jobs:
            if self._versions.get(job.id) != job.version:
                self._versions[job.id] = job.version
                news.append((job.id, job.version))
        return news

    def hang_up(self) -> None:
        """Close the HTTP connection."""
        if self._http is not None:
            self._http.close(self.recorder.closing)
            self._http = None

    # --- the scenarios -------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        interval = round(self.order.interval * 1e9)
        for turn in range(self.order.polls):
            due = self.arrival + turn * interval
            sleep_until(due)
            self.recorder.began(due)
            try:
                for route in THREE:
                    self.ask(route, due)
            except FAILURES as error:
                self.fail(error)
                self.hang_up()
            if not self.order.keep:
                self.hang_up()

    def look_once(self) -> Answer:
        """Arrive: fetch the three; the answer with the jobs."""
        sleep_until(self.arrival)
        self.recorder.began(self.arrival)
        jobs, *_ = [self.ask(route, self.arrival) for route in THREE]
        return jobs

    def _long_poll(self) -> None:
        jobs = self.look_once()
        epoch, seq = jobs.epoch, jobs.seq
        while (left := (self.order.end - time.monotonic_ns()) / 1e9) > 0:
            wait = min(LONG_WAIT_S / self.order.scale, left)
            answer = self.ask(EVENTS, time.monotonic_ns(), f"?since={epoch}:{seq}&limit={PAGE}&wait={wait:.3f}")
            if answer.status != 200:
                raise ConnectionError(f"a long poll was answered with {answer.status}")
            seq = answer.seq

    def _stream(self) -> None:
        jobs = self.look_once()
        self.hang_up()
        seq = jobs.seq or 0
        for cut in (*self.order.cuts, None):
            stream = self._connect()
            if self.order.subscribe and not stream.subscribe(seq, jobs.epoch).recovered:
                raise ConnectionError("the server could not resume the stream")
            for heard in stream.read_until(self.order.end if cut is None else cut):
                message = heard.message
                if message.job is not None and message.seq is not None:
                    self.recorder.update(
                        self.number, self._streams, heard.arrived, message.seq, message.job.id, message.job.version
                    )
                    seq = message.seq
            if cut is None:
                stream.close(self.recorder.closing)
            else:
                stream.cut(self.recorder.closing)
                sleep_until(cut + round(self._draw.random() * BACKOFF_S / self.order.scale * 1e9))

    def _connect(self) -> Stream:
        stream = Stream(self.order.place)
        self._streams += 1
        self.recorder.opened(self.number, "stream", stream)
        stream.sign_in(self.token)
        return stream


def sleep_until(at: int) -> None:
    """Wait for a time of CLOCK_MONOTONIC, ns."""
    if (left := seconds_until(at)) > 0:
        time.sleep(left)
