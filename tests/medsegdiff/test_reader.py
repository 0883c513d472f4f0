"""Files of unknown origin are read elsewhere: whatever they do to that process, this one goes on."""

import os
import signal
import struct
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsegdiff import imaging, reader, reader_worker
from medsegdiff.image_ref import Picture, PictureError, Volume
from medsegdiff.reader import Limits, Pool

MIB = 2**20


def slow_jpeg(path: Path, scans: int = 12_000) -> Path:
    """A progressive JPEG whose last scan is repeated: each makes a decoder go through the whole picture.

    So many take five seconds on a fast processor.
    """
    buffer = BytesIO()
    Image.effect_noise((3000, 3000), 50).save(buffer, "JPEG", progressive=True, quality=20)
    content = buffer.getvalue()
    last = content.rindex(b"\xff\xda")
    header = content[last : last + 2 + struct.unpack(">H", content[last + 2 : last + 4])[0]]
    path.write_bytes(content[:-2] + header * scans + b"\xff\xd9")
    return path


def picture_file(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    Image.effect_noise(size, 50).save(path)
    return path


@pytest.fixture
def pool():
    pool = Pool(size=2, patience=0.5)
    yield pool
    pool.close()


@pytest.mark.slow
def test_a_crash_costs_one_sentence_and_the_next_file_is_read(tmp_path, pool):
    # A child that is killed from outside ends as one does that its decoder crashes.
    path = picture_file(tmp_path / "a.png")
    reader.decode(path, pool=pool)
    [child] = pool._idle
    os.kill(child.process.pid, signal.SIGSEGV)
    child.process.wait()
    with pytest.raises(PictureError, match="breaks its decoder; export it again"):
        reader.decode(path, pool=pool)
    assert reader.decode(path, pool=pool).values.shape == (48, 64)
    assert len(pool._idle) == 1
    assert pool._idle[0] is not child


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only there are files read in a copy of the child")
def test_a_file_that_crashes_its_decoder_costs_no_child(tmp_path, pool):
    good, bad = picture_file(tmp_path / "a.png"), tmp_path / "b.nrrd"
    # 1500 characters overflow the buffer in which ITK reads a value of an NRRD header, and the process ends.
    bad.write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: " + b"x" * 1500 + b"\nsizes: 9 9\nencoding: raw\n\n" + bytes(81)
    )
    reader.decode(good, pool=pool)
    [child] = pool._idle
    for _ in range(3):
        with pytest.raises(PictureError, match="breaks its decoder"):
            reader.decode(bad, pool=pool)
    assert reader.decode(good, pool=pool).values.shape == (48, 64)
    assert pool._idle == [child]


@pytest.mark.slow
def test_a_file_that_takes_too_long_is_given_up_in_a_sentence(tmp_path, pool):
    path = slow_jpeg(tmp_path / "slow.jpg")
    began = time.monotonic()
    with pytest.raises(PictureError, match="takes longer than 1 s"):
        reader.decode(path, limits=Limits(512 * MIB, 1, 60), pool=pool)  # of processor time
    assert time.monotonic() - began < 50
    with pytest.raises(PictureError, match="takes longer than 1 s"):
        reader.decode(path, limits=Limits(512 * MIB, 60, 1), pool=pool)  # by the clock


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is limited on Linux only")
def test_a_file_that_takes_too_much_memory_is_given_up_in_a_sentence(tmp_path, pool):
    path = picture_file(tmp_path / "large.png", (3000, 3000))
    with pytest.raises(PictureError, match="more than 8 MiB of memory; crop it"):
        reader.decode(path, limits=Limits(8 * MIB, 10, 60), pool=pool)
    assert reader.decode(path, pool=pool).values.shape == (3000, 3000)


@pytest.mark.slow
def test_slow_files_of_others_delay_nobody_for_long(tmp_path, pool):
    slow, quick = slow_jpeg(tmp_path / "slow.jpg"), picture_file(tmp_path / "quick.png")
    refused: list[str] = []

    def read_slowly() -> None:
        with pytest.raises(PictureError) as error:
            reader.decode(slow, limits=Limits(512 * MIB, 20, 60), pool=pool)
        refused.append(str(error.value))

    threads = [threading.Thread(target=read_slowly) for _ in range(2)]  # as many as there are children
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while sum(child.files == 0 for child in pool._busy) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    began = time.monotonic()
    reader.decode(quick, pool=pool)
    waited = time.monotonic() - began
    pool.close()
    for thread in threads:
        thread.join()
    assert "many files are being read" in " ".join(refused)
    assert waited < 60  # patience is half a second, and a busy machine takes many seconds to start a process


def test_a_pipe_is_refused_at_once(tmp_path, pool):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PictureError, match="no such file"):
        reader.decode(tmp_path / "pipe.png", limits=Limits(2**29, 20, 20), pool=pool)


def test_what_a_child_answers_is_checked_before_room_is_made_for_it():
    for dtype, shape in (("|O8", [2, 2]), ("|u1", [2**20, 2**20]), ("|u1", [-1, 5]), ("<f4", [2] * 9), ("|u1", [])):
        with pytest.raises(reader._Gone):
            reader._room(dtype, shape, MIB)
    facts = {"what": "volume", "spacing": [1, 1], "origin": [0, 0, 0], "direction": [0] * 9, "orientation": "LPS"}
    with pytest.raises(PictureError, match="breaks its decoder"):
        reader._checked(lambda: reader._volume(facts, np.zeros((1, 2, 2), np.float32)))


@pytest.mark.slow
def test_children_are_handed_no_secrets_and_no_torch(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    pool = Pool(size=1)
    reader.decode(picture_file(tmp_path / "a.png"), pool=pool)
    [child] = pool._idle
    proc = Path(f"/proc/{child.process.pid}")
    if proc.exists():
        assert b"secret" not in (proc / "environ").read_bytes()
        assert "torch" not in (proc / "maps").read_text()
    pool.close()


def test_the_header_of_a_dicom_is_read_elsewhere_and_arrives_whole(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.SOPInstanceUID, data.Rows, data.PixelSpacing, data.PatientName = "1.2.3", 16, [0.5, 0.25], "Doe^Jane"
    inner = pydicom.Dataset()
    inner.SliceThickness = 2.5
    data.SharedFunctionalGroupsSequence = [inner]
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    kept = ("SOPInstanceUID", "Rows", "PixelSpacing", "SharedFunctionalGroupsSequence")
    read = pydicom.Dataset.from_json(reader.dicom_header(tmp_path / "a.dcm", kept))
    assert (read.SOPInstanceUID, read.Rows, list(read.PixelSpacing)) == ("1.2.3", 16, [0.5, 0.25])
    assert read.SharedFunctionalGroupsSequence[0].SliceThickness == 2.5
    assert "PatientName" not in read


def test_the_memory_for_a_dicom_series_depends_on_all_its_files(tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.dcm" for i in range(3)]
    for i, path in enumerate(files):
        path.write_bytes(bytes(128) + b"DICM" + bytes(MIB * i))
    given = []
    monkeypatch.setattr(reader_worker, "_limit", lambda memory, cpu: given.append(memory))
    monkeypatch.setattr(reader_worker, "_answer", lambda request: ({}, None))
    request = {"path": str(files[0]), "memory": 8192 * MIB, "cpu": 600}
    series = request | {"do": "series", "files": [str(path) for path in files]}
    with (tmp_path / "answers").open("wb", buffering=0) as answers:
        for one in (request | {"do": "decode"}, series, series | {"memory": 600 * MIB}):
            reader_worker._one(answers, one)
    assert given == [512 * MIB + 256 * 132, 512 * MIB + 256 * (3 * MIB + 3 * 132), 600 * MIB]


def test_opening_returns_a_picture_or_a_volume_alike_through_the_child(tmp_path):
    path = picture_file(tmp_path / "a.png")
    with Image.open(path) as image:
        expected = np.array(image)
    picture = imaging.open(path)
    assert isinstance(picture, Picture)
    np.testing.assert_array_equal(picture.pixels[..., 0], expected)
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 200).save(tmp_path / "deep.png")
    assert isinstance(imaging.open(tmp_path / "deep.png"), Volume)
