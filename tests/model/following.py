"""The steps of a history that are the subscribers': they come, are cut off, do not read, and come back."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.model.choices import MOST_JOBS, OWNERS, new_jobs, outcomes
from tests.model.watching import Reader
from tests.model.world import Loop, World


class Following(RuleBasedStateMachine):
    """Those steps; ``QueueMachine`` has the others."""

    loop: Loop
    world: World
    readers: list[Reader]

    @rule(
        who=st.sampled_from([("root", "admin"), ("ann", "user"), ("ben", "user")]),
        eager=st.booleans(),
        of=st.sampled_from([None, "bulk"]),
    )
    @precondition(lambda self: len(self.readers) < 4)
    def a_reader_comes(self, who: tuple[str, str], eager: bool, of: str | None = None) -> None:
        reader = Reader(*who, eager=eager, of=of)
        self.loop.call(lambda: self.world.readers.join(reader, eager=eager))
        self.readers.append(reader)

    @rule(data=st.data())
    @precondition(lambda self: self.readers)
    def a_reader_is_cut_off(self, data: st.DataObject) -> None:
        self.loop.call(self.world.readers.leave, data.draw(st.sampled_from(self.readers)))

    @rule(data=st.data(), eager=st.booleans())
    @precondition(lambda self: any(not reader.connected for reader in self.readers))
    def a_reader_comes_back(self, data: st.DataObject, eager: bool) -> None:
        reader = data.draw(st.sampled_from([reader for reader in self.readers if not reader.connected]))
        reader.eager = eager
        self.loop.call(lambda: self.world.readers.join(reader, eager=eager))

    @rule(
        data=st.data(),
        wanted=st.lists(new_jobs, min_size=2, max_size=4),
        ends=st.lists(st.tuples(outcomes, st.sampled_from([False, False, True])), min_size=2, max_size=5),
        cut_off=st.booleans(),
    )
    @precondition(lambda self: len(self.reference.jobs) < MOST_JOBS)
    def a_reader_misses_something(
        self, data: st.DataObject, wanted: list[dict[str, Any]], ends: list[tuple[str, bool]], cut_off: bool
    ) -> None:
        """Cut off, or not reading, while things happen: more than the hub and the socket hold."""
        reader, readers = data.draw(st.sampled_from(self.readers)), self.world.readers
        if reader.connected and (cut_off or reader.eager):
            self.loop.call(readers.leave, reader)
        if not reader.connected and not cut_off:
            reader.eager = False
            self.loop.call(lambda: readers.join(reader, eager=False))
        for owner in OWNERS:
            self.enqueue_for(owner, wanted)
            self.a_turn_of(ends)
        self.loop.call(self.world.check)
        if not reader.connected:
            self.loop.call(lambda: readers.join(reader, eager=reader.eager))
        self.loop.call(lambda: readers.settle(reader, self.world.replay.rows))

    @rule(data=st.data(), n=st.integers(1, 5))
    @precondition(lambda self: any(reader.connected and not reader.eager for reader in self.readers))
    def a_slow_reader_reads_a_little(self, data: st.DataObject, n: int) -> None:
        slow = [reader for reader in self.readers if reader.connected and not reader.eager]
        self.loop.call(data.draw(st.sampled_from(slow)).take, self.world.store, n)

    @rule(data=st.data())
    @precondition(lambda self: any(reader.connected for reader in self.readers))
    def a_reader_reads_to_the_end(self, data: st.DataObject) -> None:
        reader = data.draw(st.sampled_from([reader for reader in self.readers if reader.connected]))
        self.loop.call(lambda: self.world.readers.settle(reader, self.world.replay.rows))
