"""One who watches and notes how old each update is. ``python -m bench.queues.listener PORT UPDATES``, token on stdin.

It says when it is subscribed, and, once it has had so many updates of jobs that say when they were handed over, what
age each had (ms): from just before the call that enqueued it, in another process here, to its JSON in hand.
"""

import sys
import time

import msgspec
from wsproto.events import TextMessage

from bench.conversation import say
from bench.queues.order import Done
from bench.queues.watcher import READY, subscribe


class Data(msgspec.Struct):
    """Of a job."""

    at: int | None = None


class Updated(msgspec.Struct):
    """A job."""

    data: Data | None = None


class Heard(msgspec.Struct):
    """Any message; only updates have a job."""

    job: Updated | None = None


def main(port: int, token: str, updates: int) -> None:
    """Listen until that many have come."""
    sock, ws = subscribe(port, token)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    decoder = msgspec.json.Decoder(Heard)
    ages: list[float] = []
    text = ""
    while len(ages) < updates:
        ws.receive_data(sock.recv(1 << 18) or None)
        for event in ws.events():
            if not isinstance(event, TextMessage):
                raise SystemExit(f"listener: {event}")
            text += event.data
            if not event.message_finished:
                continue
            heard, text = decoder.decode(text), ""
            if heard.job is not None and heard.job.data is not None and heard.job.data.at is not None:
                ages.append((time.monotonic_ns() - heard.job.data.at) / 1e6)
    say(Done(values=tuple(ages)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.readline().strip(), int(sys.argv[2]))
