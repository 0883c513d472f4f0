"""Baselines on phantoms: CPU budget, resuming, scores and tables."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from benchmarks.compare import judge
from benchmarks.compare.__main__ import main
from benchmarks.compare.baselines import BASELINES, named
from benchmarks.compare.budgeted_training import BudgetedTraining, race
from benchmarks.compare.report import equal, overview, table
from medsegdiff.data.batches import Draws, Pool
from medsegdiff.data.synthetic import draw

SIZE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare") / "skin-lesion"
    for split, count in (("train", 4), ("val", 2), ("other", 1)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            phantom = draw("skin-lesion", 10 * count + i, 80, raters=0)
            Image.fromarray(phantom.image).save(root / split / "images" / f"{i}.png")
            Image.fromarray(phantom.labels).save(root / split / "masks" / f"{i}.png")
    return root


def training(minutes: float, name: str = "condition") -> BudgetedTraining:
    phantoms = [draw("skin-lesion", i, SIZE, raters=0) for i in range(4)]
    draws = Draws(
        Pool([p.image for p in phantoms], [p.labels for p in phantoms]), task="skin-lesion", seed=0, augment=False
    )
    torch.manual_seed(0)
    return BudgetedTraining(BASELINES[name](SIZE, 1), draws, minutes, seed=0)


def test_the_training_curve_is_measured_on_images_of_the_whole_split(monkeypatch, tmp_path):
    read: list[int] = []
    monkeypatch.setattr(judge, "cases", lambda *_: range(36))
    pool = SimpleNamespace(few=lambda _: pool, middle=lambda _: pool)
    monkeypatch.setattr(judge, "Pool", SimpleNamespace(of=lambda found, *_, **__: read.extend(found) or pool))
    judge.held_out(tmp_path, 1, SIZE, "skin-lesion")
    assert read[:4] == [0, 1, 3, 4]
    assert (len(read), read[-1]) == (24, 34)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BASELINES))
@pytest.mark.parametrize("classes", [1, 2])
def test_baselines_have_similar_sizes_and_return_probabilities(name: str, classes: int) -> None:
    if name == "lucidrains":
        pytest.importorskip("med_seg_diff_pytorch")
    torch.manual_seed(0)
    baseline = BASELINES[name](SIZE, classes).eval()
    parameters = sum(p.numel() for p in baseline.parameters())
    assert 0.8 < parameters / 3.85e6 < 1.2 or name.startswith("v1")  # v2-tiny's; v1-tiny is smaller by its own preset
    image = torch.linspace(-1, 1, 2 * 3 * SIZE * SIZE).view(2, 3, SIZE, SIZE)
    labels = torch.zeros(2, SIZE, SIZE, dtype=torch.uint8)
    labels[:, 16:40, 16:40] = classes
    loss = baseline(image, labels, 0, 1.0)
    loss.backward()
    assert loss.isfinite()
    with torch.no_grad():
        steps = 10 if name == "lucidrains" else 2  # with fewer it takes the root of a rounding error below zero
        masks = baseline.masks(image[:1], members=2, steps=steps, seed=0)
        again = baseline.masks(image[:1], members=2, steps=steps, seed=0)
    assert masks.shape == (baseline.count(2), classes + 1, SIZE, SIZE)
    torch.testing.assert_close(masks.sum(1), torch.ones_like(masks[:, 0]))
    assert torch.equal(masks, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["condition", "unet"])
def test_a_plain_network_overfits_four_images(name: str) -> None:
    walk = race(training(minutes=100, name=name))
    *_, last = (next(walk) for _ in range(60))
    assert last.loss < 0.9  # Dice and cross-entropy: 0.75 and 0.68; 1.25 for a U-Net that ends in an instance norm


@pytest.mark.slow
def test_a_baseline_trains_until_its_cpu_time_is_spent() -> None:
    run = training(minutes=0.05)
    steps = list(race(run))
    assert run.spent >= 3 > 60 * steps[-2].minutes  # it stops at the first iteration that ends beyond the budget
    assert [step.iteration for step in steps] == list(range(1, run.done + 1))
    assert steps[-1].loss < steps[0].loss
    assert run.learning_rate() <= 0.011 * run.baseline.recipe.learning_rate  # all is spent, the rate has fallen


@pytest.mark.slow
def test_a_stopped_baseline_resumes(tmp_path: Path) -> None:
    first = training(minutes=100)
    walk = race(first)
    for _ in range(2):
        next(walk)
    first.save(tmp_path / "state.safetensors")
    second = training(minutes=100)
    second.resume(tmp_path / "state.safetensors")
    assert (second.done, second.spent) == (2, first.spent)
    for run in (first, second):
        run.spent = 0.0  # else the rate, which falls with the time spent, would differ in the seventh digit
        next(race(run))
    for one, other in zip(first.ema.parameters(), second.ema.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="begun with 100 minutes and seed 0"):
        training(minutes=50).resume(tmp_path / "state.safetensors")


@pytest.mark.slow
def test_the_command_trains_scores_and_fills_the_readme(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- compare skin-lesion -->\n<!-- end -->\nafter\n")
    words = [
        "skin-lesion",
        "--data",
        str(data),
        "--minutes",
        "0.02",
        "--phantoms",
        "0",
        "--baselines",
        f"condition@{SIZE}",
        "--mirror",
        "both",
    ]
    places = ["--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs"), "--readme", str(readme)]
    assert main([*words, *places]) == 0
    result = json.loads((tmp_path / "results" / "skin-lesion" / f"condition-{SIZE}.json").read_text())
    assert 0 <= result["mean_dice"] <= 1
    assert len(result["cases"]) == 2
    assert result["settings"]["minutes"] >= 0.02
    assert result["settings"]["mirror"] == "both"
    other = json.loads((tmp_path / "results" / "skin-lesion" / f"other-condition-{SIZE}.json").read_text())
    assert (other["settings"]["split"], len(other["cases"])) == ("other", 1)
    curve = tmp_path / "runs" / "skin-lesion" / f"condition-{SIZE}" / "curve.jsonl"
    rows = [json.loads(row) for row in curve.read_text().splitlines()]
    assert rows[-1]["iteration"] == result["settings"]["iterations"]
    assert 0 <= rows[-1]["dice"] <= 1
    text = readme.read_text()
    assert text.startswith("before\n<!-- compare skin-lesion -->")
    assert text.endswith("<!-- end -->\nafter\n")
    assert f"| condition network alone at {SIZE} | 3.4 M |" in text
    capsys.readouterr()
    assert main([*words, *places]) == 0  # a second time nothing is trained
    assert "is there already" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["unet", "unet@100", "resnet@256", "unet@0", "unet@big"])
def test_an_unknown_baseline_is_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=r"is no baseline; write unet, .* as in condition@256"):
        named(name)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A plain U-Net and a shipped V2 scored on the same six cases, V2 two points above on each; and a task alike in name."""

    def result(dice: float, **settings: object) -> str:
        scores = {"dice": dice, "interval": [dice - 0.1, dice + 0.1], "n": 6, "empty": 1, "false_positives": 1}
        if not settings:  # older results have no regions
            scores |= {"regions": 7, "regions_found": 5, "false_regions": 2}
        cases = [
            {"name": str(i), "dice": [dice + spread]} for i, spread in enumerate((-0.3, -0.2, -0.1, 0.1, 0.2, 0.3))
        ]
        return json.dumps(
            {"mean_dice": dice, "mean_iou": dice / 2, "mean_hd95": 3.0, "hd95_unit": "pixels", "ece": 0.01}
            | {
                "per_class": {"lesion": scores},
                "settings": settings,
                "cases": [*cases, {"name": "empty", "dice": [None]}],
            }
        )

    facts = {"baseline": "unet@256", "title": "plain U-Net", "parameters": 3_700_000, "iterations": 9, "minutes": 60.2}
    config = {"weights": {"parameters": 3_900_000}, "model": {"image_size": 256}, "training": {"iterations_done": 5}}
    (tmp_path / "compare" / "lung").mkdir(parents=True)
    (tmp_path / "compare" / "lung" / "unet.json").write_text(result(0.6, **facts, size=256, seed=1, steps=0, members=1))
    for task in ("lung", "lung-tip"):
        for kind, file, text in (
            ("results", "5x10.json", result(0.62)),
            ("checkpoints", "config.json", json.dumps(config | {"domain": {"task": task}})),
        ):
            (tmp_path / kind / f"{task}-v2").mkdir(parents=True)
            (tmp_path / kind / f"{task}-v2" / file).write_text(text)
    return tmp_path


def test_the_table_is_sorted_and_has_the_shipped_checkpoints(measured: Path) -> None:
    places = (measured / "results", measured / "checkpoints")
    assert table(measured / "compare" / "lung", *places, "lung").splitlines()[2:] == [
        "| **`lung-v2`** as shipped, at 256; 5 members, 10 steps | 3.9 M | 5 |  | 0.620 | 0.520 to 0.720 "
        "| +2.0 (+2.0 to +2.0) | 0.310 | 3.0 pixels | 0.0100 | 5 of 7 | 2 | 1 of 1 | 6 |",
        "| plain U-Net at 256, seed 1 | 3.7 M | 9 | 60 | 0.600 | 0.500 to 0.700 |  | 0.300 | 3.0 pixels | 0.0100 "
        "|  |  | 1 of 1 | 6 |",
    ]
    with pytest.raises(ValueError, match="hold no results"):
        table(measured / "nothing", *places, "heart")


def test_a_missing_block_is_noticed_before_any_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- compare skin-lesion -->\n<!-- end -->\n<!-- compare -->\n<!-- end -->\n")
    words = ["skin-lesion", "--data", str(data), "--minutes", "0.02", "--baselines", f"condition@{SIZE}"]
    places = ["--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main([*words, *places, "--readme", str(page), "--overview", str(page)]) == 2
    assert "has no block <!-- equal -->" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_networks_with_the_augmentation_of_v2_are_compared_on_both_splits(measured: Path) -> None:
    places = (measured / "results", measured / "checkpoints")
    path = measured / "compare" / "lung" / "unet.json"
    result = json.loads(path.read_text())
    result["settings"]["baseline"] = "unet-strong@256"
    path.write_text(json.dumps(result))
    result["settings"]["split"] = "other"
    path.with_name("other-unet.json").write_text(json.dumps(result))
    ours = json.loads((measured / "results" / "lung-v2" / "5x10.json").read_text())
    ours["cases"] = [{**case, "dice": [d and d + 0.01 for d in case["dice"]]} for case in ours["cases"]]
    (measured / "results" / "lung-v2" / "other-5x10.json").write_text(json.dumps(ours))
    assert equal(measured / "compare", *places).splitlines()[2:] == [
        "| lung | val | 6 | 0.600 |  | 0.620 | +2.0 (+2.0 to +2.0) |  | 0.0100, -, 0.0100 | 60, -, - |",
        "| lung | other | 6 | 0.600 |  | 0.620 | +3.0 (+3.0 to +3.0) |  | 0.0100, -, 0.0100 | 60, -, - |",
    ]


def test_the_mean_over_mirror_images_turns_with_the_image() -> None:
    torch.manual_seed(0)
    baseline, image = BASELINES["condition"](SIZE, 1).eval(), torch.rand(1, 3, SIZE, SIZE)
    masks, turned = (judge._masks(baseline, each, 1, 0, "both") for each in (image, image.flip(-1)))
    torch.testing.assert_close(turned.flip(-1), masks)  # the network itself does not


def test_networks_are_compared_on_the_cases_they_share(measured: Path) -> None:
    path = measured / "results" / "lung-v2" / "5x10.json"
    result = json.loads(path.read_text())
    result["cases"][3:] = [{"name": "another picture", "dice": [0.0]}]  # scored on fewer, and on another
    path.write_text(json.dumps(result))
    (row,) = overview(measured / "compare", measured / "results", measured / "checkpoints").splitlines()[2:]
    assert row == "| lung | 6 | +2.0 |  |  |  | 0.0100, 0.0100, -, -, - | 60, not recorded |"  # no interval of three


@pytest.mark.slow
def test_seeds_share_a_row_and_widen_its_interval(measured: Path) -> None:
    folder = measured / "compare" / "lung"
    result = json.loads((folder / "unet.json").read_text())

    def trained(baseline: str, seed: int, shift: float) -> None:
        cases = [{**case, "dice": [d if d is None else d + shift for d in case["dice"]]} for case in result["cases"]]
        settings = result["settings"] | {"baseline": baseline, "title": baseline, "seed": seed}
        another = result | {"mean_dice": 0.6 + shift, "cases": cases, "settings": settings}
        (folder / f"{baseline}-seed{seed}.json").write_text(json.dumps(another))

    (folder / "unet.json").unlink()
    trained("unet", 2, -0.01)
    trained("unet", 3, 0.01)
    trained("condition", 3, 0.03)  # held against the luckier U-Net, which had its seed
    rows = table(folder, measured / "results", measured / "checkpoints", "lung").splitlines()[2:]
    condition, shipped, unet = rows
    assert "| +2.0 (+2.0 to +2.0) |" in condition
    assert "| +2.0 (+1.0 to +3.0) |" in shipped  # every case says 2.0, one seed 1.0, the other 3.0
    assert unet.startswith("| unet at 256, 2 seeds | 3.7 M | 9 | 60 | 0.600 (0.590, 0.610) | ")
