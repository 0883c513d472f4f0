"""Reading and writing images and volumes, resizing, and malformed files."""

import contextlib
import gzip
import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medsegdiff import imaging
from medsegdiff.atomic import write_text
from medsegdiff.imaging import (
    Picture,
    PictureError,
    read,
    read_volume,
    write_labels,
    write_map,
    write_probability,
    write_volume,
)
from medsegdiff.resize import Geometry, to_network, to_original

RAMP = np.arange(2**16, dtype=np.uint16).reshape(256, 256)


def volume_file(path: Path, array: np.ndarray, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing=(1, 2, 3)) -> Path:
    image = sitk.GetImageFromArray(array)
    image.SetDirection([float(d) for d in direction])
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin((-10.0, 20.5, 7.25))
    sitk.WriteImage(image, str(path), True)
    return path


def dicom_file(path: Path, array: np.ndarray | None, photometric: str = "MONOCHROME2", frames: int = 1, **tags) -> Path:
    """Write an explicit little-endian DICOM by hand; `tags` are like t0028_1050="40"."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2) if kind in (b"UI", b"OB", b"OW") else b" " * (len(value) % 2)
        length = struct.pack("<2xI", len(value)) if kind in (b"OB", b"OW") else struct.pack("<H", len(value))
        return struct.pack("<HH", group, number) + kind + length + value

    def short(group: int, number: int, value: int) -> bytes:
        return element(group, number, b"US", struct.pack("<H", value))

    secondary_capture = b"1.2.840.10008.5.1.4.1.1.7"
    meta = element(2, 2, b"UI", secondary_capture) + element(2, 3, b"UI", b"1.2.3")
    meta += element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    rows, columns = (16, 12) if array is None else array.shape[-2:]
    bits = 8 if array is None else 8 * array.itemsize
    body = {
        (8, 0x16): element(8, 0x16, b"UI", secondary_capture),
        (8, 0x60): element(8, 0x60, b"CS", b"CT"),
        (0x10, 0x10): element(0x10, 0x10, b"PN", b"DOE^JANE"),
        (0x28, 2): short(0x28, 2, 1),
        (0x28, 4): element(0x28, 4, b"CS", photometric.encode()),
        (0x28, 8): element(0x28, 8, b"IS", str(frames).encode()),
        (0x28, 0x10): short(0x28, 0x10, rows),
        (0x28, 0x11): short(0x28, 0x11, columns),
        (0x28, 0x100): short(0x28, 0x100, bits),
        (0x28, 0x101): short(0x28, 0x101, bits),
        (0x28, 0x102): short(0x28, 0x102, bits - 1),
        (0x28, 0x103): short(0x28, 0x103, 0),
    }
    for name, value in tags.items():
        at = int(name[1:5], 16), int(name[6:], 16)
        body[at] = element(*at, b"CS" if at == (0x28, 0x301) else b"DS", value.encode())
    if array is not None:
        body[0x7FE0, 0x10] = element(0x7FE0, 0x10, b"OW" if bits == 16 else b"OB", array.tobytes())
    length = element(2, 0, b"UL", struct.pack("<I", len(meta)))
    path.write_bytes(bytes(128) + b"DICM" + length + meta + b"".join(body[at] for at in sorted(body)))
    return path


def png_claiming(width: int, height: int) -> bytes:
    """Give a PNG whose header names a size and whose pixels are missing: whoever decodes it fails otherwise."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"no pixels") + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------------- flat pictures


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(low=st.integers(0, 65000), width=st.integers(1, 65535))
def test_a_16_bit_ramp_comes_through_its_window(tmp_path_factory, low, width):
    path = tmp_path_factory.mktemp("ramp") / "ramp.png"
    Image.fromarray(RAMP).save(path)
    picture = read(path, window=(float(low), float(low + width)))
    grey = picture.pixels[..., 0].astype(float)
    inside = (low <= RAMP) & (low + width >= RAMP)
    # Rounding to 255 levels moves a value by half a level at most.
    assert np.abs(low + grey / 255 * width - RAMP)[inside].max() <= width / 255 / 2 + 1e-9
    assert (grey[low > RAMP] == 0).all()
    assert (grey[low + width < RAMP] == 255).all()
    assert picture.channels == 1


def test_the_default_window_of_16_bits_is_stated_and_spreads_the_greys(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "ramp.tiff")
    picture = read(tmp_path / "ramp.tiff")
    assert picture.window == pytest.approx((0.005 * 65535, 0.995 * 65535))
    assert np.unique(picture.pixels).size == 256


def test_white_is_zero_is_shown_inverted_at_every_depth(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(255 - ramp).save(tmp_path / "8.tiff", tiffinfo={262: 0})  # Pillow inverts what it writes so
    page = Image.fromarray(ramp * np.uint16(257))
    for path, photometric in ((tmp_path / "dark.tiff", 0), (tmp_path / "bright.tiff", 1)):
        page.save(path, tiffinfo={262: photometric}, save_all=True, append_images=[page])
    window = 0.0, 65535.0
    dark, bright = (read(tmp_path / name, window=window) for name in ("dark.tiff", "bright.tiff"))
    np.testing.assert_array_equal(dark.pixels[..., 0], 255 - ramp)
    np.testing.assert_array_equal(bright.pixels[..., 0], ramp)
    np.testing.assert_array_equal(read(tmp_path / "8.tiff").pixels, dark.pixels)
    assert (dark.notes, dark.window, bright.notes) == (("inverted",), window, ())
    stack = imaging.open(tmp_path / "dark.tiff")
    np.testing.assert_array_equal(stack.slice(2, 0, window).pixels, dark.pixels)
    assert read(tmp_path / "dark.tiff").ref.sha256 == stack.slice().ref.sha256


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path, orientation, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 17, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "photo", format=kind, exif=exif)
    picture = read(tmp_path / "photo")
    np.testing.assert_array_equal(picture.pixels, UPRIGHT[orientation](pixels))
    assert (picture.height, picture.width) == ((17, 10) if orientation > 4 else (10, 17))
    assert picture.notes == (("turned",) if orientation > 1 else ())
    assert picture.source_kind == kind


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("1", 1, (255, 255, 255)),
        ("LA", (200, 255), (200, 200, 200)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("RGBA", (100, 200, 50, 255), (100, 200, 50)),
        ("RGBA", (100, 200, 50, 51), (20, 40, 10)),  # one fifth opaque
    ],
)
def test_every_colour_mode_becomes_rgb(tmp_path, mode, colour, seen):
    Image.new(mode, (9, 8), colour).save(tmp_path / "a.tiff")
    picture = read(tmp_path / "a.tiff")
    assert (picture.pixels == seen).all()
    assert picture.channels == (1 if mode in ("1", "LA") else 3)
    assert picture.notes == (("transparency over black",) if colour == (100, 200, 50, 51) else ())
    assert picture.window is None


def test_a_palette_becomes_its_colours(tmp_path):
    picture = Image.new("P", (9, 8), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.save(tmp_path / "a.png")
    assert (read(tmp_path / "a.png").pixels == (10, 20, 30)).all()


def test_picture_open_reads_a_slice_as_read_does(tmp_path):
    path = volume_file(tmp_path / "v.nii.gz", np.arange(9 * 10 * 11, dtype=np.int16).reshape(9, 10, 11))
    choice = {"axis": 0, "index": 4, "window": (100.0, 900.0)}
    opened, expected = Picture.open(path, **choice), read(path, **choice)
    np.testing.assert_array_equal(opened.pixels, expected.pixels)
    assert opened.ref == expected.ref


def test_the_middle_page_is_shown_unless_another_is_asked_for(tmp_path):
    pages = [Image.new("L", (9, 8), 10 * i) for i in range(5)]
    pages[0].save(tmp_path / "pages.tiff", save_all=True, append_images=pages[1:])
    middle, last = read(tmp_path / "pages.tiff"), read(tmp_path / "pages.tiff", index=4)
    assert (middle.pixels[0, 0, 0], middle.slice_index, middle.slice_count) == (20, 2, 5)
    assert (last.pixels[0, 0, 0], last.slice_index) == (40, 4)
    with pytest.raises(PictureError, match="choose 0 to 4"):
        read(tmp_path / "pages.tiff", index=5)


# -------------------------------------------------------------------------------------------------------- DICOM


def test_a_dicom_says_its_grey_scale_window_and_sampling(tmp_path):
    stored = np.arange(16 * 12, dtype="<u2").reshape(16, 12) * 10
    path = dicom_file(
        tmp_path / "scan",
        stored,
        t0028_0030="0.5\\0.25",
        t0028_0301="NO",
        t0028_1050="40\\50",
        t0028_1051="401\\7",
        t0028_1052="-1024",
        t0028_1053="2",
    )
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array[0], stored.astype(float) * 2 - 1024)
    picture = read(path)
    assert picture.window == (-160.5, 239.5)  # centre - 0.5 -+ (width - 1) / 2, PS3.3 C.11.2.1.2
    assert picture.spacing_mm == (0.5, 0.25)
    assert (picture.modality, picture.burned_in, picture.channels, picture.source_kind) == ("CT", False, 1, "dicom")
    assert not any("DOE" in str(getattr(picture, name)) for name in Picture.__slots__)


@pytest.mark.slow
@pytest.mark.parametrize("window", [{}, {"t0028_1050": "500.5", "t0028_1051": "801"}])
def test_monochrome1_keeps_its_numbers_and_is_shown_inverted(tmp_path, window):
    stored = np.arange(16 * 12, dtype="<u2").reshape(16, 12) * 5
    rescale = {"t0028_1052": "-100", "t0028_1053": "2"}
    dark, bright = (
        dicom_file(tmp_path / kind, stored, photometric=kind, **rescale, **window)
        for kind in ("MONOCHROME1", "MONOCHROME2")
    )
    np.testing.assert_array_equal(read_volume(dark).array, read_volume(bright).array)
    assert read(dark).window == read(bright).window
    np.testing.assert_array_equal(read(dark).pixels, 255 - read(bright).pixels)
    assert read(dark).notes == ("inverted",)


def test_8_bit_frames_are_shown_as_stored_and_counted(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 12), dtype=np.uint8)
    picture = read(dicom_file(tmp_path / "cine.dcm", frames, frames=5), index=3)
    np.testing.assert_array_equal(picture.pixels[..., 0], frames[3])
    assert (picture.slice_index, picture.slice_count, picture.spacing_mm, picture.burned_in) == (3, 5, None, None)


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
def test_compressed_dicom_is_read_without_loss(tmp_path, compressor):
    slope = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint16)[None] * 30
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "scan.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(slope))
    assert (tmp_path / "scan.dcm").stat().st_size < 0.7 * slope.nbytes
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.dcm").array, slope)


def test_colour_dicom_stays_in_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a.dcm"))
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").pixels, pixels)
    with pytest.raises(ValueError, match="in colour"):
        read(tmp_path / "a.dcm", window=(0.0, 1.0))


# ------------------------------------------------------------------------------------------------------- volumes


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spacing=st.tuples(*[st.floats(0.2, 5)] * 3))
def test_labels_return_to_the_voxels_of_a_volume_however_it_lies(tmp_path_factory, seed, spacing):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("volume")
    direction = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # any rotation, half of them mirrored
    array = rng.normal(size=(9, 10, 11)).astype(np.float32)
    volume = read_volume(volume_file(folder / "a.nii.gz", array, direction.ravel(), spacing))
    write_volume((volume.array > 0).astype(np.int64) * 7, volume, folder / "labels.nii.gz")
    before, after = (sitk.ReadImage(str(folder / name)) for name in ("a.nii.gz", "labels.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), (array > 0) * 7)
    # A NIfTI header holds its geometry in float32.
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(after, name)(), getattr(before, name)(), atol=2e-5)
    assert not any(after.GetMetaData(key) for key in ("descrip", "aux_file", "intent_name", "ITK_FileNotes"))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, -1, 0)]
)
def test_every_format_and_orientation_shows_the_head_above_and_the_left_on_the_right(tmp_path, suffix, direction):
    array = np.zeros((12, 10, 11), np.float32)  # of the voxels as stored; the spacing is 1, 2, 3 mm along x, y, z
    path = volume_file(tmp_path / f"a{suffix}", array, direction)
    image = sitk.ReadImage(str(path))
    # One bright voxel: the corner that lies most to the left, front and head (LPS: +x, -y, +z).
    corners = [(x, y, z) for x in (0, 10) for y in (0, 9) for z in (0, 11)]
    x, y, z = max(corners, key=lambda c: np.dot(image.TransformIndexToPhysicalPoint(c), (1, -1, 1)))
    array[z, y, x] = 1
    volume = read_volume(volume_file(path, array, direction))
    count = volume.array.shape[::-1]
    for axis, index, corner in [(2, count[2] - 1, (0, -1)), (1, 0, (0, -1)), (0, count[0] - 1, (0, 0))]:
        picture = volume.slice(axis, index, (0.0, 1.0))
        assert picture.pixels[corner].tolist() == [255] * 3
        assert picture.pixels.sum() == 255 * 3
    assert volume.slice(1, 0).spacing_mm == pytest.approx((volume.spacing[2], volume.spacing[0]))
    assert volume.slice(0, 0).spacing_mm == pytest.approx((volume.spacing[2], volume.spacing[1]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_stack_to_their_volume(tmp_path, axis):
    values = np.random.default_rng(0).integers(0, 256, (9, 10, 11), dtype=np.uint8)
    volume = read_volume(volume_file(tmp_path / "a.nrrd", values))
    planes = [volume.slice(axis, i, (0.0, 255.0)).pixels[..., 0] for i in range(values.shape[2 - axis])]
    np.testing.assert_array_equal(volume.stack(axis, planes), values)
    with pytest.raises(ValueError, match="give every slice"):
        volume.stack(axis, planes[1:])


def test_a_volume_has_one_window_for_all_its_slices_and_blank_voxels_are_black(tmp_path):
    values = np.linspace(-500, 3000, 9 * 10 * 11, dtype=np.float32).reshape(9, 10, 11)
    values[0, 0, 0] = np.nan
    path = volume_file(tmp_path / "a.nrrd", values)
    first, last = read(path, index=0), read(path, index=8)
    assert first.window == last.window == pytest.approx(tuple(np.nanpercentile(values, (0.5, 99.5))))
    assert first.pixels[0, 0, 0] == 0
    assert first.pixels.max() < last.pixels.max() == 255


def test_a_volume_that_leaves_out_its_spacing_gets_none(tmp_path):
    path = volume_file(tmp_path / "a.mha", np.zeros((9, 10, 11), np.uint8))
    assert read(path).spacing_mm == (2.0, 1.0)
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 2 3\n", b""))
    assert read(path).spacing_mm is None


def test_a_flat_nifti_is_a_volume_of_one_slice(tmp_path):
    image = sitk.GetImageFromArray(np.eye(10, 12, dtype=np.float32))
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    picture = read(tmp_path / "a.nii", window=(0.0, 1.0))
    assert (picture.slice_count, picture.height, picture.width) == (1, 10, 12)
    assert picture.pixels[..., 0].sum() == 255 * 10


# --------------------------------------------------------------------------------------------- to the network


@settings(max_examples=10, deadline=None)
@given(height=st.integers(8, 200), width=st.integers(8, 200), level=st.integers(0, 255))
def test_resizing_there_and_back_keeps_a_constant(height, width, level):
    picture = Picture(np.full((height, width, 3), level, np.uint8))
    for channels in (1, 3):
        image, geometry = to_network(picture, 64, channels)
        assert geometry == Geometry(height, width, 64)
        torch.testing.assert_close(image, torch.full((1, channels, 64, 64), level / 127.5 - 1), atol=1e-5, rtol=0)
    home = to_original(torch.tensor([0.25, 0.75])[:, None, None].expand(2, 64, 64), geometry)
    torch.testing.assert_close(home, torch.tensor([0.25, 0.75])[:, None, None].expand(2, height, width))


def test_a_picture_of_the_networks_size_is_not_resampled():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    image, geometry = to_network(Picture(pixels), 64)
    np.testing.assert_array_equal(((image[0] + 1) * 127.5).round().byte().movedim(0, -1).numpy(), pixels)
    probability = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_original(probability, geometry), probability)


def test_probabilities_of_every_member_return_at_the_original_size_and_sum_to_one():
    probability = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0)).softmax(1)
    home = to_original(probability, Geometry(20, 77, 32))
    assert home.shape == (2, 4, 20, 77)
    torch.testing.assert_close(home.sum(1), torch.ones(2, 20, 77))
    torch.testing.assert_close(home[1], to_original(probability[1], Geometry(20, 77, 32)))
    with pytest.raises(ValueError, match="went out as"):
        to_original(probability, Geometry(20, 77, 64))


def test_outside_the_field_that_the_network_saw_all_is_background():
    pixels = np.random.default_rng(0).integers(0, 256, (128, 96, 3), dtype=np.uint8)
    image, geometry = to_network(Picture(pixels), 64, field=0.5)
    whole, _ = to_network(Picture(pixels[32:96, 24:72]), 64)
    torch.testing.assert_close(image, whole)
    home = to_original(torch.tensor([0.25, 0.75])[:, None, None].expand(3, 2, 64, 64), geometry)
    assert home.shape == (3, 2, 128, 96)
    inside = torch.zeros(128, 96, dtype=torch.bool)
    inside[32:96, 24:72] = True
    torch.testing.assert_close(home[:, 1][:, inside], torch.full((3, 64 * 48), 0.75))
    assert home[:, 1][:, ~inside].abs().max() == 0
    torch.testing.assert_close(home.sum(1), torch.ones(3, 128, 96))


def test_resizing_there_and_back_keeps_a_border_in_place():
    pixels = np.zeros((90, 300, 3), np.uint8)
    pixels[:, 100:] = 255
    image, geometry = to_network(Picture(pixels), 64, 1)
    home = to_original((image[0] + 1) / 2, geometry)[0] > 0.5
    # A pixel of the network is 300 / 64 = 4.7 wide; the border lies within half of one.
    assert abs(int((~home[45]).sum()) - 100) <= 2


# ------------------------------------------------------------------------------------------------------- writers


def chunks(path: Path) -> set[bytes]:
    data, at, found = path.read_bytes(), 8, set()
    while at < len(data):
        found.add(data[at + 4 : at + 8])
        at += 12 + struct.unpack_from(">I", data, at)[0]
    return found


def test_labels_and_probabilities_are_written_without_loss_and_without_words(tmp_path):
    labels = RAMP.astype(np.uint8)
    write_labels(tmp_path / "mask.png", labels)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), labels)
    write_probability(tmp_path / "p.png", RAMP / 65535)
    with Image.open(tmp_path / "p.png") as image:
        np.testing.assert_array_equal(np.array(image), RAMP)
    assert chunks(tmp_path / "mask.png") == chunks(tmp_path / "p.png") == {b"IHDR", b"IDAT", b"IEND"}
    with pytest.raises(ValueError, match=r"leaves \[0, 1\]"):
        write_probability(tmp_path / "p.png", np.full((8, 8), np.nan))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_full_disk_leaves_the_earlier_file_and_no_part_of_the_new_one(tmp_path):
    import resource

    random = np.random.default_rng(0)
    volume = read_volume(volume_file(tmp_path / "a.nrrd", random.normal(size=(9, 30, 31)).astype(np.float32)))
    (tmp_path / "out").mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in {
        "mask.png": lambda path: write_labels(path, random.integers(0, 256, (90, 91), dtype=np.uint8)),
        "map.png": lambda path: write_probability(path, random.random((90, 91))),
        "map.nii.gz": lambda path: write_map(random.random((9, 30, 31)), volume, path),
        "mask.nii.gz": lambda path: write_volume(random.integers(0, 256, (9, 30, 31)), volume, path),
        "report.json": lambda path: write_text(path, "x" * 9000),
    }.items():
        path = tmp_path / "out" / name
        path.write_bytes(b"earlier")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(OSError, match="too large") as refused:
                write(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert refused.value.filename == str(path)
        assert path.read_bytes() == b"earlier"
        write(path)
        assert path.stat().st_size > 4096
        assert [found.name for found in path.parent.iterdir()] == [name]
        path.unlink()


# -------------------------------------------------------------------------------------------------- bad company


def nifti_bytes(shape=(9, 10, 11), voxel: int = 16, data: int | None = None) -> bytes:
    header = struct.pack("<i36x8h14xhh34xf4xf", 348, 3, *shape[::-1], 1, 1, 1, 1, voxel, 32, 352.0, 0.0)
    header = header.ljust(344, b"\0") + b"n+1\0" + bytes(4)
    return header + bytes(4 * int(np.prod(shape)) if data is None else data)


def mha_bytes(source: str = "LOCAL", before: str = "") -> bytes:
    header = (
        f"ObjectType = Image\nNDims = 2\n{before}DimSize = 10 10\nElementType = MET_UCHAR\nElementDataFile = {source}\n"
    )
    return header.encode() + bytes(100)


def mha_zipped(values: bytes) -> bytes:
    return mha_bytes(before="CompressedData = True\n")[:-100] + zlib.compress(values)


def nrrd_bytes(extra: str = "") -> bytes:
    return f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 10 10\nencoding: raw\n{extra}\n".encode() + bytes(100)


def saved(kind: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = BytesIO()
    Image.effect_noise(size, 50).save(buffer, kind)
    return buffer.getvalue()


def tiff_bytes(bits: int, kind: int, order: str = "<", pages: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    """Write grey pages of 10 x 10, each given by its New Subfile Type and its values; by default one of zeros."""
    data = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    for kind_of_page, values in pages or ((0, bytes(100 * bits // 8)),):
        at = len(data) + 2 + 10 * 12 + 4
        entries = ((254, kind_of_page), (256, 10), (257, 10), (258, bits), (259, 1), (262, 1), (273, at), (277, 1))
        entries += ((279, len(values)), (339, kind))
        directory = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in entries)
        data += struct.pack(f"{order}H", 10) + directory + struct.pack(f"{order}I", at + len(values)) + values
    last = len(data) - len(values) - 4
    return data[:last] + bytes(4) + data[last + 4 :]


BAD = {
    "text.png": (b"hello\n" * 100, "of no kind that can be read"),
    "vector.png": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "of no kind that can be read"),
    "picture.gif": (saved("GIF"), "of no kind that can be read"),
    "program.dcm": (b"\x7fELF" + bytes(400), "of no kind that can be read"),
    "archive.nii.gz": (gzip.compress(b"a letter" * 100), "of no kind that can be read"),
    "zipped.mha.gz": (gzip.compress(mha_bytes()), "of no kind that can be read"),
    "empty.png": (b"", "empty"),
    "dot.png": (saved("PNG", (1, 1)), "1 x 1 pixels"),
    "strip.tiff": (saved("TIFF", (900, 7)), "900 x 7 pixels"),
    "bomb.png": (png_claiming(12000, 12000), "12000 x 12000 pixels"),
    "hydrogen.png": (png_claiming(60000, 60000), "hundreds of millions"),
    "line.png": (png_claiming(2**24, 8), "16777216 x 8 pixels"),
    "cut.png": (saved("PNG")[:400], "cut short"),
    "cut.jpg": (saved("JPEG")[:400], "cut short"),
    "cut.tiff": (saved("TIFF")[:-400], "cut short"),
    "stub.png": (saved("PNG")[:20], "cut short"),
    "huge.nii.gz": (gzip.compress(nifti_bytes((4000, 4000, 4000), data=0)), "crop it"),
    "wide.nii": (nifti_bytes((1, 12000, 12000), data=0), "12000 x 12000 pixels"),
    "cut.nii": (nifti_bytes()[:-1], "cut short"),
    "cut.nii.gz": (gzip.compress(nifti_bytes())[:-6], "cut short"),
    "short.nii.gz": (gzip.compress(nifti_bytes()[:-1]), "cut short"),
    "negative.nii": (nifti_bytes((9, 10, -11), data=4000), "damaged"),
    "typeless.nii": (nifti_bytes(voxel=7), "damaged"),
    "stub.nii": (nifti_bytes()[:349], "damaged"),
    "pair.hdr": (nifti_bytes()[:344] + b"ni1\0" + bytes(4), "pair of files"),
    "flat.nii": (nifti_bytes((9, 3, 11)), "11 x 3 pixels"),
    "cut.mha": (mha_bytes()[:-1], "cut short"),
    "cut.nrrd": (nrrd_bytes()[:-1], "cut short"),
    "elsewhere.mha": (mha_bytes("/etc/passwd"), "in another file"),
    "short.mha": (mha_zipped(bytes(99)), "cut short"),
    "cut2.mha": (mha_zipped(bytes(range(100)))[:-9], "cut short"),
    "empty.mha": (mha_bytes().replace(b"10 10", b"10 0"), "none"),
    "hidden.mha": (
        mha_bytes(before="Comment = x\rElementDataFile = LOCAL\nElementDataFile = /etc/passwd\n"),
        "another file",
    ),
    "elsewhere.nrrd": (nrrd_bytes("data file: /etc/passwd\n"), "in another file"),
    "skipping.nrrd": (nrrd_bytes("byte skip: -1\n"), "in another file"),
    "return.nrrd": (nrrd_bytes("# x\rdata file: /etc/passwd\n"), "in another file"),
    "list.nrrd": (nrrd_bytes("byte skip: 0\ndatafile: LIST\n"), "in another file"),
    "bzip2.nrrd": (nrrd_bytes().replace(b"raw", b"bzip2"), "bzip2, which cannot be read"),
    "colon.mha": (mha_bytes().replace(b"ElementDataFile = LOCAL", b"ElementDataFile: /etc/passwd"), "in another file"),
    "double.tiff": (tiff_bytes(64, 3), "float64 .*cannot be read"),
    "big-endian.tiff": (tiff_bytes(32, 1, ">"), "uint32 .*cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(tmp_path, capfd, name):
    content, reason = BAD[name]
    (tmp_path / f"Jane Doe {name}").write_bytes(content)
    with pytest.raises(PictureError, match=reason) as refused:
        read(tmp_path / f"Jane Doe {name}")
    assert "\n" not in str(refused.value)
    assert "Jane" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["u4", "i1"])
def test_values_of_a_tiff_keep_their_sign(tmp_path, dtype):
    values = np.linspace(np.iinfo(dtype).min, np.iinfo(dtype).max, 100).astype(f"<{dtype}")
    pages = ((0, values.tobytes()),)
    (tmp_path / "a.tiff").write_bytes(tiff_bytes(8 * values.itemsize, 1 if dtype[0] == "u" else 2, pages=pages))
    np.testing.assert_array_equal(imaging.open(tmp_path / "a.tiff").array.ravel(), values.astype(np.float32))


def test_thumbnails_and_masks_are_no_pages_of_a_tiff(tmp_path):
    pages = tuple((kind, bytes([20 * i] * 100)) for i, kind in enumerate((0, 1, 4, 2, 1, 1)))
    (tmp_path / "a.tiff").write_bytes(tiff_bytes(8, 1, pages=pages))
    assert [(p.slice_count, p.pixels[0, 0, 0]) for p in (read(tmp_path / "a.tiff", index=i) for i in (0, 1))] == [
        (2, 0),
        (2, 60),
    ]
    assert read(tmp_path / "a.tiff").pixels[0, 0, 0] == 60


@pytest.mark.parametrize(
    ("name", "content", "measured", "oriented"),
    [
        ("nan.nrrd", nrrd_bytes("spacings: nan 2\n"), None, False),
        (
            "plain.nrrd",
            nrrd_bytes("byte skip: 0\n# from data file x\nsource datafile:=x\nspacings: 3 2\n"),
            (2, 3),
            False,
        ),
        ("cm.nrrd", nrrd_bytes('spacings: .3 .2\nunits: "cm" "cm"\n'), (2, 3), False),
        ("steps.nrrd", nrrd_bytes('spacings: 3 2\nunits: "steps" "steps"\n'), None, False),
        ("size.mha", mha_bytes("Local", "ElementSize: 3 2\n"), (2, 3), False),
        ("comment.mha", b"Comment = of a test\n" + mha_bytes("local", "TransformMatrix = 1 0 0 1\n"), None, True),
        ("long.mha", mha_bytes(before="".join(f"Frame{i:05} = {'0 ' * 50}\n" for i in range(1000))), None, False),
    ],
)
def test_headers_of_nrrd_and_mha_state_distances_and_directions_or_not(tmp_path, name, content, measured, oriented):
    (tmp_path / name).write_bytes(content)
    volume = read_volume(tmp_path / name)
    assert volume.slice().spacing_mm == (None if measured is None else pytest.approx(measured))
    assert volume.oriented == oriented


@pytest.mark.parametrize("flag", ["False", "No", "0"])
def test_voxels_of_an_mha_may_be_numbers_in_text(tmp_path, flag):
    values = np.arange(100).reshape(10, 10)
    text = " ".join(map(str, values.ravel())).encode() + b"\n"
    whole = mha_bytes(before=f"BinaryData = {flag}\n")[:-100] + text
    (tmp_path / "text.mha").write_bytes(whole)
    assert np.array_equal(read_volume(tmp_path / "text.mha").array[0], values)
    (tmp_path / "cut.mha").write_bytes(whole[:-4])
    with pytest.raises(PictureError, match="cut short"):
        read(tmp_path / "cut.mha")


def test_missing_files_folders_and_dicoms_without_pixels_get_a_sentence_too(tmp_path, capfd):
    with pytest.raises(PictureError, match="no such file"):
        read(tmp_path / "nothing.png")
    with pytest.raises(PictureError, match="holds no DICOM series"):
        read(tmp_path)
    with pytest.raises(PictureError, match="holds no picture"):
        read(dicom_file(tmp_path / "report.dcm", None))
    scan = dicom_file(tmp_path / "scan.dcm", np.zeros((16, 12), np.uint8))
    scan.write_bytes(scan.read_bytes()[:-100])
    with pytest.raises(PictureError, match="cut short"):
        read(scan)
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="flat picture"):
        read_volume(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_a_dicom_that_holds_less_than_it_promises_is_refused(tmp_path):
    zeros = np.zeros((16, 12), np.uint8)
    rows = struct.pack("<HH2sH", 0x28, 0x10, b"US", 2)
    path = dicom_file(tmp_path / "rows.dcm", zeros)
    path.write_bytes(path.read_bytes().replace(rows + b"\x10\0", rows + b"\x60\xea"))
    with pytest.raises(PictureError, match="cut short"):
        read(path)
    with pytest.raises(PictureError, match="cut short"):
        read(dicom_file(tmp_path / "many.dcm", zeros, frames=200_000))
    with pytest.raises(PictureError, match="crop it to at most"):
        read(dicom_file(tmp_path / "many.dcm", zeros, frames=2_000_000))


def test_a_dicom_element_takes_no_more_memory_than_the_file_whatever_length_it_states(tmp_path):
    path = dicom_file(tmp_path / "length.dcm", np.full((16, 12), 7, np.uint8))
    stated = path.read_bytes().replace(b"OB\0\0\xc0\0\0\0", b"OB\0\0\xf0\xff\xff\x3f")  # a gigabyte
    path.write_bytes(stated)
    assert (read_volume(path, limits=imaging.Limits(2**29, 60, 120)).array == 7).all()


def test_valid_dicom_is_accepted_in_every_encoding(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    sitk.WriteImage(sitk.GetImageFromArray(RAMP[None]), str(tmp_path / "plain.dcm"))
    for compressor in ("JPEG2000", "JPEG"):
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(tmp_path / f"{compressor}.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(RAMP[None]))
    dicom_file(tmp_path / "cine.dcm", np.zeros((5, 16, 12), np.uint8), frames=5)
    (tmp_path / "padded.dcm").write_bytes((tmp_path / "cine.dcm").read_bytes() + bytes(64))
    for name, syntax in (("deflated", pydicom.uid.DeflatedExplicitVRLittleEndian), ("rle", pydicom.uid.RLELossless)):
        data = pydicom.dcmread(tmp_path / "cine.dcm")
        if name == "rle":
            data.compress(syntax)
        else:
            data.file_meta.TransferSyntaxUID = syntax
        data.save_as(tmp_path / f"{name}.dcm")
    for path in tmp_path.iterdir():
        assert read(path).height in (16, 256)


def test_the_memory_limit_of_a_volume_can_be_chosen(tmp_path):
    path = volume_file(tmp_path / "a.nii.gz", np.zeros((9, 10, 11), np.float32))
    assert imaging.open(path, most=9 * 10 * 11 * 4).array.shape == (9, 10, 11)
    for reads in (imaging.open, read_volume, read):
        with pytest.raises(PictureError, match="crop it"):
            reads(path, most=9 * 10 * 11 * 4 - 1)


def test_deep_pictures_open_as_stacks_of_one_slice_unless_asked_otherwise(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "deep.png")
    stack = imaging.open(tmp_path / "deep.png")
    np.testing.assert_array_equal(stack.array[0], RAMP)
    np.testing.assert_array_equal(stack.slice().pixels, read(tmp_path / "deep.png").pixels)
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "flat.png")
    for path in (tmp_path / "flat.png", tmp_path / "deep.png"):
        picture = imaging.open(path, stack=False)
        assert isinstance(picture, Picture)
        np.testing.assert_array_equal(picture.pixels, read(path).pixels)


def test_a_slice_is_laid_where_it_was_cut(tmp_path):
    volume = read_volume(volume_file(tmp_path / "a.nrrd", np.random.default_rng(0).normal(size=(9, 10, 11))))
    for axis, index in ((0, 3), (1, 7), (2, 0)):
        filled = volume.fill(axis, index, volume.plane(axis, index))
        assert np.count_nonzero(filled) == volume.plane(axis, index).size
        np.testing.assert_array_equal(filled[filled != 0], volume.array[filled != 0])


def test_a_series_and_complex_voxels_are_refused_by_name(tmp_path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((3, 9, 10, 11), np.float32), isVector=False), str(tmp_path / "series.nii")
    )
    with pytest.raises(PictureError, match="4 dimensions"):
        read(tmp_path / "series.nii")
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((9, 10, 11, 3), np.float32), isVector=True), str(tmp_path / "v.nrrd")
    )
    with pytest.raises(PictureError, match="3 x vector of 32-bit float"):
        read(tmp_path / "v.nrrd")


@pytest.mark.slow
@settings(max_examples=70, deadline=None)
@given(kind=st.sampled_from(["a.png", "a.jpg", "a.tiff", "a.dcm", "a.nii", "a.nrrd", "a.mha"]), data=st.data())
def test_corrupted_bytes_give_a_picture_or_a_picture_error(tmp_path_factory, kind, data):
    path = tmp_path_factory.mktemp("wrong") / kind
    if kind == "a.dcm":
        dicom_file(path, np.zeros((16, 12), np.uint8))
    else:
        raster = {"a.png": "PNG", "a.jpg": "JPEG", "a.tiff": "TIFF"}
        path.write_bytes(
            saved(raster[kind])
            if kind in raster
            else {"a.nii": nifti_bytes, "a.nrrd": nrrd_bytes, "a.mha": mha_bytes}[kind]()
        )
    content = bytearray(path.read_bytes())
    for _ in range(3):
        content[data.draw(st.integers(0, min(len(content), 600) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(PictureError):
        assert read(path).pixels.dtype == np.uint8
