"""The domain check: its Gaussian against numpy's, its rules on images made here, its commands on real photographs."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff.__main__ import main
from medsegdiff.config import Domain
from medsegdiff.domain import DomainCheck, Kind, examine, rank, read_statistics, verdict, write_statistics
from medsegdiff.image_ref import Picture
from medsegdiff.imaging import read

skimage = find_spec("skimage")
if skimage is None or skimage.origin is None:
    pytest.skip("scikit-image, whose photographs are scored, is not installed", allow_module_level=True)
PHOTOS = Path(skimage.origin).parent / "data"

COLOUR = Domain(task="skin-lesion", modality="", labels=("lesion",), mean=(0.4, 0.2, 0.1), std=(0.3, 0.3, 0.3))
GREY = Domain(task="hippocampus", modality="", labels=("a", "b"), mean=(0.1, 0.1, 0.1), std=(0.4, 0.4, 0.4))


def random_picture(channels: int = 3, **facts: object) -> Picture:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, channels), np.uint8)
    return replace(Picture(values.repeat(3 // channels, -1)), **facts)


def test_a_kind_of_full_rank_is_the_ordinary_gaussian() -> None:
    random = np.random.default_rng(0)
    samples = random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 3
    kind = Kind.fit(samples, rank=5, shrinkage=0.0)  # the sixth variance is what is left
    away = samples[:20] - samples.mean(0)
    covariance = np.cov(samples.T, bias=True)
    expected = np.einsum("bi,ij,bj->b", away, np.linalg.inv(covariance), away) / 6
    np.testing.assert_allclose(kind.distance(samples[:20]), expected, rtol=1e-4)  # stored as float32
    assert kind.log_volume == pytest.approx(np.linalg.slogdet(covariance)[1] / 6, rel=1e-4)


def test_shrinkage_moves_every_variance_towards_their_mean() -> None:
    samples = np.random.default_rng(0).normal(size=(5000, 8)) * np.arange(1, 9)
    kind, mean = Kind.fit(samples, rank=4, shrinkage=0.5), samples.var(0).mean()
    exact = np.sort(np.linalg.eigvalsh(np.cov(samples.T, bias=True)))[::-1]
    np.testing.assert_allclose(kind.variances, 0.5 * exact[:4] + 0.5 * mean, rtol=1e-4)
    assert kind.rest == pytest.approx(0.5 * exact[4:].mean() + 0.5 * mean, rel=1e-4)


def test_a_score_grows_when_another_kind_explains_the_features_better(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    stretch = np.array([1.5, 1, 0.8, 0.7])  # no direction like another, so that one misplaced shows
    wide, narrow = 3 * random.normal(size=(500, 4)) * stretch, 0.5 * random.normal(size=(500, 4)) * stretch
    kinds = {"narrow": Kind.fit(narrow, threshold=2.0), "wide": Kind.fit(wide, threshold=2.0)}
    write_statistics(tmp_path / "s.safetensors", np.ones(4, np.float32), kinds)
    scale, again = read_statistics(tmp_path / "s.safetensors")
    for task, kind in kinds.items():  # directions are stored in float16
        np.testing.assert_allclose(again[task].distance(wide), kind.distance(wide), rtol=0.01)
    check = DomainCheck(DomainCheck.load().encoder, scale, again)
    middle, far = check.scores_of(np.array([[0.0, 0, 0, 0], [3, 3, 3, 3]]))
    # Both Gaussians hold the middle within their thresholds; the narrow one is denser there, so the wide one pays.
    volumes = again["wide"].log_volume - again["narrow"].log_volume
    assert middle[0] < 0.1
    assert middle[1] == pytest.approx(volumes, abs=0.1)
    assert far[1] < 1 < far[0]


def test_checkpoints_are_ranked_by_the_score_of_their_task() -> None:
    tasks = {"a-v1": "a", "a-v2": "a", "b-v2": "b", "c-v2": "unknown"}
    assert rank({"a": 2.0, "b": 0.5}, tasks) == [("b-v2", 0.5), ("a-v2", 2.0), ("a-v1", 2.0)]


@pytest.mark.parametrize(
    ("picture", "domain", "key", "level"),
    [
        (random_picture(), GREY, "colour", "unusual"),
        (random_picture(1), COLOUR, "grey", "unusual"),
        (random_picture(1, modality="CT"), GREY, "modality", "other"),
        (random_picture(1, modality="MR", slice_count=9, source_kind="nifti", axis=2), GREY, "plane", "unusual"),
        (Picture(random_picture(1).pixels[:20].repeat(4, 1)), GREY, "long", "unusual"),
        (Picture(random_picture(1).pixels[:12]), GREY, "small", "unusual"),
        (random_picture(1, burned_in=True), GREY, "burned", "unusual"),
        (Picture(np.full((64, 64, 3), 90, np.uint8)), GREY, "uniform", "other"),
    ],
)
def test_each_rule_speaks_of_the_image_it_is_for(picture: Picture, domain: Domain, key: str, level: str) -> None:
    judged = verdict({domain.task: 0.5}, picture, domain, 64)
    assert judged is not None
    assert (key, judged.level) in [(finding.key, judged.level) for finding in judged.findings]
    assert judged.level == level
    assert all("{" not in str(finding) for finding in judged.findings)


def test_what_fits_gives_no_reason_and_levels_follow_the_score() -> None:
    picture = random_picture(1, modality="MR", slice_count=9, source_kind="nifti", axis=0)
    fits, unusual, other = (verdict({"hippocampus": s, "polyp": 9.0}, picture, GREY, 64) for s in (0.9, 1.2, 4.0))
    assert fits is not None and unusual is not None and other is not None  # noqa: PT018
    assert (fits.level, fits.findings, fits.kind) == ("fits", (), "hippocampus")
    assert (unusual.level, unusual.kind) == ("unusual", None)
    assert other.level == "other"
    better = verdict({"hippocampus": 1.2, "polyp": 0.3}, picture, GREY, 64)
    assert better is not None
    assert (better.level, better.kind, str(better.findings[0])) == (
        "other",
        "polyp",
        "it looks like a colonoscopy image",
    )
    assert verdict({"hippocampus": 0.5}, picture, replace(GREY, task="own"), 64) is None


def test_photographs_fit_nothing_and_a_fundus_photograph_fits_its_task() -> None:
    check = DomainCheck.load()
    for name in (
        "chelsea.png",
        "astronaut.png",
        "coffee.png",
        "rocket.jpg",
        "ihc.png",
        "page.png",
        "chessboard_RGB.png",
    ):
        assert min(check.scores(read(PHOTOS / name)).values()) > 1, name
    retina = check.scores(read(PHOTOS / "retina.jpg"))
    assert min(retina, key=lambda task: retina[task]) == "optic-disc"
    assert retina["optic-disc"] < 1
    assert all(score > 1 for task, score in retina.items() if task != "optic-disc")


def test_the_command_writes_a_list_of_scores_and_rankings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, file = [str(PHOTOS / "retina.jpg"), str(PHOTOS / "chelsea.png")], tmp_path / "scores.json"
    assert main(["domain", *images, "--json", str(file)]) == 0
    assert main(["domain", "missing.png", "--json", str(tmp_path / "new" / "r.json")]) == 2
    assert (tmp_path / "new").is_dir()  # made before anything is scored
    rows = json.loads(file.read_text())
    assert [sorted(row) for row in rows] == [["image", "level", "ranking", "score"]] * 2
    assert [row["image"] for row in rows] == images
    assert [row["level"] for row in rows] == ["fits", "other"]
    for row in rows:
        scores = [score for _, score in row["ranking"]]
        assert scores == sorted(scores)
        assert row["score"] == scores[0]
    assert rows[0]["ranking"][0][0] == "optic-disc-v2"
    assert main(["domain", images[0], "--checkpoint", "skin-lesion-v2", "--json", str(file), "--overwrite"]) == 0
    [row] = json.loads(file.read_text())
    assert (row["level"], row["score"]) == ("other", dict(row["ranking"])["skin-lesion-v2"])
    assert "it looks like a fundus photograph" in capsys.readouterr().out


def test_a_volume_is_scored_along_the_axis_of_each_task(tmp_path: Path) -> None:
    retina = np.asarray(read(PHOTOS / "retina.jpg").pixels[::8, ::8, 1], np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([retina] * 12)), str(tmp_path / "v.nii.gz"))  # axial slices alike
    check = DomainCheck.load()
    window = 0.0, 255.0  # one for all tasks, which have windows of their own
    examined = examine(check, tmp_path / "v.nii.gz", window)
    assert examined.volume is not None
    axial = check.scores(examined.volume.slice(2, None, window))
    for task, score in examined.scores.items():  # one image in a batch of five: the last digits differ
        assert (score == pytest.approx(axial[task], rel=1e-3)) == (task != "hippocampus"), task  # which is sagittal
    judged = examined.verdict(replace(COLOUR, task="optic-disc"), 256)
    assert judged is not None
    assert [finding.key for finding in judged.findings] == ["features", "grey"]


@pytest.mark.parametrize(("thin", "axis"), [("z", 2), ("y", 1), ("x", 0)])
def test_a_volume_of_few_slices_is_scored_along_an_axis_whose_slices_are_large_enough(
    tmp_path: Path, thin: str, axis: int
) -> None:
    shape = [5 if side == thin else 64 for side in "zyx"]
    values = np.random.default_rng(0).normal(100, 30, shape).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "thin.nii.gz"))
    check = DomainCheck.load()
    examined = examine(check, tmp_path / "thin.nii.gz")
    assert examined.volume is not None
    assert (examined.picture.axis, examined.volume.slice_axes) == (axis, (axis,))
    assert set(examined.scores) == set(check.kinds)
    for domain in (GREY, replace(GREY, task="abdomen-ct")):  # sagittal and axial
        assert examined.verdict(domain, 64) is not None


@pytest.mark.slow
def test_segment_auto_takes_what_fits_and_refuses_where_nothing_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--checkpoint", "auto", "--out", str(tmp_path), "--members", "1", "--steps", "1", "--device", "cpu"]
    assert main(["segment", str(PHOTOS / "retina.jpg"), *run]) == 0
    facts = json.loads((tmp_path / "retina.json").read_text())
    assert facts["checkpoint"]["task"] == "optic-disc"
    assert facts["domain"] | {"score": 0} == {"level": "fits", "score": 0, "kind": "optic-disc", "reasons": []}
    assert main(["segment", str(PHOTOS / "chelsea.png"), *run]) == 2
    assert "no shipped checkpoint fits the image closely enough" in capsys.readouterr().err
    assert not (tmp_path / "chelsea.json").exists()
