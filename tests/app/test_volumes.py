"""Uploaded volumes: cache, slices, windows and the segmentation of all slices."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from app.core import catalogue
from app.core.settings import CONTROLS, read
from app.i18n import words
from app.inputs.images import SliceView, open_image
from app.inputs.volumes import CachedVolume, VolumeCache, look, segment, take, turn, watch
from app.views.planes import planes
from medsegdiff import orientation
from medsegdiff.image_ref import FILE_WINDOW, Volume
from medsegdiff.slices import Progress


def settings(**chosen):
    return read([chosen.get(control.field, control.default) for control in CONTROLS])


def nifti(path: Path) -> str:
    """Write a volume of 10 x 12 x 14 voxels whose values increase to the left, back and head."""
    z, y, x = np.indices((14, 12, 10)).astype(np.float32)
    image = sitk.GetImageFromArray(x + 10 * y + 100 * z)
    image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(path))
    return str(path)


def card(name: str) -> catalogue.Card:
    return catalogue.card(catalogue.shipped()[name])


HIPPOCAMPUS, ABDOMEN, SKIN = map(card, ("hippocampus-v2", "abdomen-ct-v2", "skin-lesion-v2"))


def cached_volume(count: int) -> CachedVolume:
    place = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    values = np.zeros((count, 16, 16), np.float32)
    return CachedVolume(Volume(values, (1.0,) * 3, (0.0,) * 3, place, "LPS", (0.0, 1.0), "nifti"))


def test_a_volume_opens_at_the_middle_slice_of_the_axis_of_its_task(tmp_path):
    for model, axis, count, height, width in ((HIPPOCAMPUS, 0, 10, 14, 12), (ABDOMEN, 2, 14, 12, 10)):
        volume_cache = VolumeCache()
        image = take(nifti(tmp_path / "a.nii.gz"), volume_cache, model)
        slice_view, picture = image.slice_view, image.picture
        assert (slice_view.axis, slice_view.slices, slice_view.index, slice_view.axes) == (
            axis,
            count,
            count // 2,
            (0, 1, 2),
        )
        assert (picture.height, picture.width, picture.slice_index) == (height, width, count // 2)
        assert len(volume_cache) == 1


def test_a_thin_volume_opens_along_an_axis_whose_slices_are_large_enough(tmp_path):
    thin = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(5, 64, 48)).astype(np.float32))
    sitk.WriteImage(thin, str(tmp_path / "thin.nii.gz"))
    picture = open_image(str(tmp_path / "thin.nii.gz"), HIPPOCAMPUS).picture
    assert (picture.axis, picture.height, picture.width, picture.slice_index) == (2, 64, 48, 2)
    slice_view = take(str(tmp_path / "thin.nii.gz"), VolumeCache(), HIPPOCAMPUS).slice_view
    assert (slice_view.axis, slice_view.axes) == (2, (2,))


def test_a_ct_volume_opens_with_the_window_of_its_checkpoint_until_another_is_chosen(tmp_path):
    values = np.full((3, 16, 16), -1000, np.float32)
    values[:, 4:12, 4:12] = np.linspace(-100, 900, 64).reshape(8, 8)
    values[2, 4:12, 4:12] = 50  # nothing above in this slice: it is stretched to its own values
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "ct.nii.gz"))
    cache = VolumeCache()
    image = take(str(tmp_path / "ct.nii.gz"), cache, ABDOMEN)
    assert (image.slice_view.window, image.slice_view.shown) == (ABDOMEN.intensity, (-125, 275))
    assert look(cache, replace(image.slice_view, index=2)).slice_view.shown == (-125, 50)
    typed = look(cache, replace(image.slice_view, window=(0.0, 80.0)))
    assert turn(cache, typed, ABDOMEN, SKIN).slice_view.window == (0, 80)  # kept
    elsewhere = turn(cache, image, ABDOMEN, SKIN)
    assert elsewhere.slice_view.shown == elsewhere.picture.window == pytest.approx(np.percentile(values, (0.5, 99.5)))
    values -= values.min()  # no longer Hounsfield units
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "no.nii.gz"))
    assert take(str(tmp_path / "no.nii.gz"), cache, ABDOMEN).slice_view.shown[1] > 1000


def test_a_volume_switches_to_the_axis_of_another_task(tmp_path):
    volume_cache = VolumeCache()
    sagittal = take(nifti(tmp_path / "a.nii.gz"), volume_cache, HIPPOCAMPUS)
    axial = turn(volume_cache, sagittal, HIPPOCAMPUS, ABDOMEN)
    assert (axial.slice_view.axis, axial.slice_view.index, axial.picture.slice_count) == (2, 7, 14)
    coronal = look(volume_cache, axial.slice_view.along(1))  # chosen by the visitor
    assert turn(volume_cache, coronal, ABDOMEN, SKIN).slice_view.axis == 1
    assert turn(volume_cache, coronal, ABDOMEN, HIPPOCAMPUS).slice_view.axis == 0
    volume_cache.drop(axial.slice_view.key)
    assert turn(volume_cache, axial, ABDOMEN, HIPPOCAMPUS) is axial
    assert turn(volume_cache, 3, ABDOMEN, HIPPOCAMPUS) == 3


def test_slice_and_window_can_be_changed_after_the_file_is_deleted(tmp_path):
    volume_cache = VolumeCache()
    slice_view = take(nifti(tmp_path / "a.nii.gz"), volume_cache, HIPPOCAMPUS).slice_view
    other = replace(slice_view.along(2), index=3, window=(300.0, 400.0))
    picture = look(volume_cache, other).picture
    # Values of slice 3 run from 300 to 300 + 9 + 110.
    y, x = np.indices((12, 10))
    expected = np.clip((x + 10 * y) / 100, 0, 1)
    np.testing.assert_allclose(picture.pixels[..., 0] / 255, expected, atol=0.5 / 255 + 1e-9)
    with pytest.raises(ValueError, match="choose 0 to 13"):
        look(volume_cache, replace(other, index=14))


def test_only_images_of_more_than_8_bits_can_be_windowed(tmp_path):
    volume_cache = VolumeCache()
    ramp = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    slice_view = take(str(tmp_path / "ramp.png"), volume_cache, ABDOMEN).slice_view
    assert (slice_view.axes, slice_view.slices, slice_view.ends) == ((2,), 1, (0.0, 65535.0))
    assert look(volume_cache, replace(slice_view, window=(0.0, 255.0))).picture.pixels[0, :, 0].tolist() == list(
        range(256)
    )
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "flat.png")
    assert take(str(tmp_path / "flat.png"), volume_cache, ABDOMEN).slice_view is None
    assert not volume_cache.get(slice_view.key).has_geometry


def test_the_cache_evicts_the_least_recently_used_and_expires():
    now = [0.0]
    volume_cache = VolumeCache(most=3 * 16 * 16 * 4, seconds=100, clock=lambda: now[0])
    one, other = volume_cache.put(cached_volume(1)), volume_cache.put(cached_volume(1))
    now[0] = 60
    volume_cache.get(one)
    third = volume_cache.put(cached_volume(2))  # evicts the least recently used one
    assert len(volume_cache) == 2
    with pytest.raises(ValueError, match="give the file again"):
        volume_cache.get(other)
    now[0] = 161
    assert len(volume_cache) == 0
    for key in (one, third, None, "guess"):
        with pytest.raises(ValueError, match="no longer in memory"):
            volume_cache.get(key)
    with pytest.raises(ValueError, match="crop it"):
        volume_cache.put(cached_volume(4))


def test_a_volume_is_segmented_on_its_voxel_grid_and_shown_as_a_film(session, tmp_path):
    volume_cache = VolumeCache()
    slice_view = take(nifti(tmp_path / "a.nii.gz"), volume_cache, HIPPOCAMPUS).slice_view
    *progress, result = segment(
        session, "tiny", volume_cache.get(slice_view.key), slice_view, settings(steps=2, members=2)
    )
    assert all(isinstance(event, Progress) for event in progress)
    assert result.labels.shape == (14, 12, 10)
    film = watch(volume_cache.get(slice_view.key), slice_view, result, words("zh"))
    assert len(film["positions"]) == 10
    assert film["at"] == 5
    width, height = film["tile"]
    assert height / width == pytest.approx(14 * 3 / (12 * 2), abs=0.01)  # millimetres, not voxels
    with closing(segment(session, "tiny", volume_cache.get(slice_view.key), slice_view, settings(steps=2))) as events:
        next(events)
    with pytest.raises(ValueError, match="choose fewer members or steps"):
        segment(session, "tiny", volume_cache.get(slice_view.key), slice_view, settings(steps=50, members=25))


def shown_in_planes(file_axes: str, **facts):
    """Show a volume of 8 x 9 x 10 voxels (x, y, z towards left, back, head) with (1, 2, 7) marked, in other axes."""
    labels = np.zeros((10, 9, 8), np.uint8)
    labels[7, 2, 1] = 1
    labels = orientation.turn(labels, "LPS", file_axes)
    spacing = tuple({"L": 0.5, "P": 0.6, "S": 3.0}[{"R": "L", "A": "P", "I": "S"}.get(a, a)] for a in file_axes)
    place = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    volume = Volume(
        labels.astype(np.float32), spacing, (0.0,) * 3, place, file_axes, (0.0, 1.0), "dicom", file_axes, **facts
    )
    counts = (volume.count(0), volume.count(1), volume.count(2))
    view = SliceView("", (2,), 2, 0, counts, FILE_WINDOW, (0.0, 1.0), FILE_WINDOW, (0.0, 1.0), False)
    return planes(CachedVolume(volume), view, cast(Any, SimpleNamespace(labels=labels)), words("en"))


@pytest.mark.parametrize(
    ("file_axes", "backwards"),
    [("LPS", [False] * 3), ("LPI", [False, False, True]), ("PIR", [True, False, True]), ("LIP", [False, False, True])],
)
def test_frames_in_any_direction_are_shown_in_the_planes_of_the_body(file_axes, backwards):
    shown = shown_in_planes(file_axes)
    assert (shown["size"], shown["counts"], shown["at"]) == ([8, 9, 10], [8, 9, 10], [1, 2, 7])
    assert (shown["spacing"], shown["reversed"]) == ([0.5, 0.6, 3.0], backwards)
    assert shown["names"] == ["Sagittal", "Coronal", "Axial"]


def test_planes_have_no_side_of_the_body_where_the_file_gives_none_and_frames_in_time_have_no_planes():
    shown = shown_in_planes("LPS", oriented=False)
    assert (shown["letters"], shown["names"][2]) == (None, "Across the frames")
    assert "Letters" not in shown["words"]["help"]
    assert shown_in_planes("LPS", stacked=False) is None
