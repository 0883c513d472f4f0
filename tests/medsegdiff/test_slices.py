"""Volumes: slices segmented together or alone, reassembly, early stopping."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medsegdiff import RunSettings, Segmenter
from medsegdiff.image_ref import Volume
from medsegdiff.progress import Progress
from medsegdiff.slices import VolumeSegmentation, segment_volume

# With twelve members, two slices are in a batch.
SETTINGS = RunSettings(members=12, steps=3, seed=7, fuse="mean", anchor_weight=0.3, noise="stratified")


@pytest.fixture(scope="module")
def segmenter(organs: Path) -> Segmenter:
    return Segmenter.from_pretrained(organs, device="cpu")


@pytest.fixture
def volume() -> Volume:
    values = np.random.default_rng(0).normal(size=(9, 11, 10)).astype(np.float32)
    return Volume(values, (1.0, 2.0, 3.0), (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), "RAS", (-2.0, 2.0), "nifti")


@pytest.mark.slow
@pytest.mark.parametrize(("axis", "fuse"), [(0, "mean"), (1, "mean"), (2, "anchored")])
def test_slices_segmented_together_are_the_slices_segmented_alone(segmenter, volume, axis, fuse):
    settings = replace(SETTINGS, fuse=fuse, mirror="both" if axis else "none")
    *progress, result = segment_volume(segmenter, volume, settings, axis=axis)
    alone = [segmenter(volume.slice(axis, i), settings) for i in range(volume.count(axis))]
    probability = volume.stack(axis, [1 - one.probability[0] for one in alone])
    # Convolutions over two pictures and over one add up in another order; twelve float32 steps later: 1e-4.
    np.testing.assert_allclose(result.probability, probability, atol=1e-4)
    same = volume.stack(axis, [one.labels for one in alone]) == result.labels
    assert same.mean() > 0.999
    assert result.labels.shape == volume.array.shape
    fractions = [event.done / event.total for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert len(fractions) == -(-volume.count(axis) // 2) * SETTINGS.steps


@pytest.mark.slow
def test_a_volume_is_measured_in_voxels_and_cubic_millimetres(segmenter, volume):
    *_, result = segment_volume(segmenter, volume, SETTINGS)
    assert isinstance(result, VolumeSegmentation)
    for i, size in enumerate(result.volumes().values(), 1):
        assert size == {
            "voxels": np.count_nonzero(result.labels == i),
            "mm3": 6.0 * np.count_nonzero(result.labels == i),
        }
    told = result.sidecar()
    assert told["volume"] == {"axis": 2, "slices": 9, "window": (-2.0, 2.0), "intensity": None, "sha256": volume.digest}


def test_a_volume_run_can_be_abandoned_at_any_step(segmenter, volume):
    events = segment_volume(segmenter, volume, SETTINGS)
    assert isinstance(next(events), Progress)
    events.close()
    with pytest.raises(ValueError, match="axis is 3"):
        next(segment_volume(segmenter, volume, SETTINGS, axis=3))
