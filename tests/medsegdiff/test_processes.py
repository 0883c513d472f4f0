"""Two processes give the result of one: on CPUs over gloo, launched by the real command line."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close

from medsegdiff.__main__ import main
from medsegdiff.config import DiffusionConfig, TrainConfig
from medsegdiff.data.batches import Draws, Pool
from medsegdiff.data.synthetic import draw
from medsegdiff.evaluation import Scored, evaluate, joined
from medsegdiff.losses import Objective
from medsegdiff.nn.build import build
from medsegdiff.processes import Share
from medsegdiff.schedule import Diffusion
from medsegdiff.training import Run, noise_of, train

TASK = "skin-lesion"
ROOT = Path(__file__).parents[2]
RECIPE = TrainConfig(iterations=3, batch=4, draws=2, learning_rate=1e-3, unroll=0.5, alpha=1)


def run_with(pieces: int, config, recipe: TrainConfig = RECIPE) -> Run:
    phantoms = [draw(TASK, seed, size=32, raters=0) for seed in range(4)]
    pool = Pool([p.image for p in phantoms], [p.labels for p in phantoms])
    torch.manual_seed(0)
    model = build(config)
    objective = Objective(model, Diffusion(DiffusionConfig(parametrization="x_0"), 1), alpha=1, beta=1.0)
    draws = Draws(pool, task=TASK, seed=0, augment=False)
    return Run(objective, draws, recipe, Accelerator(cpu=True, gradient_accumulation_steps=pieces))


def test_the_noise_of_a_batch_does_not_depend_on_how_many_share_it():
    diffusion = Diffusion(DiffusionConfig(), 1)
    labels = torch.zeros(4, 8, 8, dtype=torch.uint8)
    whole = [part.unflatten(0, (4, 2)) for part in noise_of(7, labels, diffusion, RECIPE)]
    for rank in (0, 1):
        mine = noise_of(7, labels[rank::2], diffusion, RECIPE, rank, 2)
        for part, of_all in zip(mine, whole, strict=True):
            assert torch.equal(part, of_all[rank::2].flatten(0, 1))


@pytest.mark.slow
def test_gradient_accumulation_equals_the_whole_batch(v2_config):
    whole, pieces = run_with(1, v2_config), run_with(2, v2_config)
    losses = [[step.loss for step in train(run, workers=0)] for run in (whole, pieces)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for one, other in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        assert_close(one, other, rtol=1e-3, atol=2e-4)  # Adam's first steps magnify rounding where gradients are near 0


def test_a_batch_that_cannot_be_shared_is_refused(v1_config):
    with pytest.raises(ValueError, match=r"a batch of 4 cannot be shared by 1 processes in 3 pieces each"):
        run_with(3, v1_config)
    with pytest.raises(ValueError, match=r"make it a multiple of 2"):
        run_with(2, v1_config, replace(RECIPE, batch=5))


def test_every_item_belongs_to_exactly_one_process():
    work = list(range(7))
    assert sorted(Share(0, 3).of(work) + Share(1, 3).of(work) + Share(2, 3).of(work)) == work
    assert Share().gathered("found") == ["found"]
    assert Share.here() == Share(0, 1)


def test_shares_of_an_evaluation_join_in_the_order_of_one_process():
    def scored(i: int) -> Scored:
        generator = np.random.default_rng(i)
        labels, truth = generator.integers(0, 2, (2, 12, 12)).astype(np.uint8)
        p = generator.random((12, 12)).astype(np.float32)
        return Scored(name=f"{i}", labels=labels, probability=np.stack([1 - p, p]), truth=truth, seconds=0.0)

    alone = evaluate([scored(i) for i in range(5)], ("lesion",))
    shares = [evaluate([scored(i) for i in Share(rank, 2).of(range(5))], ("lesion",)) for rank in (0, 1)]
    assert joined(shares).scores == alone.scores
    assert joined(shares).interval == alone.interval
    assert joined(shares).reliability.ece == pytest.approx(alone.reliability.ece, rel=1e-12)  # sums in another order


def folder(root: Path, **counts: int) -> Path:
    for split, count in counts.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for i in range(count):
            phantom = draw(TASK, 10 * count + i, 64, raters=0)
            Image.fromarray(phantom.image).save(root / split / "images" / f"{i}.png")
            Image.fromarray(phantom.labels).save(root / split / "masks" / f"{i}.png")
    return root


def launched(processes: int, *words: str) -> str:
    """Run the command line in that many processes; in one, in this."""
    if processes == 1:
        with contextlib.redirect_stdout(io.StringIO()) as told:
            assert main([*words]) == 0
        return told.getvalue()
    accelerate = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes)]
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch = [sys.executable, *accelerate, *plain, "--num_cpu_threads_per_process", "1", "-m", "medsegdiff"]
    done = subprocess.run([*launch, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_train_evaluate_and_segment_as_one_does(tmp_path):
    data = folder(tmp_path / TASK, train=4, val=3)
    recipe = ["--preset", "v2-tiny", "--size", "64", "--batch", "4", "--workers", "0", "--phantoms", "0"]
    recipe += ["--anchor-first", "1"]
    train_on = ["train", *recipe, "--data", str(data), "--out"]
    launched(1, *train_on, str(tmp_path / "one"), "--iterations", "3")
    launched(2, *train_on, str(tmp_path / "two"), "--iterations", "2")
    launched(1, *train_on, str(tmp_path / "two"), "--iterations", "3", "--resume", "--accumulate", "2")
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        if name.startswith("ema."):
            assert_close(two[name], tensor, rtol=1e-3, atol=2e-4, msg=lambda words, name=name: f"{name}: {words}")

    score = ["--checkpoint", str(tmp_path / "one" / "checkpoint"), "--members", "2", "--steps", "2", "--device", "cpu"]
    told = [launched(n, "evaluate", "--data", str(data), "--json", str(tmp_path / f"{n}.json"), *score) for n in (1, 2)]
    assert told[0].splitlines()[:3] == told[1].splitlines()[:3]  # one table, not two
    alone, shared = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2))
    assert shared["cases"] == alone["cases"]
    for key in ("mean_dice", "interval", "mean_iou", "mean_hd95"):
        assert shared[key] == alone[key]
    assert shared["ece"] == pytest.approx(alone["ece"], rel=1e-9)

    images = [str(path) for path in sorted((data / "val" / "images").iterdir())]
    for n in (1, 2):
        launched(n, "segment", *images, "--out", str(tmp_path / f"masks{n}"), *score)
    for path in (tmp_path / "masks1").glob("*_mask.png"):
        assert path.read_bytes() == (tmp_path / "masks2" / path.name).read_bytes()
    assert len(list((tmp_path / "masks2").glob("*_mask.png"))) == 3
