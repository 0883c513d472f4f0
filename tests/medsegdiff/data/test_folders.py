"""Data folders: matching images and masks, and errors that name the file."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medsegdiff import imaging
from medsegdiff.data.folders import cases, evenly_spaced, orphans, read_labels, thinned, unpaired


def picture(path: Path, pixels: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8) if pixels is None else pixels).save(path)
    return path


def labels(path: Path, *values: int, dtype: type = np.uint8) -> Path:
    return picture(path, np.resize(np.array(values, dtype), (8, 8)))


def test_pictures_find_their_masks_by_name_whatever_the_endings(tmp_path):
    for name in ("b.jpg", "a.png", "c.TIF"):
        picture(tmp_path / "images" / name)
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    labels(tmp_path / "masks" / "a.tif", 1)
    labels(tmp_path / "masks" / "b.png", 0, 1)
    found = cases(tmp_path)
    assert [case.name for case in found] == ["a", "b", "c"]
    assert [case.mask and case.mask.name for case in found] == ["a.tif", "b.png", None]
    (sample,) = found[1].samples(1)
    assert (sample.name, sample.picture.pixels.shape, sample.labels.sum()) == ("b", (8, 8, 3), 32)


@pytest.mark.parametrize("name", ["case.left", "scan[1]", "what?", "été 1"])
def test_special_characters_in_names_are_not_patterns(tmp_path, name):
    for stem in ("case", name):
        picture(tmp_path / "images" / f"{stem}.png")
        labels(tmp_path / "masks" / f"{stem}.png", 1)
    assert {case.name: case.mask and case.mask.stem for case in cases(tmp_path)} == {"case": "case", name: name}


def test_a_split_is_a_folder_within_or_the_folder_itself(tmp_path):
    picture(tmp_path / "data" / "train" / "images" / "seen.png")
    picture(tmp_path / "data" / "val" / "images" / "held.png")
    picture(tmp_path / "flat" / "images" / "only.png")
    assert [case.name for case in cases(tmp_path / "data", "train")] == ["seen"]
    assert [case.name for case in cases(tmp_path / "data", "val")] == ["held"]
    assert [case.name for case in cases(tmp_path / "flat", "train")] == ["only"]


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16"])
def test_a_mask_is_a_label_picture_of_any_depth(tmp_path, mode):
    values = np.resize(np.array([0, 1], np.uint16 if mode == "I;16" else np.uint8), (4, 4))
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0])
    elif mode == "1":
        image = Image.fromarray(values.astype(bool))
    image.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as stored:
        assert stored.mode == mode
    found = read_labels(tmp_path / "mask.png", 1)
    assert found.dtype == np.uint8
    assert np.array_equal(found, values)


def test_white_means_one_where_there_is_one_class_only(tmp_path):
    path = labels(tmp_path / "mask.png", 0, 255)
    assert set(read_labels(path, 1).flat) == {0, 1}
    with pytest.raises(ValueError, match=r"mask\.png has label 255"):
        read_labels(path, 3)


def bad_masks(folder: Path) -> dict[str, Path]:
    """Every way for a mask to be wrong."""
    negative, damaged = folder / "negative.tif", folder / "damaged.png"
    Image.fromarray(np.full((4, 4), -1, np.int32)).save(negative)
    labels(damaged, 1)
    damaged.write_bytes(damaged.read_bytes()[:45])
    photograph = folder / "photograph.png"
    photograph.write_bytes(picture(folder / "photograph.jpg").read_bytes())
    bomb = folder / "bomb.png"
    Image.new("1", (20000, 900)).save(bomb)
    return {
        "bomb": bomb,
        "too high": labels(folder / "too high.png", 0, 3),
        "grey 128": labels(folder / "grey 128.png", 0, 128, 255),
        "colour": picture(folder / "colour.png"),
        "negative": negative,
        "damaged": damaged,
        "photograph": photograph,
    }


@pytest.mark.parametrize("fault", ["bomb", "too high", "grey 128", "colour", "negative", "damaged", "photograph"])
def test_a_bad_mask_is_refused_by_name(tmp_path, fault):
    path = bad_masks(tmp_path)[fault]
    with pytest.raises(ValueError, match=fault):
        read_labels(path, 1)


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "a.png", np.zeros((8, 9), np.uint8))
    (case,) = cases(tmp_path)
    with pytest.raises(ValueError, match=r"masks/a\.png is 9 x 8, its picture 8 x 8"):
        next(case.samples(1))


def volume(path: Path, array: np.ndarray, origin: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((origin, 0.0, 0.0))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))  # RAS, as NIfTI prefers
    sitk.WriteImage(image, str(path), True)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A volume of 10 sagittal slices whose labels fill three of them, front and below."""
    truth = np.zeros((12, 14, 10), np.uint8)
    truth[:4, 9:, 5:8] = 2
    volume(tmp_path / "images" / "head.nii.gz", np.random.default_rng(0).normal(size=truth.shape).astype(np.float32))
    volume(tmp_path / "masks" / "head.nii.gz", truth)
    return tmp_path


def test_a_volume_gives_its_slices_along_an_axis_with_their_labels_upright(pair):
    (case,) = cases(pair)
    slices = list(case.samples(2, axis=0))
    assert [s.name for s in slices] == [f"head_slice{i:03}" for i in range(10)]
    assert [bool(s.labels.any()) for s in slices] == [i in (2, 3, 4) for i in range(10)]  # RAS is turned to LPS
    labelled = slices[3]
    assert labelled.picture.pixels.shape[:2] == labelled.labels.shape == (12, 14)
    assert (labelled.picture.spacing_mm, labelled.distance_mm) == ((3.0, 2.0), 1.0)
    assert (labelled.labels[-4:, :5] == 2).all()  # below and in front: bottom left
    assert labelled.labels.sum() == 2 * 4 * 5


@pytest.mark.parametrize(("empty", "kept"), [(0.0, 3), (0.25, 4), (0.5, 6), (0.9, 10)])
def test_slices_without_a_label_are_thinned_to_their_share(pair, empty, kept):
    (case,) = cases(pair)
    slices = thinned(list(case.samples(2, axis=0)), empty)
    assert len(slices) == len({s.name for s in slices}) == kept
    assert sum(bool(s.labels.any()) for s in slices) == 3


def test_a_volume_too_thin_for_its_axis_is_named_with_another_axis(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(np.ones((5, 32, 32), np.uint8)), str(tmp_path / kind / "thin.nii.gz"))
    (case,) = cases(tmp_path)
    with pytest.raises(ValueError, match=r"thin.nii.gz: with 32 x 32 x 5 voxels, .* along axis 0 .* with --axis 2, or"):
        next(case.samples(1, 0))
    assert len(list(case.samples(1, 2))) == 5


def test_a_choice_of_some_is_evenly_spaced_over_all():
    assert evenly_spaced(range(10), 4) == [0, 2, 5, 7]
    assert evenly_spaced(range(3), 5) == evenly_spaced(range(3), 3) == [0, 1, 2]
    assert evenly_spaced([], 3) == []
    for count, total in ((60, 100), (24, 47), (40, 200)):
        chosen = evenly_spaced(range(total), count)
        assert len(chosen) == count
        assert (chosen[0], set(np.diff([*chosen, total]))) == (0, {total // count, -(-total // count)})


@pytest.mark.slow
def test_labels_on_other_voxels_than_their_volume_are_refused(pair):
    (case,) = cases(pair)
    with pytest.raises(ValueError, match=r"head\.nii\.gz has label 2, but there are only classes 0 to 1"):
        next(case.samples(1))
    for array, origin, reason in (
        (np.zeros((12, 14, 9), np.uint8), 0.0, "resample the labels"),
        (np.zeros((12, 14, 10), np.uint8), 5.0, "lies elsewhere in space"),
        (np.full((12, 14, 10), 0.5, np.float32), 0.0, r"has label 0\.5"),
    ):
        volume(pair / "masks" / "head.nii.gz", array, origin)
        with pytest.raises(ValueError, match=reason):
            next(case.samples(2))


def test_a_missing_mask_names_its_picture_and_where_it_was_sought(tmp_path):
    picture(tmp_path / "images" / "alone.png")
    (case,) = cases(tmp_path)
    with pytest.raises(ValueError, match=r"images/alone\.png has no mask of the same name in .*masks"):
        next(case.samples(1))


def test_an_unreadable_picture_is_named(tmp_path):
    path = picture(tmp_path / "images" / "torn.png")
    path.write_bytes(path.read_bytes()[:45])
    labels(tmp_path / "masks" / "torn.png", 1)
    (case,) = cases(tmp_path)
    with pytest.raises(ValueError, match=r"images/torn\.png"):
        next(case.samples(1))


def test_a_folder_without_pictures_says_what_was_expected(tmp_path):
    (tmp_path / "imgs").mkdir()
    with pytest.raises(ValueError, match=rf"{tmp_path.name} holds no pictures; expected images/NAME"):
        cases(tmp_path)


def test_several_readers_come_together_with_their_majority(tmp_path):
    picture(tmp_path / "images" / "a.png")
    for reader, value in ((1, 1), (2, 0), (10, 1)):  # numbers, not names, order the folders
        labels(tmp_path / f"masks_{reader}" / "a.png", value)
    (case,) = cases(tmp_path)
    (sample,) = case.samples(1)
    assert sample.readers is not None
    assert sample.readers.mean((1, 2)).tolist() == [1, 0, 1]
    assert sample.labels.all()
    assert [path.parent.name for path in case.readers] == ["masks_1", "masks_2", "masks_10"]


def test_a_readers_mask_that_is_missing_or_of_another_size_is_named(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "images" / f"{name}.png")
        labels(tmp_path / "masks_1" / f"{name}.png", 1)
    labels(tmp_path / "masks_2" / "a.png", 1)
    picture(tmp_path / "masks_2" / "a.png", np.zeros((4, 4), np.uint8))
    first, second = cases(tmp_path)
    with pytest.raises(ValueError, match=r"masks_2/a.png is 4 x 4, its picture 8 x 8"):
        list(first.samples(1))
    with pytest.raises(ValueError, match=r"b.png has masks of some readers but none in masks_2; add it, an empty one"):
        list(second.samples(1))


def test_readers_of_a_volume_are_sliced_with_it(tmp_path):
    voxels = np.zeros((3, 8, 8), np.uint8)
    for folder in ("images", "masks_1", "masks_2"):
        (tmp_path / folder).mkdir()
        voxels[1] = folder != "masks_2"
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / folder / "v.nii.gz"))
    (case,) = cases(tmp_path)
    found = [sample.readers for sample in case.samples(1)]
    assert [readers is not None and readers.any((1, 2)).tolist() for readers in found] == [
        [False, False],
        [True, False],
        [False, False],
    ]


def test_masks_match_by_name_without_case_and_what_is_left_over_is_named(tmp_path):
    for name in ("a.png", "B.png", "lone.png", "only-jpeg.png", "V.NII.GZ"):
        if name.endswith("GZ"):
            volume(tmp_path / "images" / "v.nii.gz", np.zeros((8, 8, 8), np.float32)).rename(tmp_path / "images" / name)
        else:
            picture(tmp_path / "images" / name)
    labels(tmp_path / "masks" / "a.PNG", 1)
    labels(tmp_path / "masks" / "b.tif", 1)
    labels(tmp_path / "masks" / "lone_mask.png", 1)
    labels(tmp_path / "masks" / "only-jpeg.jpg", 1)
    labels(tmp_path / "masks" / "a.jpg", 1)  # a preview beside the mask
    volume(tmp_path / "masks" / "v.nii.gz", np.full((8, 8, 8), 255, np.uint8))
    for name in ("._a.png", ".DS_Store", "Thumbs.db"):  # of macOS and Windows
        for folder in ("images", "masks"):
            (tmp_path / folder / name).write_bytes(b"\0\5\26\7")
    found = cases(tmp_path)
    pairs = {case.name: case.mask and case.mask.name for case in found}
    assert pairs == {"a": "a.PNG", "B": "b.tif", "V": "v.nii.gz", "lone": None, "only-jpeg": None}
    assert {sample.labels.max() for case in found if case.is_volume for sample in case.samples(1)} == {1}  # 0/255
    left = unpaired(found, orphans(tmp_path))
    assert [path.name for path in (*left.images, *left.masks, *left.lossy)] == [
        "lone.png",
        "only-jpeg.png",
        "lone_mask.png",
        "only-jpeg.jpg",
    ]
    labels(tmp_path / "masks" / "A.png", 1)
    labels(tmp_path / "masks" / "b.png", 1)
    with pytest.raises(ValueError, match=r"B\.png has two masks"):
        cases(tmp_path)


@pytest.mark.parametrize("size", [(12, 16), (16, 16)])
def test_a_mask_turns_with_its_exif_rotated_picture_or_is_refused(tmp_path, size):
    shape = np.zeros((*size, 3), np.uint8)
    shape[:4, :5] = 255  # on the stored pixels; orientation 6 is turned by 90 degrees clockwise to be upright
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(shape).save(tmp_path / "images" / "a.png", exif=exif)
    picture(tmp_path / "masks" / "a.png", shape[..., 0] // 255)
    (case,) = cases(tmp_path)
    if size[0] == size[1]:
        with pytest.raises(ValueError, match=r"a\.png is stored turned \(EXIF orientation 6\)"):
            next(case.samples(1))
        Image.fromarray(shape[..., 0] // 255).save(tmp_path / "masks" / "a.png", exif=exif)
    (sample,) = case.samples(1)
    assert np.array_equal(sample.picture.pixels[..., 0] // 255, sample.labels)
    assert sample.labels[:5, -4:].all()


def test_a_name_loses_the_ending_of_its_format_only():
    names = ("1.2.840.113619.1", "1.2.840.113619.2", "V0.NII.GZ", "a.b.png", "scan.dcm", "IM000001", ".png")
    assert [imaging.stem(Path(name)) for name in names] == [
        "1.2.840.113619.1",
        "1.2.840.113619.2",
        "V0",
        "a.b",
        "scan",
        "IM000001",
        ".png",
    ]
