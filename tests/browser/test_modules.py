"""The rules of the page, each module by itself: no server is asked, no clock is waited for."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from jobctl.cli.output import duration, safe
from tests.browser.kit import Server

Js = Callable[..., Any]
JOB = {
    "id": "0", "name": "noop", "queue": "default", "status": "pending", "attempts": 0, "maxAttempts": 3, "error": None,
    "progress": None, "createdAt": "2026-01-31T12:00:00.000Z", "startedAt": None, "completedAt": None,
    "scheduledFor": None, "createdBy": "root", "tags": [], "version": 1, "cancelRequested": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def js(browser: Browser, server: Server) -> Iterator[Js]:
    """Runs a script with the exports of a module in scope as ``m``, and ``given`` as it is passed."""
    page = browser.new_page()
    page.goto(f"{server.url}/static/icon.svg")

    def run(module: str, script: str, given: Any = None) -> Any:
        whole = f"async given => {{ const m = await import('/static/{module}.js'); {script} }}"
        return page.evaluate(whole, given)

    page.goto(server.url)
    yield run
    page.close()


def at(second: float) -> str:
    return f"2026-01-31T12:{int(second // 60):02}:{second % 60:06.3f}Z"


def job(number: int, **fields: Any) -> dict[str, Any]:
    return JOB | {"id": f"{number:04}", "createdAt": at(number % 3600)} | fields


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


# --- the stream -----------------------------------------------------------------------------------------------------

FOLLOWER = """
    const follower = new m.Follower();
    const said = [];
    const told = each => each.do === 'send' ? JSON.parse(each.text) : each.do === 'deliver' ? each.message : each.do;
    const run = outputs => said.push(...outputs.map(told));
    const hear = message => run(follower.receive(JSON.stringify(message), 1000));
    const join = (position, recovered = true, head = position.seq) => {
        follower.opened(0); hear({type: 'auth_required'}); hear({type: 'connected'});
        hear({type: 'jobs_subscribed', seq: position.seq, head, epoch: position.epoch, recovered});
    };
"""


def test_the_first_subscription_begins_a_little_before_the_list(js: Js) -> None:
    script = FOLLOWER + """
        follower.opened(0); hear({type: 'auth_required'}); hear({type: 'connected'});
        run(follower.begin({epoch: 'e', seq: 5000})); return said.at(-1);"""
    assert js("follower", script) == {
        "type": "subscribe_jobs", "since": 3000, "epoch": "e", "stats": True, "schedules": False, "workers": False,
    }  # fmt: skip


def test_where_the_log_is_shorter_it_begins_at_the_list(js: Js) -> None:
    script = FOLLOWER + """
        follower.begin({epoch: 'e', seq: 5000}); join({epoch: 'e', seq: 5000}, false);
        const again = said.at(-1);
        hear({type: 'jobs_subscribed', seq: 5000, head: 5000, epoch: 'e', recovered: true});
        return [again.since, said.at(-1)];"""
    assert js("follower", script) == [5000, "live"]


def test_it_resumes_after_what_it_has_and_takes_nothing_twice(js: Js) -> None:
    script = FOLLOWER + """
        follower.rebase({epoch: 'e', seq: 10}); join({epoch: 'e', seq: 10});
        for (const seq of [11, 12, 12, 11, 13]) hear({type: 'job_deleted', id: 'x', seq});
        hear({type: 'pong', seq: 20});
        follower.closed(null, 0.5, 0); said.length = 0; join({epoch: 'e', seq: 20});
        const asked = said.filter(each => each.type === 'subscribe_jobs').map(each => each.since);
        return [...asked, follower.position.seq];"""
    assert js("follower", script) == [20, 20]
    script = FOLLOWER + """
        follower.rebase({epoch: 'e', seq: 10}); join({epoch: 'e', seq: 10});
        for (const seq of [11, 12, 12, 11, 13]) hear({type: 'job_deleted', id: 'x', seq});
        return said.filter(each => each.type === 'job_deleted').map(each => each.seq);"""
    assert js("follower", script) == [11, 12, 13]


@pytest.mark.parametrize(
    "lost",
    [
        "join({epoch: 'other', seq: 99}, false);",
        "join({epoch: 'e', seq: 10}); hear({type: 'resync', seq: 50, epoch: 'e'});",
        "join({epoch: 'e', seq: 10}, true, 10 + 20001);",
    ],
)
def test_it_asks_for_lists_only_where_updates_are_lost_or_too_many(js: Js, lost: str) -> None:
    script = FOLLOWER + f"""
        follower.rebase({{epoch: 'e', seq: 10}}); {lost}
        const stale = said.filter(each => each === 'stale').length;
        hear({{type: 'job_deleted', id: 'x', seq: 60}});
        run(follower.rebase({{epoch: 'new', seq: 70}}));
        const [taken, last] = [said.filter(each => each.type === 'job_deleted').length, said.at(-1)];
        return [stale, taken, last.since, last.epoch];"""
    assert js("follower", script) == [1, 0, 70, "new"]


def test_it_comes_back_with_full_jitter_from_half_a_second_to_ten(js: Js) -> None:
    script = "const f = new m.Follower(); return [...Array(8)].map(() => f.closed(null, 0.999999, 0));"
    bounds = [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]
    assert [round(each) for each in js("follower", script)] == bounds
    assert js("follower", "const f = new m.Follower(); f.failures = 9; return f.closed(null, 0, 0);") == 0
    steady = "const f = new m.Follower(); f.failures = 9; f.liveAt = 1; return f.closed(null, 0.5, 6000);"
    assert js("follower", steady) == 250


def test_tries_that_fail_after_a_good_connection_wait_longer_and_longer(js: Js) -> None:
    script = FOLLOWER + """
        follower.rebase({epoch: 'e', seq: 1}); join({epoch: 'e', seq: 1});
        return [...Array(5)].map(() => Math.round(follower.closed(null, 0.999999, 60000)));"""
    assert js("follower", script) == [500, 1000, 2000, 4000, 8000]


@pytest.mark.parametrize("phase", [0, 1, 49, 51, 149, 151, 249])
def test_silence_is_asked_about_and_told_within_two_seconds(js: Js, phase: int) -> None:
    """However the last message fell between two ticks, and with a frame to draw it in."""
    script = FOLLOWER + """
        follower.rebase({epoch: 'e', seq: 1}); join({epoch: 'e', seq: 1}); said.length = 0;
        const silent = [];
        for (let now = 1000 + given; now <= 12000; now += 250) {
            run(follower.tick(now));
            if (follower.silent) silent.push(now - 1000);
        }
        const drops = said.filter(each => each === 'drop').length > 0;
        hear({type: 'pong', seq: 1});
        return [silent[0], said[0], drops, follower.silent];"""
    silent_after, first, dropped, silent = js("follower", script, phase)
    assert first == {"type": "ping"}
    assert silent_after <= 2000 - 17
    assert dropped
    assert silent is False


def test_a_log_goes_on_after_its_last_line(js: Js) -> None:
    script = FOLLOWER + """
        follower.rebase({epoch: 'e', seq: 1}); join({epoch: 'e', seq: 1}); run(follower.follow('x'));
        hear({type: 'job_log', id: 'x', lines: [{n: 1}, {n: 2}]});
        hear({type: 'job_log', id: 'x', lines: [{n: 2}, {n: 3}]});
        const lines = said.filter(each => each.type === 'job_log').flatMap(each => each.lines.map(line => line.n));
        follower.closed(null, 0, 0); said.length = 0; join({epoch: 'e', seq: 1});
        return [lines, said.find(each => each.type === 'subscribe_logs').after];"""
    assert js("follower", script) == [[1, 2, 3], 3]


# --- where connections are of no use ---------------------------------------------------------------------------------

REFUSED, CUT, USED = ["closed", None, 0], ["closed", None, 9000], ["closed", None, 10_000]
WORKS, AWAY = ["asked", True], ["asked", False]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([REFUSED, REFUSED, WORKS, REFUSED, WORKS], ["", "doubt", "connect", "doubt", "poll"]),
        ([CUT, CUT, WORKS, CUT, WORKS], ["", "doubt", "connect", "doubt", "poll"]),
        ([REFUSED, REFUSED, AWAY, REFUSED, WORKS], ["", "doubt", "wait", "doubt", "connect"]),
        ([CUT, REFUSED, WORKS, REFUSED, AWAY, WORKS], ["", "doubt", "connect", "doubt", "wait", "connect"]),
        ([["closed", code, 0] for code in (1001, 4401, 4408, 4429)], ["", "", "", ""]),
        ([REFUSED, USED, REFUSED], ["", "", ""]),
        ([USED, *[CUT] * 8], [*[""] * 8, "doubt"]),
        ([["left", 0]] * 4, [""] * 4),
    ],
)
def test_a_plain_request_decides_after_connections_that_were_of_no_use(js: Js, steps: Any, told: list[str]) -> None:
    script = """
        const fallback = new m.Fallback();
        return given.map(([what, ...rest]) => {
            const said = fallback[what](...rest);
            return what === 'asked' ? said : fallback.doubtful ? 'doubt' : '';
        });"""
    assert js("fallback", script, steps) == told


def test_the_long_poll_ends_with_a_connection_that_was_of_use_or_with_the_server(js: Js) -> None:
    script = """
        const polling = after => {
            const fallback = new m.Fallback();
            fallback.asked(true); fallback.asked(true); after(fallback);
            return fallback.polling;
        };
        const cases = [f => f.closed(null, 9999), f => f.left(9999), f => f.closed(null, 10000), f => f.left(10000)];
        return [...cases, f => f.away()].map(polling);"""
    assert js("fallback", script) == [True, True, False, False, False]


def test_beside_the_long_poll_a_connection_is_tried_less_and_less_often(js: Js) -> None:
    script = "const f = new m.Fallback(); return [...Array(6)].map(() => f.again() / 60000);"
    assert js("fallback", script) == [1, 2, 4, 8, 10, 10]


STREAM = """
    const [sockets, links, asked, delivered] = [[], [], [], []];
    const real = [window.WebSocket, Math.random, performance.now];
    let clock = 1000, answer;
    Math.random = () => 0;
    performance.now = () => clock;
    window.WebSocket = class {
        static CONNECTING = 0;
        static OPEN = 1;
        readyState = 0;
        sent = [];
        constructor() { sockets.push(this); }
        send(text) { this.sent.push(JSON.parse(text)); }
        open() { this.readyState = 1; this.onopen(); }
        close() { this.readyState = 3; }
        hear(...messages) { for (const each of messages) this.onmessage({data: JSON.stringify(each)}); }
        join(seq) {
            this.open();
            this.hear({type: 'auth_required'}, {type: 'connected'});
            this.hear({type: 'jobs_subscribed', seq, head: seq, epoch: 'e', recovered: true});
        }
    };
    const api = {
        bill: {connections: 0}, token: 't',
        get(path, signal) {
            asked.push(path);
            if (path.includes('wait=0')) return Promise.resolve({data: {}});
            return new Promise((done, fail) => { answer = done; signal.onabort = fail; });
        },
    };
    const owner = {
        deliver: told => told.id && delivered.push(told.id),
        changed: () => links.push(stream.link.kind),
        stale() {}, polled() {},
    };
    const stream = new m.Stream(api, {renew: async () => true, awake: async () => {}, renewIfOld() {}}, owner);
    const until = async condition => {
        for (let n = 0; n < 2000 && !condition(); n++) await new Promise(done => setTimeout(done, 5));
        if (!condition()) throw new Error(`${condition}: ${links}`);
    };
    const cut = {
        'at once': socket => { socket.open(); socket.onclose({code: 1006}); },
        'after some messages': socket => { socket.join(5); socket.onclose({code: 1006}); },
        'as being of no use': socket => socket.onclose({code: 1006}),
        'never, but nothing comes through': socket => { socket.open(); clock += 11000; },
        'never, but holds the handshake': () => { clock += 11000; },
    };
    try {
        stream.start(false);
        stream.begin({epoch: 'e', seq: 5});
        SCRIPT
    } finally {
        stream.stop();
        [window.WebSocket, Math.random, performance.now] = real;
    }
"""


@pytest.mark.parametrize(
    "how",
    [
        "at once",
        "after some messages",
        "as being of no use",
        "never, but nothing comes through",
        "never, but holds the handshake",
    ],
)
def test_a_proxy_that_cuts_every_stream_leads_to_the_long_poll(js: Js, how: str) -> None:
    script = STREAM.replace(
        "SCRIPT",
        """
        for (let n = 0; n < 3; n++) { await until(() => sockets.length === n + 1); cut[given](sockets[n]); }
        await until(() => answer);
        const said = stream.link.kind;
        answer({data: {recovered: true, events: [{type: 'job_deleted', id: 'polled', seq: 6}], position: 'e:6'}});
        await until(() => delivered.length === 1);
        stream.retry(); // as from time to time by itself
        const beside = stream.link.kind;
        await until(() => sockets.length === 4);
        sockets[3].join(6);
        const [live, since] = [stream.link.kind, sockets[3].sent.at(-1).since];
        sockets[3].hear({type: 'job_deleted', id: 'streamed', seq: 7});
        answer = null;
        sockets[3].onclose({code: 1006});
        await until(() => answer);
        const again = stream.link.kind;
        stream.retry();
        await until(() => sockets.length === 5);
        sockets[4].join(7);
        clock += 10000;
        sockets[4].onclose({code: 1006}); // it was of use: as ever
        await until(() => sockets.length === 6);
        return [said, beside, live, since, again, stream.link.kind, delivered, asked.at(-1)];""",
    )
    told = js("stream", script, how)
    last = "/api/events?since=e%3A7&wait=20&limit=500"
    assert told == ["polling", "polling", "live", 6, "polling", "connecting", ["polled", "streamed"], last]


def test_a_long_poll_that_is_never_answered_is_not_called_live(js: Js) -> None:
    script = STREAM.replace(
        "SCRIPT",
        """
        const [timeout, limit, limits] = [AbortSignal.timeout, new AbortController(), []];
        AbortSignal.timeout = ms => { limits.push(ms); return limit.signal; };
        try {
            for (let n = 0; n < 3; n++) { await until(() => sockets.length === n + 1); cut[given](sockets[n]); }
            await until(() => answer);
            const before = stream.link.kind;
            limit.abort();
            await until(() => sockets.length === 4);
            return [before, stream.link.kind, stream.poll.active, limits];
        } finally { AbortSignal.timeout = timeout; }""",
    )
    assert js("stream", script, "at once") == ["polling", "connecting", False, [25_000]]


def test_a_server_that_is_away_does_not(js: Js) -> None:
    script = STREAM.replace(
        "SCRIPT",
        """
        api.get = async path => { asked.push(path); throw new Error('away'); };
        for (let n = 0; n < 6; n++) { await until(() => sockets.length === n + 1); sockets[n].onclose({code: 1006}); }
        await until(() => sockets.length === 7);
        return [...new Set(links)];""",
    )
    assert js("stream", script) == ["connecting", "waiting"]


# --- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 0.04, 0.96, 3.14, 9.5, 10, 59.9, 60, 185, 3599, 7800, 86399, 86400, 400_000])
def test_durations_are_those_of_the_command_line(js: Js, seconds: float) -> None:
    theirs, ours = js("format", "return m.duration(given);", seconds), duration(seconds)
    assert theirs == ours or (seconds < 10 and abs(float(theirs[:-1]) - float(ours[:-1])) < 0.11)


def test_what_is_made_visible_is_what_the_command_line_makes_visible(js: Js) -> None:
    text = "a\u202eb\u200bc\x1b[31md\x00e\x9ff\xadg\ufeffh\u2066i\nj\tk<b>&amp;é漢🎉"
    assert js("format", "return m.visible(given);", text) == safe(text)


def test_commands_mean_to_a_shell_what_was_typed(js: Js) -> None:
    data = {"text": "it's $HOME `x` \"q\" \\ \n;rm -rf", "--flag": True}
    more = {"data": data, "queue": "slow", "priority": -5, "uniqueKey": "-k", "tags": ["-t", "a b"], "timeout": 60}
    words = shlex.split(js("command", "return m.again(given);", JOB | more))
    assert words[:3] == ["jobctl", "enqueue", "noop"]
    assert json.loads(words[words.index("--data") + 1]) == data
    assert {"--priority=-5", "--unique=-k", "--tag=-t", "--tag=a b"} <= set(words)
    assert words[words.index("--timeout") + 1] == "60"


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * * *", "every minute"),
        ("*/15 * * * *", "every 15 minutes"),
        ("0 * * * *", "every hour"),
        ("5 * * * *", "every hour at minute 5"),
        ("30 2 * * *", "every day at 02:30"),
        ("0 9 * * 1-5", "Monday to Friday at 09:00"),
        ("0 9 * * sun,3", "Sundays, Wednesdays at 09:00"),
        ("0 0 1 * *", "on day 1 of the month at 00:00"),
        ("@daily", "every day at 00:00"),
        ("1,2 3 * * *", None),
        ("0 0 1 1 *", None),
        ("0 0 1 * 1", None),
        ("nonsense", None),
        ("0 0 * * 1#2", None),
    ],
)
def test_plain_cron_in_words(js: Js, cron: str, words: str | None) -> None:
    assert js("cron", "return m.inWords(given);", cron) == words


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "integer", "minimum": 1}, "7", 7),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "string"}, "7", "7"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "x", "x"),
        ({"enum": ["tall", "wide"]}, "1", "wide"),
        ({"$ref": "#/$defs/Size", "$defs": {"Size": {"enum": [1, 2]}}}, "0", 1),
        ({"type": "array", "items": {"type": "string"}}, '["a"]', ["a"]),
        ({"type": "boolean"}, True, True),
        (None, "plain text", "plain text"),
        (None, '{"a": 1}', {"a": 1}),
        ({"type": "string", "format": "date"}, "2026-01-31", "2026-01-31"),
    ],
)
def test_fields_become_values(js: Js, schema: Any, typed: Any, value: Any) -> None:
    field = {"name": "x", "required": True} | ({"schema": schema} if schema else {})
    assert js("fields", "return m.parse(given.field, given.typed);", {"field": field, "typed": typed}) == value
    script = "return m.parse(given.field, m.shown(given.field, given.value));"
    assert js("fields", script, {"field": field, "value": value}) == value


@pytest.mark.parametrize("typed", ["", "1.5", "x"])
def test_a_field_that_cannot_be_is_told_by_name(js: Js, typed: str) -> None:
    field = {"name": "pages", "required": True, "schema": {"type": "integer"}}
    script = "try { return m.parse(given.field, given.typed); } catch (error) { return [error.field, error.message]; }"
    told = js("fields", script, {"field": field, "typed": typed})
    assert told[0] == "pages"
    assert "pages" in told[1]


def test_a_history_is_told_as_attempts(js: Js) -> None:
    steps = [
        {"status": "pending"},
        {"status": "running", "startedAt": at(1)},
        {"status": "running", "startedAt": at(1), "progress": {"value": 0.5, "message": "half"}},
        {"status": "retrying", "startedAt": at(1), "attempts": 1, "error": "boom", "scheduledFor": at(5)},
        {"status": "running", "startedAt": at(5), "attempts": 1},
        {"status": "pending", "attempts": 1},  # given back: the server stopped
        {"status": "running", "startedAt": at(8), "attempts": 1},
        {"status": "running", "startedAt": at(8), "attempts": 1, "cancelRequested": True},
        {"status": "cancelled", "startedAt": at(8), "attempts": 2},
        {"status": "pending"},
        {"status": "cancelled"},
    ]
    updates = [
        {"type": "job_update", "seq": n, "timestamp": at(n), "job": JOB | step | {"version": n}}
        for n, step in enumerate(steps, 1)
    ]
    told = js("timeline", "return m.timeline(given);", updates)
    assert [(each["kind"], each.get("attempt"), each.get("outcome"), each.get("error")) for each in told] == [
        ("created", None, None, None),
        ("attempt", 1, "retrying", "boom"),
        ("attempt", 2, "given back", None),
        ("attempt", 2, "cancelled", None),
        ("asked to stop", None, None, None),
        ("retried", None, None, None),
        ("cancelled", None, None, None),
    ]
    assert told[1]["progress"]["message"] == "half"


def test_time_left_follows_the_pace_so_far(js: Js) -> None:
    running = JOB | {"status": "running", "startedAt": at(0), "progress": {"value": 0.25, "message": None}}
    script = "return m.timeLeft(given.job, given.told, Date.parse(given.now));"
    assert js("timeline", script, {"job": running, "told": at(10), "now": at(12)}) == 28
    assert js("timeline", script, {"job": running | {"progress": None}, "told": at(10), "now": at(12)}) is None


def test_charts_count_ends_and_failures_and_how_long_jobs_waited(js: Js) -> None:
    events = [
        ({"id": "a", "status": "pending"}, 0),
        ({"id": "a", "status": "running", "startedAt": at(2), "version": 2}, 2),
        ({"id": "a", "status": "running", "startedAt": at(2), "version": 3, "progress": {"value": 0.5}}, 3),
        ({"id": "a", "status": "retrying", "version": 4, "attempts": 1, "scheduledFor": at(6)}, 4),
        ({"id": "a", "status": "running", "startedAt": at(7), "version": 5, "attempts": 1}, 7),
        ({"id": "a", "status": "completed", "completedAt": at(8), "version": 6}, 8),
        ({"id": "a", "status": "completed", "completedAt": at(8), "version": 6}, 9),  # told again: not a second end
        ({"id": "b", "status": "failed", "completedAt": at(8), "version": 3}, 8),
        ({"id": "old", "status": "running", "startedAt": at(8), "version": 40, "attempts": 0}, 8),
    ]
    script = """
        const series = new m.Series();
        for (const [job, at] of given.events) series.take(job, at);
        const {completed, failed, wait} = series.lines(Date.parse(given.now));
        const ended = series.ended('default', Date.parse(given.now));
        return [...[completed, failed, wait, ended].map(each => each.slice(-2)), series.ready.size];"""
    given = {"events": [[JOB | fields, at(second)] for fields, second in events], "now": at(9)}
    assert js("series", script, given) == [[0, 0.2], [0.2, 0.2], [2, 1], [0, 0.4], 0]


def test_the_bill_counts_what_polling_would_have_sent(js: Js) -> None:
    script = "const bill = new m.Bill(0); return [0, 29999, 30000, 900000].map(now => bill.polled(now));"
    assert js("api", script) == [3, 3, 6, 93]


def test_filters_survive_the_address(js: Js) -> None:
    lists = {"status": ["failed", "pending"], "name": [], "queue": ["a"], "tag": ["x, y", "é"]}
    given = lists | {"q": "a&b=c", "mine": True}
    script = """
        const text = m.toQuery(given).toString();
        const back = m.fromQuery(new URLSearchParams(text));
        const [api, all] = [m.toApi(given, 'ann'), m.toBulk(m.noFilter(), 'ann')];
        return [back, m.toQuery(back).toString() === text, api.get('createdBy'), all.status.length];"""
    assert js("filter", script, given) == [given, True, "ann", 6]
