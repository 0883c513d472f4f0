"""Device selection, and the compiled network (without a compiler)."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medsegdiff.device import best_device, precision

ROOT = Path(__file__).parents[2]


def test_a_missing_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="use cpu or auto"):
        best_device("cuda:1")


def test_apples_mps_is_used_where_it_is_and_unknown_devices_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"torch sees no MPS here"):
        best_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device("auto") == torch.device("mps")
    assert precision(torch.device("mps")) == torch.float32
    for name in ("gpu", "meta"):
        with pytest.raises(ValueError, match=f"device '{name}' .*; use auto, cpu, cuda"):
            best_device(name)


def test_a_gpu_computes_in_bfloat16_where_it_can(monkeypatch):
    for able, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able: able)
        assert precision(torch.device("cuda")) == dtype


@pytest.mark.slow
def test_the_compiled_network_gives_the_same_output():
    # In a process of its own: the shapes that tests check on every call are nothing a compiler can trace.
    script = """if True:
        import torch
        from medsegdiff import V1Config, V2Config, build
        from medsegdiff.device import compiled

        torch.set_grad_enabled(False)
        wide = dict(widths=(8, 16, 16, 16))
        for config in (V1Config(image_size=32, stem=2, blocks=(1, 1, 1, 1), **wide),
                       V2Config(image_size=32, stem=2, condition_widths=(8, 16, 16, 16), token_width=16, **wide)):
            model = build(config).eval()
            for parameter in model.parameters():  # heads begin at zero, and would always answer alike
                parameter += 0.1 * torch.randn_like(parameter)
            fast = compiled(model, backend="eager")  # captures the graph, and runs it without the compiler
            x_t, t, image = torch.randn(2, 1, 32, 32), torch.tensor([500]), torch.rand(1, 3, 32, 32)
            torch.testing.assert_close(fast(x_t, t, fast.encode(image)).output, model(x_t, t, model.encode(image)).output)
        """
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
