"""The command line on real files: outputs and errors."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from medsegdiff.__main__ import main
from medsegdiff.checkpoint import load, save
from medsegdiff.config import DiffusionConfig, Domain, V1Config, V2Config
from medsegdiff.data.dataset import Split
from medsegdiff.data.folders import cases
from medsegdiff.data.synthetic import draw
from medsegdiff.imaging import read
from medsegdiff.nn.build import build
from medsegdiff.replay import Report, encode_runs

RUN = ["--members", "2", "--steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("command") / "lesions"
    torch.manual_seed(0)
    config = V2Config(image_size=32, stem=2, widths=(8, 16), condition_widths=(8, 16), token_width=16, blocks=1)
    facts = {"command": "python -m medsegdiff train", "recipe": {"phantoms": 0.5}, "iterations_done": 0, "pictures": 2}
    domain = Domain(task="skin-lesion", modality="drawn", labels=("lesion",), licence="CC0; weights free")
    diffusion = DiffusionConfig(parametrization="x_0")
    save(path, build(config), model_config=config, diffusion=diffusion, domain=domain, training=facts)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "val"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for seed in range(3):
        phantom = draw("skin-lesion", seed, 64)
        Image.fromarray(phantom.image).save(root / "images" / f"case{seed // 2}_slice{seed}.png")
        Image.fromarray(phantom.labels).save(root / "masks" / f"case{seed // 2}_slice{seed}.png")
    return root.parent


def test_segment_writes_mask_probability_disagreement_and_sidecar(
    checkpoint: str, folder: Path, tmp_path: Path
) -> None:
    image = folder / "val" / "images" / "case0_slice0.png"
    assert main(["segment", str(image), "--checkpoint", checkpoint, "--out", str(tmp_path), *RUN]) == 0
    facts = json.loads((tmp_path / "case0_slice0.json").read_text())
    with Image.open(tmp_path / "case0_slice0_mask.png") as file:
        mask = np.asarray(file)
    assert mask.shape == (64, 64)
    assert facts["areas"]["lesion"]["pixels"] == np.count_nonzero(mask)
    assert facts["settings"]["members"] == 2
    assert len(facts["checkpoint"]["sha256"]) == 64
    for name in ("probability", "disagreement"):
        with Image.open(tmp_path / f"case0_slice0_{name}.png") as file:
            assert file.mode.startswith("I")  # 16 bits


def test_segment_returns_a_volume_with_its_geometry(checkpoint: str, tmp_path: Path) -> None:
    volume = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(5, 24, 20)).astype(np.float32))
    volume.SetSpacing((1.0, 2.0, 3.0))
    volume.SetOrigin((-7.0, 8.0, 9.0))
    sitk.WriteImage(volume, tmp_path / "brain.nii.gz")
    arguments = ["segment", str(tmp_path / "brain.nii.gz"), "--checkpoint", checkpoint, "--out", str(tmp_path), *RUN]
    assert main(arguments) == 0
    mask = sitk.ReadImage(tmp_path / "brain_mask.nii.gz")
    assert mask.GetSize() == (20, 24, 5)
    np.testing.assert_allclose(mask.GetSpacing(), volume.GetSpacing(), rtol=1e-6)  # the header holds float32
    np.testing.assert_allclose(mask.GetOrigin(), volume.GetOrigin(), rtol=1e-6)
    assert json.loads((tmp_path / "brain.json").read_text())["volume"]["slices"] == 5
    for name in ("probability", "disagreement"):
        values = sitk.ReadImage(tmp_path / f"brain_{name}.nii.gz")
        assert values.GetOrigin() == mask.GetOrigin()
        assert 0 <= sitk.GetArrayFromImage(values).min() <= sitk.GetArrayFromImage(values).max() <= 1


def test_slices_too_small_along_the_axis_of_the_task_are_cut_along_another(checkpoint: str, tmp_path: Path) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "sagittal")
    config = json.loads((other / "config.json").read_text())
    config["domain"]["axis"] = 0
    (other / "config.json").write_text(json.dumps(config))
    thin = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(5, 24, 20)).astype(np.float32))
    sitk.WriteImage(thin, tmp_path / "thin.nii.gz")
    out = tmp_path / "out"
    words = ["segment", str(tmp_path / "thin.nii.gz"), "--checkpoint", str(other), "--out", str(out), *RUN]
    assert main([*words, "--index", "2"]) == 0
    assert json.loads((out / "thin.json").read_text())["picture"]["axis"] == 2
    assert main([*words, "--axis", "0", "--overwrite"]) == 2  # not where the axis is chosen


def brain(path: Path) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(9, 12, 10)).astype(np.float32)), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("view", [[], ["--axis", "1"], ["--axis", "0", "--index", "3", "--window", "-1", "1"]])
def test_a_report_replays_to_the_same_mask(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture, view: list[str]
) -> None:
    path, out = brain(tmp_path / "brain.nii.gz"), tmp_path / "out"
    first = ["segment", str(path), "--checkpoint", checkpoint, "--out", str(out), *RUN, "--seed", "5", *view]
    assert main(first) == 0
    again = ["segment", str(path), "--checkpoint", checkpoint, "--out", str(tmp_path / "again"), "--device", "cpu"]
    assert main([*again, "--replay", str(out / "brain.json")]) == 0
    assert "the same mask" in capsys.readouterr().out
    reports = [json.loads((folder / "brain.json").read_text()) for folder in (out, tmp_path / "again")]
    assert reports[0]["mask"] == reports[1]["mask"]
    assert reports[0]["settings"] == reports[1]["settings"]

    changed = tmp_path / "changed" / "brain.nii.gz"
    changed.parent.mkdir()
    volume = sitk.ReadImage(path)
    volume[3, 3, 3] = 5.0
    sitk.WriteImage(volume, changed)
    again[1] = str(changed)
    assert main([*again, "--replay", str(out / "brain.json")]) == 2
    assert "the very same file" in capsys.readouterr().err


def test_a_replay_uses_the_threads_of_the_report_and_compares_by_dice_where_the_arithmetic_differs(
    checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image, report = str(folder / "val" / "images" / "case0_slice0.png"), tmp_path / "case0_slice0.json"
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert main(["segment", image, "--checkpoint", checkpoint, "--out", str(tmp_path), *RUN]) == 0
        assert "case0_slice0: lesion" in capsys.readouterr().out
        facts = json.loads(report.read_text())
        assert facts["arithmetic"]["threads"] == 2
        assert set(facts["confidence"]["lesion"]) == {"pairwise_dice", "pixels"}
        torch.set_num_threads(1)
        again = ["segment", image, "--checkpoint", checkpoint, "--replay", str(report), "--out"]
        assert main([*again, str(tmp_path / "same")]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert "the same mask, sha256" in capsys.readouterr().out

    labels = np.zeros((64, 64), np.uint8)
    labels[:32] = 1
    kept, other = encode_runs(labels), "1" * 64
    found = Report.read(report)
    assert found.arithmetic is not None
    here, elsewhere = found.arithmetic, replace(found.arithmetic, instructions="other")
    labels[32, 0] = 1  # a pixel more
    with pytest.raises(ValueError, match="the report promises"):  # nothing differs that explains it
        replace(found, runs=kept).require_mask(other, labels, here)
    assert 0.995 < replace(found, runs=kept).require_mask(other, labels, elsewhere) < 1
    assert 0.995 < replace(found, runs=kept, torch_version="1.0").require_mask(other, labels, here) < 1
    with pytest.raises(
        ValueError, match=r"at least 0\.995 is expected where \(cpu, 2 threads, .*\) and \(cpu, 2 threads, oth"
    ):
        replace(found, runs=kept).require_mask(other, 1 - labels, elsewhere)


def test_a_report_of_a_16_bit_colour_picture_replays(checkpoint: str, tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    colours = np.random.default_rng(0).integers(0, 2**16, (32, 32, 3), np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    common = ["segment", str(path), "--checkpoint", checkpoint]
    assert main([*common, "--out", str(tmp_path), *RUN]) == 0
    facts = json.loads((tmp_path / "deep.json").read_text())
    assert facts["picture"]["window"] == [0, 65535]
    assert main([*common, "--out", str(tmp_path / "again"), "--replay", str(tmp_path / "deep.json")]) == 0
    with pytest.raises(ValueError, match="this picture is in colour"):
        read(path, window=(0.0, 255.0))


def test_a_replay_uses_the_temperature_of_the_report(organs: Path, folder: Path, tmp_path: Path) -> None:
    image = str(folder / "val" / "images" / "case0_slice0.png")
    sharp = shutil.copytree(organs, tmp_path / "sharp")
    config = json.loads((sharp / "config.json").read_text())
    config["domain"]["temperature"] = 0.05  # as `calibrate` writes it
    (sharp / "config.json").write_text(json.dumps(config))
    facts = {}
    for name in (organs, sharp):
        words = [
            "segment",
            image,
            "--checkpoint",
            str(name),
            "--out",
            str(tmp_path / name.name),
            "--fuse",
            "mean",
            *RUN,
        ]
        assert main(words) == 0
        facts[name] = json.loads((tmp_path / name.name / "case0_slice0.json").read_text())
    before = facts[organs]
    assert before["mask"]["sha256"] != facts[sharp]["mask"]["sha256"]
    older = {name: value for name, value in before.items() if name != "temperature"}  # there were none yet
    for number, found in enumerate((before, older)):
        (report := tmp_path / f"{number}.json").write_text(json.dumps(found))
        again = [
            "segment",
            image,
            "--checkpoint",
            str(sharp),
            "--replay",
            str(report),
            "--out",
            str(tmp_path / "again"),
        ]
        assert main([*again, "--overwrite"]) == 0
        repeated = json.loads((tmp_path / "again" / "case0_slice0.json").read_text())
        assert (repeated["mask"], repeated["temperature"]) == (before["mask"], 1.0)


def test_a_report_of_other_weights_or_of_nothing_is_refused(
    checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = str(folder / "val" / "images" / "case0_slice0.png")
    assert main(["segment", image, "--checkpoint", checkpoint, "--out", str(tmp_path), *RUN]) == 0
    report = tmp_path / "case0_slice0.json"
    facts = json.loads(report.read_text())
    for key, value, sentence in (
        ("checkpoint", {"sha256": "0" * 64}, "no checkpoint here has the sha256 000000000000"),
        ("settings", {"members": 3}, "no report of a run"),
        ("mask", {"sha256": "1" * 64}, "the report promises 111111111111"),
    ):
        report.write_text(json.dumps(facts | {key: value}))
        chosen = ["--checkpoint", checkpoint] if key == "mask" else []
        assert main(["segment", image, "--out", str(tmp_path / "b"), "--replay", str(report), *chosen]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_scores_volumes_as_volumes(checkpoint: str, tmp_path: Path) -> None:
    brain_path = tmp_path / "val" / "images" / "brain.nii.gz"
    brain_path.parent.mkdir(parents=True)
    brain(brain_path)
    (tmp_path / "val" / "masks").mkdir()
    truth = np.zeros((9, 12, 10), np.uint8)
    truth[2:6, 3:8, 4:8] = 1
    sitk.WriteImage(sitk.GetImageFromArray(truth), tmp_path / "val" / "masks" / "brain.nii.gz")
    common = ["--checkpoint", checkpoint, *RUN]
    report = tmp_path / "report.json"
    assert main(["evaluate", "--data", str(tmp_path), "--json", str(report), "--axis", "0", *common]) == 0
    [case] = json.loads(report.read_text())["cases"]
    assert main(["segment", str(brain_path), "--out", str(tmp_path), "--axis", "0", *common]) == 0
    mask = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "brain_mask.nii.gz"))
    both = 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))
    assert case["name"] == "brain"
    # One slice at a time or several: the network's last digits differ, and a voxel at an edge with them.
    assert case["dice"] == pytest.approx([both], abs=0.02)


@pytest.mark.slow
def test_evaluate_pools_slices_and_the_card_quotes_what_was_measured(
    checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report = tmp_path / "report.json"
    arguments = ["evaluate", "--checkpoint", checkpoint, "--data", str(folder), "--json", str(report), *RUN]
    noisy = ["--eta", "0.5", "--anchor-weight", "0.25"]
    assert main([*arguments, "--cases", r"(case\d+)", *noisy]) == 0
    result = json.loads(report.read_text())
    assert [case["name"] for case in result["cases"]] == ["case0", "case1"]
    assert {
        "mean_dice",
        "per_class",
        "mean_iou",
        "mean_hd95",
        "ece",
        "seconds_per_image",
        "empty_truth",
        "settings",
    } <= set(result)
    assert "| lesion |" in capsys.readouterr().out

    measured, page = tmp_path / "results" / Path(checkpoint).name, tmp_path / "page.md"
    measured.mkdir(parents=True)
    shutil.copy(report, measured / "5x10.json")
    assert main([*arguments, "--anchor", "--json", str(measured / "anchor.json")]) == 0
    (measured / "curve.jsonl").write_text('{"iteration": 3, "dice_steps_1": 0.123}\n')
    (compared := measured.parent / "compare" / load(checkpoint).domain.task).mkdir(parents=True)
    for size, seed, dice in ((64, 0, 0.85), (64, 1, 0.65), (128, 0, 0.79), (128, 1, 0.81)):
        plain = {"mean_dice": dice, "ece": 0.1, "settings": {"minutes": 10.2, "baseline": f"unet@{size}"}}
        (compared / f"unet-{size}-seed{seed}.json").write_text(json.dumps(plain))
    page.write_text("before <!-- results --> old <!-- end --> after")
    write = ["card", checkpoint, "--results", str(measured), "--summary", str(page)]
    assert main(write) == 0
    card = (Path(checkpoint) / "README.md").read_text()
    assert card.index("| anchor only") < card.index(f"{result['mean_dice']:.4f}")
    assert {"license: cc0-1.0", "| 3 | 0.123 |"} <= set(card.splitlines())
    assert "Not a medical device" in card
    assert " ".join(noisy) in card
    assert "eta 0.5, anchor weight 0.25 |" in card
    assert f"| `{Path(checkpoint).name}` |  | {result['mean_dice']:.3f} |" in page.read_text()
    assert "| 10, 0.800, 0.1000 |" in page.read_text()  # of two plain U-Nets the better over its seeds
    assert page.read_text().endswith("<!-- end --> after")

    result["settings"]["sha256"] = "0" * 64
    (measured / "5x10.json").write_text(json.dumps(result))
    assert main(write) == 2
    assert "was measured on weights 00000000" in capsys.readouterr().err
    assert (Path(checkpoint) / "README.md").read_text() == card


@pytest.mark.slow
def test_the_card_compares_members_with_several_readers(checkpoint: str, tmp_path: Path) -> None:
    data, measured = tmp_path / "data" / "val", tmp_path / "results"
    for name, part in (
        ("images", slice(0)),
        ("masks_1", slice(8, 24)),
        ("masks_2", slice(12, 20)),
        ("masks_3", slice(0)),
    ):
        (data / name).mkdir(parents=True)
        pixels = np.zeros((32, 32), np.uint8)
        pixels[part, part] = 1
        Image.fromarray(pixels).save(data / name / "a.png")
    measured.mkdir()
    run = ["evaluate", "--checkpoint", checkpoint, "--data", str(data.parent), "--json", str(measured / "1x1.json")]
    assert main([*run, "--members", "1", "--steps", "1", "--device", "cpu"]) == 0
    assert main(["card", checkpoint, "--results", str(measured)]) == 0
    card, found = (Path(checkpoint) / "README.md").read_text(), json.loads((measured / "1x1.json").read_text())
    assert f"the readers' own diversity is {found['reader_diversity']:.3f}" in card
    assert f"| 2 | 1 | {found['ged']:.3f} |" in card  # one picture, which two of three readers marked


def test_the_card_of_an_own_training_holds_what_is_recorded_and_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, measured = tmp_path / "runs" / "mine" / "checkpoint", tmp_path / "results"
    config = V2Config(
        image_size=32, stem=2, widths=(8, 16), condition_widths=(8, 16), token_width=16, blocks=1, classes=2
    )
    command = "python -m medsegdiff train --preset v2-tiny --data DATA/mine --out RUN --labels cyst --size 32 --seed 0"
    facts = {"command": command, "recipe": {"phantoms": 0, "held": 8}, "iterations_done": 5, "pictures": 2}
    facts["recipe_file"] = {"name": "small.toml", "content": {"size": 32}}
    domain = Domain(
        task="breast-ultrasound", modality="", labels=("cyst", "lesion"), source="own", licence="not stated"
    )
    digest = save(run, build(config), model_config=config, diffusion=DiffusionConfig(), domain=domain, training=facts)
    measured.mkdir()
    unknown = {"dice": None, "interval": [None, None], "n": 0}
    settings = {"sha256": digest, "data": "mine", "anchor": False, "steps": 2, "members": 2, "sampler": "ddim"}
    settings |= {"fuse": "staple", "dtype": "float32", "spacing": "leading", "seed": 3}
    result = {"mean_dice": None, "interval": [None, None], "mean_iou": None, "mean_hd95": None, "hd95_unit": "mm"}
    result |= {"ece": None, "worst": [], "per_class": {"cyst": unknown, "lesion": unknown | {"dice": 0.5}}}
    result["intervals_over"] = {"what": "cases", "n": 9}
    for split in ("val", "test"):
        (measured / f"{split}.json").write_text(json.dumps(result | {"settings": settings | {"split": split}}))
    (measured / "report.json").write_text(json.dumps({"settings": {"steps": 2}}))
    assert main(["card", str(run), "--results", str(measured)]) == 0
    assert f"left out: {measured / 'report.json'}" in capsys.readouterr().err
    card = (run / "README.md").read_text()
    assert command in card.splitlines()  # recipes/small.toml is not here
    assert 'from_pretrained("mine")' in card
    assert "license_name: terms-of-the-data" in card
    assert "chosen on training images held out. Each row" in card  # nothing was found on `val`
    assert "| - |  | - | 0.500 | - | - | - | 0 |" in card
    row = "evaluate --checkpoint mine --data DATA/mine{} --members 2 --steps 2 --spacing leading --seed 3"
    assert {f"python -m medsegdiff {row.format(split)}" for split in ("", " --split test")} <= {*card.splitlines()}


@pytest.mark.parametrize("ending", [".png", ".nii.gz"])
def test_a_dicom_seg_of_another_file_is_refused_before_the_run(
    ending: str, checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = folder / "val" / "images" / "case0_slice0.png"
    if ending == ".nii.gz":
        brain(path := tmp_path / "brain.nii.gz")
    out = tmp_path / "out"
    assert main(["segment", str(path), "--seg", "--checkpoint", checkpoint, "--out", str(out), *RUN]) == 2
    assert "leave out --seg" in capsys.readouterr().err
    assert not any(out.iterdir())


def test_evaluate_scores_the_anchor_alone_and_refuses_to_for_v1(
    checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["evaluate", "--checkpoint", checkpoint, "--data", str(folder), "--anchor", *RUN]) == 0
    config = V1Config(image_size=32, stem=2, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1))
    domain = Domain(task="skin-lesion", modality="drawn", labels=("lesion",))
    save(tmp_path / "v1", build(config), model_config=config, diffusion=DiffusionConfig(), domain=domain, training={})
    assert main(["evaluate", "--checkpoint", str(tmp_path / "v1"), "--data", str(folder), "--anchor", *RUN]) == 2
    assert "no anchor" in capsys.readouterr().err


def test_results_are_not_overwritten_and_a_bad_file_does_not_stop_the_others(
    checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source, out = folder / "val" / "images" / "case0_slice0.png", tmp_path / "out"
    uids = [tmp_path / f"1.2.840.113619.{i}" for i in (1, 2)]
    for path in uids:
        shutil.copy(source, path)
    (bad := tmp_path / "bad.png").write_bytes(b"no picture")
    (none := tmp_path / "none").mkdir()
    given = [str(path) for path in (none, uids[0], bad, uids[1])]
    assert main(["segment", *given, "--checkpoint", checkpoint, "--out", str(out), *RUN]) == 2
    said = capsys.readouterr().err
    assert "bad.png: the content" in said
    assert f"{none}: this folder holds no DICOM series" in said
    failed = f"2 of 4 files could not be segmented ({none}, {bad}); the results of the others are in {out}"
    assert said.strip().endswith(failed)
    for path in uids:
        assert {(out / f"{path.name}{end}").exists() for end in (".json", "_mask.png")} == {True}

    again = ["segment", str(uids[1]), "--checkpoint", checkpoint, "--out", str(out), *RUN]
    before = (out / f"{uids[1].name}.json").read_bytes()
    assert main([*again, "--seed", "7"]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert (out / f"{uids[1].name}.json").read_bytes() == before
    assert main([*again, "--seed", "7", "--overwrite"]) == 0
    assert (out / f"{uids[1].name}.json").read_bytes() != before


def test_an_encoding_without_a_sign_fails_no_file(
    checkpoint: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = TextIOWrapper(BytesIO(), encoding="gbk")
    monkeypatch.setattr(sys, "stdout", stored)
    monkeypatch.setattr("medsegdiff.commands.segment._lines", lambda name, result: ["1 mm²"])
    source = folder / "val" / "images" / "case0_slice0.png"
    assert main(["segment", str(source), "--checkpoint", checkpoint, "--out", str(tmp_path), *RUN]) == 0
    stored.flush()
    assert b"1 mm\\xb2" in stored.buffer.getvalue()


@pytest.mark.slow
def test_evaluate_names_pictures_and_masks_that_are_left_over(
    checkpoint: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder / "val", data)
    (data / "masks" / "case0_slice0.png").rename(data / "masks" / "case0_slice0_mask.png")
    words = ["evaluate", "--data", str(data), "--checkpoint", checkpoint, *RUN, "--json", str(tmp_path / "r.json")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "without a mask: images/case0_slice0.png" in said
    assert "without a picture: masks/case0_slice0_mask.png" in said
    assert main([*words, "--skip-unpaired"]) == 0
    assert "left out: 1 picture" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "r.json").read_text())["cases"]) == 2
    (data / "images" / "case0_slice1.png").write_bytes(b"damaged")
    assert main([*words, "--skip-unpaired", "--overwrite"]) == 2
    assert "1 of 2 files could not be evaluated: case0_slice1.png" in capsys.readouterr().err
    found = json.loads((tmp_path / "r.json").read_text())
    assert (len(found["cases"]), found["settings"]["failed"]) == (1, ["case0_slice1.png"])


def flat(root: Path, prefix: str, count: int) -> Path:
    """A folder without splits."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for seed in range(count):
        phantom = draw("skin-lesion", seed, 64)
        Image.fromarray(phantom.image).save(root / "images" / f"{prefix}{seed}.png")
        Image.fromarray(phantom.labels).save(root / "masks" / f"{prefix}{seed}.png")
    return root


def test_the_rule_of_training_splits_the_folder_it_was_made_for_and_no_other(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    grown, other = flat(tmp_path / "grown", "a", 6), flat(tmp_path / "other", "b", 3)
    own = shutil.copytree(checkpoint, tmp_path / "own")
    config = json.loads((own / "config.json").read_text())
    config["training"]["split"] = asdict(Split().fixed(cases(grown)))
    (own / "config.json").write_text(json.dumps(config))
    shutil.copytree(other, grown / "elsewhere")

    def scored(data: Path, *words: str, by: Path | str = own) -> tuple[int, str, str]:
        report = ["--json", str(tmp_path / "r.json"), "--overwrite", "--anchor", *RUN]
        status = main(["evaluate", "--data", str(data), "--checkpoint", str(by), *report, *words])
        if status:
            return 0, "", capsys.readouterr().err
        found = json.loads((tmp_path / "r.json").read_text())
        return len(found["cases"]), found["settings"]["split"], capsys.readouterr().err

    held, split, said = scored(grown)
    assert (held, split) == (2, "val")
    assert "2 of 6 images, the val split of training" in said
    assert scored(grown, "--split", "train")[:2] == (4, "train")
    assert scored(grown, "--split", "all")[:2] == (6, "all")
    assert scored(grown, "--split", "elsewhere")[:2] == (3, "elsewhere")
    assert (
        "no split 'validation' of a folder that is split by a rule; choose train"
        in scored(grown, "--split", "validation")[2]
    )
    found, split, said = scored(other)
    assert (found, split) == (3, "all")
    assert "other images than those of training, so all are evaluated" in said
    assert "other has no test/; leave out --split" in scored(other, "--split", "test", by=checkpoint)[2]
    for path in [case.image for case in Split().of(cases(grown), "val")]:
        path.unlink()
        (grown / "masks" / path.name).unlink()
    assert "none of the 4 images is in the val split of training" in scored(grown)[2]


def test_volumes_of_any_name_are_cases_of_a_task_whose_slices_have_a_pattern(organs: Path, tmp_path: Path) -> None:
    ct = shutil.copytree(organs, tmp_path / "ct")
    config = json.loads((ct / "config.json").read_text())
    config["domain"]["task"] = "abdomen-ct"
    (ct / "config.json").write_text(json.dumps(config))
    for kind in ("images", "masks"):
        (tmp_path / "val" / kind).mkdir(parents=True)
        brain(tmp_path / "val" / kind / "img0001.nii.gz")
    truth = sitk.GetImageFromArray(np.ones((9, 12, 10), np.uint8))
    sitk.WriteImage(truth, tmp_path / "val" / "masks" / "img0001.nii.gz")
    report = ["--json", str(tmp_path / "r.json"), "--anchor", *RUN]
    assert main(["evaluate", "--data", str(tmp_path), "--checkpoint", str(ct), *report]) == 0
    assert [case["name"] for case in json.loads((tmp_path / "r.json").read_text())["cases"]] == ["img0001"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["segment", "missing.png", "--out", "."], "missing.png"),
        (["segment", "a/x.png", "b/x.png", "--out", "."], "two inputs are called 'x'"),
        (["evaluate", "--data", "nowhere"], "holds no pictures"),
        (["evaluate", "--data", ".", "--cases", "("], "no regular expression"),
        (["evaluate", "--data", ".", "--members", "0"], "members is 0; choose 1 to 100"),
        (["evaluate", "--data", ".", "--limit", "-1"], "--limit is -1; it is a number of images, 0 for all"),
        (["segment", "n" * 300 + ".png", "--out", "."], "shorter name"),
    ],
)
def test_a_bad_input_is_one_sentence_and_status_2(
    words: list[str], sentence: str, checkpoint: str, capsys: pytest.CaptureFixture
) -> None:
    assert main([*words, "--checkpoint", checkpoint, "--device", "cpu"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"medsegdiff {words[0]}: ")
    assert sentence in said


def test_an_interruption_is_one_sentence_also_while_packages_are_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("medsegdiff.__main__.import_module", interrupted)
    assert main(["segment"]) == 130
    assert capsys.readouterr().err.startswith("medsegdiff segment: interrupted")


def test_two_trainings_do_not_share_a_folder_and_what_a_killed_one_left_is_cleared(tmp_path):
    from medsegdiff.commands.train import _claimed

    out = tmp_path / "run"
    (out / ".checkpoint-abc").mkdir(parents=True)
    (out / "state.partial").write_bytes(b"half")
    with _claimed(out):
        assert sorted(path.name for path in out.iterdir()) == ["training.lock"]
        with pytest.raises(ValueError, match="another training is writing"), _claimed(out):
            pass
    assert not out.exists()  # nothing came of either
    out.write_bytes(b"a file")
    with pytest.raises(FileExistsError), _claimed(out):
        pass
