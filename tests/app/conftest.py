"""A page with an untrained checkpoint small enough to run in a moment, and recordings made of it."""

import pytest
import torch


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, v2_config):
    """The folder of an untrained V2 with every named part: 32 x 32 pixels."""
    from medsegdiff.checkpoint import save
    from medsegdiff.config import DiffusionConfig, Domain
    from medsegdiff.nn.build import build

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    with torch.random.fork_rng(devices=[]):
        model = build(v2_config)
    domain = Domain(task="skin-lesion", modality="dermoscopy, RGB", labels=("lesion",), source="none", licence="CC0")
    diffusion = DiffusionConfig(parametrization="x_0", scale=0.3)
    training = {"iterations_done": 0}
    save(folder, model, model_config=v2_config, diffusion=diffusion, domain=domain, training=training)
    return folder


@pytest.fixture(scope="session")
def session(checkpoint):
    """A server's session that offers the tiny checkpoint and nothing else."""
    from app.session import Session

    return Session({"tiny": str(checkpoint)}, "cpu")


@pytest.fixture(scope="session")
def recorded(session, tmp_path_factory):
    """A run of the tiny checkpoint on a phantom, as a file."""
    from app.record import record

    return record(session, "tiny", 3, tmp_path_factory.mktemp("recordings"))
