"""A visitor's volume: read once, kept for a while, cut and windowed, segmented whole, and gone again."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from app.i18n import words
from app.settings import CONTROLS, read
from app.volumes import Shelf, Shelved, look, segment, take, turn, watch
from medsegdiff.geometry import Volume
from medsegdiff.slices import Progress


def settings(**chosen):
    return read([chosen.get(control.field, control.default) for control in CONTROLS])


def nifti(path: Path) -> str:
    """A volume of 10 x 12 x 14 voxels that grows brighter to the patient's left, back and head."""
    z, y, x = np.indices((14, 12, 10)).astype(np.float32)
    image = sitk.GetImageFromArray(x + 10 * y + 100 * z)
    image.SetSpacing((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(path))
    return str(path)


def shelved(count: int) -> Shelved:
    place = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    values = np.zeros((count, 16, 16), np.float32)
    return Shelved(Volume(values, (1.0,) * 3, (0.0,) * 3, place, "LPS", (0.0, 1.0), "nifti"))


def test_a_volume_opens_at_the_middle_slice_of_the_axis_that_its_task_wants(tmp_path):
    for task, axis, count, height, width in (("hippocampus", 0, 10, 14, 12), ("abdomen-ct", 2, 14, 12, 10)):
        shelf = Shelf()
        subject = take(nifti(tmp_path / "a.nii.gz"), shelf, task)
        cut, picture = subject.cut, subject.picture
        assert (cut.axis, cut.slices, cut.index, cut.axes) == (axis, count, count // 2, (0, 1, 2))
        assert (picture.height, picture.width, picture.slice_index) == (height, width, count // 2)
        assert len(shelf) == 1


def test_a_volume_turns_to_the_axis_of_another_task_and_stays_where_the_axis_is_the_same(tmp_path):
    shelf = Shelf()
    sagittal = take(nifti(tmp_path / "a.nii.gz"), shelf, "hippocampus")
    axial = turn(shelf, sagittal, "hippocampus", "abdomen-ct")
    assert (axial.cut.axis, axial.cut.index, axial.picture.slice_count) == (2, 7, 14)
    coronal = look(shelf, axial.cut.along(1))  # of the visitor's own choosing
    assert turn(shelf, coronal, "abdomen-ct", "skin-lesion") is coronal
    assert turn(shelf, coronal, "abdomen-ct", "hippocampus").cut.axis == 0
    shelf.drop(axial.cut.key)
    assert turn(shelf, axial, "abdomen-ct", "hippocampus") is axial
    assert turn(shelf, 3, "abdomen-ct", "hippocampus") == 3


def test_a_slice_and_its_window_are_chosen_anew_without_the_file(tmp_path):
    shelf = Shelf()
    cut = take(nifti(tmp_path / "a.nii.gz"), shelf, "hippocampus").cut
    other = replace(cut.along(2), index=3, window=(300.0, 400.0))
    picture = look(shelf, other).picture
    # Values of slice 3 run from 300 to 300 + 9 + 110.
    y, x = np.indices((12, 10))
    expected = np.clip((x + 10 * y) / 100, 0, 1)
    np.testing.assert_allclose(picture.pixels[..., 0] / 255, expected, atol=0.5 / 255 + 1e-9)
    with pytest.raises(ValueError, match="choose 0 to 13"):
        look(shelf, replace(other, index=14))


def test_a_16_bit_picture_can_be_windowed_and_an_8_bit_one_is_what_it_is(tmp_path):
    shelf = Shelf()
    ramp = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    cut = take(str(tmp_path / "ramp.png"), shelf, "abdomen-ct").cut
    assert (cut.axes, cut.slices, cut.ends) == ((2,), 1, (0.0, 65535.0))
    assert look(shelf, replace(cut, window=(0.0, 255.0))).picture.pixels[0, :, 0].tolist() == list(range(256))
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "flat.png")
    assert take(str(tmp_path / "flat.png"), shelf, "abdomen-ct").cut is None
    assert not shelf.get(cut.key).anywhere


def test_the_shelf_forgets_the_longest_unseen_when_full_and_everything_in_time():
    now = [0.0]
    shelf = Shelf(most=3 * 16 * 16 * 4, seconds=100, clock=lambda: now[0])
    one, other = shelf.put(shelved(1)), shelf.put(shelved(1))
    now[0] = 60
    shelf.get(one)
    third = shelf.put(shelved(2))  # room for it only without the one not looked at
    assert len(shelf) == 2
    with pytest.raises(ValueError, match="give the file again"):
        shelf.get(other)
    now[0] = 161
    assert len(shelf) == 0
    for key in (one, third, None, "guess"):
        with pytest.raises(ValueError, match="no longer in memory"):
            shelf.get(key)
    with pytest.raises(ValueError, match="crop it"):
        shelf.put(shelved(4))


def test_a_whole_volume_is_segmented_on_its_voxels_and_shown_as_a_film(session, tmp_path):
    shelf = Shelf()
    cut = take(nifti(tmp_path / "a.nii.gz"), shelf, "hippocampus").cut
    *progress, result = segment(session, "tiny", shelf.get(cut.key), cut, settings(steps=2, members=2))
    assert all(isinstance(event, Progress) for event in progress)
    assert result.labels.shape == (14, 12, 10)
    film = watch(shelf.get(cut.key), cut, result, words("zh"))
    assert len(film["positions"]) == 10
    assert film["at"] == 5
    width, height = film["tile"]
    assert height / width == pytest.approx(14 * 3 / (12 * 2), abs=0.01)  # millimetres, not voxels
    with closing(segment(session, "tiny", shelf.get(cut.key), cut, settings(steps=2))) as events:
        next(events)
    with pytest.raises(ValueError, match="choose fewer members or steps"):
        segment(session, "tiny", shelf.get(cut.key), cut, settings(steps=50, members=25))
