"""Phantoms: reproducible at every size, with masks that match the image."""

from functools import cache

import numpy as np
import pytest
from jaxtyping import Bool, UInt8
from numpy import ndarray
from PIL import Image, ImageFilter

from medsegdiff.data.synthetic import TASKS, Phantom, draw
from medsegdiff.data.tasks import TASKS as DESCRIBED
from medsegdiff.multi_reader import diversity

every_task = pytest.mark.parametrize("task", TASKS)
agreed = pytest.mark.parametrize("task", [task for task in TASKS if task != "lung-nodule"])  # but for borders


@cache
def sample(task: str) -> list[Phantom]:
    """Draw what several tests look at."""
    return [draw(task, seed, 96) for seed in range(16)]


def test_a_phantom_has_the_labels_of_its_task() -> None:
    assert {name: DESCRIBED[name].labels for name in TASKS} == TASKS


@every_task
def test_the_same_seed_draws_the_same_phantom_bit_for_bit(task: str) -> None:
    first, again, other = draw(task, 7, 64), draw(task, 7, 64), draw(task, 8, 64)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.raters, again.raters)
    assert (first.image != other.image).any()


@every_task
def test_the_number_of_raters_changes_neither_picture_nor_truth_nor_the_raters_before(task: str) -> None:
    none, six = draw(task, 3, 64, raters=0), draw(task, 3, 64, raters=6)
    np.testing.assert_array_equal(none.image, six.image)
    np.testing.assert_array_equal(none.labels, six.labels)
    np.testing.assert_array_equal(draw(task, 3, 64).raters, six.raters[:4])
    assert none.raters == ()


@pytest.mark.slow
@every_task
def test_every_class_appears_and_no_other(task: str) -> None:
    seen = np.unique([phantom.labels for phantom in sample(task)])
    assert set(seen.tolist()) == set(range(len(TASKS[task]) + 1))


@every_task
def test_the_scene_is_the_same_at_every_size(task: str) -> None:
    """Four by four pixels of the large picture are one of the small; only pixels that a border crosses may differ."""
    for seed in range(2):
        small, large = draw(task, seed, 64, raters=0), draw(task, seed, 256, raters=0)
        corners = np.stack([large.labels[i::4, j::4] for i in (0, 3) for j in (0, 3)])
        whole = (corners == corners[0]).all(0)
        assert (small.labels == corners[0])[whole].mean() > 0.995
        averaged = np.asarray(Image.fromarray(large.image).resize((64, 64), Image.Resampling.BOX), np.float32)
        difference = np.abs(averaged - small.image)
        assert np.corrcoef(averaged.ravel(), small.image.ravel())[0, 1] > 0.96
        assert np.median(difference) < 6  # grey levels of 255: grain finer than a pixel averages out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "label", "channel", "sign"),
    [
        ("skin-lesion", 1, 1, -1),  # pigment absorbs
        ("breast-ultrasound", 1, 0, -1),  # lesions return fewer echoes
        ("thyroid-nodule", 1, 0, -1),
        ("optic-disc-cup", 2, 1, 1),  # pale
        ("optic-disc", 1, 1, 1),
        ("brain-flair", 1, 1, 1),  # bright in FLAIR
        ("abdomen-ct", 8, 0, 1),  # contrast in the aorta
        ("abdomen-mr", 4, 0, 1),  # the spleen is bright in T2
        ("hippocampus", 1, 0, -1),  # grey within white matter
        ("lung-nodule", 1, 0, 1),
        ("polyp", 1, 0, 1),  # stands into the light
        ("chest-xray", 1, 0, -1),  # air
        ("chest-xray", 2, 0, -1),
    ],
)
def test_a_class_differs_from_its_surroundings_as_its_modality_demands(
    task: str, label: int, channel: int, sign: int
) -> None:
    contrasts = []
    for phantom in sample(task):
        mask = phantom.labels == label
        ring = _grown(mask, 11) & ~_grown(mask, 5) & ((phantom.labels == 0) | (label == 2))
        if mask.any() and ring.any():
            grey = phantom.image[..., channel].astype(np.float32)
            contrasts.append(sign * (np.median(grey[mask]) - np.median(grey[ring])))
    assert np.mean(np.array(contrasts) > 0) > 0.7  # not always: unclear cases are part of the task
    assert np.median(contrasts) > 4


@pytest.mark.slow
@agreed
def test_raters_differ_from_the_truth_only_near_borders(task: str) -> None:
    for phantom in sample(task):
        clear = _uniform(phantom.labels, 2 * round(0.15 * 96) + 1)  # three deviations of the widest blur
        for opinion in phantom.raters:
            np.testing.assert_array_equal(opinion[clear], phantom.labels[clear])


@agreed
def test_raters_disagree_and_are_biased_to_both_sides(task: str) -> None:
    drawn = [phantom for phantom in sample(task) if phantom.labels.any()]
    growth = [(opinion > 0).mean() / (p.labels > 0).mean() for p in drawn for opinion in p.raters]
    assert min(growth) < 0.99
    assert max(growth) > 1.01
    assert np.median([_dice(opinion, p) for p in drawn for opinion in p.raters]) > 0.85


@pytest.mark.slow
def test_lesions_of_the_skin_are_as_large_as_dermoscopy_shows_them() -> None:
    share = [draw("skin-lesion", seed, 64, raters=0).labels.mean() for seed in range(100)]
    low, half, high = np.quantile(share, (0.05, 0.5, 0.95))
    assert 0.005 < low < 0.04  # 0.015 in ISIC 2017
    assert 0.08 < half < 0.2  # 0.13
    assert 0.35 < high < 0.65  # 0.55


def test_some_brains_have_no_tumour() -> None:
    empty = [not phantom.labels.any() for phantom in sample("brain-flair")]
    assert 0 < sum(empty) < len(empty) / 2


@pytest.mark.slow
def test_readers_of_nodules_disagree_about_presence_and_extent_as_those_of_lidc_do() -> None:
    phantoms = [draw("lung-nodule", seed) for seed in range(60)]
    assert {phantom.image.shape for phantom in phantoms} == {(128, 128, 3)}
    assert all(len(phantom.references) == 4 for phantom in phantoms)
    marked = np.array([sum(mask.any() for mask in phantom.references) for phantom in phantoms])
    assert marked.min() >= 1  # nobody would have called it a nodule
    assert 0.2 < (marked == 4).mean() < 0.8  # 0.33 in LIDC-IDRI
    areas = [mask.sum() for phantom in phantoms for mask in phantom.references if mask.any()]
    assert 25 < np.median(areas) < 130  # 48
    apart = np.mean([diversity(np.stack(phantom.references)) for phantom in phantoms])
    assert 0.25 < apart < 0.5  # 0.37
    (skin,) = (phantom := draw("skin-lesion", 0)).references
    assert skin is phantom.labels


def test_an_unknown_task_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'teeth'.*skin-lesion"):
        draw("teeth", 0)


def _grown(mask: Bool[ndarray, "h w"], window: int) -> Bool[ndarray, "h w"]:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(window))) > 0


def _uniform(labels: UInt8[ndarray, "h w"], window: int) -> Bool[ndarray, "h w"]:
    sheet = Image.fromarray(labels)
    low, high = sheet.filter(ImageFilter.MinFilter(window)), sheet.filter(ImageFilter.MaxFilter(window))
    return np.asarray(low) == np.asarray(high)


def _dice(opinion: UInt8[ndarray, "h w"], phantom: Phantom) -> float:
    both = ((opinion > 0) & (phantom.labels > 0)).sum()
    return float(2 * both / ((opinion > 0).sum() + (phantom.labels > 0).sum()))
