"""The page's arithmetic is that of the package: every module in web/src/core against its Python original."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from app.i18n import LANGUAGES, words
from medsegdiff.config import DiffusionConfig
from medsegdiff.ensemble import RULES, argmax_labels, change, fuse
from medsegdiff.image_ref import Intensity, Picture, grey_pixels, percentiles_of, robust_window
from medsegdiff.imaging import read, read_volume
from medsegdiff.records import Condition, Prediction
from medsegdiff.replay import TOLERANCE, Report, agreement, decode_runs, encode_runs
from medsegdiff.resize import Geometry, to_network, to_original
from medsegdiff.runner import Runner
from medsegdiff.sampling import SPACINGS, MemberNoise, SamplingSettings, denoise, faded_anchor, spaced, stratified
from medsegdiff.schedule import Diffusion

WEB = Path(__file__).parents[2] / "web"
sys.path.insert(0, str(WEB))


@pytest.fixture(scope="session")
def node() -> Callable[[str, object], object]:
    """Run a JavaScript module that reads `input` (JSON) and writes JSON with `print`."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")

    def run(script: str, given: object = None) -> object:
        head = f"""import {{ readFileSync }} from "node:fs";
const core = {json.dumps((WEB / "src").as_uri())};
const input = JSON.parse(readFileSync(0, "utf8"));
const print = (value) => console.log(JSON.stringify(value));
"""
        done = subprocess.run(
            ["node", "--input-type=module", "-e", head + script],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            cwd=WEB,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def listed(array):
    return np.asarray(array).ravel().tolist()


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**32 - 1, 2**32, 2**53 - 1])
def test_members_meet_the_same_noise(node, seed):
    # 17 and 77: the last sixteen values are drawn twice where the size is no multiple of sixteen.
    sizes = [(1, 4, 8), (1, 1, 17), (1, 7, 11), (3, 16, 16)]
    noise = MemberNoise(seed, 3, first=2)
    expected = np.concatenate([listed(noise.draw(size, torch.empty(0))) for size in sizes])
    script = """const { MemberNoise } = await import(`${core}/core/noise.js`);
        const noise = new MemberNoise(input.seed, 3, 2);
        print(input.sizes.flatMap((size) => Array.from(noise.draw(size))));"""
    got = node(script, {"seed": seed, "sizes": [int(np.prod(size)) for size in sizes]})
    # Two roundings of float32 at the values' size, at most 6: torch's vectorised logarithm and cosine round differently.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_the_same_steps_are_visited(node):
    wanted = [(T, n, spacing) for T in (20, 1000) for n in (1, 2, 3, 7, 10, 20) for spacing in SPACINGS]
    script = (
        """const { spaced } = await import(`${core}/core/schedule.js`); print(input.map((row) => spaced(...row)));"""
    )
    assert node(script, wanted) == [spaced(*row) for row in wanted]


class Linear:
    """A network whose answer is a fixed linear function of x_t and t, so that both languages can compute it."""

    def __call__(self, x_t, t, condition, *, trace=False, switches=None):
        return Prediction(x_t * 1.5 + float(t[0]) / 1000 - 0.4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_anchor_fades_alike(node, channels):
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2), 1 if channels == 1 else channels - 1)
    generator = torch.Generator().manual_seed(4)
    x_0 = 0.2 * torch.randn(3, channels, 4, 4, generator=generator).clamp(-1, 1)
    logits = torch.randn(1, channels, 4, 4, generator=generator)
    script = """const { Diffusion, fadedAnchor } = await import(`${core}/core/schedule.js`);
        const diffusion = new Diffusion(input.config, input.channels);
        const anchor = diffusion.probabilityOfLogits(Float32Array.from(input.logits), 16);
        print(Array.from(fadedAnchor(diffusion, Float32Array.from(input.x_0), anchor, 16)));"""
    config = {**asdict(diffusion.config), "alpha_bar": listed(diffusion.schedule.alpha_bar)}
    got = node(script, {"config": config, "channels": channels, "logits": listed(logits), "x_0": listed(x_0)})
    # Sums of 16 float32 products in another order.
    np.testing.assert_allclose(got, np.ravel(listed(faded_anchor(diffusion, x_0, logits))), rtol=0, atol=1e-6)


def test_a_pixel_of_no_class_is_background(node):
    script = """const { Diffusion } = await import(`${core}/core/schedule.js`);
        const diffusion = new Diffusion({ scale: 1, alpha_bar: [0.5], parametrization: "v" }, 3);
        print(Array.from(diffusion.probability(Float32Array.from([-1, -1, -1, -0.9, -1, -1]), 2)));"""
    assert node(script, None) == [1, 0, 0, 1, 0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_members_are_spread_alike(node, channels):
    members, size = 5, 16
    diffusion = Diffusion(DiffusionConfig(), 1 if channels == 1 else channels - 1)
    x_T = MemberNoise(6, members).draw((channels, size, size), torch.empty(0))
    logits = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(4))
    anchor = diffusion.probability_of_logits(logits)
    script = """const { stratify } = await import(`${core}/core/noise.js`);
        const xt = Float32Array.from(input.x_T);
        stratify(xt, Float32Array.from(input.anchor), input.channels, input.size, input.members);
        print(Array.from(xt));"""
    shares = anchor[:, 1:] if channels == 1 else anchor
    given = {"x_T": listed(x_T), "anchor": listed(shares), "channels": channels, "size": size, "members": members}
    got = node(script, given)
    # Both compute in double and round to float32, at most two roundings at values of at most 6.
    np.testing.assert_allclose(got, listed(stratified(x_T, anchor)), rtol=0, atol=1e-6)


class Ramp:
    """A network that treats left and right, and top and bottom, differently; so does its counterpart in JavaScript."""

    def encode(self, image):
        ramp = torch.arange(16.0).reshape(4, 4)
        return Condition((image * ramp,), (image[:, :1] * ramp,))

    def __call__(self, x_t, t, condition, *, trace=False, switches=None):
        return Prediction(x_t * torch.arange(16.0).reshape(4, 4) + condition.features[0][:, :1])


@pytest.mark.parametrize("mirror", ["none", "horizontal", "both"])
def test_members_take_turns_among_the_same_mirror_images(node, mirror):
    generator = torch.Generator().manual_seed(5)
    image, x_t = torch.rand(1, 3, 4, 4, generator=generator), torch.randn(5, 1, 4, 4, generator=generator)
    runner = Runner(Ramp(), torch.device("cpu"), torch.float32)
    condition = runner.encode(image, mirror)
    expected = runner(x_t, torch.tensor([9]), condition.for_members(5)).output
    script = """const { mirrored } = await import(`${core}/core/mirror.js`);
        const ramp = {
            condition: async (image) => {
                const feature = image.map((value, i) => value * (i % 16));
                return { feature, anchor_logits: feature.slice(0, 16) };
            },
            denoise: async (xt, t, { feature }, members, trace) => (
                { output: xt.map((value, i) => value * (i % 16) + feature[i % 16]), traces: trace ? [members] : [] }
            ),
        };
        const networks = mirrored(ramp, input.mirror, 4, 1);
        const condition = await networks.condition(Float32Array.from(input.image));
        const { output, traces } = await networks.denoise(Float32Array.from(input.xt), 9, condition, 5, true);
        print([Array.from(condition.anchor_logits), Array.from(output), traces.length]);"""
    logits, output, traces = node(script, {"mirror": mirror, "image": listed(image), "xt": listed(x_t)})
    np.testing.assert_allclose(logits, listed(condition.anchor_logits[0]), rtol=1e-6)
    np.testing.assert_allclose(output, listed(expected), rtol=0, atol=1e-5)  # float32 sums of values up to 50
    assert traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("parametrization", ["epsilon", "v", "x_0"])
@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 0.7), ("dpm-solver++", 0.0)])
def test_samplers_take_the_same_way(node, channels, parametrization, sampler, eta):
    config = DiffusionConfig(parametrization=parametrization, scale=0.2)
    diffusion = Diffusion(config, 1 if channels == 1 else channels - 1)
    size, members, weight, times = 4, 2, 0.25, spaced(1000, 5)
    logits = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(3))
    condition = Condition((torch.zeros(1),), (logits,))
    noise = MemberNoise(9, members)
    steps = denoise(
        Linear(),
        condition,
        diffusion,
        times,
        noise,
        (channels, size, size),
        SamplingSettings(sampler=sampler, eta=eta, anchor_weight=weight),
    )
    expected = [(listed(step.x_0), listed(step.x_s), listed(diffusion.probability(step.x_0, 1.5))) for step in steps]
    script = """const { Diffusion } = await import(`${core}/core/schedule.js`);
        const { sampler } = await import(`${core}/core/sampling.js`);
        const { MemberNoise } = await import(`${core}/core/noise.js`);
        const { channels, area, members, times } = input;
        const diffusion = new Diffusion(input.config, channels);
        const noise = new MemberNoise(9, members);
        const step = sampler(input.sampler, diffusion, noise, input.eta);
        const pull = diffusion.x0OfLogits(Float32Array.from(input.logits), area);
        let xt = noise.draw(channels * area);
        print(times.map((t, i) => {
            let x0 = diffusion.x0(xt.map((v) => v * 1.5 + t / 1000 - 0.4), xt, t, area);
            x0 = x0.map((v, j) => v + input.weight * (pull[j % pull.length] - v));
            xt = step(xt, x0, t, times[i + 1] ?? -1);
            return [Array.from(x0), Array.from(xt), Array.from(diffusion.probability(x0, area, 1.5))];
        }));"""
    given = {
        "config": {**asdict(config), "alpha_bar": listed(diffusion.schedule.alpha_bar)},
        "channels": channels,
        "area": size * size,
        "members": members,
        "times": times,
        "sampler": sampler,
        "eta": eta,
        "weight": weight,
        "logits": listed(logits),
    }
    got = node(script, given)
    for (x_0, x_s, probability), (x_0_js, x_s_js, p_js) in zip(expected, got, strict=True):
        np.testing.assert_allclose(x_0_js, x_0, atol=2e-5)  # float32 here, double there, rounded at every step
        np.testing.assert_allclose(x_s_js, x_s, atol=2e-5)
        foreground = np.reshape(probability, (members, -1, size * size))[:, 1:] if channels == 1 else probability
        np.testing.assert_allclose(p_js, listed(foreground), atol=1e-4)


def members_of(classes, members, size, seed):
    """Smooth probabilities of members that agree in the middle of regions and differ at their edges."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(1, classes + 1, 4, 4)).astype(np.float32) * 4)
    own = torch.from_numpy(rng.normal(size=(members, classes + 1, 4, 4)).astype(np.float32))
    logits = torch.nn.functional.interpolate(coarse + own, (size, size), mode="bicubic")
    return logits.softmax(1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_members_are_fused_alike(node, rule, classes, members):
    p = members_of(classes, members, 24, seed=classes * 10 + members)
    anchor = members_of(classes, 1, 24, seed=7)[0]
    expected = fuse(p, rule, anchor)
    given = p[:, 1:] if classes == 1 else p
    beside = anchor[1:] if classes == 1 else anchor
    script = """const { fuse } = await import(`${core}/core/ensemble.js`);
        const { labels, probability, disagreement, members } = fuse(
            Float32Array.from(input.p), input.channels, 576, input.rule, Float32Array.from(input.anchor));
        print([labels, probability, disagreement, members].map((values) => Array.from(values)));"""
    labels, probability, disagreement, own = node(
        script, {"p": listed(given), "anchor": listed(beside), "channels": given.shape[1], "rule": rule}
    )
    assert labels == listed(expected.labels)
    assert own == listed(argmax_labels(p))
    np.testing.assert_allclose(
        probability, listed(expected.probability[1:] if classes == 1 else expected.probability), atol=1e-6
    )
    np.testing.assert_allclose(disagreement, listed(expected.disagreement), atol=1e-6)


def test_change_between_steps_is_measured_alike(node):
    for classes in (1, 3):
        a, b = members_of(classes, 3, 24, 1), members_of(classes, 3, 24, 2)
        given = [listed(p[:, 1:] if classes == 1 else p) for p in (a, b)]
        script = """const { change } = await import(`${core}/core/ensemble.js`);
            print(change(...input.p.map((p) => Float32Array.from(p)), input.channels, 576));"""
        got = node(script, {"p": given, "channels": 1 if classes == 1 else classes + 1})
        assert got == pytest.approx(change(a, b), abs=1e-12)


@pytest.mark.parametrize(("height", "width", "size"), [(16, 16, 16), (40, 23, 16), (9, 12, 16), (33, 8, 24)])
def test_pictures_are_squeezed_and_maps_brought_back_alike(node, height, width, size):
    rng = np.random.default_rng(height)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    script = """const { toNetwork, toOriginal } = await import(`${core}/core/picture.js`);
        const { pixels, height, width, size, maps, field } = input;
        const picture = { pixels: Uint8Array.from(pixels), height, width };
        print([toNetwork(picture, size, 3, field), toNetwork(picture, size, 1, field),
            toOriginal(Float32Array.from(maps), size, height, width, 1, field),
            toOriginal(Float32Array.from(maps), size, height, width, 2, field)].map((values) => Array.from(values)));"""
    maps = rng.random((2, 2, size, size), np.float32)
    for field in (1, 0.5):
        given = {"pixels": listed(pixels), "height": height, "width": width, "size": size, "maps": listed(maps)}
        colour, grey, one, two = node(script, {**given, "field": field})
        np.testing.assert_allclose(colour, listed(to_network(Picture(pixels), size, 3, field)[0]), atol=1e-5)
        np.testing.assert_allclose(grey, listed(to_network(Picture(pixels), size, 1, field)[0]), atol=1e-5)
        geometry = Geometry(height, width, size, field)
        for found, channels in ((one, 1), (two, 2)):
            expected = to_original(torch.from_numpy(maps).reshape(-1, channels, size, size), geometry)
            np.testing.assert_allclose(found, listed(expected), atol=1e-5)


def test_the_field_is_cut_from_pixels_and_labels(node):
    values = np.arange(5 * 6 * 3).reshape(5, 6, 3)
    script = """const { crop } = await import(`${core}/core/picture.js`);
        print(Array.from(crop(Uint8Array.from(input), 6, 3, { top: 1, left: 2, rows: 3, columns: 2 })));"""
    assert node(script, listed(values)) == listed(values[1:4, 2:4])


def test_grey_values_become_the_same_pixels(node):
    rng = np.random.default_rng(0)
    for values in (rng.normal(0, 300, (30, 40)), np.full((8, 8), 7.0), rng.integers(0, 9, (20, 20))):
        values = values.astype(np.float32)
        window = robust_window(values)
        script = """const { greyPixels, robustWindow } = await import(`${core}/core/picture.js`);
            const values = Float32Array.from(input.values);
            print([robustWindow(values), Array.from(greyPixels(values, input.window))]);"""
        found, pixels = node(script, {"values": listed(values), "window": window})
        assert tuple(found) == window
        assert pixels == listed(grey_pixels(values, window))


@pytest.mark.parametrize(
    "rule",
    [
        Intensity(),
        Intensity(window=(-125, 275)),
        Intensity(window=(-125, 275), per_slice=True, stretch=True),
        Intensity(window=(5000, 6000), stretch=True),  # none of the values lies in it
        Intensity(percentiles=(0, 99.8)),
        Intensity(percentiles=(10, 90), per_slice=True),
    ],
)
def test_a_checkpoint_windows_a_slice_alike(node, rule):
    rng = np.random.default_rng(0)
    script = """const { percentilesOf, resolveWindow } = await import(`${core}/core/picture.js`);
        const [volume, plane] = [input.volume, input.plane].map((values) => Float32Array.from(values));
        print(resolveWindow(input.rule, input.own, plane, (wanted) => percentilesOf(volume, wanted)));"""
    for offset in (0, 2000):  # without a negative value no window in Hounsfield units applies
        volume = (rng.normal(0, 300, (4, 10, 12)) + offset).astype(np.float32)
        given = {"volume": listed(volume), "plane": listed(volume[1]), "own": (-1, 1), "rule": asdict(rule)}
        expected = rule.resolve((-1, 1), volume[1], lambda wanted, values=volume: percentiles_of(values, wanted))
        assert node(script, given) == pytest.approx(expected, rel=1e-6)


def test_masks_in_reports_are_written_and_compared_alike(node):
    rng = np.random.default_rng(0)
    a = (rng.random((12, 9)) > 0.3).astype(np.uint8) * rng.integers(1, 4, (12, 9), np.uint8)
    b = np.where(rng.random(a.shape) > 0.1, a, 0).astype(np.uint8)
    runs = encode_runs(a)
    assert np.array_equal(decode_runs(runs, a.shape), a)
    script = """const report = await import(`${core}/core/report.js`);
        const { agreement } = await import(`${core}/core/ensemble.js`);
        const [a, b] = [input.a, input.b].map((values) => Uint8Array.from(values));
        const facts = { mask: { sha256: "0", runs: input.runs } };
        print([report.encodeRuns(a), Array.from(report.decodeRuns(input.runs, a.length)), report.decodeRuns(input.runs, 7),
            agreement(a, b), report.TOLERANCE, report.compare(facts, a, "1"), report.compare(facts, b, "1").same]);"""
    written, read, wrong, dice, tolerance, same, other = node(script, {"a": listed(a), "b": listed(b), "runs": runs})
    assert (written, read, wrong, tolerance) == (runs, listed(a), None, TOLERANCE)
    assert dice == pytest.approx(agreement(a, b))
    assert same == {"exact": False, "same": True, "dice": 1}
    assert other is (agreement(a, b) >= TOLERANCE)
    with pytest.raises(ValueError, match="does not have 3 x 3"):
        decode_runs(runs, (3, 3))


def test_a_browser_report_is_held_to_a_dice_and_another_to_the_very_mask(tmp_path):
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    facts = {
        "settings": {"switches": {}},
        "checkpoint": {"sha256": "w"},
        "dtype": "float32",
        "picture": {"axis": 2, "index": 0, "window": None, "sha256": "p"},
        "mask": {"sha256": "m", "runs": encode_runs(mask)},
        "versions": {"onnxruntime-web": "1"},
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(facts))
    near, far = mask.copy(), mask.copy()
    near[10, 10:12] = 0
    far[10:14] = 0
    assert Report.read(path).require_mask("other", near) == pytest.approx(2 * 398 / 798)
    with pytest.raises(ValueError, match=re.escape(f"at least {TOLERANCE}")):
        Report.read(path).require_mask("other", far)
    path.write_text(json.dumps(facts | {"versions": {"torch": version("torch")}}))
    with pytest.raises(ValueError, match="the report promises m"):
        Report.read(path).require_mask("other", near)


# The worker itself, without a browser: `ask` sends it a request and returns its answer; `heard` has the events.
WORKER = """
    const [heard, answers] = [[], new Map()];
    globalThis.self = {
        location: { href: input.base ?? "file:///" },
        postMessage: ({ id, event, ...answer }) => (event ? heard.push(event) : answers.set(id, answer)),
    };
    Object.defineProperty(globalThis, "navigator", { value: {}, configurable: true });
    await import(`${core}/worker.js`);
    let last = 0;
    const ask = async (type, request) => {
        const id = ++last;
        await self.onmessage({ data: { id, type, ...request } });
        if (answers.get(id).error) throw new Error(answers.get(id).error);
        return answers.get(id).result;
    };
    const bytes = Uint8Array.from(atob(input.file ?? ""), (letter) => letter.charCodeAt(0));
"""


@pytest.fixture(scope="session")
def packages():
    """Install the page's packages; skip a test that needs them where that fails."""
    from build import install

    try:
        install()
    except RuntimeError as error:
        pytest.skip(f"the page's packages cannot be installed: {str(error)[-300:]}")


@pytest.fixture
def opened(node, packages):
    """Open a file in the worker, and return its answer, the sha256 of the pixels among it."""

    def run(path, axis=2):
        script = """const { sha256 } = await import(`${core}/core/picture.js`);
            const { picture, axes, message } = await ask("open", { bytes, axis: input.axis, rule: null }).catch((e) => e);
            print(message ?? { ...picture, axes, sha256: await sha256(picture.pixels), pixels: null });"""
        return node(WORKER + script, {"file": base64.b64encode(path.read_bytes()).decode(), "axis": axis})

    return run


def nifti(path, shape=(9, 11, 13), affine=None, sform=0, qform=0, kind=nibabel.Nifti1Header, **facts):
    """Write a volume of random values whose header states just this."""
    values = np.random.default_rng(0).integers(0, 1000, shape).astype(np.int16)
    header = kind()
    header.set_data_shape(shape)
    header.set_data_dtype(values.dtype)
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    header["pixdim"][1:4] = 1.5, 0.7, 2
    if qform:
        header.set_qform(np.diag([-2.0, 3.0, 4.0, 1.0]))
    if sform:
        header["srow_x"], header["srow_y"], header["srow_z"] = np.array(affine)[:3]
    header["sform_code"], header["qform_code"] = sform, qform
    for name, value in facts.items():
        header[name] = value
    path.write_bytes(header.binaryblock + bytes(4) + values.tobytes("F"))
    return path


SHEARED = [[1.5, 0.4, 0, 0], [0, 0.7, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]
ROTATED = [[0, 0.6, 0, 5], [-0.8, 0, 0, 1], [0, 0, 2.5, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({}, id="neither form"),
        pytest.param({"qform": 1}, id="qform"),
        pytest.param({"affine": ROTATED, "sform": 1, "pixdim": [1, 9, 9, 9, 1, 1, 1, 1]}, id="sform"),
        pytest.param({"affine": ROTATED, "sform": 1, "qform": 2}, id="both"),
        pytest.param({"affine": ROTATED, "sform": 1, "qform": 2, "kind": nibabel.Nifti2Header}, id="both, NIfTI-2"),
        pytest.param({"qform": 1, "kind": nibabel.Nifti2Header}, id="qform, NIfTI-2"),
        pytest.param({"affine": SHEARED, "sform": 1, "qform": 1}, id="sheared"),
        pytest.param({"affine": np.zeros((4, 4)), "sform": 1}, id="singular"),
        pytest.param({"qform": 1, "xyzt_units": 3}, id="micrometres"),
        pytest.param({"xyzt_units": 1}, id="metres"),
        pytest.param({"pixdim": [1, 0, 0, 0, 1, 1, 1, 1]}, id="no voxel sizes"),
        pytest.param({"affine": ROTATED, "sform": 1, "vox_offset": 0}, id="no offset"),
        pytest.param({"kind": nibabel.Nifti2Header, "vox_offset": 0}, id="no offset, NIfTI-2"),
    ],
)
def test_nifti_headers_are_understood_alike(opened, tmp_path, facts):
    path = nifti(tmp_path / "volume.nii", **facts)
    for axis in (0, 1, 2):
        got, expected = opened(path, axis), read(path, axis=axis)
        assert (got["height"], got["width"], got["sha256"]) == (
            expected.height,
            expected.width,
            expected.ref.sha256,
        )
        assert got["spacing"] == (None if expected.spacing_mm is None else pytest.approx(expected.spacing_mm, rel=1e-6))


@pytest.mark.parametrize("shape", [(40, 30, 1), (40, 30, 5), (5, 30, 40), (40, 5, 30), (5, 6, 7), (20, 21, 22)])
def test_slices_too_small_to_segment_give_way_to_another_axis_alike(opened, tmp_path, shape):
    path = nifti(tmp_path / "volume.nii", shape, affine=np.diag([-1.0, -1, 1, 1]), sform=1)
    volume = read_volume(path)
    for axis in (0, 1, 2):
        got = opened(path, axis)
        if min(shape[:2]) < 8 and volume.slice_axis(axis) == 2:
            assert got == "errors.small"
        else:
            assert (got["axis"], tuple(got["axes"])) == (volume.slice_axis(axis), volume.slice_axes)


def test_what_is_open_stays_open_where_another_file_is_refused(node, packages, tmp_path):
    path = nifti(tmp_path / "volume.nii")
    small = nifti(tmp_path / "small.nii", (5, 6, 7))
    script = """
        await ask("open", { bytes, axis: 2, rule: null });
        const small = Uint8Array.from(atob(input.small), (letter) => letter.charCodeAt(0));
        const { message } = await ask("open", { bytes: small, axis: 2, rule: null }).catch((error) => error);
        const { picture } = await ask("slice", { axis: 2, index: 3, window: null, rule: null });
        print([message, picture.height, picture.width]);"""
    given = {name: base64.b64encode(file.read_bytes()).decode() for name, file in (("file", path), ("small", small))}
    assert node(WORKER + script, given) == ["errors.small", 11, 9]


@pytest.mark.parametrize("affine", [None, ROTATED, [[0, 0, 2.5, 0], [-0.8, 0, 0, 1], [0, 0.6, 0, 5], [0, 0, 0, 1]]])
def test_flat_nifti_files_are_turned_alike(opened, tmp_path, affine):
    path = nifti(tmp_path / "flat.nii", (9, 11), affine=affine, sform=int(affine is not None))
    got, expected = opened(path), read(path)
    assert (got["height"], got["width"], got["sha256"]) == (expected.height, expected.width, expected.ref.sha256)
    assert got["spacing"] == pytest.approx(expected.spacing_mm, rel=1e-6)


def test_a_file_that_is_never_read_ends_within_the_limit(node):
    script = """
        const ended = [];
        globalThis.Worker = class {
            postMessage({ id, bytes }) {
                if (bytes) setTimeout(() => this.onmessage({ data: { id, result: { picture: bytes } } }));
            }
            terminate() { ended.push(this); }
        };
        const { Engine } = await import(`${core}/engine.js`);
        const engine = new Engine("worker.js", 50);
        await engine.open("first");
        const stuck = await engine.open(null).catch(({ message }) => message);
        const [overtaken] = await Promise.all([engine.open(null), engine.open("second")]);
        const lost = [engine.file, engine.networks].some((thread) => ended.includes(thread.worker));
        print([stuck, overtaken, engine.picture, new Set(ended).size, lost]);"""
    # Ended: the worker of the stuck file, of the overtaken one, and of the first one when the second is open.
    assert node(script) == ["errors.slow", None, "second", 3, False]


def test_a_deep_picture_has_one_axis_whatever_the_checkpoint_wants(opened, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 60000, (20, 30)).astype(np.uint16)).save(path)
    got = opened(path, axis=0)
    assert (got["axis"], got["height"], got["width"], got["axes"]) == (2, 20, 30, [2])


def dicom(path, pixels, **facts):
    """Write a secondary capture of grey values, with more attributes."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dataset.FileDataset("", {}, file_meta=pydicom.dataset.FileMetaDataset(), preamble=b"\0" * 128)
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelData = pixels.tobytes()
    for name, value in facts.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", ""])
@pytest.mark.parametrize("width", ["300", "0.5"])
def test_dicom_windows_are_computed_alike(opened, tmp_path, function, width):
    pixels = np.random.default_rng(0).integers(0, 1000, (20, 24)).astype(np.uint16)
    window = {"WindowCenter": "400", "WindowWidth": width, "VOILUTFunction": function}
    path = dicom(tmp_path / "image.dcm", pixels, **window)
    got, expected = opened(path, axis=0), read(path)
    assert got["window"] == pytest.approx(expected.window)
    assert (got["axis"], got["sha256"]) == (2, expected.ref.sha256)


@pytest.mark.parametrize(
    ("most", "kind", "facts"),
    [
        (200, np.uint16, {"BitsStored": 8, "HighBit": 7}),
        (50, np.uint8, {"BitsStored": 6, "HighBit": 5}),
        (200, np.uint8, {"RescaleSlope": "3", "RescaleIntercept": "-90"}),
        (100, np.uint8, {"PixelRepresentation": 1}),
    ],
)
def test_dicom_without_a_window_is_shown_alike(opened, tmp_path, most, kind, facts):
    pixels = np.random.default_rng(0).integers(0, most, (20, 24)).astype(kind)
    path = dicom(tmp_path / "image.dcm", pixels, **facts)
    got, expected = opened(path), read(path)
    assert got["window"] == pytest.approx(expected.window)
    assert got["sha256"] == expected.ref.sha256


@pytest.mark.parametrize("own", [False, True])
def test_functional_groups_of_multi_frame_dicom_are_read_alike(opened, tmp_path, own):
    from pydicom.dataset import Dataset

    def groups(slope, centre):
        rule, window, place, item = Dataset(), Dataset(), Dataset(), Dataset()
        rule.RescaleSlope, rule.RescaleIntercept = slope, -1024
        window.WindowCenter, window.WindowWidth = centre, 400
        place.PixelSpacing = [0.7, 0.4]
        item.PixelValueTransformationSequence, item.FrameVOILUTSequence = [rule], [window]
        item.PixelMeasuresSequence = [place]
        return item

    pixels = np.random.default_rng(0).integers(0, 2000, (60, 24)).astype(np.uint16)  # three frames below one another
    facts = {"NumberOfFrames": 3, "Rows": 20, "RescaleSlope": 9, "SharedFunctionalGroupsSequence": [groups(1, 40)]}
    if own:
        facts["PerFrameFunctionalGroupsSequence"] = [groups(slope, 40 + 10 * slope) for slope in (1, 2, 3)]
    path = dicom(tmp_path / "image.dcm", pixels, **facts)
    got, expected = opened(path), read(path)
    assert got["window"] == pytest.approx(expected.window)
    assert got["spacing"] == pytest.approx(expected.spacing_mm)
    assert got["sha256"] == expected.ref.sha256


def test_dicom_that_the_page_does_not_decode_is_not_called_damaged(opened, tmp_path):
    pixels = np.zeros((20, 24), np.uint8)
    facts = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PixelData": bytes(2 * pixels.size)}
    path = dicom(tmp_path / "image.dcm", pixels, PhotometricInterpretation="YBR_FULL_422", **facts)
    assert opened(path) == "errors.no_picture"


def test_dicom_with_a_palette_is_refused(opened, tmp_path):
    pixels = np.zeros((20, 24), np.uint8)
    path = dicom(tmp_path / "image.dcm", pixels, PhotometricInterpretation="PALETTE COLOR")
    assert opened(path) == "errors.palette"


# Two networks that find the same everywhere, in place of onnxruntime-web. Each has a file of one byte.
RUNTIME = """
export const env = { wasm: {}, versions: { web: "0" } };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { data, dims }); } getData() { return this.data; } }
const released = (globalThis.released = []);
export const InferenceSession = { async create([byte]) {
    let open = true;
    return {
        inputNames: [], outputNames: ["output"],
        async run(feeds) {
            if (!open) throw new Error("this session was released");
            if (feeds.x_t) return { output: new Tensor("", feeds.x_t.data.map(() => 0.3)) };
            return { anchor_logits: new Tensor("", new Float32Array(64)) };
        },
        async release() { open = false; released.push(byte); },
    };
} };
"""


def checkpoint(task, byte, **domain):
    """A checkpoint as `model.json` describes it, whose files hold one byte each."""
    facts = {"bytes": 1, "sha256": hashlib.sha256(bytes([byte])).hexdigest()}
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2), 1)
    return {
        "kind": "v2",
        "checkpoint": {"task": task, "sha256": task},
        "domain": {"task": task, "labels": ["lesion"], **domain},
        "image": {"size": 8, "channels": 3},
        "mask": {"channels": 1, "classes": 1},
        "diffusion": {**asdict(diffusion.config), "alpha_bar": listed(diffusion.schedule.alpha_bar)},
        "traces": [],
        "files": {"condition.onnx": facts, "denoiser.onnx": facts},
        "byte": byte,
    }


# `models` are served by name, each after the promise in `slow` if there is one.
SERVED = (
    WORKER
    + """
    const slow = {};
    globalThis.fetch = async (url) => {
        const [, name, file] = /models\\/(\\w+)\\/(\\w+\\.\\w+)/.exec(url);
        await slow[name];
        const model = input.models[name];
        return new Response(file === "model.json" ? JSON.stringify(model) : Uint8Array.of(model.byte));
    };
    const settings = { members: 2, steps: 2, tolerance: 0, sampler: "ddim", spacing: "trailing", eta: 0, anchor_weight: 0,
        fuse: "mean", noise: "independent", mirror: "none", seed: 0, size: 0, trace: true };
    const { picture } = await ask("open", { bytes, axis: 2, rule: null });
"""
)


@pytest.fixture
def served(node, packages, tmp_path):
    """Run a script in which the worker has a picture open and may load models."""
    (tmp_path / "ort").mkdir()
    (tmp_path / "ort" / "ort.wasm.bundle.min.mjs").write_text(RUNTIME)
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 60000, (8, 8)).astype(np.uint16)).save(path)
    given = {"base": f"{tmp_path.as_uri()}/worker.js", "file": base64.b64encode(path.read_bytes()).decode()}
    return lambda script, **models: node(SERVED + script, {**given, "models": models})


def test_the_model_chosen_last_is_the_one_that_runs(served):
    script = """
        let begin;
        slow.first = new Promise((resolve) => (begin = resolve));
        const first = ask("load", { name: "first", backend: "wasm-1" });
        const second = await ask("load", { name: "second", backend: "wasm-1" });
        begin();
        const answer = await first;
        const { report } = await ask("run", { number: 9, picture, settings });
        print([answer, second.model.domain.task, report.checkpoint.task, released]);"""
    got = served(script, first=checkpoint("first", 1), second=checkpoint("second", 2))
    assert got == [None, "second", "second", [1, 1]]


def test_noisy_masks_are_shown_without_wrapping_round(served):
    script = """
        await ask("load", { name: "first", backend: "wasm-1" });
        await ask("run", { number: 9, picture, settings: { ...settings, members: 10 } });
        const step = heard.find(({ kind }) => kind === "step");
        const { MemberNoise } = await import(`${core}/core/noise.js`);
        print([Array.from(new MemberNoise(0, 10).draw(64)), Array.from(step.noisy)]);"""
    noise, shown = map(np.array, served(script, first=checkpoint("first", 1)))
    assert abs(noise).max() > 2.75  # at t = 999, black and white lie near 2.5 standard deviations
    assert (shown[noise > 2.75] == 255).all()
    assert (shown[noise < -2.75] == 0).all()


def test_a_report_is_replayed_with_its_own_temperature(served):
    script = """
        await ask("load", { name: "first", backend: "wasm-1" });
        const found = [];
        for (const temperature of [undefined, null, 2.5]) {
            const { report, probability } = await ask("run", { number: 9, picture, settings, temperature });
            found.push([report.temperature, probability[0]]);
        }
        print(found);"""
    (own, warm), also, (given, hot) = served(script, first=checkpoint("first", 1, temperature=1.5))
    assert (own, given) == (1.5, 2.5)
    assert also == [own, warm]
    diffusion = Diffusion(DiffusionConfig(parametrization="x_0", scale=0.2), 1)
    x_0 = diffusion.x_0_of_logits(torch.full((1, 1, 1, 1), 0.3))
    for temperature, share in ((1.5, warm), (2.5, hot)):
        assert share == pytest.approx(float(diffusion.probability(x_0, temperature)[0, -1]), abs=1e-6)


def test_reports_are_understood_alike(node, tmp_path):
    facts = {
        "settings": {"seed": 3, "size": 128, "switches": {}},
        "checkpoint": {"sha256": "w"},
        "dtype": "float32",
        "picture": {"axis": 2, "index": 0, "window": None, "sha256": "p"},
        "mask": {"sha256": "m"},
    }
    versions = {"versions": {"onnxruntime-web": "1"}}
    cases = [facts, {**facts, **versions}, {**facts, "temperature": 1.25}, {**facts, **versions, "temperature": 1.25}]
    script = """const { parse } = await import(`${core}/core/report.js`);
        print(input.map((facts) => {
            try {
                const { temperature, settings } = parse(JSON.stringify(facts));
                return [temperature, settings.size];
            } catch (error) {
                return error.message;
            }
        }));"""
    refused = [{**facts, "temperature": 0}, {**facts, "dtype": "bfloat16"}]
    *got, cold, coarse = node(script, cases + refused)
    for case, found in zip(cases, got, strict=True):
        path = tmp_path / "report.json"
        path.write_text(json.dumps(case))
        report = Report.read(path)
        assert found == [report.temperature, report.settings.size]
    assert (cold, coarse) == ("errors.report", "errors.report_dtype")


def test_what_is_kept_offline_has_a_new_version_when_any_of_it_changes(packages, tmp_path):
    def version_with(file=None, content=""):
        if file:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(content)
        subprocess.run(["node", "build.mjs", tmp_path], check=True, cwd=WEB)
        return re.search(r"shell-(\w{12})", (tmp_path / "sw.js").read_text())[1]

    versions = [version_with("models.json", "[]")]
    versions += [
        version_with("models/x/model.json", "1"),
        version_with("models/x/model.json", "2"),
        version_with("examples/x.png"),
        version_with("ort/another.wasm"),
    ]
    assert len(set(versions)) == 5
    assert version_with("models/x/denoiser.onnx") == version_with() == versions[-1]  # its address has its digest


def test_every_text_of_the_page_is_there_in_both_languages():
    books = {language: words(language, "web").sentences for language in LANGUAGES}
    own = {language: {key for key in book if key.startswith("web.")} for language, book in books.items()}
    assert own["en"] == own["zh"]
    for key in own["en"]:
        names = [sorted(re.findall(r"\{(\w+)\}", book[key])) for book in books.values()]
        assert names[0] == names[1], key
    sources = [*(WEB / "src").rglob("*.js"), WEB / "index.html"]
    used = {
        key
        for path in sources
        for key in re.findall(r"[\"`]((?:web|errors|page|settings)\.[\w.]+)[\"`]", path.read_text())
    }
    used = {f"web.{key}" if key.startswith("errors.") else key for key in used}
    assert sorted(used - books["en"].keys()) == []
    built = ("web.result.", "web.inside.", "web.task.", "web.image.axis_")  # put together from parts
    assert sorted(key for key in own["en"] - used if not key.startswith(built)) == []
