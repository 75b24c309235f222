"""The fan-out benchmark: its parts, and a tiny run of the whole."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from bench.fan import contestants, turns, update
from bench.fan.crowd import Crowd, frames_in, masked
from bench.processes import Failed
from bench.side_by_side import Report
from jobctl.protocol import messages
from jobctl.stream import frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 70_000 - 5000])
def test_what_the_crowd_says_is_a_message_to_a_server(size: int) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(masked(b"x" * size))
    (event,) = server.events()
    assert isinstance(event, TextMessage)
    assert event.data == "x" * size


def test_frames_are_found_whole_and_in_order() -> None:
    texts = [b"", b"a" * 125, b"b" * 126, b"c" * 65_535, b"d" * 65_536]
    data = b"".join(map(frames.text, texts)) + frames.PING
    found = [(kind, data[start:end]) for kind, start, end in frames_in(data)]
    assert found == [*((0x81, each) for each in texts), (0x89, b"")]
    for cut in (1, 2, 3, len(data) - 66_000, len(data) - 1):
        whole = [end for _, _, end in frames_in(data[:cut])]
        assert whole == [end for _, _, end in frames_in(data) if end <= cut]


class Script(threading.Thread):
    """A server that lets one in and then sends what it is given, a piece at a time."""

    def __init__(self, pieces: list[bytes], *, answers: int = 3) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pieces, self._answers = pieces, answers
        self.start()

    def run(self) -> None:
        said = [b'{"type":"auth_required"}', b'{"type":"connected"}', b'{"type":"jobs_subscribed"}']
        sock, _ = self._listener.accept()
        with self._listener, sock, contextlib.suppress(ConnectionError):  # the other side leaves when it has enough
            for text in said[: self._answers]:
                sock.recv(4096)
                sock.sendall(frames.text(text))
            for piece in self._pieces:
                sock.sendall(piece)
            if self._answers == len(said):
                sock.recv(4096)


def joined(script: Script) -> Crowd:
    crowd = Crowd(script.port, ["t"], lambda _: b"{}")
    try:
        crowd.join(1)
    except Failed:
        crowd.close()
        raise
    return crowd


def test_frames_are_counted_however_they_come_and_pings_are_not() -> None:
    one = frames.text(b'{"seq":1,"x":"%s"}' % (b"y" * 200))
    crowd = joined(Script([one[:50], one[50:] + frames.PING + one[:3], one[3:], one * 3]))
    crowd.choose_sample(1)
    assert crowd.take(5) == 5 * len(one) + len(frames.PING)
    assert [text for _, _, text in crowd.payloads()] == [one[4:]] * 5
    crowd.close()


def test_a_ping_that_comes_while_others_join_is_heeded_and_an_update_is_not_expected() -> None:
    crowd = joined(Script([frames.PING[:1]]))
    (fd,) = crowd._sockets
    crowd._epoll.poll(5)
    crowd._heed(fd)
    assert crowd._carry == {fd: frames.PING[:1]}
    crowd.close()
    crowd = joined(Script([frames.text(b"a")]))
    crowd._epoll.poll(5)
    with pytest.raises(Failed, match="what nobody had asked for"):
        crowd._heed(*crowd._sockets)
    crowd.close()


def test_an_update_too_many_and_one_too_few_are_told() -> None:
    crowd = joined(Script([frames.text(b"a") * 3]))
    with pytest.raises(Failed, match="1 updates more"):
        crowd.take(2)
    crowd.close()
    crowd = joined(Script([frames.text(b"a")]))
    crowd._epoll.close()
    crowd._epoll = type("", (), {"poll": lambda *_: [], "close": lambda _: None})()
    with pytest.raises(Failed, match="2 of 2 updates never came"):
        crowd.take(2)
    crowd.close()


def test_who_is_not_let_in_is_told() -> None:
    with pytest.raises(Failed, match="on its way in"):  # closed, or reset where some of what we said was still unread
        joined(Script([], answers=1))


def test_all_updates_are_of_one_size_and_as_jobctl_sends_them() -> None:
    seqs = (update.FIRST_SEQ, update.FIRST_SEQ + 5000)
    texts = [messages.event_text(update.make(seq, update.name_of(n))) for seq in seqs for n in (0, 499)]
    assert {len(text) for text in texts} == {len(update.payload())}
    assert isinstance(messages.decode_server(texts[0]), messages.JobUpdate)


def test_tokens_are_all_different_and_no_subject_has_too_many() -> None:
    made = contestants.tokens("s" * 40, contestants.PER_SUBJECT + 1)
    assert len(set(made)) == len(made)
    claims = [msgspec.json.decode(_claims(token)) for token in (made[0], made[-2], made[-1])]
    assert [each["sub"] for each in claims] == ["watcher-0", "watcher-0", "watcher-1"]


def _claims(token: str) -> bytes:
    import base64

    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_percentiles_are_in_ms() -> None:
    assert turns.percentiles([n / 1000 for n in range(1, 101)]) == (50.0, 99.0, 100.0)


def run(*options: str) -> Any:
    argv = [sys.executable, "-m", "bench.fanout", "--connections", "5", "--seconds", "0.05", *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_a_tiny_run_measures_and_judges_everything() -> None:
    done = run("--rounds", "2", "--peers", "websockets", "--json")
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    assert report.settings["connections"] == 5
    by_quantity: dict[str, list[Any]] = {}
    for each in report.figures:
        by_quantity.setdefault(each.quantity, []).append(each)
        assert len(each.value.values) == 2
        assert each.value.low <= each.value.median <= each.value.high
    (costs, *_) = by_quantity.values()
    assert [each.contestant for each in costs] == ["floor", "jobctl", "websockets"]
    assert costs[0].versus is None
    ours = costs[1]
    expected = [a / b for a, b in zip(ours.value.values, costs[0].value.values, strict=True)]
    assert list(ours.versus.values) == pytest.approx(expected)
    assert len(report.judged) == 11
    assert all(each.value is not None for each in report.judged)
    assert report.environment.versions["websockets"]


def test_a_peer_that_nobody_knows_is_refused() -> None:
    done = run("--peers", "nobody")
    assert done.returncode == 1
    assert "there is no peer 'nobody'" in done.stderr
