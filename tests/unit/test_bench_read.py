"""``jobctl bench report|compare|check``, called as the entry point calls them."""

import json
import subprocess
import sys

import bench_kit as kit
import msgspec
import pytest

from bench.result import encode
from jobctl.cli import main

GATES = """schema = 1
[[threshold]]
id = "few"
metric = "requests_per_client"
scenario = "ws"
vs = "poll"
max_ratio = {}
"""


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.json"
    bare = kit.run(repeats=3)
    blocks = tuple(
        msgspec.structs.replace(each, staleness=kit.staleness([0.01, 0.02] if each.scenario == "ws" else [0.5, 1.4]))
        for each in kit.noisy(bare.blocks)
    )
    path.write_bytes(encode(msgspec.structs.replace(bare, blocks=blocks)))
    return path


@pytest.fixture
def jobctl(capsys):
    def call(*arguments):
        code = main._guarded(["bench", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def gates(tmp_path, ratio):
    path = tmp_path / f"gates-{ratio}.toml"
    path.write_text(GATES.format(ratio))
    return path


def test_check_says_by_its_exit_code_whether_the_thresholds_hold(jobctl, run_file, tmp_path):
    code, out, _ = jobctl("check", run_file)
    assert code == 0
    assert "PASS" in out
    assert "ninety-percent-fewer-requests" in out
    assert jobctl("check", run_file, "--thresholds", gates(tmp_path, 0.1))[0] == 0
    code, out, _ = jobctl("check", run_file, "--thresholds", gates(tmp_path, 0.01))
    assert code == 1
    assert "FAIL" in out
    assert "fail: requests_per_client of ws over poll" in out


def test_check_refuses_a_run_that_is_not_to_be_believed(jobctl, run_file, tmp_path):
    run_file.write_bytes(run_file.read_bytes().replace(b'"complete": true', b'"complete": false'))
    code, out, _ = jobctl("check", run_file, "--thresholds", gates(tmp_path, 0.1))
    assert code == 6
    assert "INVALID" in out


def test_an_open_question_is_told_only_if_asked_strictly(jobctl, run_file, tmp_path):
    path = tmp_path / "vague.toml"
    path.write_text(GATES.format(0.147).replace("requests_per_client", "cpu_s_attributable"))
    assert jobctl("check", run_file, "--thresholds", path)[0] == 0
    code, out, _ = jobctl("check", run_file, "--thresholds", path, "--strict")
    assert code == 7
    assert "INCONCLUSIVE" in out


def test_check_as_json_is_for_programs(jobctl, run_file, tmp_path):
    code, out, _ = jobctl("check", run_file, "--thresholds", gates(tmp_path, 0.01), "--json")
    told = json.loads(out)
    assert (code, told["exitCode"], told["conclusion"]) == (1, 1, "fail")
    assert [each["outcome"] for each in told["thresholds"]] == ["fail"]
    assert all(each["passed"] for each in told["checks"])


def test_a_wrong_threshold_or_file_is_one_line_and_exit_2(jobctl, run_file, tmp_path):
    (tmp_path / "bad.toml").write_text(GATES.format(0.1).replace("requests_per", "request_per"))
    (tmp_path / "junk.json").write_text("{}")
    for arguments, said in (
        (("check", run_file, "--thresholds", tmp_path / "bad.toml"), "unknown metric 'request_per_client'"),
        (("check", tmp_path / "junk.json"), "is no run.json"),
        (("report", tmp_path / "none.json"), "No such file"),
        (("compare", run_file, tmp_path / "junk.json"), "is no run.json"),
        (("report", run_file, "--out", run_file), "cannot write to"),
    ):
        code, out, err = jobctl(*arguments)
        assert code == 2, arguments
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("jobctl: ")
        assert said in err


def test_report_shows_and_writes(jobctl, run_file, tmp_path):
    code, out, err = jobctl("report", run_file, "--out", tmp_path / "out")
    assert code == 0
    assert "ws needed 3 requests a client in 15 minutes where poll needed 90" in out
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "junit.xml", "report.html", "report.md", "run.json",
    ]  # fmt: skip
    assert "report.html" in err
    written = tmp_path / "out" / "run.json"
    told = json.loads(jobctl("report", written, "--json")[1])
    assert told == json.loads(written.read_text())
    assert told["conclusion"] == "pass"


def test_report_keeps_the_verdict_that_a_run_was_given(jobctl, run_file, tmp_path):
    jobctl("check", run_file, "--thresholds", gates(tmp_path, 0.01), "--out", tmp_path / "out")
    assert "FAIL" in jobctl("report", tmp_path / "out" / "run.json")[1]
    assert jobctl("check", tmp_path / "out" / "run.json")[0] == 0  # check judges anew


def test_compare_tells_what_changed(jobctl, run_file, tmp_path):
    other = tmp_path / "other.json"
    run = kit.run(repeats=3, seed=9)
    blocks = tuple(
        msgspec.structs.replace(
            each, server=msgspec.structs.replace(each.server, db_queries=each.server.db_queries * 2)
        )
        for each in kit.noisy(run.blocks)
    )
    other.write_bytes(encode(msgspec.structs.replace(run, blocks=blocks)))
    code, out, err = jobctl("compare", run_file, other)
    assert code == 0
    assert "the seeds differ: 7 and 9" in err
    told = json.loads(jobctl("compare", run_file, other, "--json")[1])
    (queries,) = [e for e in told["changes"] if (e["scenario"], e["metric"]) == ("ws", "db_queries")]
    assert queries["ratio"] == pytest.approx(2)
    assert queries["better"] is False
    assert all("worse" in each for each in out.splitlines() if "db_queries" in each)
    assert out.count("worse") == 2


def test_without_the_extra_judging_goes_on_and_writing_says_what_to_install(run_file, tmp_path):
    block = "import sys\nfor name in ('hdrh', 'jinja2', 'junitparser', 'locust', 'psutil'): sys.modules[name] = None\n"
    code = block + "from jobctl.cli import main\nsys.exit(main._guarded(sys.argv[1:]))"

    def call(*arguments):
        command = [sys.executable, "-c", code, "bench", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert call("check", run_file).returncode == 0
    assert call("report", run_file).returncode == 0
    missing = call("report", run_file, "--out", tmp_path / "out")
    assert missing.returncode == 2
    assert "pip install 'jobctl[bench]'" in missing.stderr
    assert missing.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_loads_nothing_of_the_bench():
    code = (
        "import sys\nfrom jobctl.cli import main\n"
        "try: main._guarded(['--help'])\nfinally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(found.stderr.split())
    assert "jobctl.cli.main" in modules
    assert not {each for each in modules if each.split(".")[0] in ("bench", "jinja2", "hdrh", "rich", "msgspec")}
