"""Run one measurement in a fresh process and print one line of JSON.

    python -m benchmarks.alone serve NAME DEVICE             NAME of a baseline
    python -m benchmarks.alone train NAME SIZE BATCH DEVICE  NAME, SIZE, BATCH: a row of TRAINED

serve    seconds to import and load, seconds until the first mask (ours) or step, and peak memory
train    seconds per iteration (minimum of three after a warm-up) and peak memory
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["TRAINED", "main"]

_PEER = "med-seg-diff-pytorch, dim 16"
TRAINED = (  # name, size in pixels, batch
    ("v2-tiny", 256, 4),
    ("v1-tiny", 256, 4),
    (_PEER, 256, 4),
    ("v2-tiny", 128, 16),
    ("v1-tiny", 128, 16),
)


def main(*words: str) -> dict[str, float]:
    """Run the measurement named on the command line."""
    began = time.perf_counter()
    import torch

    match words:
        case "serve", name, device:
            found = _serve(name, torch.device(device), began)
        case "train", name, size, batch, device:
            found = _train(name, int(size), int(batch), torch.device(device))
        case _:
            raise ValueError(f"asked for {' '.join(words)!r}; see above")
    return found | {"peak_bytes": torch.cuda.max_memory_allocated() if device.startswith("cuda") else _peak()}


def _peak() -> int:
    """Return the peak memory of this program; on Linux, ru_maxrss would include the parent's memory at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _serve(name: str, device: object, began: float) -> dict[str, float]:
    from benchmarks.measure import baseline

    chosen = baseline(name)
    for package in chosen.packages:
        __import__(package)
    imported = time.perf_counter()
    loaded = chosen.load(chosen, device)  # pyright: ignore[reportArgumentType]
    ready = time.perf_counter()
    (loaded.mask or loaded.step)()
    return {"import_s": imported - began, "load_s": ready - imported, "first_run_s": time.perf_counter() - ready}


def _train(name: str, size: int, batch: int, device: object) -> dict[str, float]:
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, 3, size, size, generator=generator).to(device) * 2 - 1  # pyright: ignore[reportCallIssue, reportArgumentType]
    labels = (torch.rand(batch, size, size, generator=generator) > 0.5).long().to(device)  # pyright: ignore[reportCallIssue, reportArgumentType]
    loss, parameters = (_our_loss if name.endswith("tiny") else _their_loss)(name, image, labels)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def iteration() -> float:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        value.item()  # waits for the device
        return time.perf_counter() - started

    iteration()
    return {"iteration_s": min(iteration() for _ in range(3)), "size": size, "batch": batch}


def _our_loss(name, image, labels) -> tuple[Callable, list]:  # noqa: ANN001
    import torch

    from medsegdiff import PRESETS, Diffusion, build
    from medsegdiff.device import channels_last
    from medsegdiff.losses import Objective

    preset = PRESETS[name]
    diffusion = Diffusion(preset.diffusion, preset.model.classes)
    recipe = preset.training
    objective = Objective(build(preset.model), diffusion, alpha=recipe.alpha, beta=recipe.beta, dice=recipe.dice)
    objective = channels_last(objective.to(image.device)).train()
    image = image.contiguous(memory_format=torch.channels_last)
    batch, size = len(image), image.shape[-1]
    t = torch.linspace(0, 999, batch, device=image.device).long()
    eps = torch.randn(batch, diffusion.channels, size, size).to(image.device)
    return lambda: objective(image, labels, t, eps).total, list(objective.parameters())


def _their_loss(name, image, labels) -> tuple[Callable, list]:  # noqa: ANN001
    from med_seg_diff_pytorch import MedSegDiff, Unet  # pyright: ignore[reportMissingImports]  make bench installs it

    network = Unet(dim=16, image_size=image.shape[-1], mask_channels=1, input_img_channels=3, dim_mults=(1, 2, 4, 8))
    model = MedSegDiff(network, timesteps=1000).to(image.device).train()
    mask = labels[:, None].float()
    return lambda: model(mask, image), list(model.parameters())


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
