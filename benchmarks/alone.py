"""One measurement in a process of its own; prints one line of JSON. `python -m benchmarks.alone serve|train NAME DEVICE`.

serve    seconds to import and to load, until the first mask (our own) or step, and the largest memory
train    seconds of an iteration (the least of three after one) and the largest memory, at the same batch for all
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["main"]

BATCH, SIZE = 4, 256
TRAINED = ("v2-tiny", "v1-tiny", "med-seg-diff-pytorch, dim 16")


def main(what: str, name: str, device: str) -> dict[str, float]:
    """Measure."""
    began = time.perf_counter()
    import torch

    found = (_serve if what == "serve" else _train)(name, torch.device(device), began)
    return found | {"peak_bytes": torch.cuda.max_memory_allocated() if device.startswith("cuda") else _peak()}


def _peak() -> int:
    """Most memory this program ever held. Linux's own ru_maxrss begins with what the parent held when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _serve(name: str, device: object, began: float) -> dict[str, float]:
    from benchmarks.measure import contender

    chosen = contender(name)
    for package in chosen.packages:
        __import__(package)
    imported = time.perf_counter()
    loaded = chosen.load(chosen, device)  # pyright: ignore[reportArgumentType]
    ready = time.perf_counter()
    (loaded.mask or loaded.step)()
    return {"import_s": imported - began, "load_s": ready - imported, "first_run_s": time.perf_counter() - ready}


def _train(name: str, device: object, began: float) -> dict[str, float]:
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator).to(device) * 2 - 1  # pyright: ignore[reportCallIssue, reportArgumentType]
    labels = (torch.rand(BATCH, SIZE, SIZE, generator=generator) > 0.5).long().to(device)  # pyright: ignore[reportCallIssue, reportArgumentType]
    loss, parameters = (_our_loss if name.endswith("tiny") else _their_loss)(name, image, labels)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def iteration() -> float:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        optimizer.step()
        value.item()  # waits for the device
        return time.perf_counter() - started

    iteration()
    return {"iteration_s": min(iteration() for _ in range(3)), "batch": BATCH}


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
    t = torch.linspace(0, 999, BATCH, device=image.device).long()
    eps = torch.randn(BATCH, diffusion.channels, SIZE, SIZE).to(image.device)
    return lambda: objective(image, labels, t, eps).total, list(objective.parameters())


def _their_loss(name, image, labels) -> tuple[Callable, list]:  # noqa: ANN001
    from med_seg_diff_pytorch import MedSegDiff, Unet  # pyright: ignore[reportMissingImports]  make bench installs it

    network = Unet(dim=16, image_size=SIZE, mask_channels=1, input_img_channels=3, dim_mults=(1, 2, 4, 8))
    model = MedSegDiff(network, timesteps=1000).to(image.device).train()
    mask = labels[:, None].float()
    return lambda: model(mask, image), list(model.parameters())


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
