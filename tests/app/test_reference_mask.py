"""Scores against a reference mask that a visitor uploads or paints."""

import math
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from app.analysis.reference_mask import check_canvas, painted, read_mask, score
from app.core.frames import Recording
from app.core.session import FinishedRun
from app.gradio_ui import page as pages
from app.gradio_ui.mcp_disconnect import ConnectedCalls
from app.gradio_ui.page_state import LatestRequest
from app.i18n import words
from app.inputs.images import InputImage, phantom
from app.inputs.volumes import VolumeCache, look, take
from app.views import paint
from medsegdiff.image_ref import Picture
from medsegdiff.imaging import read_volume, write_volume


def test_empty_masks_follow_the_conventions_of_the_metrics():
    nothing, something = np.zeros((4, 5), np.uint8), np.eye(4, 5, dtype=np.uint8)
    assert score(nothing, something, ["a"])[0].hd95 == math.hypot(3, 4)
    assert score(something, nothing, ["a"])[0].facts()["dice"] is None


def test_a_mask_file_is_read_as_labels(tmp_path):
    reference = phantom(3).reference[0]
    for factor in (1, 255):
        path = tmp_path / "mask.png"
        Image.fromarray(reference * factor).save(path)
        np.testing.assert_array_equal(read_mask(path, 1, reference.shape, phantom(3)), reference)


def test_a_mask_in_the_colours_of_the_page_keeps_its_labels(tmp_path):
    labels = (np.arange(16 * 20, dtype=np.uint8) % 14).reshape(16, 20)  # background and 13 organs
    paint.save_labels(tmp_path / "mask.png", labels)
    with Image.open(tmp_path / "mask.png") as image:
        np.testing.assert_array_equal(np.asarray(image), labels)  # as other programs read it
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 13, labels.shape, phantom(3)), labels)


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        (np.full((32, 32), 7, np.uint8), "value 7"),
        (np.zeros((32, 40), np.uint8), "40 x 32 pixels, its picture 32 x 32"),
        (np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3), "in colour"),
    ],
)
def test_invalid_masks_are_rejected(tmp_path, pixels, match):
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=match):
        read_mask(tmp_path / "mask.png", 2, (32, 32), phantom(3))


LABELS = np.random.default_rng(0).integers(0, 3, (14, 12, 10)).astype(np.uint8)  # z, y, x
SLICES = [  # axis, index, and the labels there: the head or the front is upwards
    (2, 3, LABELS[3]),
    (1, 0, LABELS[:, 0][::-1]),
    (0, 8, LABELS[:, :, 8][::-1]),
]


def write(path, array, axes="LPS"):
    """Write an array in LPS as NIfTI, its voxels stored in other axes."""
    sitk.WriteImage(sitk.DICOMOrient(sitk.GetImageFromArray(array), axes), str(path))
    return str(path)


@pytest.fixture
def volume(tmp_path):
    """A cache with a volume, and the image of its middle slice."""
    cache = VolumeCache()
    grey = np.random.default_rng(1).normal(size=LABELS.shape).astype(np.float32)
    return cache, take(write(tmp_path / "volume.nii.gz", grey), cache, None)


@pytest.mark.parametrize(("axis", "index", "expected"), SLICES)
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_a_label_volume_is_read_at_the_slice_that_is_shown(volume, tmp_path, axis, index, expected, axes):
    cache, image = volume
    shown = look(cache, replace(image.slice_view.along(axis), index=index))
    path = write(tmp_path / "labels.nii.gz", LABELS, axes)
    np.testing.assert_array_equal(read_mask(path, 2, expected.shape, shown), expected)


def dicom(path, pixels, rows, columns, step):
    """Write frames whose rows, columns and order run in these directions of the body."""

    def item(**elements):
        found = Dataset()
        for keyword, value in elements.items():
            setattr(found, keyword, value)
        return Sequence([found])

    data = item(
        SOPClassUID=EnhancedCTImageStorage,
        SOPInstanceUID=generate_uid(),
        Modality="CT",
        NumberOfFrames=len(pixels),
        Rows=pixels.shape[1],
        Columns=pixels.shape[2],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        PixelData=pixels.tobytes(),
        SharedFunctionalGroupsSequence=item(
            PlaneOrientationSequence=item(ImageOrientationPatient=[*rows, *columns]),
            PixelMeasuresSequence=item(PixelSpacing=[1, 1], SliceThickness=1),
        ),
        PerFrameFunctionalGroupsSequence=Sequence(
            item(PlanePositionSequence=item(ImagePositionPatient=[index * way for way in step]))[0]
            for index in range(len(pixels))
        ),
    )[0]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return str(path)


@pytest.mark.parametrize(
    ("axes", "rows", "columns", "step"),
    [
        ("LPS", (1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ("LPI", (1, 0, 0), (0, 1, 0), (0, 0, -1)),  # from the head down
        ("PIR", (0, 1, 0), (0, 0, -1), (-1, 0, 0)),  # sagittal
        ("LIP", (1, 0, 0), (0, 0, -1), (0, 1, 0)),  # coronal
    ],
)
def test_a_label_volume_is_read_at_the_frame_of_a_dicom_whatever_its_axes(tmp_path, axes, rows, columns, step):
    path = dicom(
        tmp_path / "frames.dcm", np.random.default_rng(1).integers(0, 256, LABELS.shape, np.uint8), rows, columns, step
    )
    volume = read_volume(path)
    assert volume.axes == axes
    write_volume(LABELS, volume, tmp_path / "labels.nii.gz")
    cache = VolumeCache()
    shown = look(cache, replace(take(path, cache, None).slice_view, index=2))
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.nii.gz", 2, (12, 10), shown), LABELS[2])


def test_the_mask_of_a_single_slice_is_that_of_the_slice_shown(volume, tmp_path):
    cache, image = volume
    axial = look(cache, replace(image.slice_view.along(2), index=3))
    Image.fromarray(LABELS[3]).save(tmp_path / "slice.png")
    sagittal = look(cache, replace(image.slice_view.along(0), index=8))
    one = write(tmp_path / "one.nii.gz", LABELS[:, :, 8:9])  # a single sagittal slice
    flat = write(tmp_path / "flat.nii.gz", LABELS[3:4])
    for mask, shown, expected in (
        (tmp_path / "slice.png", axial, LABELS[3]),
        (flat, axial, LABELS[3]),
        (one, sagittal, LABELS[:, :, 8][::-1]),
    ):
        np.testing.assert_array_equal(read_mask(mask, 2, expected.shape, shown), expected)


def test_a_label_volume_of_another_number_of_slices_is_refused(volume, tmp_path):
    cache, image = volume
    path = write(tmp_path / "labels.nii.gz", LABELS[1:])
    shown = look(cache, image.slice_view.along(2))
    with pytest.raises(ValueError, match="the mask has 13 slices along this axis, the image 14; upload") as refused:
        read_mask(path, 2, (12, 10), shown)
    assert words("zh").reason(refused.value).startswith("掩膜在此方向有 13 层，图像有 14 层；请")
    coronal = look(cache, image.slice_view.along(1))  # across which there are as many
    with pytest.raises(ValueError, match="10 x 13 pixels, its picture 10 x 14"):
        read_mask(path, 2, (14, 10), coronal)
    flat = InputImage(Picture(np.zeros((12, 10, 3), np.uint8)))
    with pytest.raises(ValueError, match="the mask has 13 slices along this axis, the image 1;"):
        read_mask(path, 2, (12, 10), flat)


def test_the_page_of_a_tiff_mask_is_that_of_its_image(tmp_path):
    pages = [Image.fromarray(np.full((16, 16), i % 3, np.uint8)) for i in range(5)]
    pages[0].save(tmp_path / "mask.tif", save_all=True, append_images=pages[1:])
    blank = np.zeros((16, 16, 3), np.uint8)
    for index in range(5):
        shown = InputImage(Picture(blank, slice_index=index, slice_count=5))
        assert read_mask(tmp_path / "mask.tif", 2, (16, 16), shown).max() == index % 3
    with pytest.raises(ValueError, match="the mask has 5 slices along this axis, the image 4;"):
        read_mask(tmp_path / "mask.tif", 2, (16, 16), InputImage(Picture(blank, slice_index=1, slice_count=4)))


def test_paint_is_converted_to_classes_at_full_size():
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[:4, :4] = (0xE6, 0x9F, 0x00, 255)  # the colour of class 2
    layer[6:, 6:] = (0x50, 0xB0, 0xE0, 200)  # close to class 1, as at the soft edge of a brush
    labels = painted([layer], 2, (16, 16))
    assert labels[:8, :8].tolist() == [[2] * 8] * 8
    assert labels[12:, 12:].tolist() == [[1] * 4] * 4
    with pytest.raises(ValueError, match="nothing is painted"):
        painted([np.zeros((8, 8, 4), np.uint8)], 1, (8, 8))


def test_paint_on_another_image_is_not_scored():
    picture, other = phantom(3).picture.pixels, phantom(4).picture.pixels
    check_canvas(np.dstack([np.minimum(picture, 250) + 5, np.full(picture.shape[:2], 255, np.uint8)]), picture)
    for shown in (other, np.roll(picture, 1, 0), picture[:100]):
        with pytest.raises(ValueError, match="another image still"):
            check_canvas(np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)]), picture)


def test_every_organ_has_its_own_colour():
    layer = np.array([[[int(c[i : i + 2], 16) for i in (1, 3, 5)] + [255] for c in paint.CLASSES[:13]]], np.uint8)
    np.testing.assert_array_equal(painted([layer], 13, (1, 13)), np.arange(1, 14)[None])


@pytest.fixture
def tab(session, monkeypatch):
    """The page, its tab, and the tab's events by name."""
    built = []
    build = pages.reference_mask_tab.build

    def keep(page):
        built[:] = page, build(page)
        return built[1]

    monkeypatch.setattr(pages.reference_mask_tab, "build", keep)
    demo = pages.build(session, ConnectedCalls())
    return *built, {fn.name: fn.fn for fn in demo.fns.values()}


def widget(tab, name):
    return next(one for one in tab.widgets if one.elem_id == name)


@pytest.mark.parametrize("shape", [(8, 9000, 3), (9000, 8, 3)])
def test_a_very_long_picture_has_a_canvas(tab, shape):
    page, tab, _ = tab
    image = InputImage(Picture(np.zeros(shape, np.uint8)))
    update = tab.show(page.selection(image, None, "tiny"), words("en"))
    canvas = update[widget(tab, "editor")]["value"]["background"]
    assert sorted(canvas.shape) == [1, 3, 512]


def test_what_cannot_be_scored_is_said_in_a_sentence(tab, recorded):
    page, tab, _ = tab
    finished = FinishedRun(Recording.load(recorded), np.zeros((9, 9), np.uint8), np.zeros((1, 9, 9), np.uint8))
    with pytest.raises(gr.Error) as refused:
        tab.show(page.selection(phantom(3), finished, "tiny"), words("zh"))
    assert refused.value.message.startswith("这张掩膜无法使用：")


def test_a_label_volume_is_scored_on_the_slice_that_is_shown(tab, recorded, volume, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    _, tab, events = tab
    cache, image = volume
    shown = look(cache, replace(image.slice_view.along(2), index=3))
    labels = np.zeros((12, 10), np.uint8)
    finished = FinishedRun(Recording.load(recorded), labels, labels[None])
    path = write(tmp_path / "labels.nii.gz", np.minimum(LABELS, 1))
    update = events["score_upload"](path, LatestRequest(), {}, "en", shown, finished, "tiny")
    with Image.open(update[widget(tab, "get-reference-reference")]["value"]) as reference:
        np.testing.assert_array_equal(np.asarray(reference), np.minimum(LABELS[3], 1))
