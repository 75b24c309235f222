"""The page's end of the stream, each module by itself: no server is asked, no clock is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.modules_kit import Js

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
