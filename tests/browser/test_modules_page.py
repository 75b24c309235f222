"""The page of jobs as a module by itself: no server is asked, no clock is waited for."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.browser.modules_kit import Js, at, job

# --- the page of jobs -----------------------------------------------------------------------------------------------

PAGE = """
    const page = new m.Page(given.limit);
    const filter = {status: [], name: [], queue: [], tag: [], q: '', mine: false, ...given.filter};
    const list = {jobs: given.jobs, cursor: given.more ? 'c' : null, hasMore: Boolean(given.more)};
    page.load(list, filter, 'root', given.first ?? true);
    const shown = () => ({rows: page.rows.map(row => row.id), left: [...page.left.keys()], waiting: page.waiting.size});
"""


def test_a_job_comes_in_where_it_belongs_and_waits_where_there_is_no_room(js: Js) -> None:
    given = {"limit": 3, "jobs": [job(5), job(3)], "new": [job(4), job(6), job(7)]}
    told = js("page", PAGE + "for (const each of given.new) page.apply(each, 0); return shown();", given)
    assert told == {"rows": ["0005", "0004", "0003"], "left": [], "waiting": 2}


def test_what_belongs_to_a_later_page_is_not_announced(js: Js) -> None:
    given = {"limit": 3, "jobs": [job(5), job(4)], "more": True, "new": [job(1)]}
    assert js("page", PAGE + "page.apply(given.new[0], 0); return shown();", given)["waiting"] == 0
    given |= {"first": False, "new": [job(9)]}
    assert js("page", PAGE + "page.apply(given.new[0], 0); return shown();", given)["waiting"] == 0


def test_a_row_that_left_stays_until_it_is_settled_and_then_makes_room(js: Js) -> None:
    given = {
        "limit": 2, "jobs": [job(5), job(4)], "filter": {"status": ["pending"]},
        "new": [job(6), job(4, status="running", version=2)],
    }  # fmt: skip
    script = PAGE + """
        for (const each of given.new) page.apply(each, 100);
        const before = shown();
        page.held = true; page.settle(1000); const held = shown();
        page.held = false; page.settle(50); const early = shown();
        page.settle(100); return [before, held, early, shown()];"""
    stays = {"rows": ["0005", "0004"], "left": ["0004"], "waiting": 1}
    assert js("page", script, given) == [stays, stays, stays, {"rows": ["0006", "0005"], "left": [], "waiting": 0}]


def test_an_older_state_never_replaces_a_newer_one(js: Js) -> None:
    given = {"limit": 2, "jobs": [job(5, version=3, status="running")], "new": [job(5, version=2)]}
    assert js("page", PAGE + "page.apply(given.new[0], 0); return page.rows[0].status;", given) == "running"


def test_a_hundred_thousand_new_jobs_cost_no_memory_for_their_bodies(js: Js) -> None:
    given = {"limit": 50, "jobs": [job(n) for n in range(100, 50, -1)], "more": True, "job": job(0)}
    script = PAGE + """
        for (let n = 0; n < 100000; n++) page.apply({...given.job, id: `n${n}`, createdAt: '2027'}, 0);
        return [page.waiting.size, [...page.waiting.values()].filter(Boolean).length];"""
    assert js("page", script, given) == [100_000, 50]


@pytest.mark.parametrize("seed", range(8))
def test_snapshot_and_updates_equal_a_fresh_list(js: Js, seed: int) -> None:
    """A model of the server: whatever happens, the settled page is the newest that match, as far as it has room."""
    chance = random.Random(seed)
    jobs: dict[str, dict[str, Any]] = {}
    seq = 0
    messages: list[dict[str, Any]] = []

    def step() -> None:
        nonlocal seq
        seq += 1
        name = chance.choice(sorted(jobs)) if jobs and chance.random() < 0.7 else f"{len(jobs) + seq:04}"
        if name in jobs and chance.random() < 0.1:
            del jobs[name]
            messages.append({"type": "job_deleted", "id": name, "seq": seq})
            return
        old = jobs.get(name)
        status = chance.choice(["running", "completed", "failed", "retrying", "pending"])
        jobs[name] = (old | {"status": status, "version": old["version"] + 1}) if old else job(int(name))
        messages.append({"type": "job_update", "job": jobs[name], "seq": seq, "timestamp": at(seq)})

    for _ in range(30):
        step()
    listed = sorted(jobs.values(), key=lambda each: each["id"], reverse=True)
    wanted = ["pending", "running"] if seed % 2 else []
    start = [each for each in listed if not wanted or each["status"] in wanted]
    snapshot, place = json.loads(json.dumps(start)), seq
    for _ in range(60):
        step()
    script = """
        const state = new m.State(200, () => {});
        const filter = {status: given.wanted, name: [], queue: [], tag: [], q: '', mine: false};
        const ticket = state.fetching();
        const half = given.messages.length / 2;
        for (const each of given.messages.slice(0, half)) state.receive(each, 0);
        const list = {jobs: given.snapshot, cursor: null, hasMore: false};
        state.loaded(ticket, list, {epoch: 'e', seq: given.place}, {filter, subject: 'root', first: true}, 0);
        for (const each of given.messages.slice(half)) state.receive(each, 0);
        state.page.settle(1);
        return state.page.rows.map(row => [row.id, row.status, row.version]);"""
    told = js("state", script, {"messages": messages, "snapshot": snapshot, "place": place, "wanted": wanted})
    fresh = sorted(jobs.values(), key=lambda each: each["id"], reverse=True)
    right = [[each["id"], each["status"], each["version"]] for each in fresh if not wanted or each["status"] in wanted]
    assert told == right
