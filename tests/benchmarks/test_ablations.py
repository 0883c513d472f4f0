"""Ablation variants, and the table of differences per seed."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.ablations import VARIANTS, table
from benchmarks.compare.baselines import Ours, of_readers
from medsegdiff.records import Switches

WHOLE = Switches()


@pytest.mark.slow
def test_every_variant_lacks_what_its_name_says() -> None:
    parts = {}
    for name, make in VARIANTS.items():
        torch.manual_seed(0)
        baseline = make(64, 1)
        assert isinstance(baseline, Ours)
        config = baseline.objective.model.config
        parts[name] = {key for key in WHOLE.__slots__ if not getattr(config.switches, key)}
        if name == "v2-sine":
            assert getattr(config, "band", "") == "sine"
        assert (getattr(config, "gate", "") == "channel") == (name == "v2-gates")
        papers = (baseline.diffusion.config.parametrization, baseline.diffusion.config.scale) == ("epsilon", 1)
        assert papers == name.endswith("-papers")
        loss = baseline(torch.zeros(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.uint8), 0, 1.0)
        loss.backward()
        assert loss.isfinite()
    assert parts == {
        "v1": set(),
        "v1-no-dynamic-encoding": {"dynamic_encoding"},
        "v1-no-ff-parser": {"ff_parser"},
        "v1-neither": {"dynamic_encoding", "ff_parser"},
        "v2": set(),
        "v2-no-anchor": {"anchor"},
        "v2-no-ss-former": {"ss_former"},
        "v2-no-nbp": {"nbp"},
        "v2-sine": set(),
        "v2-naive": {"anchor", "nbp"},
        "v2-gates": set(),
        "v1-papers": set(),
        "v2-papers": set(),
    }


def test_the_table_takes_differences_seed_by_seed(tmp_path: Path) -> None:
    measured = {"v2": (0.90, 0.80, 0.85), "v2-no-nbp": (0.88, 0.79, 0.82), "v1": (0.7,)}
    for name, scores in measured.items():
        for seed, dice in enumerate(scores):
            facts = {"seed": seed, "title": name.upper(), "parameters": 3_900_000, "iterations": 100 + seed}
            path = tmp_path / (f"{name}-128" + (f"-seed{seed}" if seed else "") + ".json")
            path.write_text(json.dumps({"mean_dice": dice, "ece": 0.01, "settings": facts}))
    assert table(tmp_path, 128).splitlines()[2:] == [
        "| V1 | 1 | 100 | 0.700 |  | 0.0100 | 3.9 M |",
        "| V2 | 3 | 101 | 0.850 ± 0.029 |  | 0.0100 | 3.9 M |",
        "| V2-NO-NBP | 3 | 101 | 0.830 ± 0.026 | 0.020 ± 0.006 | 0.0100 | 3.9 M |",  # of 0.02, 0.01, 0.03
    ]
    with pytest.raises(ValueError, match="holds no ablations at size 256"):
        table(tmp_path, 256)


def test_with_several_readers_variants_are_compared_by_energy_distance(tmp_path: Path) -> None:
    for name, ged in {"v2": 0.25, "v2-no-anchor": 0.40}.items():
        facts = {"seed": 0, "title": name.upper(), "parameters": 3_900_000, "iterations": 100}
        found = {"mean_dice": 0.8, "ece": 0.01, "ged": ged, "hm_iou": 0.5, "settings": facts}
        (tmp_path / f"{name}-64.json").write_text(json.dumps(found))
    assert table(tmp_path, 64).splitlines()[2:] == [
        "| V2 | 1 | 100 | 0.250 |  | 0.500 | 3.9 M |",
        "| V2-NO-ANCHOR | 1 | 100 | 0.400 | 0.150 | 0.500 | 3.9 M |",  # farther from the readers: a rise
    ]


def test_with_several_readers_variants_see_small_targets_and_keep_their_spread() -> None:
    for name in ("v1-no-ff-parser", "v2-sine"):
        baseline = VARIANTS[name](64, 1, make=of_readers)
        assert isinstance(baseline, Ours)
        config = baseline.objective.model.config
        assert (config.stem, baseline.config.unroll, baseline.config.dice) == (2, 0, 0)
        assert config.switches.ff_parser == (name != "v1-no-ff-parser")
