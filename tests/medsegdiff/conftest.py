"""A small untrained checkpoint that several tests run."""

from pathlib import Path

import pytest
import torch

from medsegdiff import save
from medsegdiff.config import DiffusionConfig, Domain, V2Config
from medsegdiff.nn.build import build


@pytest.fixture(scope="session")
def organs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a V2 for two classes at 32 x 32; nobody writes into it."""
    path = tmp_path_factory.mktemp("checkpoints") / "organs"
    config = V2Config(
        image_size=32,
        stem=2,
        classes=2,
        widths=(8, 16),
        condition_widths=(8, 16),
        token_width=16,
        nbp_blocks=2,
        blocks=1,
    )
    torch.manual_seed(0)
    model = build(config)
    for parameter in model.parameters():  # blocks and heads begin at zero, which would make every mask the same
        parameter.data += 0.1 * torch.randn_like(parameter)
    save(
        path,
        model,
        model_config=config,
        diffusion=DiffusionConfig(parametrization="x_0", scale=0.3),
        domain=Domain(task="test", modality="none", labels=("left", "right")),
        training={},
    )
    return path
