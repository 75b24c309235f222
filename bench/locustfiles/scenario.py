"""The locustfile of every built-in scenario, and the base of those that somebody adds.

A scenario of your own is a file like this, given as ``jobctl bench run --scenario my.py``:

    from bench.locustfiles.scenario import BenchUser, ask_each_interval

    class Mine(BenchUser):
        def behave(self):
            ask_each_interval(self.client, ["GET /api/queues"])

``self.client`` is a ``bench.load.clients.Client``: whatever it asks is counted, timed and kept.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.os
import msgspec
from locust import User, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import LocalRunner

from bench.load.clients import FAILURES, Client, sleep_until
from bench.load.http import Answer
from bench.load.order import Order, read_order, write_whole
from bench.load.record import Recorder
from bench.names import CLIENTS, ENVIRONMENT, OBSERVATIONS, READY, SAMPLES

LOOK_EVERY_S = 0.005
FOLDER = Path(os.environ[ENVIRONMENT])


class Block:
    """What the users of this process share."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.waiting = 0
        self.left = 0
        self.order: Order | None = None
        self.go = gevent.event.Event()

    def take_number(self) -> int:
        """Which client a user is."""
        self.waiting += 1
        self.left += 1
        return self.waiting - 1


BLOCK = Block()


class BenchUser(User):
    """One client. Subclasses say in ``behave`` what it does."""

    abstract = True
    client: Client

    def on_start(self) -> None:
        """Stand by until everybody is told to go."""
        number = BLOCK.take_number()
        BLOCK.go.wait()
        assert BLOCK.order is not None  # noqa: S101 - it is what the going waits for
        self.client = Client(BLOCK.order, number, BLOCK.recorder)
        self.client.told = self._tell_locust

    @task
    def once(self) -> None:
        """The whole of it: times are the order's, not Locust's (``constant_pacing`` drifts after an overrun)."""
        try:
            self.behave()
        except Exception as error:  # noqa: BLE001 - somebody's own code: the block tells of it, and comes to its end
            self.client.fail(error)
            self.client.hang_up()
        finally:
            BLOCK.left -= 1
        raise StopUser  # else Locust begins the client again, and nobody would be left to wait for

    def behave(self) -> None:
        """What the client does."""
        self.client.run()

    def _tell_locust(self, route: str, answer: Answer) -> None:
        method, _, name = route.partition(" ")
        events.request.fire(  # type: ignore[no-untyped-call]
            request_type=method, name=name, response_time=(answer.arrived - answer.sent) / 1e6,
            response_length=answer.size, exception=None, context={}, response=None,
        )  # fmt: skip


def ask_each_interval(client: Client, routes: Sequence[str]) -> None:
    """Ask for ``routes`` (``GET /api/queues``) each interval, at the client's phase, over one connection."""
    interval = round(client.order.interval * 1e9)
    for turn in range(client.order.polls):
        due = client.arrival + turn * interval
        sleep_until(due)
        client.recorder.began(due)
        for route in routes:
            try:
                client.ask(route, due)
            except FAILURES as error:
                client.fail(error)
                client.hang_up()
    client.recorder.finished += 1
    client.hang_up()


class Scenario(BenchUser):
    """A built-in one: what it does stands in the order."""


def _begin(environment: Environment, **_: Any) -> None:
    runner, options = environment.runner, environment.parsed_options
    if isinstance(runner, LocalRunner) and options:  # `--processes` forks a master that is told of the start as well
        gevent.spawn(_end_with_parent)
        gevent.spawn(_conduct, runner, options.num_users)


events.test_start.add_listener(_begin)  # type: ignore[no-untyped-call]


def _end_with_parent() -> None:
    """The driver holds the other end of stdin: when that is closed, it has ended or has no more use for us."""
    while gevent.os.tp_read(0, 4096):
        pass
    os._exit(1)


def _conduct(runner: LocalRunner, users: int) -> None:
    """Wait until all stand by, let them go together, and write down what they saw."""
    while BLOCK.waiting < users:
        gevent.sleep(LOOK_EVERY_S)
    (FOLDER / READY).touch()
    while (order := read_order(FOLDER)) is None:
        gevent.sleep(LOOK_EVERY_S)
    BLOCK.order = order
    BLOCK.go.set()
    sleep_until(order.start)
    began, cpu = time.monotonic(), time.process_time()
    for step in range(SAMPLES + 1):
        sleep_until(order.start + round(order.seconds * step / SAMPLES * 1e9))
        BLOCK.recorder.sample()
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu
    while BLOCK.left > 0:
        gevent.sleep(LOOK_EVERY_S)
    BLOCK.recorder.write(FOLDER / OBSERVATIONS)
    answered = BLOCK.recorder.summary(cpu_s=cpu_s, seconds=seconds)
    write_whole(FOLDER / CLIENTS, msgspec.json.encode(answered))
    runner.quit()
