"""Shared fixtures: tiny network configurations, a random generator, and a browser."""

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for subprocesses: tiny networks are slower with more threads
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("STREAMLIT_BROWSER_GATHER_USAGE_STATS", "false")

import hypothesis
import pytest
import torch

from medsegdiff.config import V1Config, V2Config

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
hypothesis.settings.register_profile("house", deadline=None, derandomize=True)  # tests must not fail on a busy machine
hypothesis.settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a browser."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def v1_config() -> V1Config:
    """A V1 with every component that runs in milliseconds: 32 x 32 pixels, stride 16."""
    return V1Config(image_size=32, stem=2, widths=(8, 16, 16, 16), blocks=(1, 1, 1, 1))


@pytest.fixture(scope="session")
def v2_config() -> V2Config:
    """A V2 with every component that runs in milliseconds: 32 x 32 pixels, stride 16."""
    widths = (8, 16, 16, 16)
    return V2Config(
        image_size=32,
        stem=2,
        widths=widths,
        condition_widths=widths,
        blocks=1,
        ss_blocks=1,
        token_width=16,
        heads=2,
        nbp_blocks=1,
        nbp_width=4,
    )


@pytest.fixture(params=["v1", "v2"])
def tiny_config(request: pytest.FixtureRequest) -> V1Config | V2Config:
    """Either of the two, for tests that apply to both."""
    return request.getfixturevalue(f"{request.param}_config")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator for all random numbers of a test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium or google-chrome on PATH; on Debian: apt install chromium fonts-noto-cjk")
