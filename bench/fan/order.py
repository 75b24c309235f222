"""What the driver of the fan-out benchmark and the servers that it starts say to each other. Pure.

A server gets an ``Order`` in a file. It answers with a line on stdout once it listens (``Ready``); after that each
``Command``, a line on its stdin, is answered by one line (``Done``). It ends when stdin does.
"""

import msgspec


class Order(msgspec.Struct, frozen=True):
    """What a server is made for."""

    folder: str
    """Of its own, for whatever it writes."""
    secret: str
    """Tokens are signed with it (HS256)."""
    payload: str
    """The text of one update, for those who do not have any of their own."""
    store: bool = False
    """Ours: updates come from commits in the store; else they are given to the hub."""


class Ready(msgspec.Struct, frozen=True):
    """It listens on this port of 127.0.0.1."""

    port: int


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """Send ``flushes`` times ``batch`` updates to everybody, ``rate`` times a second. With 0 flushes: only answer."""

    flushes: int = 0
    batch: int = 1
    rate: float = 100.0
    names: int = 0
    """Ours: updates are named 0 to ``names`` - 1 in turn, for filters; 0: all alike."""
    empty: bool = False
    """Answer only once nobody is connected any more."""


class Done(msgspec.Struct, frozen=True):
    """It was done."""

    stamps: tuple[tuple[int, int], ...] = ()
    """Ours, with the store: each update's ``seq``, and when it was committed (CLOCK_MONOTONIC, ns)."""
    flushes: int = 0
    """Ours: in so many flushes; with the store, what is committed while one is written goes out with the next."""
    unsent: int = 0
    """Ours: the most that the kernel holds for one connection, bytes."""
