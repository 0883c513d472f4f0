"""The pipeline with a small untrained network: order of events, geometry, reproducibility, independence."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from medsegdiff import Picture, RunSettings, Segmentation, Segmenter, Step
from medsegdiff.ensemble import change
from medsegdiff.pipeline import Start

SETTINGS = RunSettings(members=3, steps=4, seed=7)


@pytest.fixture(scope="module")
def segmenter(organs: Path) -> Segmenter:
    return Segmenter.from_pretrained(organs, device="cpu")


@pytest.fixture
def picture() -> Picture:
    return Picture(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8), spacing_mm=(0.5, 2.0))


def test_a_run_is_a_start_then_every_step_then_a_result_at_the_size_of_the_picture(
    segmenter: Segmenter, picture: Picture
) -> None:
    start, *steps, result = segmenter.run(picture, SETTINGS)
    assert isinstance(start, Start)
    assert isinstance(result, Segmentation)
    assert all(isinstance(step, Step) for step in steps)
    assert [step.t for step in steps] == list(start.times)
    assert [step.s for step in steps] == [*start.times[1:], -1]
    assert result.labels.shape == result.disagreement.shape == (50, 70)
    assert result.members.shape == (3, 50, 70)
    assert result.probability.shape == (3, 50, 70)
    np.testing.assert_allclose(result.probability.sum(0), 1, atol=1e-5)  # float32, three terms
    assert not any(step.x_0.requires_grad for step in steps)


def test_the_same_settings_give_the_same_mask_and_another_seed_another(segmenter: Segmenter, picture: Picture) -> None:
    first, second = segmenter(picture, SETTINGS), segmenter(picture, SETTINGS)
    assert np.array_equal(first.probability, second.probability)
    assert not np.array_equal(first.probability, segmenter(picture, replace(SETTINGS, seed=8)).probability)


def test_interleaved_runs_are_independent(segmenter: Segmenter, picture: Picture) -> None:
    other = Picture(255 - picture.pixels)
    alone = [segmenter(p, SETTINGS).probability for p in (picture, other)]
    *_, (one, two) = zip(segmenter.run(picture, SETTINGS), segmenter.run(other, SETTINGS), strict=True)
    assert np.array_equal(one.probability, alone[0])
    assert np.array_equal(two.probability, alone[1])


def test_areas_are_counted_in_pixels_and_square_millimetres(segmenter: Segmenter, picture: Picture) -> None:
    result = segmenter(picture, SETTINGS)
    for i, area in enumerate(result.areas().values(), 1):
        assert area["pixels"] == np.count_nonzero(result.labels == i)
        assert area["mm2"] == area["pixels"] * 1.0  # 0.5 mm x 2 mm
    assert "mm2" not in segmenter(Picture(picture.pixels), SETTINGS).areas()["left"]


def test_a_switch_changes_the_mask_and_a_trace_does_not(segmenter: Segmenter, picture: Picture) -> None:
    plain = segmenter(picture, SETTINGS)
    traced = segmenter(picture, replace(SETTINGS, trace=True))
    without = segmenter(picture, replace(SETTINGS, switches=replace(SETTINGS.switches, anchor=False)))
    assert np.array_equal(plain.probability, traced.probability)
    assert not np.array_equal(plain.probability, without.probability)


def test_the_anchor_alone_is_the_condition_networks_mask(segmenter: Segmenter, picture: Picture) -> None:
    alone = segmenter.anchor(picture, SETTINGS)
    assert np.array_equal(alone.labels, segmenter(picture, SETTINGS).anchor[0])
    assert (alone.settings.members, alone.settings.steps) == (1, 0)  # so that its report repeats it
    assert np.array_equal(segmenter(picture, alone.settings).probability, alone.probability)


def test_an_anchor_weight_of_one_returns_the_anchor(segmenter: Segmenter, picture: Picture) -> None:
    alone = segmenter.anchor(picture, SETTINGS)
    told = segmenter(picture, replace(SETTINGS, anchor_weight=1.0))
    np.testing.assert_allclose(told.probability, alone.probability, atol=1e-6)  # float32, by way of x_0 and back
    assert alone.settings.anchor_weight == 0  # nothing was denoised, so nothing was weighed
    v1 = Segmenter.from_pretrained("skin-lesion-v1", device="cpu")
    assert v1.resolve_settings(replace(SETTINGS, anchor_weight=0.5)).anchor_weight == 0  # it has none


def test_an_anchor_that_is_switched_off_returns_only_where_a_run_asks_for_it() -> None:
    skin = Segmenter.from_pretrained("skin-lesion-v2", device="cpu")
    skin.domain = replace(skin.domain, anchor_weight=0.4)
    off = replace(SETTINGS, switches=replace(SETTINGS.switches, anchor=False))
    for given, fuse, weight in (
        (SETTINGS, "anchored", 0.4),  # as the checkpoint says
        (replace(SETTINGS, anchor_weight=0.0), "anchored", 0.0),
        (off, "staple", 0.0),
        (replace(off, fuse="anchored", anchor_weight=0.3), "anchored", 0.3),
        (replace(SETTINGS, steps=0), "mean", 0.0),  # nothing is denoised, so nothing is weighed
    ):
        resolved = skin.resolve_settings(given)
        assert (resolved.fuse, resolved.anchor_weight) == (fuse, weight)


def test_noise_is_stratified_by_itself_where_the_target_may_be_absent(segmenter: Segmenter) -> None:
    nodules = Segmenter.from_pretrained("lung-nodule-v2", device="cpu")
    assert nodules.resolve_settings(SETTINGS).noise == "stratified"
    assert nodules.resolve_settings(replace(SETTINGS, noise="independent")).noise == "independent"
    off = replace(SETTINGS, switches=replace(SETTINGS.switches, anchor=False))
    assert nodules.resolve_settings(off).noise == "independent"  # the anchor returns only where a run asks for it
    assert nodules.resolve_settings(replace(off, noise="stratified")).noise == "stratified"
    assert segmenter.resolve_settings(SETTINGS).noise == "independent"
    v1 = Segmenter.from_pretrained("skin-lesion-v1", device="cpu")
    for one, settings in ((v1, SETTINGS), (nodules, replace(SETTINGS, steps=0))):  # no anchor, no noise
        assert one.resolve_settings(replace(settings, noise="stratified")).noise == "independent"


def test_mirror_images_are_the_checkpoints_unless_a_run_says_otherwise(segmenter: Segmenter, picture: Picture) -> None:
    one = Segmenter(segmenter.checkpoint, "cpu")
    one.domain = replace(one.domain, mirror="horizontal")
    assert [one.resolve_settings(replace(SETTINGS, mirror=m)).mirror for m in ("auto", "none", "both")] == [
        "horizontal",
        "none",
        "both",
    ]
    alone, auto, asked = (
        s(picture, replace(SETTINGS, mirror=m))
        for s, m in ((segmenter, "auto"), (one, "auto"), (segmenter, "horizontal"))
    )
    assert np.array_equal(np.asarray(auto.probability), np.asarray(asked.probability))
    assert auto.sidecar()["settings"]["mirror"] == "horizontal"
    assert not np.array_equal(np.asarray(auto.probability), np.asarray(alone.probability))


def test_a_size_the_network_cannot_run_at_is_refused_in_one_sentence(segmenter: Segmenter, picture: Picture) -> None:
    with pytest.raises(ValueError, match=r"size is 33; this checkpoint runs at multiples of 4 from 8 to 1024"):
        segmenter(picture, replace(SETTINGS, size=33))
    assert segmenter(picture, replace(SETTINGS, size=48)).labels.shape == (50, 70)


def test_a_tolerance_stops_the_trajectory_early(segmenter: Segmenter, picture: Picture) -> None:
    whole = [step for step in segmenter.run(picture, SETTINGS) if isinstance(step, Step)]
    probability = [segmenter.diffusion.probability(step.x_0).numpy() for step in whole]
    drifts = [left * change(*pair) for left, pair in zip((2, 1, 0), pairwise(probability), strict=True)]
    assert min(drifts[:2]) > 0
    *early, result = segmenter.run(picture, replace(SETTINGS, tolerance=drifts[0] * 1.01))
    assert [step.t for step in early if isinstance(step, Step)] == [step.t for step in whole[:2]]
    assert isinstance(result, Segmentation)
    assert result.settings.steps == SETTINGS.steps  # what was asked, so that the same file repeats the run
    strict = list(segmenter.run(picture, replace(SETTINGS, tolerance=min(drifts[:2]) / 2)))
    assert len(strict) == len(whole) + 2
