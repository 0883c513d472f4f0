"""Mutate small files of every format and read them, as a server does: python -m scripts.fuzz --count 50000 --minutes 60.

Whatever a file does, it must end as a picture, a volume or one sentence, and this process must go on. Prints how many
files of each format ended how, the slowest, and the memory of this process. The same seed mutates the same bytes.

Half of the compressed files are mutated before they are compressed, and half of the PNG files get valid checksums, so
that mutations reach what lies behind these.
"""

import argparse
import gzip
import resource
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
from PIL import Image

from medsegdiff import imaging, reader
from medsegdiff.image_ref import PictureError

__all__ = ["main", "mutate", "seeds"]

_MOST = 256 * 2**20
_BROKEN = {"image.decoder_failed": "crash", "image.read_time": "time", "image.read_busy": "busy"}
_BROKEN["image.read_memory"] = "memory"
_WORDS = (b"99999999999", b"-1", b"0", b"1e308", b"nan", b"\xff" * 8, b"\0" * 8, b"A" * 1500, b"\n" * 3, b"=" * 40)


def seeds(folder: Path) -> list[Path]:
    """Write one or more small files of every format."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (24, 20), dtype=np.uint8)
    colour = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    for name in ("png", "tiff", "jpg"):
        Image.fromarray(colour).save(folder / f"colour.{name}")
        Image.fromarray(grey).save(folder / f"grey.{name}")
    Image.fromarray(colour).save(folder / "progressive.jpg", progressive=True)
    Image.fromarray(grey.astype(np.uint16) * 200).save(folder / "deep.png")
    Image.fromarray(np.dstack([colour, grey])).save(folder / "layer.png")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        Image.fromarray(colour).save(folder / f"{compression}.tiff", compression=compression)
    Image.fromarray(colour).quantize(16).save(folder / "palette.png")
    Image.fromarray(grey).save(folder / "pages.tiff", save_all=True, append_images=[Image.fromarray(grey)] * 2)
    for kind in (np.uint8, np.int16, np.float32, np.float64):
        image = sitk.GetImageFromArray(rng.integers(0, 200, (9, 10, 11)).astype(kind))
        for suffix in ("nii", "nii.gz", "nrrd", "mha"):
            sitk.WriteImage(image, str(folder / f"{kind.__name__}.{suffix}"), suffix == "nii.gz")
        for suffix in ("nrrd", "mha"):
            sitk.WriteImage(image, str(folder / f"{kind.__name__}-zipped.{suffix}"), True)
    (folder / "text.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 10 10\nencoding: ascii\n\n" + b"7 " * 100
    )
    for compressor in ("", "JPEG", "JPEG2000"):
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(folder / f"frame{compressor}.dcm"))
        writer.SetUseCompression(bool(compressor))
        if compressor:
            writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(grey.astype(np.uint16)[None]))
    _dicoms(folder, grey)
    return sorted(folder.iterdir())


def _dicoms(folder: Path, grey: np.ndarray) -> None:
    """Write DICOM files with sequences, several frames and two more encodings."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.NumberOfFrames, (data.Rows, data.Columns), data.SamplesPerPixel = 3, grey.shape, 1
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    data.Modality, data.RescaleSlope, data.RescaleIntercept = "CT", 2, -1000
    data.WindowCenter, data.WindowWidth, data.PixelSpacing = 40, 400, [0.5, 0.25]
    measures, group = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.5], 2
    group.PixelMeasuresSequence = [measures]
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [group], [group] * 3
    data.PixelData = grey.tobytes() * 3
    data["PixelData"].VR = "OB"
    data.save_as(folder / "frames.dcm", enforce_file_format=True)
    packed = pydicom.dcmread(folder / "frames.dcm")
    packed.compress(RLELossless)
    packed.save_as(folder / "frames-rle.dcm")
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(folder / "frames-deflated.dcm", enforce_file_format=True)


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a few places of a file, or of what it holds compressed."""
    if rng.random() < 0.5:
        if content.startswith(b"\x1f\x8b"):
            return gzip.compress(_mutate(gzip.decompress(content), rng), 1)
        if content.startswith(b"\x89PNG"):
            return _with_checksums(_mutate(content, rng))
    return _mutate(content, rng)


def _with_checksums(data: bytes) -> bytes:
    """Give every chunk of a PNG the checksum of what it holds now, as far as chunks can be followed."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def _mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a few places, mostly near the beginning, where headers are."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        reach = len(data) if rng.random() < 0.3 else min(len(data), 700)
        at = int(rng.integers(max(reach, 1)))
        match int(rng.integers(7)):
            case 0:
                data[at : at + 1] = bytes([int(rng.integers(256))])
            case 1:
                data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ (1 << int(rng.integers(8)))])
            case 2:
                data[at : at + 4] = struct.pack("<I", int(rng.choice([0, 1, 2**16, 2**31 - 1, 2**32 - 1])))
            case 3:
                word = _WORDS[int(rng.integers(len(_WORDS)))]
                data[at : at + int(rng.integers(len(word) + 1))] = word
            case 4:
                del data[at : at + int(rng.integers(1, 200))]
            case 5:
                data[at:at] = data[at : at + int(rng.integers(1, 200))] * int(rng.integers(1, 20))
            case _:
                del data[int(rng.integers(1, max(len(data), 2))) :]
    return bytes(data)


def main() -> None:
    """Fuzz until the count or the time is reached, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that broke their decoder or a limit")
    given = parser.parse_args()
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest: list[tuple[float, str, int]] = []
    numbers, lock = iter(range(given.count)), threading.Lock()
    began_all = time.monotonic()
    until = began_all + 60 * given.minutes
    reader.warm()

    def work(folder: Path, paths: list[Path], contents: list[bytes]) -> None:
        while time.monotonic() < until:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            rng = np.random.default_rng([given.seed, number])
            which = number % len(paths)
            suffix = paths[which].name.partition(".")[2]
            path = folder / f"{number}.{suffix}"
            path.write_bytes(mutate(contents[which], rng))
            began = time.monotonic()
            outcome = _outcome(path, thorough=number % 4 == 0)
            seconds = time.monotonic() - began
            with lock:
                outcomes[suffix, outcome] += 1
                slowest.append((seconds, suffix, number))
                slowest.sort(reverse=True)
                del slowest[5:]
            if given.keep and outcome not in ("picture", "volume", "refused"):
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{outcome}-{path.name}").write_bytes(path.read_bytes())
            path.unlink()

    with TemporaryDirectory() as name:
        (Path(name) / "seeds").mkdir()
        (Path(name) / "work").mkdir()
        paths = seeds(Path(name) / "seeds")
        contents = [path.read_bytes() for path in paths]
        arguments = (Path(name) / "work", paths, contents)
        threads = [threading.Thread(target=work, args=arguments) for _ in range(given.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    kinds = sorted({outcome for _, outcome in outcomes})
    print(f"{'format':10}" + "".join(f"{kind:>10}" for kind in kinds))
    for suffix in sorted({suffix for suffix, _ in outcomes}):
        print(f"{suffix:10}" + "".join(f"{outcomes[suffix, kind]:10}" for kind in kinds))
    print(f"{'all':10}" + "".join(f"{sum(n for (_, k), n in outcomes.items() if k == kind):10}" for kind in kinds))
    minutes = (time.monotonic() - began_all) / 60
    print("slowest: " + ", ".join(f"{seconds:.1f} s ({suffix} {number})" for seconds, suffix, number in slowest))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    print(f"{sum(outcomes.values())} files in {minutes:.1f} min; this process took {peak:.0f} MiB at most")


def _outcome(path: Path, thorough: bool) -> str:
    """Read a file; if thorough, first its header or transparency, where something reads those too."""
    if thorough and path.suffix == ".dcm":
        with suppress(PictureError):
            reader.dicom_header(path, ("Rows", "PixelSpacing", "SharedFunctionalGroupsSequence"))
    elif thorough and path.suffix in (".png", ".jpg"):
        with suppress(PictureError):
            reader.decode_layer(path)
    try:
        found = imaging.open(path, most=_MOST, limits=imaging.VISITOR)
    except PictureError as error:
        return _BROKEN.get(error.code, "refused")
    return "volume" if isinstance(found, imaging.Volume) else "picture"


if __name__ == "__main__":
    main()
