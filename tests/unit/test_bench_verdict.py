import bench_kit as kit
import msgspec
import pytest

from bench import compared, reading, schema, verdict
from bench.result import Check, decode, encode
from bench.thresholds import Threshold
from jobctl.errors import InvalidInput

FEW = Threshold("few", "requests_per_client", "ws", "poll", max_ratio=0.1)
NONE = Threshold("none", "requests_per_client", "ws", max=1)
VAGUE = Threshold("vague", "cpu_s_attributable", "ws", "poll", max_ratio=0.147)
WARNS = Threshold("warns", "requests_per_client", "ws", max=1, severity="warn")
ABSENT = Threshold("absent", "rate_limited", "poll-limited", min=1)


def run(**changed):
    bare = kit.run(repeats=3)
    return msgspec.structs.replace(bare, **({"blocks": tuple(kit.noisy(bare.blocks))} | changed))


@pytest.mark.parametrize(
    ("asked", "conclusion", "code", "strict"),
    [
        ([FEW], "pass", 0, 0),
        ([FEW, WARNS], "pass", 0, 0),
        ([FEW, NONE], "fail", 1, 1),
        ([FEW, ABSENT], "fail", 1, 1),  # no data is a failure
        ([NONE, VAGUE], "fail", 1, 1),  # a failure among several wins
        ([FEW, VAGUE], "inconclusive", 0, 7),
        ([], "inconclusive", 0, 7),  # nothing asked is nothing shown
    ],
)
def test_a_run_is_concluded_by_its_thresholds(asked, conclusion, code, strict):
    judged = verdict.judge(run(), asked)
    if VAGUE in asked:
        (vague,) = [each for each in judged.thresholds if each.id == "vague"]
        assert vague.low < 0.147 < vague.high  # or the table above shows nothing
    assert judged.conclusion == conclusion
    assert (verdict.exit_code(judged), verdict.exit_code(judged, strict=True)) == (code, strict)


def test_a_run_that_is_not_to_be_believed_passes_nothing():
    blocks = run().blocks
    for bad in (
        run(checks=(Check("counts-agree", False, "they do not"), Check("generator", True, "fine"))),
        run(checks=()),
        run(complete=False),
        run(blocks=blocks[:-1]),
        run(blocks=tuple(each for each in blocks if each.scenario != "poll")),
        run(blocks=()),
    ):
        judged = verdict.judge(bad, [FEW])
        assert judged.conclusion == "invalid"
        assert verdict.exit_code(judged) == verdict.exit_code(judged, strict=True) == 6
    failing = verdict.judge(run(complete=False), [NONE])
    assert verdict.exit_code(failing) == 6  # invalid wins: nobody is to act on its figures


def test_what_is_missing_is_named():
    judged = verdict.judge(run(blocks=run().blocks[:-1]), [FEW])
    (blocks,) = [each for each in judged.checks if each.id == "blocks"]
    assert not blocks.passed
    assert blocks.detail == "ws has 2 of 3 repeats"


def test_judging_again_changes_nothing():
    once = verdict.judge(run(), [FEW])
    assert verdict.judge(once, [FEW]) == once
    assert [each.id for each in once.checks].count("blocks") == 1
    assert verdict.judge(verdict.judge(run(complete=False), [FEW]), [FEW]).conclusion == "invalid"


def test_known_figures_come_out():
    judged = verdict.judge(run(), [FEW])
    estimates = {(each.scenario, each.metric): each for each in judged.estimates}
    assert estimates["poll", "requests_per_client"].mean == pytest.approx(90)
    assert estimates["poll", "requests_per_client"].values == pytest.approx((90, 90, 90))
    ratios = {(each.metric, each.scenario, each.vs): each for each in judged.comparisons}
    assert ratios["requests_per_client", "ws", "poll"].ratio == pytest.approx(1 / 30)
    assert ratios["empty_requests", "ws", "poll"].ratio == 0.0
    assert ratios["updates_lost", "ws", "poll"].ratio is None
    cpu = ratios["cpu_s_attributable", "ws", "poll"]
    truth = (0.0005 + 100 * (2e-6 + 4e-6 * 2)) / (0.001 + 100 * (9e-5 + 1e-6 * 2))
    assert cpu.low < truth < cpu.high
    assert cpu.resolvable


def test_pairs_are_of_one_repeat():
    blocks = list(run().blocks)
    # poll of repeat 0 is missing: its ws has no partner, and pairs with nobody else's.
    blocks = [each for each in blocks if not (each.scenario == "poll" and each.repeat == 0)]
    judged = verdict.judge(run(blocks=tuple(blocks)), [FEW])
    from bench.metrics import METRICS

    ours, theirs = verdict.pairs(judged, METRICS["cpu_s_attributable"], "ws", "poll")
    assert len(ours) == len(theirs) == 2


def test_the_stream_is_held_against_every_way_of_polling():
    judged = verdict.judge(kit.full(), [])
    rivals = {each.vs for each in judged.comparisons if each.scenario == "ws"}
    assert rivals == {"poll", "poll-keepalive", "poll-etag", "longpoll", "poll-limited"}
    assert {each.vs for each in judged.comparisons if each.scenario == "ws-churn"} == {"poll"}
    assert not {each.scenario for each in judged.comparisons} & {"idle", "ws-idle"}


def test_a_scenario_of_somebodys_own_is_set_against_the_stream():
    blocks = [
        msgspec.structs.replace(each, scenario="mine") if each.scenario == "poll-etag" else each
        for each in kit.run(repeats=2, scenarios=("idle", "poll-etag", "ws")).blocks
    ]
    judged = verdict.judge(kit.run(blocks, repeats=2, scenarios=("idle", "mine", "ws")), [])
    assert {(each.scenario, each.vs) for each in judged.comparisons} == {("ws", "mine")}


def test_a_count_that_was_nothing_and_is_something_got_worse():
    def lost(n):
        blocks = [
            msgspec.structs.replace(each, updates=msgspec.structs.replace(each.updates, lost=n, duplicated=n))
            if each.scenario == "ws" and each.repeat
            else each
            for each in run().blocks
        ]
        return verdict.judge(run(blocks=tuple(blocks)), [FEW])

    for metric in ("updates_lost", "updates_duplicated"):
        told = {
            n: {(e.scenario, e.metric): e.better for e in compared.changes(lost(n), lost(7))}["ws", metric]
            for n in (0, 7, 9)
        }
        assert told == {0: False, 7: None, 9: True}
    assert {e.better for e in compared.changes(lost(7), lost(0)) if e.metric == "updates_lost"} == {None, True}


def test_a_loss_at_any_number_of_clients_fails():
    bare = kit.run(repeats=2, clients=(10, 40))
    blocks = [
        msgspec.structs.replace(each, updates=msgspec.structs.replace(each.updates, lost=1))
        if (each.scenario, each.clients, each.repeat) == ("ws", 10, 1)
        else each
        for each in bare.blocks
    ]
    judged = verdict.judge(kit.run(blocks, repeats=2, clients=(10, 40)), [Threshold("no", "updates_lost", "ws", max=0)])
    assert judged.conclusion == "fail"


def test_a_run_survives_its_file():
    judged = verdict.judge(kit.full(), [FEW, VAGUE])
    assert decode(encode(judged)) == judged


def test_the_schema_in_the_package_is_that_of_the_code():
    assert schema.shipped() == schema.text()  # else: python -m bench.schema > bench/schema.json


def test_two_runs_are_compared_by_figure_and_their_differences_told():
    before = verdict.judge(run(), [FEW])
    slower = [
        msgspec.structs.replace(each, server=msgspec.structs.replace(each.server, cpu_s=each.server.cpu_s * 3))
        if each.scenario == "ws"
        else each
        for each in before.blocks
    ]
    after = verdict.judge(run(blocks=tuple(slower), plan=kit.plan(repeats=3, seed=8)), [FEW])
    changes = {(each.scenario, each.metric): each for each in compared.changes(before, after)}
    assert changes["ws", "cpu_s_attributable"].better is False
    assert changes["ws", "cpu_s_attributable"].ratio.value > 3
    assert changes["poll", "cpu_s_attributable"].better is None
    assert changes["poll", "requests_per_client"].ratio.value == pytest.approx(1)
    assert compared.changes(after, before)[0].before == after.estimates[0]
    assert {(e.scenario, e.metric): e.better for e in compared.changes(after, before)}[
        "ws", "cpu_s_attributable"
    ] is True
    assert list(compared.caveats(before, before)) == []
    assert list(compared.caveats(before, after)) == ["the seeds differ: 7 and 8"]
    broken = verdict.judge(run(complete=False), [FEW])
    assert "the second run is invalid" in next(iter(compared.caveats(before, broken)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no run.json"),
        (b"{}", "is no run.json"),
        (b"\xff\xfe", "is no run.json"),
        (b"[" * 100_000, "is no run.json"),
        (b'{"schema": 1, "x": ' + b"[" * 100_000, "is no run.json"),
        (b'{"schema": 1}', "is no run.json.*started_?[aA]t"),
        (b'{"schema": 2}', "a newer jobctl wrote it"),
        (b'{"schema": 0}', "of an older jobctl"),
    ],
)
def test_a_file_that_is_no_run_is_one_clear_error(tmp_path, content, said):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=said):
        reading.read(path)


def test_figures_that_cannot_be_are_an_error_and_no_traceback(tmp_path):
    path = tmp_path / "run.json"
    for bad in (
        kit.run(time_scale=0.0),
        kit.run([kit.block("ws", seconds=0.0)]),
        kit.run([kit.block("ws", clients=-1)]),
    ):
        path.write_bytes(encode(bad))
        with pytest.raises(InvalidInput, match="above 0"):
            reading.read(path)
    path.write_bytes(encode(kit.run(clients=(50, 100), updates=(1e200,), repeats=3)))
    with pytest.raises(InvalidInput, match="cannot be"):
        reading.judged(reading.read(path))
