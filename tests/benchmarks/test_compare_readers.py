"""Baselines on pictures that several readers marked: which of them learn the distribution of masks, and the table of them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.compare.__main__ import USUAL, main
from benchmarks.compare.base import Baseline
from benchmarks.compare.baselines import BASELINES, Dropout, Five, Plain, named
from benchmarks.compare.probabilistic import ProbabilisticUNet, StochasticSegmentation
from benchmarks.compare.report import overview, table
from medsegdiff.multi_reader import energy_distance, pairwise_iou

SIDE, WIDTH = 16, 8
CORE, WHOLE = (slice(6, 10),) * 2, (slice(3, 13),) * 2


def features() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU())


def network() -> nn.Module:
    return nn.Sequential(features(), nn.Conv2d(WIDTH, 1, 1))


def toy() -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a picture whose core and whole can be seen, and two readers: one marks the core, the other the whole."""
    image, readers = torch.full((1, 3, SIDE, SIDE), -1.0), torch.zeros(1, 2, SIDE, SIDE, dtype=torch.uint8)
    for reader, (part, grey) in enumerate(((WHOLE, 0.0), (CORE, 1.0))):
        image[..., part[0], part[1]] = grey
        readers[:, reader, part[0], part[1]] = 1
    return image, readers


def learnt(baseline: Baseline, iterations: int) -> Baseline:
    image, readers = toy()
    optimizer = torch.optim.Adam(baseline.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for i in range(iterations):
        orders = [torch.randperm(2, generator=generator) for _ in range(8)]
        labels = torch.stack([readers[0, order] for order in orders])
        optimizer.zero_grad()
        baseline(image.expand(8, -1, -1, -1), labels, i, i / iterations).backward()
        optimizer.step()
    return baseline.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: ProbabilisticUNet(features(), WIDTH, 1, encoder=(8, 8)),
        lambda: StochasticSegmentation(features(), WIDTH, 1),
    ],
    ids=["probabilistic", "stochastic"],
)
def test_a_distribution_of_masks_has_both_readers(make: Callable[[], Baseline]) -> None:
    torch.manual_seed(0)
    image, readers = toy()
    baseline = learnt(make(), 300)
    with torch.no_grad():
        members = baseline.masks(image, members=32, steps=1, seed=0).argmax(1).numpy()
    of_whole, of_core = (pairwise_iou(members, readers[0].numpy(), np.array([1])) > 0.75).mean(0)
    assert of_core > 0.15  # half of them would be perfect; 0.09 is one deviation of 32 draws
    assert of_whole > 0.15
    assert energy_distance(members, readers[0].numpy()) < 0.2  # 0.42 for one of the two alone


@pytest.mark.slow
def test_a_plain_network_answers_with_the_mean_of_the_readers() -> None:
    torch.manual_seed(0)
    image, readers = toy()
    baseline = learnt(Plain("", network(), 1, dice=0.0), 200)
    with torch.no_grad():
        (mask,) = baseline.masks(image, members=32, steps=1, seed=0)
    torch.testing.assert_close(mask[1], readers[0].float().mean(0), atol=0.1, rtol=0)  # 0, 1/2 where one marked, 1


def test_dropout_differs_between_members_and_five_networks_between_themselves() -> None:
    torch.manual_seed(0)
    image, readers = toy()
    dropout = Dropout("", nn.Sequential(features(), nn.Dropout(0.5), nn.Conv2d(WIDTH, 1, 1)), 1, dice=0.0).eval()
    with torch.no_grad():
        masks = dropout.masks(image, members=4, steps=1, seed=0)
        assert torch.equal(masks, dropout.masks(image, members=4, steps=1, seed=0))
    assert masks.std(0).max() > 0
    assert not dropout.network.training
    five = Five("", [network() for _ in range(5)], 1)
    five(image, readers, 7, 0.0).backward()  # the third learns
    assert [any(p.grad is not None for p in one.parameters()) for one in five.networks] == [i == 2 for i in range(5)]
    assert five.masks(image, members=16, steps=1, seed=0).shape == (5, 2, SIDE, SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in USUAL["lung-nodule"].baselines if "lucidrains" not in name])
def test_every_usual_baseline_learns_from_several_readers(name: str) -> None:
    make, size = named(name)
    torch.manual_seed(0)
    labels = torch.zeros(2, 4, size, size, dtype=torch.uint8)
    labels[:, 0, 20:40, 20:40] = 1  # the others marked nothing
    loss = make(size, 1)(torch.zeros(2, 3, size, size), labels, 3, 1.0)
    loss.backward()
    assert loss.isfinite()


@pytest.mark.slow
def test_the_command_compares_members_with_readers_on_the_whole_crop(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = tmp_path / "lung-nodule"
    for split, count in (("train", 3), ("val", 2)):
        for folder in ("images", *(f"masks_{r}" for r in range(1, 5))):
            (data / split / folder).mkdir(parents=True)
            for i in range(count):
                array = np.zeros((64, 64), np.uint8)
                array[28 : 32 + 2 * int(folder[-1] == "1"), 28:34] = 255
                if folder != "masks_4":
                    Image.fromarray(array).save(data / split / folder / f"P{i}_n0_s0.png")
                else:
                    Image.fromarray(0 * array).save(data / split / folder / f"P{i}_n0_s0.png")
    places = ["--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    words = ["lung-nodule", "--data", str(data), "--minutes", "0.01", "--members", "3", "--steps", "1"]
    assert main([*words, *places, "--baselines", "stochastic@32", "unet-ce@32"]) == 0
    result = json.loads((tmp_path / "results" / "lung-nodule" / "stochastic-32.json").read_text())
    assert (result["members"], result["settings"]["field"], result["settings"]["readers"]) == (3, 0.5, 4)
    assert 0 <= result["ged"] <= 2
    rows = [json.loads(row) for row in (tmp_path / "runs/lung-nodule/unet-ce-32/curve.jsonl").read_text().splitlines()]
    assert 0 <= rows[-1]["ged"] <= 2
    assert "2 images of 2 patients" in capsys.readouterr().out


def measured(folder: Path, baseline: str, ged: float, dice: float | None) -> None:
    pictures = [
        {"name": f"P{patient}_n0_s{i}", "ged": ged + 0.1 * patient, "hm_iou": 0.5, "dice_majority": dice if i else None}
        for patient in range(5)
        for i in range(2)
    ]
    settings = {"baseline": f"{baseline}@64", "title": baseline, "parameters": 3_700_000, "iterations": 9}
    settings |= {"minutes": 60.2, "size": 64, "seed": 0, "steps": 0, "members": 16, "readers": 4}
    scores = {"ged": ged + 0.1, "hm_iou": 0.5, "dice_majority": dice, "ece_share": 0.01, "diversity": 0.3}
    scores |= {"reader_diversity": 0.37, "reader_intervals": {"ged": [ged, ged + 0.2]}, "members": 16}
    text = json.dumps({**scores, "pictures": pictures, "settings": settings, "mean_dice": dice, "cases": []})
    (folder / f"{baseline}.json").write_text(text)


def test_the_table_of_readers_is_by_ged_and_pairs_ours_with_each_over_patients(tmp_path: Path) -> None:
    folder = tmp_path / "compare" / "lung-nodule"
    folder.mkdir(parents=True)
    measured(folder, "unet", 0.5, 0.7)
    measured(folder, "v2-readers", 0.2, 0.72)
    places = (tmp_path / "results", tmp_path / "checkpoints")
    lines = table(folder, *places, "lung-nodule").splitlines()
    assert lines[2].startswith("| v2-readers at 64 | 3.7 M | 9 | 60 | 16 | 0.300 | 0.200 to 0.400 | 0.500 | 0.720 |")
    assert lines[3].endswith("| -0.300 (-0.300 to -0.300) | +0.000 (+0.000 to +0.000) | +2.0 (+2.0 to +2.0) |")
    assert lines[-1].startswith("V2 is v2-readers at 64. 10 images of 5 patients")
    assert len(overview(tmp_path / "compare", *places).splitlines()) == 2  # Dice to one mask is another table's


def test_every_usual_baseline_is_known() -> None:
    assert {name.partition("@")[0] for usual in USUAL.values() for name in usual.baselines} <= set(BASELINES)
