"""Values, windows and geometry of DICOM and NIfTI files, against known answers, pydicom and nibabel."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    RTDoseStorage,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)

from medsegdiff.config import Domain
from medsegdiff.dicom_seg import read_source, write_seg
from medsegdiff.image_ref import FILE_WINDOW, Intensity, Picture, PictureError
from medsegdiff.imaging import (
    open,
    read,
    read_series,
    read_volume,
    series_in,
    write_map,
    write_volume,
)

# ----------------------------------------------------------------------------------------------------------- DICOM


def items(**elements) -> pydicom.Sequence:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return pydicom.Sequence([item])


def dicom(path: Path, pixels: np.ndarray, syntax=ExplicitVRLittleEndian, **elements) -> Path:
    """Write grey frames (f, h, w) or (h, w), or RGB (h, w, 3), with pydicom."""
    colour = pixels.ndim == 3 and pixels.shape[2] == 3
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.5"
    data.Modality, data.PatientName, data.PatientID = "CT", "DOE^JANE", "1"
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not colour:
        data.NumberOfFrames = len(pixels)
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    for keyword, value in elements.items():
        setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax if syntax == ExplicitVRBigEndian else ExplicitVRLittleEndian
    if syntax not in (ExplicitVRBigEndian, ExplicitVRLittleEndian):
        data.compress(syntax, encoding_plugin="pylibjpeg" if syntax == JPEG2000Lossless else "")
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


def frame_groups(positions, rescale, windows) -> pydicom.Sequence:
    return pydicom.Sequence(
        items(
            PlanePositionSequence=items(ImagePositionPatient=list(position)),
            PixelValueTransformationSequence=items(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU"),
            FrameVOILUTSequence=items(WindowCenter=centre, WindowWidth=width),
        )[0]
        for position, (slope, intercept), (centre, width) in zip(positions, rescale, windows, strict=True)
    )


SHARED = items(
    PlaneOrientationSequence=items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
    PixelMeasuresSequence=items(PixelSpacing=[0.5, 0.25], SliceThickness=2),
)


def test_frames_have_rescaling_windows_and_spacing_of_their_own(tmp_path):
    stored = np.arange(3 * 9 * 8, dtype=np.uint16).reshape(3, 9, 8)
    rescale, windows = [(1, 0), (2, -1000), (10, 5)], [(100, 50), (-500, 100), (3000, 400)]
    groups = frame_groups([(0, 0, 0), (0, 0, 2), (0, 0, 4)], rescale, windows)
    path = dicom(
        tmp_path / "enhanced",
        stored,
        SOPClassUID=EnhancedCTImageStorage,
        SharedFunctionalGroupsSequence=SHARED,
        PerFrameFunctionalGroupsSequence=groups,
    )
    volume = read_volume(path)
    for frame, (slope, intercept), (centre, width) in zip(range(3), rescale, windows, strict=True):
        np.testing.assert_array_equal(volume.array[frame], stored[frame] * slope + float(intercept))
        low = centre - 0.5 - (width - 1) / 2  # PS3.3 C.11.2.1.2
        assert volume.slice(2, frame).window == (low, low + width - 1)
        assert volume.slice(2, frame).spacing_mm == (0.5, 0.25)
    assert volume.voxel_mm3 == pytest.approx(0.5 * 0.25 * 2)
    assert volume.oriented
    assert not read_volume(dicom(tmp_path / "secondary", stored)).oriented


def test_frames_at_uneven_positions_keep_their_spacing_but_have_no_volume_in_mm3(tmp_path):
    groups = frame_groups([(0, 0, 10), (0, 0, 4), (0, 0, 0)], [(1, 0)] * 3, [(100, 50)] * 3)
    stored = np.arange(3 * 9 * 8, dtype=np.uint16).reshape(3, 9, 8)
    path = dicom(
        tmp_path / "descending",
        stored,
        SOPClassUID=EnhancedCTImageStorage,
        SharedFunctionalGroupsSequence=SHARED,
        PerFrameFunctionalGroupsSequence=groups,
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, stored)  # in the order of the file
    assert (volume.slice().spacing_mm, volume.gaps_mm, volume.voxel_mm3) == ((0.5, 0.25), (4, 6), None)
    assert volume.remarks == ("the slices lie 4 to 6 mm apart, so no volume in mm3 is given",)
    write_volume(np.zeros(volume.array.shape, np.int64), volume, tmp_path / "mask.nii.gz")
    assert nib.load(tmp_path / "mask.nii.gz").header.get_zooms() == (0.25, 0.5, 5)


AXIAL, CORONAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1]


def enhanced(path: Path, orientations, positions, spacings, **elements) -> Path:
    """Write a multi-frame file whose frames each have their own position, orientation and spacing."""
    groups = pydicom.Sequence(
        items(
            PlanePositionSequence=items(ImagePositionPatient=list(position)),
            PlaneOrientationSequence=items(ImageOrientationPatient=orientation),
            PixelMeasuresSequence=items(PixelSpacing=spacing, SliceThickness=3),
            FrameContentSequence=items(DimensionIndexValues=[1, number]),
        )[0]
        for number, (orientation, position, spacing) in enumerate(
            zip(orientations, positions, spacings, strict=True), 1
        )
    )
    stored = np.arange(len(groups) * 90, dtype=np.uint16).reshape(len(groups), 9, 10)
    elements |= {"SOPClassUID": EnhancedCTImageStorage, "PerFrameFunctionalGroupsSequence": groups}
    return dicom(path, stored, **elements)


def test_frames_that_differ_in_direction_or_spacing_are_no_stack_and_not_measured(tmp_path):
    places, even = [(0, 0, 3 * i) for i in range(3)], [[0.5, 0.25]] * 3
    same = read_volume(enhanced(tmp_path / "same", [AXIAL] * 3, places, even))
    assert (same.stacked, same.oriented, same.spacing, same.slice().spacing_mm) == (
        True,
        True,
        (0.25, 0.5, 3),
        (0.5, 0.25),
    )
    mixed = read_volume(
        enhanced(tmp_path / "mixed", [AXIAL, CORONAL, AXIAL], [(0, 5 * i, 3 * i) for i in range(3)], even)
    )
    assert (mixed.stacked, mixed.oriented, mixed.voxel_mm3, mixed.remarks) == (False, False, None, ())
    zoomed = read_volume(enhanced(tmp_path / "zoomed", [AXIAL] * 3, places, [[0.5, 0.25], [1, 0.5], [0.5, 0.25]]))
    assert (zoomed.measured, zoomed.slice().spacing_mm) == (False, None)


@pytest.mark.parametrize("orientation", [[0] * 6, [1, 0, 0, 0.3, 0.9, 0]])
def test_directions_that_are_not_at_right_angles_are_none(tmp_path, orientation):
    path = dicom(tmp_path / "a", np.zeros((9, 8), np.uint16), ImageOrientationPatient=orientation)
    assert not read_volume(path).oriented


@pytest.mark.parametrize(
    "keyword",
    ["SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation", "BitsStored", "PlanarConfiguration"],
)
def test_elements_that_some_files_leave_out_have_their_usual_values(tmp_path, keyword):
    pixels = np.random.default_rng(0).integers(0, 200, (9, 8, 3), dtype=np.uint8)
    pixels = pixels if keyword == "PlanarConfiguration" else pixels[..., 0]
    data = pydicom.dcmread(dicom(tmp_path / "whole", pixels))
    delattr(data, keyword)
    data.save_as(tmp_path / "less")
    np.testing.assert_array_equal(read_volume(tmp_path / "less").array[0], pixels)


CHARACTER_SETS = [None, "", "ISO_IR 100", "ISO 2022 IR 100", ["", "ISO 2022 IR 58"], ["", "ISO 2022 IR 149"], "UTF-8"]


def segmented(path: Path, frames: int, target: Path) -> pydicom.Dataset:
    labels = np.zeros((frames, 9, 10), np.uint8)
    labels[0, 2:5, 3:7] = 1
    domain = Domain(task="lesions", modality="CT", labels=("lesion",))
    write_seg(target, labels, read_source(path, names=True), domain, "0" * 64)
    return pydicom.dcmread(target)


@pytest.mark.parametrize("characters", CHARACTER_SETS)
@pytest.mark.filterwarnings("ignore")
def test_a_segmentation_is_written_whatever_the_character_set(tmp_path, characters):
    pytest.importorskip("highdicom")
    place = {"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [0, 0, 0], "PixelSpacing": [1, 1]}
    path = dicom(tmp_path / "a", np.zeros((9, 10), np.uint16), SpecificCharacterSet=characters, **place)
    assert segmented(path, 1, tmp_path / "seg.dcm").PatientName == "DOE^JANE"


def test_a_segmentation_refers_to_frames_that_repeat_what_they_share(tmp_path):
    pytest.importorskip("highdicom")
    path = enhanced(tmp_path / "a", [AXIAL] * 3, [(0, 0, 3 * i) for i in range(3)], [[0.5, 0.25]] * 3)
    shared = segmented(path, 3, tmp_path / "seg.dcm").SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.25]
    other = enhanced(tmp_path / "b", [AXIAL, CORONAL], [(0, 0, 0), (0, 0, 3)], [[0.5, 0.25]] * 2)
    with pytest.raises(ValueError, match="cannot carry a DICOM SEG"):
        segmented(other, 2, tmp_path / "seg2.dcm")


def test_a_modality_lut_is_applied(tmp_path):
    data = np.array([0, 10, 500, 60000], "<u2").tobytes()
    table = items(LUTDescriptor=[4, 0, 16], LUTData=data, ModalityLUTType="US")
    path = dicom(tmp_path / "lut", np.tile(np.arange(4, dtype=np.uint16), (8, 2)), ModalityLUTSequence=table)
    np.testing.assert_array_equal(read_volume(path).array[0], np.tile([0, 10, 500, 60000], (8, 2)))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_native_values_of_every_size_and_order_are_right(tmp_path, dtype, syntax):
    stored = (np.arange(9 * 8) * 1_000_003).astype(dtype).reshape(9, 8)
    volume = read_volume(dicom(tmp_path / "a", stored, syntax, RescaleSlope=2, RescaleIntercept=-3))
    np.testing.assert_array_equal(volume.array[0], (stored.astype(np.float64) * 2 - 3).astype(np.float32))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_frames_are_those_of_pydicom(tmp_path, syntax):
    stored = np.random.default_rng(0).integers(0, 4096, (3, 24, 16), dtype=np.uint16)
    volume = read_volume(dicom(tmp_path / "a", stored, syntax, RescaleSlope=1, RescaleIntercept=-1024))
    np.testing.assert_array_equal(volume.array, stored - 1024.0)


def test_colour_is_that_of_pydicom_whatever_the_layout(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
    ycbcr = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    np.testing.assert_array_equal(read(dicom(tmp_path / "rgb", pixels)).pixels, pixels)
    np.testing.assert_array_equal(
        read(dicom(tmp_path / "planes", pixels, PlanarConfiguration=1, PixelData=planes)).pixels, pixels
    )
    shown = read(dicom(tmp_path / "ybr", ycbcr, PhotometricInterpretation="YBR_FULL")).pixels
    assert np.abs(shown.astype(int) - pixels).max() <= 3  # both conversions round to 8 bits
    lut = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    for name, table in zip(
        ("Red", "Green", "Blue"), np.random.default_rng(1).integers(0, 2**16, (3, 256)), strict=True
    ):
        lut[f"{name}PaletteColorLookupTableData"] = table.astype("<u2").tobytes()
    palette = read(dicom(tmp_path / "palette", pixels[..., 0], PhotometricInterpretation="PALETTE COLOR", **lut))
    tables = np.stack([np.frombuffer(value, "<u2") for name, value in lut.items() if name.endswith("Data")], -1)
    np.testing.assert_array_equal(palette.pixels, tables[pixels[..., 0]] >> 8)


def test_a_spacing_of_zero_is_unknown(tmp_path):
    pixels = np.arange(72, dtype=np.uint16).reshape(9, 8)
    assert read(dicom(tmp_path / "zero", pixels, PixelSpacing=[0, 0])).spacing_mm is None
    assert read(dicom(tmp_path / "detector", pixels, ImagerPixelSpacing=[0.1, 0.1])).spacing_mm is None
    assert read(dicom(tmp_path / "known", pixels, PixelSpacing=[0.5, 0.25])).spacing_mm == (0.5, 0.25)


def test_an_icon_is_not_the_picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (24, 16), dtype=np.uint16)
    icon = items(Rows=40, Columns=40, BitsAllocated=8, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2")
    icon[0].PixelData = bytes(1600)
    path = dicom(tmp_path / "icon", pixels, RLELossless, IconImageSequence=icon)
    np.testing.assert_array_equal(read_volume(path).array[0], pixels)


@pytest.mark.parametrize(
    ("kind", "uid", "modality", "name"),
    [
        ("seg", SegmentationStorage, "SEG", "a segmentation"),
        ("dose", RTDoseStorage, "RTDOSE", "a dose distribution"),
        ("contours", RTStructureSetStorage, "RTSTRUCT", "a set of contours"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, kind, uid, modality, name):
    path = dicom(tmp_path / kind, np.zeros((9, 8), np.uint16), SOPClassUID=uid, Modality=modality)
    with pytest.raises(PictureError, match=f"{name}.*, not an image"):
        read(path)


def slices(folder: Path, places, values: np.ndarray, **elements) -> Path:
    """Write a series in random order of names, with a slope for each slice."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(np.random.default_rng(0).permutation(len(places))):
        place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": list(places[i])}
        rescale = {"RescaleSlope": i + 1, "RescaleIntercept": -1024}
        dicom(folder / f"IM{name:06}", values[i], PixelSpacing=[0.5, 0.25], **place, **rescale, **elements)
    return folder


def test_a_series_is_a_volume_sorted_by_position(tmp_path):
    values = np.random.default_rng(0).integers(0, 2000, (9, 10, 8), dtype=np.uint16)
    slices(tmp_path / "scan", [(5, 6, -3 * i) for i in range(9)], values, SeriesNumber=7)  # from the head down
    volume = read_volume(tmp_path / "scan")
    expected = np.stack([values[i] * (i + 1.0) - 1024 for i in range(9)])[::-1]
    np.testing.assert_array_equal(volume.array, expected)
    assert (volume.spacing, volume.origin, volume.remarks) == ((0.25, 0.5, 3), (5, 6, -24), ())
    assert volume.slice(0).spacing_mm == (3, 0.5)
    write_map(volume.array, volume, tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "map.nii.gz").affine[:3, 3], (-5, -6, -24))  # RAS
    slices(tmp_path / "scan" / "more", [(0, 0, i) for i in range(9)], values + 1, SeriesInstanceUID="1.2.30")
    other, same = series_in(tmp_path / "scan")
    assert [(one.number, one.name, len(one.files)) for one in (other, same)] == [(0, "scan_0", 9), (7, "scan_7", 9)]
    np.testing.assert_array_equal(read_series(same).array, expected)
    with pytest.raises(PictureError, match="holds 2 DICOM series"):
        read_volume(tmp_path / "scan")


def test_uneven_tilted_and_repeated_slices_are_named(tmp_path):
    values = np.random.default_rng(0).integers(0, 2000, (9, 10, 8), dtype=np.uint16)
    uneven = read_volume(slices(tmp_path / "uneven", [(0, 0, 3 * i + 3 * (i > 4)) for i in range(9)], values))
    assert "3 to 6 mm apart" in uneven.remarks[0]
    assert (uneven.voxel_mm3, uneven.slice(0).spacing_mm, uneven.slice(2).spacing_mm) == (None, None, (0.5, 0.25))
    tilted = read_volume(slices(tmp_path / "tilted", [(0, i, 3 * i) for i in range(9)], values))
    assert "gantry tilt of 18.4 degrees" in tilted.remarks[0]  # atan(1 / 3)
    assert tilted.voxel_mm3 == pytest.approx(0.5 * 0.25 * 3)
    with pytest.raises(PictureError, match="several acquisitions"):
        read_volume(slices(tmp_path / "twice", [(0, 0, i // 2) for i in range(9)], values))


@pytest.mark.parametrize("orientation", [CORONAL, [1, 0, 0, 0, 0.8, 0.6]])
def test_a_series_takes_its_geometry_from_functional_groups(tmp_path, orientation):
    normal = np.cross(orientation[:3], orientation[3:])
    for i in range(9):
        enhanced(tmp_path / f"{i}.dcm", [orientation], [(3 * i * normal).tolist()], [[0.5, 0.25]], InstanceNumber=9 - i)
    volume = read_volume(tmp_path)
    assert (sorted(volume.spacing), volume.remarks) == (pytest.approx([0.25, 0.5, 3]), ())
    assert volume.oriented


def test_a_series_is_of_one_kind(tmp_path):
    values, places = np.zeros((4, 10, 8), np.uint8), [(0, 0, 3 * i) for i in range(4)]
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    slices(tmp_path / "palette", places, values, **palette)
    for name, change in (
        ("scale", {"PhotometricInterpretation": "MONOCHROME1"}),
        ("spacing", {"PixelSpacing": [0.7, 0.25]}),
    ):
        path = next(slices(tmp_path / name, places, values).iterdir())
        data = pydicom.dcmread(path)
        data.update(change)
        data.save_as(path)
    for name in ("palette", "scale", "spacing"):
        with pytest.raises(PictureError, match="differ in size, pixel spacing or grey scale, or are in colour"):
            read_volume(tmp_path / name)


def test_a_series_of_12_bit_jpeg_or_without_preambles_is_read(tmp_path):
    [source] = pydicom.data.get_testdata_files("JPEG-lossy.dcm")
    (tmp_path / "jpeg").mkdir()
    data = pydicom.dcmread(source)
    data.pop("NumberOfFrames", None)
    for i in range(3):
        data.ImageOrientationPatient, data.ImagePositionPatient = AXIAL, [0, 0, 3 * i]
        data.save_as(tmp_path / "jpeg" / f"{i}.dcm")
    np.testing.assert_array_equal(
        read_volume(tmp_path / "jpeg").array, np.repeat(read_volume(Path(source)).array, 3, 0)
    )
    values = np.random.default_rng(0).integers(0, 2000, (4, 10, 8), dtype=np.uint16)
    bare = slices(tmp_path / "bare", [(0, 0, 3 * i) for i in range(4)], values)
    expected = read_volume(bare).array
    for path in bare.iterdir():
        path.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_volume(bare).array, expected)


# ----------------------------------------------------------------------------------------------------------- NIfTI

ROTATED = nib.eulerangles.euler2mat(z=0.5, x=0.3) @ np.diag([2, 3, 4])
PLACES = {
    "both differ": ((np.diag([2, 3, 4]), 1), (ROTATED, 2)),
    "sform only": ((None, 0), (ROTATED, 2)),
    "qform only": ((ROTATED, 1), (None, 0)),
    "neither": ((np.diag([2, 3, 4]), 0), (ROTATED, 0)),
    "sheared": ((None, 0), (np.array([[2, 0.8, 0], [0, 3, 0], [0, 0, 4.0]]), 1)),
    "flipped": ((np.diag([-2, 3, 4]), 1), (np.diag([-2, 3, 4]), 1)),
}


def nifti(path: Path, values: np.ndarray, place: str, kind=nib.Nifti1Image) -> nib.Nifti1Image:
    image = kind(values, None)
    for (matrix, code), setter in zip(PLACES[place], (image.set_qform, image.set_sform), strict=True):
        affine = None if matrix is None else nib.affines.from_matvec(matrix, (-20, 30, 10))
        setter(affine, code) if affine is not None else setter(None, 0)
    image.to_filename(path)
    return nib.load(path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_mask_has_the_very_geometry_of_its_nifti(tmp_path, place, kind):
    values = np.random.default_rng(0).integers(-100, 100, (11, 10, 9)).astype(np.int16)
    image = nifti(tmp_path / "image.nii.gz", values, place, kind)
    volume = read_volume(tmp_path / "image.nii.gz")
    write_map(volume.array, volume, tmp_path / "map.nii.gz")
    mask = nib.load(tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(mask.get_fdata(), image.get_fdata())
    np.testing.assert_array_equal(mask.affine, image.affine)
    for field in ("pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "xyzt_units"):
        np.testing.assert_array_equal(mask.header[field], image.header[field])
    for field in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(mask.header[field], image.header[field])
    assert type(mask) is kind
    assert volume.voxel_mm3 == pytest.approx(abs(np.linalg.det(image.affine[:3, :3])), rel=1e-5)  # float32 header
    # The affine of the turned volume maps every voxel to the place where nibabel has it.
    for index in ((0, 0, 0), (10, 0, 8), (3, 9, 5)):
        x, y, z = np.rint(np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1]) @ image.affine @ (*index, 1)).astype(
            int
        )[:3]
        assert volume.array[z, y, x] == values[index]


def test_a_flat_nifti_stays_flat(tmp_path):
    values = np.arange(110, dtype=np.uint8).reshape(11, 10)
    nifti(tmp_path / "flat.nii.gz", values, "qform only")
    volume = read_volume(tmp_path / "flat.nii.gz")
    assert volume.flat
    write_map(volume.array, volume, tmp_path / "map.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "map.nii.gz").get_fdata(), values)


def test_scaled_values_and_other_units_are_those_of_nibabel(tmp_path):
    image = nib.Nifti1Image(np.arange(990, dtype=np.int16).reshape(11, 10, 9), np.diag([2000, 3000, 4000, 1]))
    image.header.set_xyzt_units("micron")
    image.header.set_slope_inter(0.37, -11)
    image.to_filename(tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.sort(volume.array.ravel()), np.sort(stored.get_fdata().astype(np.float32).ravel()))
    assert volume.spacing == pytest.approx((2, 3, 4))


def test_the_name_of_a_nifti_does_not_matter(tmp_path):
    image = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(11, 10, 9)), "both differ")
    for name in ("A.NII.GZ", "scan", "a.nii"):
        (tmp_path / name).write_bytes((tmp_path / "a.nii.gz").read_bytes())
        assert read_volume(tmp_path / name).array.size == image.shape[0] * image.shape[1] * image.shape[2]


def test_a_nifti_is_measured_and_oriented_only_as_far_as_its_header_states(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((11, 10, 9))
    values = np.arange(990, dtype=np.float32)

    def written(**facts):
        for name, value in facts.items():
            header[name] = value
        (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4) + values.tobytes())
        return read_volume(tmp_path / "a.nii")

    volume = written(vox_offset=0, pixdim=[1, 2, 3, 4, 1, 1, 1, 1])
    np.testing.assert_array_equal(np.sort(volume.array.ravel()), values)  # not the bytes of the header
    assert (volume.measured, volume.oriented) == (True, False)
    assert not written(pixdim=[1, 0, 0, 0, 1, 1, 1, 1]).measured
    volume = written(sform_code=1)  # a matrix of zeros
    assert (volume.measured, volume.oriented) == (False, False)
    volume = written(srow_x=[2, 0, 0, 0], srow_y=[0, 3, 0, 0], srow_z=[0, 0, 4, 0])
    assert (volume.measured, volume.oriented) == (True, True)


# -------------------------------------------------------------------------------------- pictures and their intensity


def test_webp_and_bmp_are_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.bmp")
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True)
    for name in ("a.bmp", "a.webp"):
        np.testing.assert_array_equal(read(tmp_path / name).pixels, pixels)


def test_arrays_become_8_bit_rgb_where_their_range_is_certain():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    opaque = np.dstack([pixels, np.full((16, 12), 255, np.uint8)])
    for given in (
        pixels / 255,
        (pixels / 255).astype(np.float32),
        pixels.astype(np.uint16) * 257,
        pixels.astype(int),
        opaque,
    ):
        np.testing.assert_array_equal(Picture(given).pixels, pixels)
    np.testing.assert_array_equal(Picture(pixels[:, ::-1]).pixels, pixels[:, ::-1])
    assert Picture(pixels[:, ::-1]).pixels.flags.c_contiguous
    grey = Picture(pixels[..., 0])
    assert (grey.channels, grey.pixels.shape) == (1, (16, 12, 3))
    half = Picture(np.dstack([pixels, np.full((16, 12), 51, np.uint8)]))
    np.testing.assert_allclose(half.pixels, pixels / 5, atol=0.5)
    assert half.notes == ("transparency over black",)
    np.testing.assert_array_equal(Picture(pixels.astype(np.int16) * 10 - 500, window=(-500, 2050)).pixels, pixels)


@pytest.mark.parametrize(
    "given",
    [
        np.full((16, 12), 4095, np.uint16),
        np.full((16, 12, 3), 200.0),
        np.linspace(-1, 1, 192).reshape(16, 12),
        np.full((16, 12), np.nan),
        np.zeros((3, 16, 12), np.uint8),
        np.zeros((16, 12), complex),
        np.zeros((0, 12), np.uint8),
    ],
)
def test_arrays_of_an_uncertain_range_or_shape_are_refused(given):
    with pytest.raises(PictureError, match="the array"):
        Picture(given)


CT = Intensity(window=(-125, 275), per_slice=True, stretch=True)


def test_the_window_of_a_checkpoint_counts_for_values_that_it_can_be_meant_for(tmp_path):
    values = np.random.default_rng(0).uniform(-1000, 1500, (9, 10, 11)).astype(np.float32)
    values[..., 0] = np.linspace(-1000, 20, 90).reshape(9, 10)
    nifti(tmp_path / "ct.nii.gz", values, "flipped")
    volume = read_volume(tmp_path / "ct.nii.gz")
    assert volume.slice(2, 5, CT).window == (-125, 275)
    assert volume.slice(2, 0, CT).window == (-125, 20)  # stretched to its own values
    assert volume.slice(2, 0, Intensity(window=(-125, 275))).window == (-125, 275)
    assert volume.slice(2, 5, (0.0, 80.0)).window == (0, 80)
    share = volume.slice(2, 5, Intensity(percentiles=(0, 99.8))).window
    assert share == pytest.approx((-1000, np.percentile(values, 99.8)), abs=1)
    assert volume.slice(2, 5, FILE_WINDOW).window == volume.slice(2, 5).window == volume.window
    nifti(tmp_path / "shifted.nii.gz", values + 1024, "flipped")  # no Hounsfield units
    assert read(tmp_path / "shifted.nii.gz", window=CT).window == read(tmp_path / "shifted.nii.gz").window
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(tmp_path / "flat.png")
    assert open(tmp_path / "flat.png", window=CT).window is None
