"""The benchmark harness: counts, statistics and output files; no test depends on speed."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.baselines import BASELINES
from benchmarks.measure import available, flops, spread
from benchmarks.visitors import simultaneous

HERE = "MedSegDiff"  # the baselines that need nothing installed


def test_work_is_counted_two_for_a_multiplication_with_an_addition():
    x, w = torch.zeros(1, 4, 8, 8), torch.zeros(6, 4, 3, 3)
    assert flops(lambda: torch.conv2d(x, w, padding=1)) == 2 * 64 * 6 * 4 * 9


def test_a_spread_is_the_median_between_its_quartiles():
    assert spread([3.0, 1.0, 2.0, 5.0, 4.0]) == {"median": 3, "low": 2, "high": 4, "least": 1, "n": 5}
    assert spread([2.0])["low"] == spread([2.0])["median"] == 2


@pytest.mark.slow
def test_a_quick_benchmark_writes_json_figure_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture):
    readme = tmp_path / "speed.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- end -->\nafter\n<!-- visitors -->\nold\n<!-- end -->\n")
    files = {"--json": tmp_path / "a" / "bench.json", "--figure": tmp_path / "bench.svg", "--readme": readme}
    asked = [str(word) for pair in files.items() for word in pair]
    assert main(["--quick", "--device", "cpu", "--only", HERE, *asked]) == 0
    found = json.loads(files["--json"].read_text())
    assert found["ceiling_flop_per_s"]["median"] > 0
    assert all(row["share"] > 0 and row["step_s"]["n"] == row["mask_s"]["n"] == 1 for row in found["baselines"])
    words = readme.read_text()
    assert words.startswith("before\n<!-- bench -->\n")
    assert "<!-- end -->\nafter\n<!-- visitors -->\n" in words
    assert "old" not in words
    for row in found["baselines"]:
        assert f"| {row['name']} |" in words
        assert row["name"] in "".join(ElementTree.parse(files["--figure"]).getroot().itertext())


def test_an_unknown_baseline_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["--only", "nobody", "--json", str(tmp_path / "x.json")]) == 2
    assert "'nobody'" in capsys.readouterr().err


def test_every_visitor_of_a_crowd_is_served_and_timed():
    chosen = next(one for one in BASELINES if HERE in one.name and available(one))
    loaded = chosen.load(type(chosen)(name="small", load=chosen.load, size=64, members=1, steps=1), torch.device("cpu"))
    crowd = simultaneous(loaded, 3)
    assert crowd["latency_s"]["n"] == crowd["visitors"] == 3
    assert crowd["latency_95_s"] >= crowd["latency_s"]["median"] > 0
