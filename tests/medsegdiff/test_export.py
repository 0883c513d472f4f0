"""Exported networks give the outputs of the checkpoint: onnxruntime against PyTorch."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from medsegdiff.checkpoint import load, read_config, save
from medsegdiff.config import DiffusionConfig, Domain, UNetConfig, V1Config, V2Config
from medsegdiff.hub import resolve, shipped
from medsegdiff.nn.build import build
from medsegdiff.nn.real_dft import real_valued
from medsegdiff.nn.spectral import FFParser
from medsegdiff.records import Interventions, Switches, Trace

pytest.importorskip("onnx", reason="onnx is not installed; pip install 'medsegdiff[export]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed; pip install 'medsegdiff[export]'")

from medsegdiff.export import MODEL, OnnxNetwork

V1 = V1Config(image_size=64, stem=2, widths=(8, 8, 16, 16), blocks=(1, 1, 1, 1))
V2 = V2Config(
    image_size=48, stem=2, widths=(8, 16, 16), condition_widths=(8, 16, 24), blocks=1, token_width=16, nbp_width=4
)
ROOT = Path(__file__).parents[2]
FAST = ("skin-lesion-v2", "skin-lesion-v1", "skin-lesion-unet")


def kinds() -> list[str]:
    """One shipped checkpoint of every network: what is exported depends on its configuration and not on its weights."""
    found = {}
    for name in (*FAST, *sorted(shipped())):
        config = read_config(resolve(name))["model"]
        found.setdefault(replace(config, classes=min(config.classes, 2)), name)
    return [name for name in found.values() if name not in FAST]


def shaken(network, seed=0):
    """Give every parameter a random value, so that no module is at its starting point (identity or zero)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (8, 5)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("profile", [(), (1.0, 0.2, 0.7)])
def test_the_real_ff_parser_equals_the_complex_one_at_every_parity(size, full, profile):
    parser = FFParser(3, (6, 6), full=full)
    with torch.no_grad():
        parser.gain.normal_(generator=torch.Generator().manual_seed(1))
    m = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    real = real_valued(torch.nn.Sequential(parser))[0]
    torch.testing.assert_close(real(m, profile), parser(m, profile), rtol=1e-5, atol=1e-5)
    for field in fields(parser.explain(m, "s", profile)):
        got, expected = (getattr(module.explain(m, "s", profile), field.name) for module in (real, parser))
        if field.name == "phase":  # of a gain that is real up to rounding, pi and -pi are the same
            got, expected = torch.polar(torch.ones_like(got), got), torch.polar(torch.ones_like(expected), expected)
        if field.name != "stage":
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    "config",
    [
        V1,
        replace(V1, full_spectrum=True, skips="mask", learned_variance=True),
        V2,
        replace(V2, band="sine", patch=2, gate="channel"),
    ],
)
@pytest.mark.parametrize("switches", [Switches(), Switches(nbp=False), Interventions(sigma=2.0, profile=(1.0, 0.5))])
def test_the_real_network_equals_the_complex_one(config, switches):
    network = shaken(build(config))
    x_t = torch.randn(2, 1, config.image_size, config.image_size, generator=torch.Generator().manual_seed(3))
    image, t = x_t[:1].expand(-1, 3, -1, -1) / 3, torch.tensor([7])
    with torch.no_grad():
        expected = network(x_t, t, network.encode(image), trace=True, switches=switches)
        real = real_valued(network)
        got = real(x_t, t, real.encode(image), trace=True, switches=switches)
    torch.testing.assert_close(got.output, expected.output, rtol=1e-4, atol=1e-4)
    compare_traces(got.trace, expected.trace)
    assert network.state_dict().keys() == real.state_dict().keys()


def compare_traces(got: Trace, expected: Trace):
    for kind in fields(Trace):
        for one, other in zip(getattr(got, kind.name), getattr(expected, kind.name), strict=True):
            assert one.stage == other.stage
            assert getattr(one, "kind", "") == getattr(other, "kind", "")
            for field in fields(one):
                if field.name not in ("stage", "kind", "phase"):
                    close(getattr(one, field.name), getattr(other, field.name))


def close(got, expected):
    """Agree to 1e-4 of the largest value: float32 sums of some thousand terms in another order."""
    atol = 1e-4 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(got, expected, rtol=0, atol=atol)


def compare(folder, checkpoint, seed=0):
    """Run both networks on the same noise for 1, 2 and 5 members, with traces."""
    onnx, network = OnnxNetwork(folder), checkpoint.model
    config = checkpoint.model_config
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, config.image_channels, config.image_size, config.image_size, generator=generator) * 2 - 1
    with torch.no_grad():
        expected = network.encode(image)
    got = onnx.encode(image)
    for a, b in zip(got.anchor_logits, expected.anchor_logits, strict=True):
        close(a, b)
    if isinstance(config, UNetConfig):
        return
    channels = 1 if config.classes == 1 else config.classes + 1
    for members, t in ((1, 999), (2, 500), (5, 0)):
        x_t = torch.randn(members, channels, config.image_size, config.image_size, generator=generator)
        with torch.no_grad():
            wanted = network(x_t, torch.tensor([t]), expected, trace=True)
        result, outputs = onnx.predict(x_t, torch.tensor([t]), got, trace=True)
        close(result.output, wanted.output)
        assert (result.variance is None) == (wanted.variance is None)
        for facts in onnx.facts["traces"]:
            index = int(facts["output"].split("_")[2])
            close(outputs[facts["output"]], getattr(getattr(wanted.trace, facts["kind"])[index], facts["field"]))


def command(*arguments):
    """Run the command line; in a process of its own, since tracing is slow where shapes are checked."""
    run = subprocess.run(
        [sys.executable, "-m", "medsegdiff", "export", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_an_export_replaces_no_other(tmp_path, capsys):
    from medsegdiff.__main__ import main

    for run in ("a", "b"):
        domain = Domain(task="skin-lesion", modality="drawn", labels=("lesion",))
        facts = {"diffusion": DiffusionConfig(), "domain": domain, "training": {}}
        save(tmp_path / run / "lesions", build(V2), model_config=V2, **facts)
    sources = [str(tmp_path / run / "lesions") for run in ("a", "b")]
    assert main(["export", *sources, "--onnx", str(tmp_path / "onnx")]) == 2
    assert "two checkpoints are called 'lesions'" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()
    (tmp_path / MODEL).write_text("{}")
    assert main(["export", sources[0], "--onnx", str(tmp_path)]) == 2
    assert f"{MODEL} exists already; add --overwrite" in capsys.readouterr().err


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    told = command(*FAST, "--onnx", folder, "--float16")
    assert all(f"{name}: condition.onnx" in told for name in FAST)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_an_exported_checkpoint_computes_what_torch_computes(name, exported):
    compare(exported / name, load(resolve(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", kinds())
def test_every_shipped_network_exports(name, tmp_path):
    command(name, "--onnx", tmp_path, "--float16")
    checkpoint = load(resolve(name))
    compare(tmp_path, checkpoint)
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    size = sum(path.stat().st_size for path in tmp_path.glob("*.onnx"))
    assert size < 2.5 * parameters  # halves, their graph, and no table stored twice


@pytest.mark.slow
def test_weights_that_were_float16_already_are_not_rounded_again(exported, tmp_path):
    command("skin-lesion-v2", "--onnx", tmp_path)
    image = torch.zeros(1, 3, 256, 256)
    half, full = (OnnxNetwork(folder).encode(image).features for folder in (exported / "skin-lesion-v2", tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(half, full, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        replace(V1, learned_variance=True, classes=2),
        replace(V2, anchors=2, band="sine"),
        replace(V2, encoder="efficientnet-lite0"),
    ],
)
def test_other_configurations_export_too(config, tmp_path):
    save(
        tmp_path / "model",
        shaken(build(config)),
        model_config=config,
        diffusion=DiffusionConfig(learned_variance=config.learned_variance),
        domain=Domain(task="t", modality="m", labels=("a", "b")[: config.classes]),
        training={},
    )
    command(tmp_path / "model", "--onnx", tmp_path / "onnx")
    compare(tmp_path / "onnx", load(tmp_path / "model"))


@pytest.mark.slow
def test_model_json_says_what_a_run_needs(exported):
    checkpoint = load(resolve("skin-lesion-v2"))
    facts = json.loads((exported / "skin-lesion-v2" / MODEL).read_text(encoding="utf-8"))
    assert facts["checkpoint"]["sha256"] == checkpoint.digest
    assert facts["diffusion"]["scale"] == checkpoint.diffusion.scale
    assert len(facts["diffusion"]["alpha_bar"]) == 1000
    assert facts["domain"]["labels"] == ["lesion"]
    kinds = {(trace["kind"], trace["field"]) for trace in facts["traces"]}
    assert {("anchors", "gate"), ("anchors", "smoothed"), ("bands", "surface"), ("affinities", "affinity")} <= kinds


@pytest.mark.slow
def test_files_that_do_not_belong_together_are_refused(exported, tmp_path):
    with pytest.raises(ValueError, match=r"holds no model\.json"):
        OnnxNetwork(tmp_path)
    shutil.copytree(exported / "skin-lesion-unet", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "condition.onnx"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="export it again"):
        OnnxNetwork(tmp_path)
