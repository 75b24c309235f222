"""What a report says, in words."""

import re

import bench_kit as kit
import msgspec
import pytest
from bench_reports import page, shown, smoke, whole

from bench import verdict
from bench.report import claims, figures, html, markdown
from bench.report.look import GLYPHS, OUTCOMES
from bench.result import Updates
from bench.thresholds import Threshold


def test_the_claims_have_the_figures():
    told = [each.text for each in claims.claims(whole())]
    assert "ws needed 3 requests a client in 15 minutes where poll needed 90: 97% fewer." in told
    assert "Of those of poll, 45 found nothing new; of ws, 0." in told
    assert (
        "Push took 87% less server CPU: 0.0122% of a core against 0.0952% of a core of poll, scaled back to the real "
        "pace (paired ratio 0.128, 0.123 to 0.134)."
    ) in told
    assert any(" by ws, within 1.49 s (about 29.7 s unscaled) by poll." in each for each in told)
    full = re.compile("1,000,000 clients are beyond one core, which is full at [0-9,]+, extrapolated from up to 200")
    assert any(full.search(each) for each in told)
    assert any("an extrapolation from up to 200" in each for each in told)
    assert "poll-limited was refused 20 times by the rate limit (429)." in told


def test_where_polling_is_cheaper_is_said_as_plainly():
    told = [each.text for each in claims.where_polling_wins(whole())]
    assert any(each.startswith("Polling is cheaper in server memory a client: push took 4") for each in told)
    assert any("Polling is cheaper in bytes on the wire" in each and "longpoll" in each for each in told)
    assert any(
        re.search(r"In CPU, against a poll each 30 s, polling is cheaper above 1\.\d+ updates/s", e) for e in told
    )
    for form in (shown(whole()), markdown.render(whole()), page()):
        assert "Where polling is cheaper" in form
        assert "Polling is cheaper in server memory" in form


def test_if_polling_costs_less_cpu_that_is_said():
    blocks = [
        msgspec.structs.replace(each, server=msgspec.structs.replace(each.server, cpu_s=each.server.cpu_s * 50))
        if each.scenario == "ws"
        else each
        for each in kit.noisy(kit.run(repeats=3).blocks)
    ]
    (told,) = [each for each in claims.claims(smoke(blocks=tuple(blocks))) if "server CPU" in each.text]
    assert told.tone == "poll"
    assert told.text.startswith("Polling is cheaper in server CPU: push took")


def test_a_delay_lost_in_noise_is_no_finding():
    def seen(each):
        if each.scenario == "idle":
            return each
        slow = 1.0 if each.scenario == "poll" else (0.001, 1.0, 3.0)[each.repeat]
        return msgspec.structs.replace(each, staleness=kit.staleness([slow] * 100))

    run = smoke(blocks=tuple(seen(each) for each in kit.run(repeats=3).blocks))
    (told,) = [each for each in claims.claims(run) if "99 of 100" in each.text]
    assert told.tone == "even"
    assert told.text.endswith("this run resolves no difference.")


def test_no_difference_is_called_none():
    blocks = []
    for each in kit.noisy(kit.run(repeats=3).blocks, spread=0.4):
        cpu_s = kit.block("poll").server.cpu_s * (1 + each.repeat) if each.scenario == "ws" else each.server.cpu_s
        blocks.append(msgspec.structs.replace(each, server=msgspec.structs.replace(each.server, cpu_s=cpu_s)))
    (told,) = [each for each in claims.claims(smoke(blocks=tuple(blocks))) if "server CPU" in each.text]
    assert told.tone == "even"
    assert "resolves no difference" in told.text


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (smoke([Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)]), "Push took 97% fewer requests"),
        (smoke([Threshold("low", "requests_per_client", "ws", max=1)]), "1 of 1 thresholds failed: low."),
        (smoke([Threshold("cpu", "staleness_s.p50", "ws", max=1)]), "1 of 1 thresholds failed: cpu."),
        (smoke(complete=False), "not to be believed: the run was interrupted"),
        (smoke(), "nothing is shown"),
    ],
)
def test_the_headline_is_the_verdict(run, said):
    assert said in claims.headline(run)
    assert said in shown(run, width=200).splitlines()[0]
    assert said in html.render(run)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (90, "90"), (1 / 30, "0.0333"), (1.5, "1.5"), (12_345, "12,345"), (1_234_567, "1,230,000"), (100, "100"),
     (999.6, "1000"), (0.000123456, "0.000123"), (-2.5, "-2.5"), (float("inf"), "∞")],
)  # fmt: skip
def test_numbers_have_the_digits_that_count(value, text):
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.00084, "840 µs"), (0.0042, "4.2 ms"), (0.9999, "1 s"), (29.7, "29.7 s"), (900, "15 min")],
)
def test_times_have_their_unit(seconds, text):
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0, "none at all"),
        (1 / 30, "97% fewer"),
        (0.99999, "0% fewer"),
        (0.0004, "99.9% fewer"),
        (2.4, "2.4 times as many"),
    ],
)
def test_nothing_is_rounded_up_to_all(ratio, text):
    assert figures.saving(ratio, counted=True) == text


def test_of_an_invalid_run_nothing_is_shown_as_found():
    run = smoke([Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)], complete=False)
    for form in (shown(run), markdown.render(run), html.render(run)):
        assert claims.NOT_BELIEVED.capitalize() in form
        assert f"Thresholds, {claims.NOT_JUDGED}" in form
    lines = shown(run)
    assert lines.index("Validity") < lines.index("97% fewer")
    assert 'class="headline push"' not in html.render(run)
    assert 'class="headline push"' in page()


def test_what_only_warns_does_not_hold():
    few = Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)
    low = Threshold("low", "requests_per_client", "ws", max=1, severity="warn")
    none = Threshold("none", "staleness_s.p50", "ws", max=1, severity="warn")
    run = smoke([few, low])
    assert run.conclusion == "pass"
    assert claims.headline(run).endswith("; 1 of 2 thresholds holds, 1 warns.")
    assert claims.headline(smoke([few, low, none])).endswith("; 1 of 3 thresholds holds, 1 warns, 1 without data.")
    assert claims.headline(smoke([few, few])).endswith("; all 2 thresholds hold.")
    assert len({*GLYPHS.values()}) == len(GLYPHS)
    assert GLYPHS[OUTCOMES["warn"][1]] not in {GLYPHS[OUTCOMES[e][1]] for e in ("pass", "fail", "inconclusive")}
    for form in (shown(run), markdown.render(run), html.render(run)):
        assert GLYPHS["warn"] in form


def test_at_a_foreign_server_nobody_is_told_what_the_updates_were():
    three = ("poll", "ws")
    blocks = [
        kit.block(name, repeat, server=None, updates=Updates(committed=0, due=0, seen=0, superseded=0, lost=0))
        for name in (*three, "ws-churn") for repeat in range(2)
    ]  # fmt: skip
    run = verdict.judge(kit.run(blocks, repeats=2, scenarios=(*three, "ws-churn"), url="http://there"), [])
    for form in (shown(run, 200), markdown.render(run), html.render(run)):
        assert "updates: whatever that server does" in form
        assert "updates/s" not in form
    told = " ".join(each.text for each in claims.claims(run))
    assert "97% fewer" in told
    assert "nothing new" not in told
    assert "none was lost" not in told


def test_a_count_of_one_repeat_is_a_finding_in_the_tiles_too():
    run = verdict.judge(kit.run(repeats=1), [])
    (sentence,) = [each.text for each in claims.claims(run) if "requests a client" in each.text]
    tile = html._headlines(run)[0]
    assert sentence.endswith("97% fewer.")
    assert (tile.words, tile.figure, tile.tone) == ("Requests", "97% fewer", "push")
    (cpu,) = [each for each in html._headlines(run) if each.words == "Server CPU"]
    assert cpu.figure == "no difference"  # what has noise needs an interval
    assert 'class="dot less"' in html.render(run)


def test_where_nothing_was_compared_polling_is_not_said_to_be_no_cheaper():
    words = "Push and polling were not compared here."
    for scenarios in (("idle", "ws"), ("idle", "poll"), ("idle", "ws-idle")):
        run = verdict.judge(kit.run(scenarios=scenarios, repeats=2), [])
        assert [each.text for each in claims.where_polling_wins(run)] == [words]
    assert words not in {each.text for each in claims.where_polling_wins(smoke())}


def test_where_only_the_dearest_polling_was_the_rival_that_is_said():
    assert claims.THRIFTIER in {each.text for each in claims.where_polling_wins(smoke())}
    assert claims.THRIFTIER not in {each.text for each in claims.where_polling_wins(whole())}


def test_a_scenario_of_the_users_own_is_spoken_of():
    blocks = [
        msgspec.structs.replace(each, scenario="mine") if each.scenario == "poll-limited" else each
        for each in kit.noisy(kit.run(repeats=3, scenarios=("idle", "poll-limited", "ws")).blocks)
    ]
    run = verdict.judge(kit.run(blocks, repeats=3, scenarios=("idle", "mine", "ws")), [])
    (told,) = [each.text for each in claims.claims(run) if each.text.startswith("Against mine")]
    assert told.startswith("Against mine, push took 97% fewer requests")
    dearer = [each.text for each in claims.claims(run) if each.tone == "poll"]
    assert all(each.startswith("mine is cheaper in connections") for each in dearer)
    assert "Ratios of ws to mine" in html.render(run)


def test_a_short_run_says_that_its_counts_are_extrapolated():
    short = verdict.judge(kit.run(duration=300.0, repeats=2), [])
    said = "counts extrapolated from 300 s: what a client does once weighs 3-fold"
    for render in (lambda run: shown(run, 300), markdown.render, html.render):
        assert said in render(short)
        assert "extrapolated from 300" not in render(smoke())


def test_cpu_below_the_control_is_not_above_the_noise():
    blocks = [
        msgspec.structs.replace(
            each, server=msgspec.structs.replace(each.server, cpu_s=0.45 if each.scenario == "idle" else 0.3)
        )
        for each in kit.run(repeats=3).blocks
    ]
    run = smoke(blocks=tuple(blocks))
    for form in (shown(run), markdown.render(run), html.render(run)):
        assert "not above the noise" in form
        assert not re.search(r"-0\.[0-9]+% of a core", form)
    assert figures.amount(-0.002, "cpu_s_attributable") == "not above the noise"


def test_memory_of_one_size_is_no_finding():
    run = smoke()
    assert "memory a client" not in " ".join(each.text for each in claims.claims(run))
    assert "not resolvable (one size)" in html.render(run)
    assert page().count("not resolvable (one size)") == 3  # longpoll, ws-churn, poll-limited


def test_an_interval_that_leaves_1_out_shows_it():
    assert figures.ratios(1.0004, 1.05) == "1.0004 to 1.05"
    assert figures.ratios(0.9, 0.99996) == "0.9 to 0.99996"
    assert figures.ratios(1.0, 1.0) == "1 to 1"
    assert figures.ratios(0.12, None) == ""


def test_what_was_not_measured_is_said_once():
    run = smoke([Threshold("storm", "updates_lost", "ws-churn", max=0)])
    assert "no data: updates_lost of ws-churn, not measured\n" in re.sub(" +\n", "\n", shown(run))


def test_an_interval_says_its_unit_once():
    assert figures.between(0.219, 0.269, "cpu_s_attributable") == "21.9% to 26.9% of a core"
    assert figures.between(None, 0.2) == ""
