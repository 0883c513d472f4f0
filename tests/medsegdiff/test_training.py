"""Training: learning, reproducibility, resuming, data and the command line."""

import argparse
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from medsegdiff.__main__ import main
from medsegdiff.checkpoint import load
from medsegdiff.commands import recipe as options
from medsegdiff.commands import train as train_command
from medsegdiff.commands.calibrate import _held
from medsegdiff.commands.train import _network
from medsegdiff.config import PRESETS, DiffusionConfig, Preset, TrainConfig, UNetConfig, V1Config, V2Config
from medsegdiff.data.batches import Draws, Pool, batches
from medsegdiff.data.dataset import Split, describe
from medsegdiff.data.folders import cases
from medsegdiff.data.synthetic import draw
from medsegdiff.domain import load_encoder
from medsegdiff.losses import Objective
from medsegdiff.nn.build import build
from medsegdiff.pipeline import Segmenter
from medsegdiff.schedule import Diffusion
from medsegdiff.training import Run, noise_of, train

TASK = "skin-lesion"
RECIPE = TrainConfig(iterations=6, batch=2, learning_rate=1e-3, draws=2, warmup=2, constant=False, weight_decay=1e-2)
OPTIONS = {"--preset": "v2-tiny", "--size": "64", "--batch": "2", "--workers": "0", "--task": TASK}


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Four phantoms."""
    phantoms = [draw(TASK, seed, size=32) for seed in range(4)]
    return Pool([p.image for p in phantoms], [p.labels for p in phantoms])


@pytest.fixture
def begun(pool: Pool) -> Callable[..., Run]:
    """Begin a run; twice the same arguments begin the same run."""

    def begin(config: V1Config | V2Config, recipe: TrainConfig = RECIPE) -> Run:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = build(config)
        diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2), config.classes)
        objective = Objective(model, diffusion, alpha=recipe.alpha, beta=recipe.beta)
        draws = Draws(pool, task=TASK, seed=recipe.seed, augment=recipe.augment)
        return Run(objective, draws, recipe, Accelerator(cpu=True))

    return begin


def folder_of_phantoms(folder: Path, counts: dict[str, int]) -> Path:
    """Write phantoms as a data folder, masks as 0 and 255."""
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            phantom = draw(TASK, seed=100 * len(split) + i, size=80)
            Image.fromarray(phantom.image).save(folder / split / "images" / f"{i}.png")
            Image.fromarray(phantom.labels * np.uint8(255)).save(folder / split / "masks" / f"{i}.png")
    return folder


def state(run: Run) -> dict[str, Tensor]:
    """Everything a run will remember."""
    moments = run.optimizer.state_dict()["state"]
    return (
        {f"model.{k}": v for k, v in run.model.state_dict().items()}
        | {f"ema.{k}": v for k, v in run.ema.state_dict().items()}
        | {f"optimizer.{i}.{k}": v for i, parts in moments.items() for k, v in parts.items()}
    )


@pytest.mark.slow
def test_training_overfits_four_images(begun, tiny_config):
    recipe = TrainConfig(iterations=80, batch=4, learning_rate=1e-2, warmup=10, alpha=1, beta=1.0, augment=False)
    losses = [step.loss for step in train(begun(tiny_config, recipe), workers=0)]
    assert np.mean(losses[-5:]) < losses[0] / 10


def test_four_iterations_move_every_parameter(begun, tiny_config):
    recipe = replace(
        RECIPE, iterations=4, weight_decay=0.0, alpha=1
    )  # what begins at zero holds back what is behind it
    run = begun(tiny_config, recipe)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for _ in train(run, workers=0):
        pass
    assert [name for name, p in run.model.named_parameters() if torch.equal(p, before[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_is_bit_identical(begun, tiny_config, tmp_path, workers):
    whole = begun(tiny_config)
    steps = list(train(whole, workers=workers))

    first = begun(tiny_config)
    trajectory = train(first, workers=workers)
    half = [next(trajectory) for _ in range(3)]
    trajectory.close()
    first.save(tmp_path)
    second = begun(tiny_config)
    second.resume(tmp_path)
    assert half + list(train(second, workers=workers)) == steps

    expected, found = state(whole), state(second)
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []


@pytest.mark.slow
def test_the_anchor_is_trained_first_and_a_resumed_run_is_bit_identical(begun, v2_config, tmp_path):
    recipe = replace(RECIPE, anchor_first=2, alpha=1)
    run = begun(v2_config, recipe)
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    steps, moved = [], []
    for step in train(run, workers=0):
        steps.append(step)
        moved.append({name.partition(".")[0] for name, p in run.model.named_parameters() if not p.equal(before[name])})
        if step.index == 1:
            run.save(tmp_path)
    assert moved[0] == moved[1] == {"condition"}
    assert moved[-1] == {name.partition(".")[0] for name in before}
    assert [step.noise > 0 for step in steps] == [False] * 2 + [True] * 4
    resumed = begun(v2_config, recipe)
    resumed.resume(tmp_path)
    assert list(train(resumed, workers=0)) == steps[1:]
    expected, found = state(run), state(resumed)
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []


def test_every_iteration_draws_its_own_times_one_from_each_stretch_of_the_schedule(begun, v1_config):
    run, seen = begun(v1_config), []
    run.objective.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[2:]))
    for _ in train(run, workers=0):
        pass
    times, noise = (torch.stack(parts) for parts in zip(*seen, strict=True))
    assert torch.equal(times.sort(1).values // 250, torch.arange(4).expand(6, -1))  # two pictures, two draws of each
    assert len(times.unique(dim=0)) == 6
    assert noise.std().item() == pytest.approx(1, abs=0.02)  # 24 x 32 x 32 numbers
    assert torch.corrcoef(noise.flatten(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.15  # none twice


def test_the_seed_decides_everything(begun, tiny_config):
    once, again, other = (
        [step.loss for step in train(begun(tiny_config, replace(RECIPE, iterations=2, seed=seed)), workers=0)]
        for seed in (0, 0, 1)
    )
    assert once == again
    assert once[1] != other[1]


def test_the_ema_decay_is_warmed_up(begun, v1_config):
    run = begun(v1_config, replace(RECIPE, ema=0.2))
    average = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for i, _ in enumerate(train(run, workers=0)):
        decay = min(0.2, (1 + i) / (10 + i))
        for name, p in run.model.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * p.detach()
    for name, p in run.ema.named_parameters():
        assert_close(p, average[name], rtol=1e-5, atol=1e-7)


def test_the_learning_rate_warms_up_then_decays_or_stays(begun, v1_config):
    falling = begun(v1_config, TrainConfig(iterations=1000, learning_rate=1.0, warmup=10, constant=False))
    rates = [falling.learning_rate(i) for i in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1, abs=1e-3)
    assert np.all(np.diff(rates[9:]) < 0)
    assert rates[-1] == pytest.approx(0.01)
    staying = begun(v1_config, TrainConfig(iterations=1000, learning_rate=1.0, warmup=10))
    assert {staying.learning_rate(i) for i in range(9, 1000)} == {1.0}


def test_resuming_says_what_is_missing_or_foreign(begun, v1_config, v2_config, tmp_path):
    with pytest.raises(ValueError, match=r"no state\.safetensors to resume from"):
        begun(v1_config).resume(tmp_path)
    begun(v2_config).save(tmp_path)
    with pytest.raises(ValueError, match="belongs to another network"):
        begun(v1_config).resume(tmp_path)


def test_a_draw_depends_on_its_number_alone(pool):
    draws = Draws(pool, task=TASK, seed=3, augment=True)
    forwards = [draws[n] for n in range(8)]
    backwards = [Draws(pool, task=TASK, seed=3, augment=True)[n] for n in reversed(range(8))][::-1]
    for (image, labels), (image_again, labels_again) in zip(forwards, backwards, strict=True):
        assert torch.equal(image, image_again)
        assert torch.equal(labels, labels_again)
        assert image.shape == (3, 32, 32)
        assert image.abs().max() <= 1
        assert set(labels.unique().tolist()) <= {0, 1}
    images = torch.stack([image for image, _ in forwards]).flatten(1)
    assert (torch.cdist(images, images) + 100 * torch.eye(8)).min() > 0.1  # no two alike


def test_every_epoch_shows_every_picture_once_in_an_order_of_its_own(pool):
    draws = Draws(pool, task=TASK, seed=0, augment=False)
    shown = [
        [int((pool.pictures == _bytes(draws[n][0])).all((1, 2, 3)).argmax()) for n in range(e * 4, e * 4 + 4)]
        for e in range(8)
    ]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in shown)
    assert len({tuple(epoch) for epoch in shown}) > 4


def _bytes(image: Tensor) -> np.ndarray:
    return ((image + 1) * 127.5).round().to(torch.uint8).movedim(0, -1).numpy()


def test_image_and_mask_are_augmented_together():
    y, x = np.mgrid[:64, :64]
    shape = ((x - 26) ** 2 + (y - 36) ** 2 < 150) | (
        (x > 30) & (x < 50) & (y > 10) & (y < 20)
    )  # like no mirror image of it
    pool = Pool([np.repeat(shape[..., None] * np.uint8(255), 3, -1)], [shape * np.uint8(13)])
    for task, strong in (("skin-lesion", False), ("breast-ultrasound", False), ("polyp", True)):
        draws = Draws(pool, task=task, seed=0, augment=True, strong=strong)
        for n in range(20):
            image, labels = draws[n]
            seen = image[0] > (image[0].min() + image[0].max()) / 2
            both, either = (seen & (labels > 0)).sum(), (seen | (labels > 0)).sum()
            assert both / either > 0.8  # bilinear against nearest at the border, and some blur
            assert set(labels.unique().tolist()) <= {0, 13}


@pytest.mark.parametrize(("strong", "least", "most"), [(False, 0.8, 1.2), (True, 0.7, 1.4)])
def test_shift_and_shear_are_along_both_axes_and_zoom_is_by_one_factor(strong, least, most):
    y, x = np.mgrid[-47.5:48, -47.5:48]
    disc = (x**2 + y**2 < 15**2).astype(np.uint8)
    pool = Pool([np.zeros((96, 96, 3), np.uint8)], [disc])
    draws = Draws(pool, task="chest-xray", seed=0, augment=True, strong=strong)
    places = [np.argwhere(draws[n][1].numpy()) - 47.5 for n in range(200)]
    shift = np.array([one.mean(0) for one in places])
    height, width = np.array([one.std(0) / 7.5 for one in places]).T
    assert np.abs(height / width - 1).max() < 0.04  # shear leaves them alike; 7.5 is the disc's own
    size = np.sqrt(height * width)
    assert (size.min(), size.max()) == pytest.approx((1 / most, 1 / least), abs=0.03)
    assert (np.abs(shift).max(0) > 6).all()  # 8 % of 96 are 7.7
    tilt = [np.corrcoef(one.T)[0, 1] for one in places]
    assert np.abs(tilt).max() > 0.12  # shear of at most 0.1 along one axis alone makes 0.1


def test_grey_images_stay_grey():
    random = np.random.default_rng(0)
    grey = np.repeat(random.integers(0, 256, (32, 32, 1), np.uint8), 3, -1)
    pool = Pool([grey], [np.zeros((32, 32), np.uint8)])
    for task, coloured in (("chest-xray", False), ("polyp", True)):
        draws = Draws(pool, task=task, seed=0, augment=True, strong=True)
        assert any(image.std(0).max() > 1e-5 for image, _ in (draws[n] for n in range(40))) == coloured


def test_every_reader_comes_first_in_turn():
    masks = np.stack([np.full((8, 8), reader, np.uint8) for reader in range(3)])
    pool = Pool([np.zeros((8, 8, 3), np.uint8)], [masks[0]], [masks])
    orders = [tuple(Draws(pool, task=TASK, seed=0, augment=False)[n][1][:, 0, 0].tolist()) for n in range(60)]
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert np.bincount([order[0] for order in orders], minlength=3).min() > 10


def test_a_share_of_samples_is_unrolled_to_any_time_between():
    labels, diffusion = torch.zeros(400, 4, 4), Diffusion(DiffusionConfig())
    t, _, trajectory = noise_of(0, labels, diffusion, replace(RECIPE, unroll=0.25, draws=1))
    own = trajectory[:, 0] >= 0
    assert own.float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert (trajectory[~own] == -1).all()
    assert (trajectory[own, 0] == 999).all()
    way = (trajectory[own, 1] - t[own]) / (1000 - t[own])
    assert way.min() >= 0
    assert (way.mean().item(), way.std().item()) == pytest.approx((0.5, 0.29), abs=0.1)


def test_a_gradient_that_is_not_finite_ends_the_run(begun, v1_config, monkeypatch):
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(math.nan))
    with pytest.raises(FloatingPointError, match="begin a new run with a lower --learning-rate"):
        next(train(begun(v1_config), workers=0))


@pytest.mark.parametrize(
    ("task", "sides", "ends"), [("skin-lesion", True, True), ("brain-flair", True, False), ("abdomen-ct", False, False)]
)
def test_a_picture_is_mirrored_only_where_its_task_has_no_such_sides(task, sides, ends):
    labels = np.zeros((64, 64), np.uint8)
    labels[16:24, 16:24] = 1  # up and to the left
    draws = Draws(Pool([np.zeros((64, 64, 3), np.uint8)], [labels]), task=task, seed=0, augment=True)
    places = np.array([np.argwhere(draws[n][1].numpy()).mean(0) for n in range(40)])
    assert (places > 32).any(0).tolist() == [ends, sides]


def test_workers_resuming_and_several_processes_show_the_same_draws(pool):
    draws = Draws(pool, task=TASK, seed=0, augment=True)
    plain = list(batches(draws, batch=2, start=0, stop=4, workers=0))
    worker = list(batches(draws, batch=2, start=0, stop=4, workers=1))
    late = list(batches(draws, batch=2, start=2, stop=4, workers=0))
    ranks = [list(batches(draws, batch=1, start=0, stop=4, workers=0, rank=rank, world=2)) for rank in (0, 1)]
    for found, expected in (
        (worker, plain),
        (late, plain[2:]),
        ([[torch.cat(parts) for parts in zip(*pair, strict=True)] for pair in zip(*ranks, strict=True)], plain),
    ):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_a_pool_resizes_images_and_adds_the_share_of_phantoms(tmp_path):
    data = folder_of_phantoms(tmp_path / "data", {"train": 6})
    pool = Pool.of(cases(data, "train"), 1, 32, task=TASK, phantoms=0.25, seed=0)
    assert pool.pictures.shape == (8, 32, 32, 3)  # six, and two phantoms that make a quarter
    assert pool.labels.shape == (8, 32, 32)
    assert pool.labels.max() == 1
    mean, std = pool.statistics()
    assert len(mean) == len(std) == 3
    assert all(-1 < m < 1 and 0 < s < 1 for m, s in zip(mean, std, strict=True))
    rest, aside = pool.set_aside(2, "")
    assert (len(rest.pictures), len(aside.pictures)) == (6, 2)  # phantoms are neither held out nor lost
    assert (rest.names.count(""), aside.names.count("")) == (2, 0)
    with pytest.raises(ValueError, match="6 of 6 images"):
        pool.set_aside(6, "")


def command(data: Path, out: Path, **options: str) -> list[str]:
    chosen = OPTIONS | {f"--{name}": value for name, value in options.items()}
    flags = [word for name, value in chosen.items() for word in ((name, value) if value else (name,))]
    return ["train", "--data", str(data), "--out", str(out), *flags]


def curve(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_the_command_line_trains_saves_and_goes_on(tmp_path, capsys):
    data, out = folder_of_phantoms(tmp_path / "data", {"train": 4, "val": 2}), tmp_path / "run"
    assert main(command(data, out, iterations="4")) == 0
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint", "curve.jsonl", "previews", "state.safetensors"]
    checkpoint = load(out / "checkpoint")
    assert checkpoint.model_config == replace(PRESETS["v2-tiny"].model, image_size=64, classes=1)
    assert checkpoint.domain.task == TASK
    assert checkpoint.training["iterations_done"] == 4
    rows = curve(out)
    assert [row["iteration"] for row in rows] == [4, 4]
    assert rows[0]["loss"] > 0
    assert all(0 <= rows[1][f"dice_{column}"] <= 1 for column in ("anchor", "steps_1", "steps_10"))
    with Image.open(out / "previews" / "000004.png") as preview:
        assert preview.size == (5 * 64, 2 * 64)  # picture, truth, anchor, one step, ten steps; two pictures

    assert main(command(data, out, iterations="6", resume="")) == 0
    assert curve(out)[-1]["iteration"] == 6
    first, last = (row["cpu_minutes"] for row in curve(out) if "cpu_minutes" in row)
    assert 0 < first <= last == load(out / "checkpoint").training["cpu_minutes"]  # rounded to 0.6 s
    assert load(out / "checkpoint").digest != checkpoint.digest
    capsys.readouterr()


@pytest.mark.slow
def test_several_readers_are_drawn_and_the_best_state_is_kept_by_pictures_set_aside(tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "run"
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for i in range(count):
            for folder in ("images", "masks_1", "masks_2", "masks_3"):
                (data / split / folder).mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, 256, (64, 64)) if folder == "images" else np.zeros((64, 64))
                if folder in ("masks_1", "masks_2"):
                    pixels[24:40, 24 : 24 + 8 * int(folder[-1])] = 1
                Image.fromarray(pixels.astype(np.uint8)).save(data / split / folder / f"L{i // 2}_n00_s{i % 2}.png")
    words = command(data, out, iterations="3", task="lung-nodule", size="32", stem="2", field="0.5", held="2")
    options = "--draws 3 --anchor-first 1 --anchor-dice 0 --nbp-octaves 3 --band-rate 4 --schedule cosine"
    assert main([*words, *options.split()]) == 0
    (row,) = [row for row in curve(out) if "ged" in row]
    assert 0 <= row["ged"] <= 2
    best = load(out / "best")
    assert (best.domain.field, best.model_config.image_size, best.training["pictures"]) == (
        0.5,
        32,
        5,
    )  # one is synthetic
    assert best.model_config.nbp_octaves == 3
    for name in ("--anchor-dice 0.0", "--field 0.5", "--held 2", "--schedule cosine", "--nbp-octaves 3"):
        assert name in best.training["command"]
    assert main([*words, *options.split(), "--resume"]) == 0
    scored = tmp_path / "scores.json"
    arguments = f"evaluate --checkpoint {out / 'best'} --data {data} --members 2 --steps 1 --json {scored}"
    assert main(arguments.split()) == 0
    found = json.loads(scored.read_text())
    assert (found["members"], found["reader_diversity"]) == (2, pytest.approx(5 / 9))
    fitted = ["calibrate", "--data", str(data), "--members", "2", "--steps", "1", "--checkpoint"]
    assert main([*fitted, str(out / "best")]) == 0
    one = load(out / "best")
    facts = one.training["calibration"]
    assert one.domain.temperature == facts["temperature"] != 1  # of a network that has learned nothing
    assert facts["nll"][1] < facts["nll"][0]
    assert facts["images"] == 2
    assert one.domain.fuse == max(facts["dice"], key=facts["dice"].get) or len(set(facts["dice"].values())) == 1
    assert set(facts["ged"]) == {"0", "0.2", "0.4", "0.6"}
    assert f"{one.domain.anchor_weight:g}" == min(facts["ged"], key=facts["ged"].get)
    assert (set(facts["mirror"]), facts["mirror_by"]) == ({"none", one.training["mirror"]}, "ged")
    assert one.domain.mirror == min(facts["mirror"], key=facts["mirror"].get)
    assert Segmenter(one).probability(torch.full((1, 1, 1, 1), 0.1))[0, 1].item() != pytest.approx(0.75)
    assert main([*fitted, "skin-lesion-v1"]) == 2
    assert "trained on all images" in capsys.readouterr().err


@pytest.mark.slow
def test_training_goes_on_from_weights_of_another_size_where_they_have_none(tmp_path, capsys):
    data = folder_of_phantoms(tmp_path / "data", {"train": 2, "val": 1})
    for preset, status in (("v2-tiny", 0), ("v1-tiny", 2)):
        small, large = tmp_path / preset / "small", tmp_path / preset / "large"
        assert main(command(data, small, preset=preset, iterations="1")) == 0
        init = str(small / "checkpoint")
        assert main(command(data, large, preset=preset, iterations="1", size="96", init=init)) == status
    assert "belong to one size; begin with --size 64" in capsys.readouterr().err
    begun, went_on = (load(tmp_path / "v2-tiny" / run / "checkpoint").model for run in ("small", "large"))
    for before, after in zip(begun.parameters(), went_on.parameters(), strict=True):
        assert (before - after).abs().max() < 0.01  # one warm-up iteration away, not drawn anew


def test_every_channel_begins_with_the_gate_that_all_shared(tmp_path):
    data, out = folder_of_phantoms(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run"
    assert main(command(data, out, iterations="1")) == 0
    checkpoint = load(out / "checkpoint")
    assert isinstance(checkpoint.model_config, V2Config)
    preset = replace(PRESETS["v2-tiny"], model=replace(checkpoint.model_config, gate="channel"))
    each, _ = _network(replace(preset, diffusion=checkpoint.diffusion), str(out / "checkpoint"))
    image, x_t, t = torch.rand(1, 3, 64, 64), torch.randn(2, 1, 64, 64), torch.tensor([500])
    before, after = (one.eval()(x_t, t, one.encode(image), trace=True) for one in (checkpoint.model, each))
    # Products in another order.
    torch.testing.assert_close(after.output, before.output, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.trace.anchors[0].gate, before.trace.anchors[0].gate, rtol=0, atol=1e-5)
    assert each.attentions[0].reduce.weight.shape[0] == checkpoint.model_config.widths[0]
    assert main(command(data, tmp_path / "next", iterations="1", gate="channel", init=str(out / "checkpoint"))) == 0
    assert load(tmp_path / "next" / "checkpoint").model_config.gate == "channel"


@pytest.mark.slow
def test_a_frozen_condition_network_stays_bit_for_bit_while_the_denoiser_learns(tmp_path):
    data, first, second = folder_of_phantoms(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "1", tmp_path / "2"
    assert main(command(data, first, iterations="1")) == 0
    assert main(command(data, second, iterations="2", init=str(first / "checkpoint"), frozen="")) == 0
    assert load(second / "checkpoint").training["command"].endswith("--init checkpoint --frozen")
    assert main(command(data, second, iterations="3", init=str(first / "checkpoint"), frozen="", resume="")) == 0
    begun, went_on = (load(run / "checkpoint").model.state_dict() for run in (first, second))
    moved = {name for name, weight in begun.items() if not weight.equal(went_on[name])}
    assert moved
    assert not any(name.startswith("condition.") for name in moved)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frozen": ""}, r"--frozen keeps the condition network as --init gives it; name a checkpoint with --init"),
        ({"task": "teapots"}, r"'teapots' is no known task; name one with --task: skin-lesion"),
        ({"size": "48"}, r"image_size 48"),
        ({"size": "32"}, r"image_size 32"),  # a single token: nothing would run at the size it was trained at
        ({"resume": ""}, r"no state\.safetensors to resume from"),
        ({"phantoms": "1"}, r"phantoms"),
        ({"batch": "0"}, r"batch"),
        ({"iterations": "0"}, r"iterations"),
        ({"accumulate": "0"}, r"--accumulate is 0; a batch is split into 1 part or more"),
        ({"empty": "1"}, r"--empty is 1; it is a share of the training slices, 0 to below 1"),
        ({"empty": "-1"}, r"--empty is -1; it is a share"),
        ({"size": "0"}, r"image_size is 0; choose 8 to 4096"),
        ({"clip": "-1"}, r"clip is -1\.0; choose a number above 0"),
        ({"learning-rate": "0"}, r"learning_rate is 0\.0; choose a number above 0"),
        ({"dice": "-2"}, r"dice is -2\.0; a weight is a number of 0 or more"),
        ({"beta": "nan"}, r"beta is nan; a weight is a number of 0 or more"),
        ({"ema": "2"}, r"ema is 2\.0; it is a decay from 0"),
        ({"warmup": "-1"}, r"warmup is -1; it is a number of iterations"),
        ({"anchor-first": "1"}, r"anchor_first is 1 of 1 iterations; leave some to the denoiser"),
        (
            {"anchor-first": "1", "iterations": "2", "preset": "v1-tiny"},
            r"only V2 has a condition network with an anch",
        ),
    ],
)
def test_invalid_options_are_one_sentence_and_status_2(tmp_path, capsys, options, words):
    data = folder_of_phantoms(tmp_path / "data", {"train": 2, "val": 1})
    assert main(command(data, tmp_path / "run", **{"iterations": "1"} | options)) == 2
    *_, sentence = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("medsegdiff train: ")
    assert re.search(words, sentence)


def test_a_folder_that_cannot_be_read_is_one_sentence_and_status_2(tmp_path, capsys):
    data = folder_of_phantoms(tmp_path / "data", {"train": 2, "val": 1})
    (data / "train" / "masks" / "1.png").unlink()
    assert main(command(data, tmp_path / "run")) == 2
    assert main(command(tmp_path / "nowhere", tmp_path / "run")) == 2
    told = capsys.readouterr().err
    assert "1 picture without a mask: images/1.png" in told
    assert "nowhere is not a folder that exists; check the path" in told
    assert not (tmp_path / "run").exists()


def test_a_pretrained_encoder_starts_with_its_weights_and_has_a_learning_rate_of_its_own(begun, v2_config):
    config = replace(v2_config, image_size=64, encoder="efficientnet-lite0", stem=4)
    with pytest.raises(ValueError, match="strides 2, 4, 8, 16 and 32, which a stem of 8 with 4 levels does not fit"):
        replace(config, stem=8, image_size=128)
    with pytest.raises(ValueError, match="takes three channels, red, green and blue, and image_channels is 1"):
        replace(config, image_channels=1)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    started, minutes = _network(Preset(model=config, diffusion=DiffusionConfig(), training=RECIPE), None)
    assert minutes == 0
    expected = load_encoder()((image + 1) * 127.5)[1:]  # strides 4 to 32
    for found, map in zip(started.condition.encoder.backbone((image + 1) * 127.5)[1:], expected, strict=True):
        assert_close(found, map, rtol=1e-4, atol=1e-4)  # summed in another order: the layout in memory differs
    run = begun(config, replace(RECIPE, encoder_rate=0.25))
    mine = {id(p) for p in run.model.condition.encoder.backbone.parameters()}
    (group,) = (g for g in run.optimizer.param_groups if mine & {id(p) for p in g["params"]})
    assert {id(p) for p in group["params"]} == mine
    assert (group["times"], group["weight_decay"]) == (0.25, 0.0)


def test_weights_decay_but_norms_gains_and_gaussians_do_not(begun, v1_config, v2_config):
    for config in (v1_config, replace(v2_config, nbp_octaves=2)):
        run = begun(config, replace(RECIPE, band_rate=3.0))
        names = {id(p): name for name, p in run.model.named_parameters()}
        decay, *rest = [{names[id(p)] for p in group["params"]} for group in run.optimizer.param_groups]
        assert [group["weight_decay"] > 0 for group in run.optimizer.param_groups] == [True, *(False for _ in rest)]
        assert set.union(decay, *rest) == set(names.values())
        assert all(name.endswith("weight") and p.ndim > 1 for name, p in run.model.named_parameters() if name in decay)
        spared = ("bias", "norm", "gain", "mean", "log_sigma", "centre", "log_width")
        assert not [name for name in decay if any(word in name for word in spared)]


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_can_be_built_and_are_those_of_the_checkpoints_of_their_names(path):
    described = Path(__file__).parents[2] / "checkpoints" / path.stem / "config.json"
    if not described.exists():
        assert build(options.preset_of(recipe_arguments(recipe=path), 1).model)
        return
    facts = json.loads(described.read_text(encoding="utf-8"))
    recipe = facts["training"]["recipe"]  # of the last stage; skin-lesion-v2 holds the first and describes the others
    others = [name for name in recipe if name.endswith(" stage")]
    for name in others:
        del recipe[name]
    preset = options.preset_of(recipe_stages(recipe=path)[0 if others else -1], facts["model"]["classes"])
    found = json.loads(json.dumps(asdict(preset)))
    for part, recorded in (
        ("model", facts["model"]),
        ("diffusion", facts.get("diffusion", {})),
        ("training", recipe),
    ):
        assert {name: found[part][name] for name in recorded} == recorded


def recipe_stages(*words: str, recipe: Path | None = None) -> list[argparse.Namespace]:
    parser = argparse.ArgumentParser()
    options.add_options(parser)
    return options.completed(parser.parse_args(words), recipe)


def recipe_arguments(*words: str, recipe: Path | None = None) -> argparse.Namespace:
    return recipe_stages(*words, recipe=recipe)[-1]


def test_a_command_with_a_recipe_file_repeats_what_was_given_beside_it():
    path = Path(__file__).parents[2] / "recipes" / "skin-lesion-v2.toml"
    arguments = recipe_arguments("--labels", "my polyp", "--iterations", "5", "--no-strong", recipe=path)
    arguments.init = "runs/mine/stage-3/best"  # as training sets it for a later stage
    content = arguments.recipe_content
    whole = options.command(arguments, "polyps")
    told = options.command_with_file(whole, content, "recipes/skin-lesion-v2.toml", "polyps")
    assert told == (
        "python -m medsegdiff train --recipe recipes/skin-lesion-v2.toml --data DATA/polyps --out RUN "
        "--labels 'my polyp' --iterations 5 --no-strong"
    )
    assert options.is_shipped(path.name, content)
    assert not options.is_shipped(path.name, content | {"size": 64})


def test_every_field_of_the_configuration_is_an_option_that_overrides_recipe_and_preset(tmp_path):
    kinds = (V1Config, V2Config, UNetConfig, DiffusionConfig, TrainConfig)
    given = {"image_channels", "classes", "switches", "image_size", "seed"}  # by the data, --without, --size and --seed
    assert {f.name for kind in kinds for f in fields(kind)} - given == set(options._OPTIONS)
    (path := tmp_path / "mine.toml").write_text(
        'preset = "v2-tiny"\nparametrization = "v"\nlearned-variance = true\nscale = 0.5\nschedule = "cosine"\nalpha = 3\n'
        'beta = 2\nband = "sine"\nanchors = 2\nss-blocks = 1\nnbp-blocks = 2\nwidths = [8, 16, 32, 64]\nblocks = [2]\n'
        'constant = true\nwithout = ["nbp"]\nlabels = ["disc rim", "cup"]\n'
    )
    arguments = recipe_arguments("--alpha", "4", "--no-constant", recipe=path)
    preset = options.preset_of(arguments, 2)
    assert preset.diffusion == DiffusionConfig(parametrization="v", learned_variance=True, scale=0.5, schedule="cosine")
    model = preset.model
    assert isinstance(model, V2Config)
    assert (model.band, model.anchors, model.ss_blocks, model.nbp_blocks, model.blocks) == ("sine", 2, 1, 2, 2)
    assert (model.widths, model.condition_widths) == ((8, 16, 32, 64), (8, 16, 32, 64))
    assert (model.learned_variance, model.switches.nbp) == (True, False)
    assert (preset.training.alpha, preset.training.beta, preset.training.constant) == (4, 2.0, False)
    words = shlex.split(options.command(arguments, "eyes"))[7:]  # without the folders
    again = recipe_arguments(*words[words.index("RUN") + 1 :], "--preset", "v2-tiny")
    assert options.preset_of(again, 2) == preset
    assert again.labels == ["disc rim", "cup"]
    for text, sentence in (
        ("alfa = 3", "unknown option 'alfa'"),
        ('alpha = "three"', "invalid int value: 'three'"),
        ("alpha = ", "cannot be read as TOML"),
        ("[[stage]]\nalfa = 3", "unknown option 'alfa'"),
        ("stage = 2", "'stage' holds no tables"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"mine.toml.*{sentence}"):
            recipe_arguments(recipe=path)
    with pytest.raises(ValueError, match="--dice is of logits, which --parametrization v has none of"):
        options.preset_of(recipe_arguments("--dice", "1", "--parametrization", "v"), 1)
    with pytest.raises(ValueError, match="--anchors is an option of V2; v1-tiny has none"):
        options.preset_of(recipe_arguments("--preset", "v1-tiny", "--anchors", "2"), 1)


def test_a_schedule_of_few_timesteps_is_previewed_and_the_state_saved_before(tmp_path, monkeypatch):
    data, out = folder_of_phantoms(tmp_path / "data", {"train": 2, "val": 1}), tmp_path / "run"
    assert main(command(data, out, iterations="1", schedule="cosine", timesteps="8")) == 0
    assert 0 <= curve(out)[-1]["dice_steps_10"] <= 1
    monkeypatch.setattr(train_command, "_preview", lambda run, held, path: path.read_bytes())  # fails: it is not there
    assert main(command(data, tmp_path / "again", iterations="1")) == 2
    assert (tmp_path / "again" / "state.safetensors").exists()


def test_the_best_state_is_none_of_those_that_trained_the_condition_network_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(train_command, "_preview", lambda run, held, path: {"dice_steps_10": 1 / run.done})
    data, out = folder_of_phantoms(tmp_path / TASK, {"": 6}), tmp_path / "run"
    words = [*command(data, out, iterations="4", held="2", every="0"), "--anchor-first", "2"]
    assert main(words) == 0
    assert load(out / "best").training["iterations_done"] == 3


def test_the_best_state_is_kept_even_where_no_image_held_out_has_a_target(tmp_path, monkeypatch):
    rows = iter([math.nan, 0.5, math.nan, math.nan])
    monkeypatch.setattr(train_command, "_preview", lambda run, held, path: {"dice_steps_10": next(rows)})
    data, out = folder_of_phantoms(tmp_path / TASK, {"": 6}), tmp_path / "run"
    assert main(command(data, out, iterations="3", held="2", every="0")) == 0
    assert load(out / "best").training["iterations_done"] == 2
    assert main(command(data, tmp_path / "blank", iterations="1", held="2")) == 0
    assert load(tmp_path / "blank" / "best").training["iterations_done"] == 1  # the next stage starts from it


def more_phantoms(data: Path, count: int) -> None:
    for i in range(count):
        for kind in ("images", "masks"):
            shutil.copy(next((data / kind).iterdir()), data / kind / f"more{i}.png")


def test_a_resumed_run_keeps_its_split_its_classes_and_the_images_held_out(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(
        train_command,
        "_preview",
        lambda run, held, path: seen.append((set(run.draws.pool.names), set(held.names))) or {"dice_steps_10": 0.5},
    )
    data, out = folder_of_phantoms(tmp_path / "moles", {"": 12}), tmp_path / "run"
    options = {"held": "3", "labels": "mole", "every": "9"}
    assert main(command(data, out, iterations="1", **options)) == 0
    assert "Flips of training images: both" in capsys.readouterr().out  # those of the task that lends its augmentation
    more_phantoms(data, 9)
    assert main(command(data, out, iterations="2", resume="", **options)) == 0
    (trained, held), (trained_later, held_later) = seen
    assert held_later == held
    assert trained < trained_later
    found = _held(argparse.Namespace(data=data, layout="auto"), Segmenter.from_pretrained(out / "checkpoint"), 64)
    assert set(found.names) == held
    capsys.readouterr()
    for changed, words in (
        ({"labels": "polyp"}, r"run was begun with labels ('mole',), not ('polyp',)"),
        ({"split-seed": "5"}, "begun with split-seed 0, not 5"),
        ({"val-share": "0.4"}, "begun with val-share 0.2, not 0.4"),
        ({"patient": r"^(\w)"}, "begun with patient '', not"),
    ):
        assert main(command(data, out, iterations="3", resume="", **options | changed)) == 2
        assert words in capsys.readouterr().err


def test_what_a_full_disk_left_out_is_written_on_resuming_and_what_an_earlier_run_left_is_replaced(
    tmp_path, monkeypatch, capsys
):
    scores = iter([0.5, 0.9, 0.1, 0.2])
    monkeypatch.setattr(train_command, "_preview", lambda run, held, path: {"dice_steps_10": next(scores)})
    data, out = folder_of_phantoms(tmp_path / TASK, {"": 6}), tmp_path / "run"
    words = command(data, out, iterations="2", held="2", every="0")
    assert main(words) == 0
    rows, before = curve(out), load(out / "checkpoint").digest
    for name in ("checkpoint", "best"):
        shutil.rmtree(out / name)
    with (out / "curve.jsonl").open("a") as file:
        file.write('{"iteration": 2, "lo')
    assert main([*words, "--resume"]) == 0
    assert "done its 2 iterations; to go on, resume with more --iterations" in capsys.readouterr().out
    assert {load(out / name).digest for name in ("checkpoint", "best")} == {before}
    assert curve(out) == rows
    (out / "curve.jsonl").write_text('{"iter\n{"iteration": 1}\n')
    assert main([*words, "--resume"]) == 2
    assert re.search(r"curve\.jsonl: line 1 is no JSON .*; delete it", capsys.readouterr().err)

    (out / "state.safetensors").unlink()
    assert main(command(data, out, iterations="1", held="2", seed="1")) == 0
    assert [row["iteration"] for row in curve(out)] == [1, 1]
    assert load(out / "best").digest == load(out / "checkpoint").digest != before


def test_a_recipe_describes_the_data_also_where_an_editor_wrote_a_byte_order_mark(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_command, "_preview", lambda run, held, path: {"dice_steps_10": 0.5})
    data = folder_of_phantoms(tmp_path / "moles", {"": 6})
    (recipe := tmp_path / "mine.toml").write_text('labels = ["left kidney"]\nmirror = "none"', encoding="utf-8-sig")
    (data / "dataset.toml").write_text('modality = "drawn"', encoding="utf-8-sig")
    words = command(data, tmp_path / "run", iterations="1", recipe=str(recipe))
    assert main([word for word in words if word not in ("--task", TASK)]) == 0
    assert "Flips of training images: none" in capsys.readouterr().out
    domain = load(tmp_path / "run" / "checkpoint").domain
    assert (domain.labels, domain.modality) == (("left kidney",), "drawn")


def test_volumes_without_a_label_name_their_split(tmp_path, capsys):
    data = tmp_path / "organs"
    for split, label in (("train", 1), ("val", 0)):
        for kind, value in (("images", 7), ("masks", label)):
            (data / split / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(
                sitk.GetImageFromArray(np.full((8, 16, 16), value, np.uint8)), str(data / split / kind / "a.nii.gz")
            )
    words = command(data, tmp_path / "run", iterations="1", labels="organ")
    assert main(words) == 2
    assert "no volume of the val split has a slice with a label" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no volume of the train split has a slice with a label"):
        Pool.of(cases(data, "val"), 1, 16)


@pytest.mark.parametrize(
    "label", ["left kidney", "kidney_left", "LeftLung", "lungRight", "RIGHT_LUNG", "lung-R", "l.lung", "左肾", "右肾"]
)
def test_classes_with_a_side_are_not_mirrored(tmp_path, label):
    assert describe(tmp_path, given={"labels": ["bowel", label]}).task.mirror == ()


def test_classes_without_a_side_are_mirrored(tmp_path):
    labels = ["bright spot", "BrightSpot", "copyright", "cleft", "liver", "L1", "vertebra_r12"]
    assert describe(tmp_path, given={"labels": labels}).task.mirror == (1,)


def test_names_that_no_task_can_have_and_windows_without_numbers_name_the_file(tmp_path):
    (folder := tmp_path / "data (v2)").mkdir()
    with pytest.raises(
        ValueError, match=r"the task is named 'data \(v2\)', after its folder .*dataset.toml, as in name ="
    ):
        describe(folder, given={"labels": ["polyp"]})
    (folder / "dataset.toml").write_text('name = "mine"\nlabels = ["polyp"]', encoding="utf-8-sig")
    assert describe(folder).name == "mine"
    (folder / "dataset.toml").write_text('labels = ["polyp"]\nwindow = ["a"]')
    with pytest.raises(ValueError, match=r"dataset.toml: window is \['a'\]; give two numbers"):
        describe(folder)
    with pytest.raises(ValueError, match=r"C:\\data is not a folder that exists; check the path"):
        describe(Path("C:\\data"), given={"labels": ["polyp"]})


def test_slices_of_a_volume_are_held_out_together():
    names = [f"v{volume}_slice{i:03}" for volume in range(4) for i in range(3)]
    pool = Pool([np.zeros((8, 8, 3), np.uint8)] * 14, [np.zeros((8, 8), np.uint8)] * 14, names=[*names, "photo", ""])
    for pattern in ("", r"^(p\d+)_"):
        rest, aside = pool.set_aside(4, pattern)
        volumes = [{name.partition("_slice")[0] for name in part.names} for part in (rest, aside)]
        assert volumes[0].isdisjoint(volumes[1])
        assert 4 <= len(aside.names) <= 6
        assert "" in rest.names


def test_calibrate_reads_the_images_that_training_held_out(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(train_command, "_preview", lambda run, held, path: seen.append(held) or {"dice_steps_10": 0.5})
    data, out = tmp_path / "hippocampus", tmp_path / "run"
    random = np.random.default_rng(0)
    for number in range(3):
        labels = np.zeros((12, 14, 16), np.uint8)
        labels[4:6, 5:8, 6:9] = 1
        grey = random.normal(50, 400, labels.shape).astype(np.float32)
        for kind, values in (("images", grey), ("masks", labels)):
            (data / kind).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(values), str(data / kind / f"p{number}.nii.gz"))
    options = {"task": "hippocampus", "axis": "2", "empty": "0.6", "held": "2", "phantoms": "0", "iterations": "1"}
    words = command(data, out, **options)
    assert main([*words, "--window", "-100", "400"]) == 0
    asked = argparse.Namespace(data=data, layout="auto"), Segmenter.from_pretrained(out / "best")
    found = _held(*asked, 64)
    assert _held(*asked, 32).pictures.shape == (5, 32, 32, 3)
    assert len(found.names) == 5  # two slices of one volume with labels, three without
    assert found.names == seen[-1].names
    np.testing.assert_array_equal(found.pictures, seen[-1].pictures)


@pytest.mark.slow
def test_every_stage_of_a_recipe_starts_from_the_best_state_of_the_one_before(tmp_path, capsys):
    data, out = folder_of_phantoms(tmp_path / TASK, {"": 6}), tmp_path / "run"
    (path := tmp_path / "staged.toml").write_text(
        "batch = 2\nphantoms = 0\nheld = 2\niterations = 2\nwarmup = 1\n"
        "[[stage]]\nsize = 64\nanchor-first = 1\n[[stage]]\nsize = 96\nfrozen = true\n"
    )
    words = ["train", "--data", str(data), "--recipe", str(path), "--workers", "0", "--out", str(out)]
    assert main(words) == 0
    first, last = load(out / "stage-1" / "best"), load(out / "checkpoint")
    assert (first.model_config.image_size, last.model_config.image_size) == (64, 96)
    assert last.training["cpu_minutes"] > first.training["cpu_minutes"]
    kept = {name: tensor for name, tensor in first.model.state_dict().items() if name.startswith("condition.")}
    for name, tensor in kept.items():
        assert_close(last.model.state_dict()[name], tensor)
    assert main(words) == 2
    assert "holds a run already; continue it with --resume" in capsys.readouterr().err
    (out / "state.safetensors").unlink()
    assert main([*words, "--resume"]) == 0  # the second stage again, from the first as it is
    again = load(out / "checkpoint").model.state_dict()
    for name, tensor in last.model.state_dict().items():
        assert_close(again[name], tensor)


@pytest.mark.slow
def test_ones_own_folder_is_split_by_patient_and_the_checkpoint_says_whose_it_is(tmp_path, capsys):
    data, out = folder_of_phantoms(tmp_path / "all", {"": 6}), tmp_path / "run"
    for kind in ("images", "masks"):
        for path in (data / kind).iterdir():
            path.rename(path.with_name(f"p{int(path.stem) // 2}_{path.stem}.png"))
    words = ["--data", str(data), "--size", "64", "--batch", "2", "--workers", "0", "--iterations", "1"]
    assert main(["train", *words, "--out", str(out)]) == 2
    assert "name them, as in --labels polyp" in capsys.readouterr().err
    (data / "dataset.toml").write_text(
        'labels = ["mole"]\nlicence = "CC BY 4.0"\npatient = "^(p\\\\d+)_"\nval-share = 0.3\n'
    )
    assert main(["train", *words, "--out", str(out), "--source", "Clinic X", "--val-share", "0.25"]) == 0
    found = load(out / "checkpoint")
    assert (found.domain.task, found.domain.labels, found.domain.source) == ("all", ("mole",), "Clinic X")
    assert (found.domain.licence, found.domain.modality) == ("CC BY 4.0", "not stated")
    assert (found.training["pictures"], found.training["recipe"]["phantoms"]) == (4, 0.0)
    scored = tmp_path / "scores.json"
    evaluate = [
        "evaluate",
        "--checkpoint",
        str(out / "checkpoint"),
        "--data",
        str(data),
        "--members",
        "1",
        "--steps",
        "1",
    ]
    assert main([*evaluate, "--json", str(scored)]) == 0
    result = json.loads(scored.read_text())
    assert len(result["cases"]) == 2
    assert len({case["name"].partition("_")[0] for case in result["cases"]}) == 1  # one patient, none of training
    assert "2 of 6 images" in capsys.readouterr().err
    assert main([*evaluate, "--split", "all"]) == 0
    seen = Split(0.25, 0, r"^(p\d+)_")
    assert [case.name for case in seen.of(cases(data), "val")] == sorted(case["name"] for case in result["cases"])
    trained = {case.name for case in seen.of(cases(data), "train")}
    for i in range(20):  # patients that come later change no side
        for kind in ("images", "masks"):
            shutil.copy(next((data / kind).iterdir()), data / kind / f"p{100 + i}_0.png")
    rule = Split.recorded(found.training)
    assert rule is not None
    assert trained < {case.name for case in rule.of(cases(data), "train")}
    assert {case["name"] for case in result["cases"]} <= {case.name for case in rule.of(cases(data), "val")}
    assert main(["card", str(out / "checkpoint"), "--results", str(tmp_path)]) == 0
    card = (out / "checkpoint" / "README.md").read_text()
    assert "Clinic X" in card
    assert "ISIC" not in card

    for name in ("elsewhere", "skin-lesion"):
        data.with_name(name).mkdir()
    borrowed = describe(data.with_name("elsewhere"), "plain", "skin-lesion")  # lends labels and flips, not its licence
    assert (borrowed.task.labels, borrowed.task.source, borrowed.task.licence) == (
        ("lesion",),
        "not stated",
        "not stated",
    )
    assert describe(tmp_path / "skin-lesion", "plain").task.licence.startswith("CC0")
    kidney = describe(tmp_path, "plain", None, {"labels": ["left kidney"], "window": [-160, 240], "axis": 1}).task
    assert (kidney.mirror, kidney.intensity.window, kidney.axis) == ((), (-160.0, 240.0), 1)
