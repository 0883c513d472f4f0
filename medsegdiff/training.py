"""Training as a generator; the caller drives the loop, logs, previews, saves and stops.

    for step in train(run): ...

All randomness of iteration i depends on (seed, i) only, so the state for `--resume` is the network, its moving average, the
optimiser's moments and i, and a resumed run is bit-identical. `batch` counts all images of an iteration: processes share it and
gradient accumulation splits it, so their number only changes the order of summation, and may change when a run is resumed.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from medsegdiff.config import TrainConfig
from medsegdiff.data.batches import Draws, batches
from medsegdiff.device import channels_last
from medsegdiff.losses import Objective
from medsegdiff.nn.build import Network
from medsegdiff.nn.efficientnet import EfficientNetLite0
from medsegdiff.nn.spectral import NBPFilter
from medsegdiff.nn.transformer import SpectrumWeight
from medsegdiff.nn.unet import PlainUNet
from medsegdiff.nn.v2 import MedSegDiffV2
from medsegdiff.schedule import Diffusion

__all__ = ["Run", "TrainStep", "moments", "noise_of", "set_moments", "train"]

_DECAYING = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear, SpectrumWeight)


@dataclass(frozen=True, slots=True)
class TrainStep:
    """The result of one iteration."""

    index: int  # iterations done so far
    loss: float
    noise: float  # 0 for a plain U-Net, whose loss is that of an anchor
    anchor_dice: float
    anchor_ce: float
    gradient: float  # norm before clipping
    learning_rate: float


class Run:
    """A training run that can be saved and resumed.

    Arguments:
        objective: the network and its loss.
        draws: the training data.
        config: the recipe.
        accelerator: device, precision, processes and gradient accumulation.

    Raises:
        ValueError: the batch cannot be divided equally, or `anchor_first` or `frozen` for a network without an anchor.
    """

    def __init__(self, objective: Objective, draws: Draws, config: TrainConfig, accelerator: Accelerator) -> None:
        at_once = accelerator.num_processes * accelerator.gradient_accumulation_steps
        if config.batch % at_once:
            raise ValueError(
                f"a batch of {config.batch} cannot be shared by {accelerator.num_processes} processes in "
                f"{accelerator.gradient_accumulation_steps} pieces each; make it a multiple of {at_once}"
            )
        self.config = config
        self.draws = draws
        self.accelerator = accelerator
        self.objective = channels_last(objective)
        self.ema: Network = deepcopy(objective.model).requires_grad_(False).eval().to(accelerator.device)
        if (config.frozen or config.anchor_first) and not isinstance(objective.model, MedSegDiffV2):
            raise ValueError("only V2 has a condition network with an anchor; train this one whole")
        if config.frozen:
            objective.model.condition.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            _groups(objective, config),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.wrapped, self.optimizer = accelerator.prepare(self.objective, self.optimizer)
        self.done = 0

    @property
    def model(self) -> Network:
        """The network in training, unwrapped."""
        return self.accelerator.unwrap_model(self.wrapped).model

    @property
    def plain(self) -> bool:
        """Whether it is a plain U-Net, trained without noise."""
        return isinstance(self.ema, PlainUNet)

    def learning_rate(self, i: int) -> float:
        """Return the learning rate factor: warm-up, then constant or cosine decay to 1 %."""
        c = self.config
        rise = min(1.0, (i + 1) / c.warmup) if c.warmup else 1.0
        if c.constant:
            return c.learning_rate * rise
        fall = 0.5 * (1 + math.cos(math.pi * min(i / c.iterations, 1.0)))
        return c.learning_rate * rise * (0.01 + 0.99 * fall)

    def save(self, folder: Path) -> None:
        """Write the state atomically."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= moments(self.optimizer)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "state.partial"
        facts = {"done": json.dumps(self.done), "recipe": self._recipe()}
        try:
            save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, partial, facts)
        except SafetensorError as error:  # also of a full disk
            partial.unlink(missing_ok=True)
            raise ValueError(f"the state could not be written to {folder} ({error}); the one before is kept") from error
        partial.replace(folder / "state.safetensors")

    def resume(self, folder: Path) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: there is nothing to resume, or it belongs to another network.
        """
        path = folder / "state.safetensors"
        if not path.exists():
            raise ValueError(f"{folder} holds no state.safetensors to resume from; start without --resume")
        try:
            with safe_open(path, "pt") as file:
                facts = file.metadata() or {}
            done, begun = int(json.loads(facts["done"])), dict(json.loads(facts["recipe"]))
            tensors = load_file(path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is cut short or not the state of a training; delete it and start again, or restore a copy"
            ) from error
        recipe = json.loads(self._recipe())
        for name, value in begun.items():
            if recipe.get(name) != value:
                raise ValueError(
                    f"{folder} was begun with {name} {value}, not {recipe.get(name)}; resume with what it began with"
                )
        try:
            for name, module in (("model.", self.model), ("ema.", self.ema)):
                module.load_state_dict({k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)})
        except RuntimeError as error:
            raise ValueError(
                f"{path} belongs to another network than this preset; choose the preset it began with"
            ) from error
        try:
            set_moments(self.optimizer, tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path} lacks the state of the optimizer; restore a copy or start again") from error
        self.done = done

    def _recipe(self) -> str:
        """Return the settings that a resumed run must share with the original: all except its length."""
        return json.dumps({k: v for k, v in asdict(self.config).items() if k != "iterations"})


def _groups(objective: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return parameter groups: with weight decay, without, and NBP-Filters and pretrained encoder with their own learning rates.

    Only weights that multiply features decay: those of convolutions and linear layers, and V2's spectrum weights. Biases, norms,
    the gains of FF-Parsers (which begin at 1) and the means and widths of Gaussians do not; nor do the NBP-Filters if they have
    a learning rate of their own, nor a pretrained encoder, which should stay near the weights it began with.
    """
    bands = {id(p) for m in objective.modules() if isinstance(m, NBPFilter) for p in m.parameters()}
    apart = bands if config.band_rate != 1 else set()
    encoder = {id(p) for m in objective.modules() if isinstance(m, EfficientNetLite0) for p in m.parameters()}
    weights = {id(m.weight) for m in objective.modules() if isinstance(m, _DECAYING)}
    trained = [p for p in objective.parameters() if p.requires_grad]
    groups = (
        {"params": [p for p in trained if id(p) in weights - apart - encoder]},
        {"params": [p for p in trained if id(p) not in weights | apart | encoder], "weight_decay": 0.0},
        {"params": [p for p in trained if id(p) in apart], "times": config.band_rate, "weight_decay": 0.0},
        {"params": [p for p in trained if id(p) in encoder], "times": config.encoder_rate, "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]


def moments(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments by name, for a file."""
    remembered = optimizer.state_dict()["state"]
    return {f"optimizer.{i}.{k}": torch.as_tensor(v) for i, state in remembered.items() for k, v in state.items()}


def set_moments(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore the moments of an optimizer; other names are ignored."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = optimizer.state_dict()
    state["state"] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, i, name = key.split(".")
            if name != "step" and value.shape != parameters[int(i)].shape:
                raise ValueError(f"{key} has the shape {tuple(value.shape)}, its parameter another")
            # Moments need the memory layout of their parameter, as the fused AdamW assumes.
            value = value if name == "step" else torch.empty_like(parameters[int(i)]).copy_(value)
            state["state"].setdefault(int(i), {})[name] = value
    optimizer.load_state_dict(state)


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), [p.detach() for p in model.parameters()], 1 - decay)


def noise_of(
    i: int, labels: Tensor, diffusion: Diffusion, config: TrainConfig, rank: int = 0, world: int = 1
) -> tuple[Tensor, ...]:
    """Draw t (stratified over the batch) and eps of iteration i, and the unrolling times of unrolled samples.

    Values are drawn for the whole batch, whatever the number of processes; each uses the rows of its own images.
    """
    seed = np.random.SeedSequence([config.seed, i, 0]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(seed))
    b, (h, w) = len(labels) * world * config.draws, labels.shape[-2:]
    u = (torch.arange(b) + torch.rand(b, generator=generator)) / b
    t = (u * diffusion.schedule.timesteps).long().clamp(max=diffusion.schedule.timesteps - 1)
    eps = torch.randn(b, diffusion.channels, h, w, generator=generator)
    t = t[torch.randperm(b, generator=generator)]
    drawn = [t, eps]
    if config.unroll:
        last = diffusion.schedule.timesteps - 1
        between = t + (torch.rand(b, generator=generator) * (last + 1 - t)).long()
        trajectory = torch.stack([torch.full_like(t, last), between], 1)
        trajectory[torch.rand(b, generator=generator) >= config.unroll] = -1
        drawn.append(trajectory)
    return tuple(x.unflatten(0, (-1, config.draws))[rank::world].flatten(0, 1).to(labels.device) for x in drawn)


def train(run: Run, *, workers: int = 1) -> Iterator[TrainStep]:
    """Run the remaining iterations."""
    config, accelerator = run.config, run.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    source = batches(
        run.draws,
        batch=config.batch // world,
        start=run.done,
        stop=config.iterations,
        workers=workers,
        rank=rank,
        world=world,
    )
    for i, (image, labels) in enumerate(source, run.done):
        image = image.to(accelerator.device, memory_format=torch.channels_last)
        labels = labels.to(accelerator.device)
        rate = run.learning_rate(i)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group.get("times", 1.0)
        run.wrapped.train()
        run.optimizer.zero_grad(set_to_none=True)
        alone = run.plain or i < config.anchor_first
        noise = () if alone else noise_of(i, labels, run.objective.diffusion, config, rank, world)
        parts = _gradients(run, image, labels, *noise)
        gradient = nn.utils.clip_grad_norm_(run.wrapped.parameters(), config.clip)
        if not torch.isfinite(gradient):
            raise FloatingPointError(
                f"the gradient of iteration {i} is not finite; begin a new run with a lower --learning-rate, from the last "
                "checkpoint of this one (--init) if there is one"
            )
        run.optimizer.step()
        _average(run.ema, run.model, min(config.ema, (1 + i) / (10 + i)))
        run.done = i + 1
        everyones: Any = accelerator.reduce(parts, "mean")  # accelerate does not annotate it: a tensor
        total, noise, dice, ce = everyones.tolist()
        yield TrainStep(i + 1, total, noise, dice, ce, float(gradient), rate)


def _gradients(run: Run, *batch: Tensor) -> Float[Tensor, "4"]:
    """Run forward and backward with gradient accumulation, and return the terms of the loss."""
    accelerator, parts = run.accelerator, []
    pieces = zip(*(x.chunk(accelerator.gradient_accumulation_steps) for x in batch), strict=True)
    for left, piece in zip(reversed(range(accelerator.gradient_accumulation_steps)), pieces, strict=True):
        with accelerator.no_sync(run.wrapped) if left else nullcontext():  # synchronise processes once
            with accelerator.autocast():
                loss = run.wrapped(*piece)
            accelerator.backward(loss.total)  # divides by the accumulation steps
        parts.append(torch.stack([loss.total, loss.noise, loss.anchor_dice, loss.anchor_ce]).detach())
    return torch.stack(parts).mean(0)
