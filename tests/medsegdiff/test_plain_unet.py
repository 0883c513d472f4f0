"""A plain U-Net: training, checkpoints, runs and evaluation, without diffusion."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from monai.losses import DiceCELoss
from PIL import Image

from medsegdiff.__main__ import main
from medsegdiff.checkpoint import CONFIG, load, save
from medsegdiff.config import PRESETS, DiffusionConfig, Domain, RunSettings, TrainConfig, UNetConfig
from medsegdiff.data.batches import Draws, Pool
from medsegdiff.data.synthetic import draw
from medsegdiff.image_ref import Picture, Volume
from medsegdiff.losses import Objective
from medsegdiff.nn.build import build
from medsegdiff.pipeline import Segmentation, Segmenter, Start
from medsegdiff.schedule import Diffusion
from medsegdiff.slices import VolumeSegmentation, segment_volume
from medsegdiff.training import Run, train

TASK = "skin-lesion"
TINY = UNetConfig(image_size=32, stem=2, widths=(8, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained one whose weights are all at random, so that a mistaken one shows."""
    path = tmp_path_factory.mktemp("checkpoints") / "plain"
    model, generator = build(TINY), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    domain = Domain(task=TASK, modality="drawn", labels=("lesion",), licence="CC0; weights free")
    recipe = {"phantoms": 0.5, "beta": 1.0, "dice": 0.0, "draws": 1}
    facts = {"command": "python -m medsegdiff train", "recipe": recipe, "iterations_done": 0, "pictures": 2}
    save(path, model, model_config=TINY, diffusion=DiffusionConfig(), domain=domain, training=facts)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for seed in range(3):
            phantom = draw(TASK, seed, 64)
            Image.fromarray(phantom.image).save(root / split / "images" / f"{seed}.png")
            Image.fromarray(phantom.labels).save(root / split / "masks" / f"{seed}.png")
    return root


def test_the_preset_is_as_large_as_the_tiny_denoisers_and_beside_them_no_fifth_smaller():
    sizes = {name: sum(p.numel() for p in build(PRESETS[name].model).parameters()) for name in ("v2-tiny", "unet-tiny")}
    assert 0.8 < sizes["unet-tiny"] / sizes["v2-tiny"] < 1


@pytest.mark.parametrize("classes", [1, 2])
def test_its_loss_is_dice_and_cross_entropy_of_its_logits(classes, generator):
    config = replace(TINY, classes=classes)
    model, binary = build(config), classes == 1
    image = torch.randn(2, 3, 32, 32, generator=generator)
    labels = torch.randint(0, classes + 1, (2, 32, 32), generator=generator)
    objective = Objective(model, Diffusion(DiffusionConfig(), classes), alpha=5, beta=1.0)
    oracle = DiceCELoss(
        sigmoid=binary, softmax=not binary, to_onehot_y=not binary, include_background=binary, lambda_ce=1.0
    )
    expected = oracle(model.encode(image).anchor_logits[0], labels[:, None].float())
    found = objective(image, labels)
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-5)  # float32, sums in another order
    assert found.noise == found.variance == 0


@pytest.mark.slow
def test_training_overfits_phantoms_without_noise():
    phantoms = [draw(TASK, seed, size=32) for seed in range(4)]
    pool = Pool([p.image for p in phantoms], [p.labels for p in phantoms])
    recipe = TrainConfig(iterations=60, batch=4, learning_rate=1e-2, warmup=10, beta=1.0, augment=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective = Objective(build(TINY), Diffusion(DiffusionConfig()), alpha=1, beta=recipe.beta)
    run = Run(objective, Draws(pool, task=TASK, seed=0, augment=False), recipe, Accelerator(cpu=True))
    seen = []
    run.objective.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments)))
    steps = list(train(run, workers=0))
    assert steps[-1].loss < steps[0].loss / 5
    assert {step.noise for step in steps} == {0.0}
    assert set(seen) == {2}  # image and labels


def test_its_checkpoint_comes_back_bit_for_bit_and_speaks_of_no_diffusion(folder):
    config = json.loads((folder / CONFIG).read_text())
    assert config["kind"] == "unet"
    assert "diffusion" not in config
    back = load(folder)
    assert back.model_config == TINY
    again = folder.parent / "again"
    digest = save(again, back.model, model_config=TINY, diffusion=back.diffusion, domain=back.domain, training={})
    assert digest == back.digest


def test_a_run_is_a_start_and_a_result_whatever_steps_members_and_seed_are_asked(folder):
    segmenter = Segmenter.from_pretrained(folder, device="cpu")
    phantom = draw(TASK, 3, 80)
    picture = Picture(phantom.image)
    start, result = segmenter.run(picture, RunSettings(members=4, steps=7, seed=9))
    assert isinstance(start, Start)
    assert isinstance(result, Segmentation)
    assert (result.settings.members, result.settings.steps, start.times) == (1, 0, ())
    assert result.members.shape == (1, 80, 80)
    assert not result.disagreement.any()
    assert 0 < result.labels.mean() < 1
    np.testing.assert_array_equal(result.labels, segmenter.anchor(picture).labels)
    np.testing.assert_array_equal(result.labels, segmenter(picture, RunSettings(seed=1)).labels)
    again = segmenter(picture, RunSettings(**{f: getattr(result.settings, f) for f in ("members", "steps", "size")}))
    assert again.sidecar()["mask"] == result.sidecar()["mask"]


def test_the_slices_of_a_volume_are_the_masks_of_its_pictures(folder):
    segmenter = Segmenter.from_pretrained(folder, device="cpu")
    values = np.random.default_rng(0).normal(size=(3, 40, 36)).astype(np.float32)
    axes = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    volume = Volume(values, (1.0,) * 3, (0.0,) * 3, axes, "RAS", (-2.0, 2.0), "nifti")
    *_, result = segment_volume(segmenter, volume)
    assert isinstance(result, VolumeSegmentation)
    assert result.settings.steps == 0
    alone = [segmenter(volume.slice(2, index)).labels for index in range(3)]
    # One slice at a time or several: the network's last digits differ, and a pixel at an edge with them.
    assert np.mean(result.labels != volume.stack(2, alone)) < 0.01


@pytest.mark.slow
def test_the_command_line_trains_scores_segments_and_describes_it(folder, data, tmp_path, capsys):
    run = ["train", "--preset", "unet-tiny", "--data", str(data), "--task", TASK, "--size", "64", "--batch", "2"]
    run += ["--iterations", "2", "--workers", "0", "--out", str(tmp_path / "run")]
    assert main([*run, "--unroll", "0.5"]) == 2
    assert "without noise; leave out" in capsys.readouterr().err
    assert main(run) == 0
    assert isinstance(load(tmp_path / "run" / "checkpoint").model_config, UNetConfig)
    rows = [json.loads(line) for line in (tmp_path / "run" / "curve.jsonl").read_text().splitlines()]
    assert 0 <= rows[-1]["dice_mask"] <= 1
    with Image.open(tmp_path / "run" / "previews" / "000002.png") as preview:
        assert preview.size == (3 * 64, 3 * 64)  # picture, truth, mask; three pictures

    chosen, report = ["--checkpoint", str(folder), "--device", "cpu"], tmp_path / "measured" / "1x0.json"
    assert main(["evaluate", "--data", str(data), "--json", str(report), *chosen]) == 0
    result = json.loads(report.read_text())
    assert (result["settings"]["members"], result["settings"]["steps"]) == (1, 0)
    image = str(data / "val" / "images" / "0.png")
    assert main(["segment", image, "--out", str(tmp_path / "a"), *chosen]) == 0
    assert (
        main(["segment", image, "--out", str(tmp_path / "b"), "--replay", str(tmp_path / "a" / "0.json"), *chosen]) == 0
    )
    assert "the same mask" in capsys.readouterr().out
    assert main(["card", str(folder), "--results", str(report.parent)]) == 0
    card = (folder / "README.md").read_text()
    assert "# Plain U-Net" in card
    assert "single forward pass" in card
    assert "dice 0.0" not in card  # its loss has Dice; the recipe's word is about another
