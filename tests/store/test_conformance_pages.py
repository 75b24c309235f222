"""Lists: filters, search, keyset pages; logs."""

import base64
import time

import msgspec
import pytest
from store_kit import ANN, BEN, START_MS, add, claim, ended, enqueue, head, listed, names, new, shown, started

from jobctl.errors import InvalidCursor
from jobctl.model import JobQuery
from jobctl.store.base import Completed, Failed, LogEntry, Store


async def variety(store: Store) -> None:
    await enqueue(store, new("failed", max_attempts=1, queue="a", tags=("x",)))
    one = await claim(store)
    await store.finish(one.job.id, one.run, Failed("x"))
    await ended(store, name="completed", queue="b", tags=("x", "y"))
    await started(store, name="running", queue="b")
    await enqueue(store, new("pending", queue="a", tags=("y",)), new("other", queue="c", tags=("xy",)))
    await enqueue(store, new("bens", queue="a", tags=("x",)), owner=BEN)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["bens", "other", "pending", "running", "completed", "failed"]),
        ({"statuses": ("pending",)}, ["bens", "other", "pending"]),
        ({"statuses": ("completed",)}, ["completed"]),
        ({"statuses": ("completed", "failed")}, ["completed", "failed"]),
        ({"statuses": ("running", "failed")}, ["running", "failed"]),
        ({"statuses": ("cancelled",)}, []),
        ({"names": ("pending", "failed", "nothing")}, ["pending", "failed"]),
        ({"queues": ("a",)}, ["bens", "pending", "failed"]),
        ({"queues": ("b", "c")}, ["other", "running", "completed"]),
        ({"tags": ("x",)}, ["bens", "completed", "failed"]),
        ({"tags": ("x", "y")}, ["bens", "pending", "completed", "failed"]),
        ({"tags": ("X",)}, []),
        ({"created_by": BEN}, ["bens"]),
        ({"owner": ANN, "queues": ("a",)}, ["pending", "failed"]),
        ({"owner": ANN, "statuses": ("pending",), "queues": ("a",), "tags": ("y",)}, ["pending"]),
        ({"statuses": ("pending",), "names": ("running",)}, []),
        ({"q": "PEND"}, ["pending"]),
        ({"q": "i"}, ["pending", "running", "failed"]),  # no letter that an id may have
        ({"q": "i", "statuses": ("failed",)}, ["failed"]),
        ({"q": "y"}, ["other", "pending", "completed"]),
        ({"q": ""}, ["bens", "other", "pending", "running", "completed", "failed"]),
        ({"q": "nothing like it"}, []),
    ],
)
async def test_filters_hold_together(store: Store, query: dict[str, object], expected: list[str]) -> None:
    await variety(store)
    assert await names(store, **query) == expected


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("100%", True),
        ("100", True),
        ("1%0", False),
        ("_", True),
        ("a_b", True),
        ("a?b", False),
        ("it's", True),
        ('"quoted"', True),
        ("ÜBER", True),
        ("straSSe", True),
        ("漢", True),
        ("\\", True),
        ("*", False),
        ("') OR 1=1 --", False),
        ("\x00", False),
    ],
)
async def test_a_search_takes_every_character_literally(store: Store, q: str, found: bool) -> None:
    await add(store, tags=("100% a_b", 'it\'s "quoted"', "über Straße 漢字 \\"))
    assert bool(await listed(store, q=q)) == found


async def test_a_search_finds_a_part_of_an_id_in_either_case(store: Store) -> None:
    job_id = await add(store)
    await add(store)
    assert [job.id for job in await listed(store, q=job_id[20:].upper())] == [job_id]
    assert [job.id for job in await listed(store, q=job_id)] == [job_id]


async def test_a_search_does_not_look_into_the_form_of_tags(store: Store) -> None:
    await add(store, tags=("a", "b"))
    assert await listed(store, q='","') == []
    assert await listed(store, q="[") == []


async def test_pages_are_newest_first_and_end(store: Store) -> None:
    await enqueue(store, *(new(f"n{i}") for i in range(7)))
    sizes, seen, cursor = [], [], None
    while True:
        page = (await store.jobs(JobQuery(limit=3, cursor=cursor))).value
        sizes.append(len(page.jobs))
        seen += [job.name for job in page.jobs]
        assert page.has_more == (page.cursor is not None)
        if page.cursor is None:
            break
        cursor = page.cursor
    assert sizes == [3, 3, 1]
    assert seen == [f"n{i}" for i in (6, 5, 4, 3, 2, 1, 0)]


async def test_a_full_last_page_says_that_it_is_the_last(store: Store) -> None:
    await enqueue(store, *(new() for _ in range(4)))
    page = (await store.jobs(JobQuery(limit=4))).value
    assert (len(page.jobs), page.cursor, page.has_more) == (4, None, False)


async def test_pages_neither_repeat_nor_skip_while_jobs_come_and_go(store: Store) -> None:
    done = await enqueue(store, *(new(f"n{i}") for i in range(10)))
    first = (await store.jobs(JobQuery(limit=3))).value
    assert [job.name for job in first.jobs] == ["n9", "n8", "n7"]
    await enqueue(store, new("young"), new("younger"))
    await store.delete(done.ids[9], owner=None)
    await store.delete(done.ids[7], owner=None)  # the one that the cursor stands on
    await store.delete(done.ids[5], owner=None)
    second = (await store.jobs(JobQuery(limit=3, cursor=first.cursor))).value
    assert [job.name for job in second.jobs] == ["n6", "n4", "n3"]


async def test_a_cursor_holds_for_another_page_size_but_for_no_other_query(store: Store) -> None:
    await enqueue(store, *(new(tags=("x",)) for _ in range(5)))
    query = JobQuery(names=("mail",), limit=2)
    cursor = (await store.jobs(query)).value.cursor
    assert len((await store.jobs(JobQuery(names=("mail",), limit=3, cursor=cursor))).value.jobs) == 3
    for other in (
        JobQuery(cursor=cursor),
        JobQuery(names=("mail", "x"), cursor=cursor),
        JobQuery(queues=("mail",), cursor=cursor),
        JobQuery(names=("mail",), owner=ANN, cursor=cursor),
        JobQuery(names=("mail",), created_by=ANN, cursor=cursor),
        JobQuery(names=("mail",), tags=("x",), cursor=cursor),
        JobQuery(names=("mail",), statuses=("pending",), cursor=cursor),
        JobQuery(names=("mail",), q="m", cursor=cursor),
    ):
        with pytest.raises(InvalidCursor):
            await store.jobs(other)


async def test_a_cursor_that_is_not_ours_is_refused(store: Store) -> None:
    await enqueue(store, new(), new())
    real = (await store.jobs(JobQuery(limit=1))).value.cursor
    assert real is not None
    plain = base64.urlsafe_b64decode(real + "=" * (-len(real) % 4))
    garbage = ["", "x", "!!!!", real[:-3], real + "AAAA", "ü" * 10, "A" * 100_000, real.upper(), "\ud800", "\x00"]
    for odd in (
        b"1.2.3",
        b"....",
        plain[1:],
        b"2" + plain[1:],
        plain.replace(b".", b".-", 1),
        b"\xff" * 20,
        b"1." * 99,
    ):
        garbage += [base64.urlsafe_b64encode(odd).decode().rstrip("=")]
    for cursor in garbage:
        with pytest.raises(InvalidCursor):
            await store.jobs(JobQuery(limit=1, cursor=cursor))


async def test_every_read_says_where_in_the_log_it_stands(store: Store) -> None:
    job_id = await add(store)
    one = await claim(store)
    for read in (
        await store.job(job_id, owner=None),
        await store.jobs(JobQuery()),
        await store.stats(owner=None),
        await store.queues(),
        await store.logs(job_id, owner=None),
        await store.history(job_id, owner=None),
        await store.counters(),
    ):
        assert (read.position.epoch, read.position.seq) == (store.epoch, 2)
    await store.finish(job_id, one.run, Completed())
    assert (await store.job(job_id, owner=None)).position.seq == await head(store) == 3


async def test_jobs_on_a_page_encode_to_the_wire(store: Store) -> None:
    await variety(store)
    page = (await store.jobs(JobQuery())).value
    again = msgspec.json.decode(msgspec.json.encode(page), type=type(page))
    assert [job.id for job in again.jobs] == [job.id for job in page.jobs]
    assert set(msgspec.json.decode(msgspec.json.encode(page))) == {"jobs", "cursor", "hasMore"}


async def test_a_list_of_ten_thousand_jobs_is_read_in_good_time(store: Store) -> None:
    await enqueue(store, *(new(tags=("x",)) for _ in range(10_000)))
    began = time.perf_counter()
    assert len((await store.jobs(JobQuery(q="nothing like it"))).value.jobs) == 0
    assert len((await store.jobs(JobQuery(owner=BEN))).value.jobs) == 0
    assert time.perf_counter() - began < 5


# --- logs ----------------------------------------------------------------------------------------------------------


def lines(*texts: str) -> list[LogEntry]:
    return [LogEntry(START_MS + i, "stdout", text) for i, text in enumerate(texts)]


async def test_log_lines_are_numbered_over_all_runs(store: Store) -> None:
    one = await started(store)
    assert await store.append_logs(one.job.id, one.run, lines("a", "b"))
    assert await store.append_logs(one.job.id, one.run, lines("c"))
    await store.finish(one.job.id, one.run, Completed())
    await store.retry(one.job.id, owner=ANN)
    second = await claim(store)
    assert await store.append_logs(one.job.id, second.run, [LogEntry(START_MS + 1500, "stderr", "ü\t🎉")])
    page = (await store.logs(one.job.id, owner=ANN)).value
    assert [(line.n, line.text) for line in page.lines] == [(1, "a"), (2, "b"), (3, "c"), (4, "ü\t🎉")]
    assert (page.lines[3].stream, page.lines[3].at) == ("stderr", "2026-09-21T14:13:21.500Z")
    assert (page.has_more, page.last) == (False, 4)


async def test_a_log_is_read_page_by_page(store: Store) -> None:
    one = await started(store)
    await store.append_logs(one.job.id, one.run, lines(*"abcde"))
    seen, after = [], 0
    while True:
        page = (await store.logs(one.job.id, owner=None, after=after, limit=2)).value
        seen += [line.text for line in page.lines]
        assert page.last == 5
        if not page.has_more:
            break
        after = page.lines[-1].n
    assert seen == list("abcde")
    beyond = (await store.logs(one.job.id, owner=None, after=99)).value
    assert (beyond.lines, beyond.has_more, beyond.last) == ((), False, 5)


async def test_a_growing_log_is_told_but_takes_no_number(store: Store) -> None:
    one = await started(store)
    before = await head(store), await shown(store, one.job.id)
    told: list[tuple[str, int]] = []
    store.listen(lambda commit: told.extend((grown.job_id, grown.n) for grown in commit.logs))
    await store.append_logs(one.job.id, one.run, lines("a", "b"))
    assert told == [(one.job.id, 2)]
    assert (await head(store), await shown(store, one.job.id)) == before
