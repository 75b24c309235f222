"""The power goes: what was synced is there, of the rest any part may be, torn by sectors. Replayed from a record."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from jobctl.events import Commit
from jobctl.model import JobQuery, NewJob
from jobctl.store import epoch as epochs
from jobctl.store.base import Completed, Failed
from jobctl.store.check import check
from jobctl.store.sqlite import SqliteStore, open_store
from tests.faults.disk import Disk, Image, Op, between, image
from tests.model.world import folder

pytestmark = [pytest.mark.slow, pytest.mark.faults]

IMAGES = {"full": 520, "normal": 200}
LONG = 20_000
MARK = "mark"
"""A note of a mark that was written: a file of its own, never synced, replaced as a whole."""
CLEAN_JOBS = 5


@contextlib.asynccontextmanager
async def opened(place: Path, durability: str) -> AsyncIterator[SqliteStore]:
    async with open_store(place / "jobs.db", state_dir=place / "state", durability=durability) as store:
        yield store


def files_of(place: Path) -> Image:
    return {name: (place / name).read_bytes() for name in ("jobs.db", "jobs.db-wal") if (place / name).exists()}


class Story:
    """What one server wrote, and what it told whom when."""

    def __init__(self, disk: Disk, start: Image, mark: bytes | None) -> None:
        self.disk, self.start, self.mark = disk, start, mark
        self.epoch = ""

    async def tell(self, place: Path, durability: str) -> None:
        """A server's life: it starts on what is there, works, and stops in order."""
        draw = random.Random(5)
        async with opened(place, durability) as store:
            self.epoch = store.epoch
            store.listen(self._push)
            await store.rescue()
            async with trio.open_nursery() as nursery:
                for n in range(4):
                    nursery.start_soon(self._work, store, random.Random(draw.randrange(2**32)), n)

    def _push(self, commit: Commit) -> None:
        self.disk.note("push", [(event.seq, event.job_id, event.status) for event in commit.events])

    async def _work(self, store: SqliteStore, draw: random.Random, n: int) -> None:
        for _ in range(40):
            data = msgspec.json.encode({"x": "y" * draw.choice([1, 100, 9000])})
            jobs = [NewJob(name="mail", data=data) for _ in range(draw.randrange(1, 4))]
            answer = await store.enqueue(jobs, owner="ann")
            self.disk.note("ack", answer.ids)
            for claim in (await store.claim(2, worker="w", limits={}, busy={})).claims:
                outcome = draw.choice([Completed(b'"' + b"z" * 6000 + b'"'), Failed("no", retry=False)])
                await store.finish(claim.job.id, claim.run, outcome)


async def record(place: Path, durability: str, monkeypatch: pytest.MonkeyPatch) -> Story:
    """A first server has worked and stopped; the story is that of the second."""
    async with opened(place, "full") as store:
        await store.enqueue([NewJob(name="before")] * CLEAN_JOBS, owner="ann")
    write_mark = epochs.write_mark
    path = epochs.mark_path(place / "state", place / "jobs.db")
    with between() as disk:
        story = Story(disk, files_of(place), path.read_bytes())

        def noted(where: Path, mark: epochs.Mark) -> None:
            disk.note(MARK, msgspec.json.encode(mark))
            write_mark(where, mark)

        monkeypatch.setattr(epochs, "write_mark", noted)
        await story.tell(place, durability)
        monkeypatch.undo()
    return story


def put(place: Path, files: Image, mark: bytes | None) -> None:
    """Let ``place`` be as the power cut has left it."""
    for each in place.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    for name, content in files.items():
        (place / name).write_bytes(content)
    path = epochs.mark_path(place / "state", place / "jobs.db")
    path.parent.mkdir(parents=True)
    if mark is not None:
        path.write_bytes(mark)


class Seen(msgspec.Struct):
    """What a start after the power cut found."""

    epoch: str
    ids: set[str]
    log: list[tuple[Any, ...]]


async def look(place: Path) -> Seen:
    """Start on what is there, as a server does; it is sound."""
    async with opened(place, "full") as store:
        await store.rescue()
        ids: set[str] = set()
        cursor = None
        while True:
            page = (await store.jobs(JobQuery(limit=200, cursor=cursor))).value
            ids |= {job.id for job in page.jobs}
            cursor = page.cursor
            if cursor is None:
                break
        log = (await store.events(0, limit=10**6)).events
        seen = Seen(store.epoch, ids, [(event.seq, event.job_id, event.status) for event in log])
    report = check(place / "jobs.db")
    assert report.ok, report.problems
    return seen


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_power_cut_leaves_what_the_setting_promises(
    durability: str, monkeypatch: pytest.MonkeyPatch, long_form: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    found: Counter[str] = Counter()
    with folder() as place:
        story = await record(place, durability, monkeypatch)
        ops = story.disk.ops
        assert sum(op.kind == "sync" for op in ops) > (50 if durability == "full" else 1)
        for _ in range(LONG if long_form else IMAGES[durability]):
            # At any moment, those around a start or a checkpoint more often: there most is under way.
            cut = draw.choice([draw.randrange(len(ops) + 1), draw.randrange(40), draw.choice(near_syncs(ops))])
            before = ops[:cut]
            marks = [story.mark, None, b"", *(op.data for op in before if op.kind == MARK)]
            mark = draw.choice([story.mark, marks[-1], draw.choice(marks)])
            put(place, image(before, draw, story.start), mark)
            try:
                judge(story, before, await look(place), durability, found)
            except BaseException as error:
                error.add_note(f"seed {seed}: cut after {cut} of {len(ops)}, mark {mark!r}")
                raise
    assert found["acknowledged"] > 1000
    assert found["epoch kept"]  # at least where the cut came after the stop
    if durability == "normal":
        assert found["images that lost some"], "the images are too kind: without a sync something must be lost"
    with capsys.disabled():
        print(f"\npower cuts with durability {durability}: {dict(sorted(found.items()))}")  # noqa: T201


async def test_a_start_is_synced_whatever_the_durability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut soon after it could leave no sign that it ever was, and numbers that were told be told again."""
    with folder() as place:
        story = await record(place, "normal", monkeypatch)
        pushes = [n for n, op in enumerate(story.disk.ops) if op.kind == "push"]
        for cut in pushes[:20]:
            put(place, image(story.disk.ops[: cut + 1], random.Random(1), story.start, share=0.0), story.mark)
            assert (await look(place)).epoch != story.epoch


def near_syncs(ops: list[Op]) -> list[int]:
    return [n for n, op in enumerate(ops) if op.kind in ("sync", "ack", "delete", "truncate")]


def judge(story: Story, before: list[Op], seen: Seen, durability: str, found: Counter[str]) -> None:
    found["images"] += 1
    acknowledged = {job_id for op in before if op.kind == "ack" for job_id in op.data}
    pushed = [each for op in before if op.kind == "push" for each in op.data]
    found["acknowledged"] += len(acknowledged)
    lost = acknowledged - seen.ids
    found["acknowledged jobs lost"] += len(lost)
    found["images that lost some"] += bool(lost)
    kept = seen.epoch == story.epoch
    found["epoch kept"] += kept
    if durability == "full":
        assert not lost, f"{len(lost)} acknowledged jobs are lost"
    if kept:
        log = set(seen.log)
        false = [each for each in pushed if each not in log]
        assert not false, f"the epoch goes on, and {len(false)} events that were pushed are not so: {false[:3]}"
    assert len(seen.ids) >= CLEAN_JOBS, "what was there before the start is lost"
