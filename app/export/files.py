"""Write the files of a finished run: masks and maps, an animation, a figure and a report.

Masks and maps have the image's original size and the exact values of the result; the animation and the figure are for
display. Files contain only pixels, geometry and the metadata of the run: no patient name, no time, and no other attribute of
the input file.
"""

import html
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app import i18n
from app.core.session import RunOutput
from app.i18n import Words
from app.inputs.volumes import CachedVolume
from app.views import descriptions, films, paint

if TYPE_CHECKING:
    from medsegdiff.pipeline import Segmentation
    from medsegdiff.slices import VolumeSegmentation

__all__ = [
    "FILES",
    "VOLUME_FILES",
    "figure_png",
    "figure_svg",
    "film_gif",
    "write",
    "write_result",
    "write_volume",
    "zipped",
]

FILES = ("mask", "nifti", "seg", "probability", "disagreement", "film", "figure", "drawing", "report")
"""Keys of the files that `write` can return, in display order."""

VOLUME_FILES = ("nifti", "seg", "probability", "disagreement", "report")

_TILE, _GAP, _MARGIN, _BAR = 320, 16, 22, 10  # pixels of a figure
_FRAME, _LAST = 120, 2000  # milliseconds per frame, and of the last frame


def write_result(folder: Path | str, finished: RunOutput, cached_volume: CachedVolume | None = None) -> dict[str, Path]:
    """Write mask, maps and report of a run on an image; for a slice of a volume with geometry, also its mask in the volume."""
    inside = cached_volume if cached_volume is not None and cached_volume.has_geometry else None
    facts = finished.recording.facts
    return _write(folder, finished.result, inside, {"domain": facts.get("domain"), "run": facts})


def write(folder: Path | str, finished: RunOutput, cached_volume: CachedVolume | None, words: Words) -> dict[str, Path]:
    """Write what `write_result` writes, with the colours of the page in the mask, and an animation and figures."""
    folder = Path(folder)
    paths = write_result(folder, finished, cached_volume)
    paint.save_labels(paths["mask"], finished.result.labels)
    paths["film"] = folder / "run.gif"
    film_gif(paths["film"], finished, words)
    paths["figure"], paths["drawing"] = folder / "figure.png", folder / "figure.svg"
    figure_png(paths["figure"], finished)
    paths["drawing"].write_text(figure_svg(finished, words), encoding="utf-8")
    return paths


def write_volume(folder: Path | str, result: "VolumeSegmentation", cached_volume: CachedVolume) -> dict[str, Path]:
    """Write the files of a run on a whole volume, on the voxel grid of the input file."""
    from medsegdiff.domain import check_volume  # imports torch, which a page must not wait for

    judged = check_volume(cached_volume.volume, result.domain, result.settings.size, result.axis, result.window)
    return _write(folder, result, cached_volume, {"domain": None if judged is None else judged.facts()})


def _write(
    folder: Path | str,
    result: "Segmentation | VolumeSegmentation",
    cached_volume: CachedVolume | None,
    facts: dict[str, Any],
) -> dict[str, Path]:
    from medsegdiff import outputs  # imports torch, which a page must not wait for

    folder, volume = Path(folder), cached_volume.volume if cached_volume else None
    paths = outputs.write(result, f"{folder}/", folder / "run.json", volume=volume, facts=facts)
    if volume is not None and cached_volume is not None and cached_volume.source is not None:
        with suppress(ValueError):  # frames without a position; the other files contain the same mask
            outputs.write_dicom_seg(result, volume, cached_volume.source, folder / "mask.dcm")
            paths["seg"] = folder / "mask.dcm"
    return paths


def film_gif(path: Path | str, finished: RunOutput, words: Words) -> None:
    """Write the run as an animated GIF: noisy mask, predicted mask and mask on the image, with a pause at the end."""
    columns = [view.tiles for view in films.step_views(finished.recording, words)]
    frames = [_palette(np.concatenate(tiles, 1)) for tiles in zip(*columns, strict=True)]
    last = len(frames) - 1
    times = [_LAST if i == last else _FRAME for i in range(len(frames))]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=False)


def _palette(tile: paint.RGB) -> Image.Image:
    return Image.fromarray(tile).quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _tiles(finished: RunOutput) -> list[tuple[str, paint.RGB, Sequence[str], str]]:
    """List the tiles of a figure: key of the title, image, colours of the colour bar, largest value."""
    seen = finished.recording.seen
    opening, outcome = seen.opening, seen.outcome
    height, width = opening.picture.shape[:2]
    size = round(height * _TILE / max(height, width)), round(width * _TILE / max(height, width))
    picture, labels = paint.fit(opening.picture, size), films.fit_mask(outcome.labels, size)
    reference = [films.fit_mask(t, size) for t in opening.reference]
    return [
        ("film.picture", picture, (), ""),
        ("film.on_picture", paint.on_picture(picture, labels, reference), (), ""),
        ("film.mean_probability", _map(outcome.probability, size, "viridis"), paint.VIRIDIS, "1"),
        ("film.disagreement", _map(outcome.disagreement, size, "cividis"), paint.CIVIDIS, "0.5"),
    ]


def _map(values: np.ndarray, size: tuple[int, int], table: str) -> paint.RGB:
    return paint.mapped(paint.fit(values, size), 0, 255, table)


def figure_png(path: Path | str, finished: RunOutput) -> None:
    """Write a figure of image, mask, probability and disagreement as PNG, with titles in English: Pillow's font is Latin."""
    english = i18n.words("en")
    tiles = _tiles(finished)
    height, width = tiles[0][1].shape[:2]
    sheet = Image.new("RGB", (4 * width + 3 * _GAP, _MARGIN + height + 3 * _MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for i, (key, tile, colours, top) in enumerate(tiles):
        left = i * (width + _GAP)
        pen.text((left, 2), f"{'abcd'[i]}  {english(key)}", "black", font)
        sheet.paste(Image.fromarray(tile), (left, _MARGIN))
        if colours:
            ramp = paint.mapped(np.linspace(0, 1, width)[None].repeat(_BAR, 0), 0, 1, _name(colours))
            sheet.paste(Image.fromarray(ramp), (left, _MARGIN + height + 6))
            pen.text((left, _MARGIN + height + 18), "0", "black", font)
            pen.text((left + width, _MARGIN + height + 18), top, "black", font, anchor="ra")
    if verdict := descriptions.verdict(finished.recording.facts, english):
        pen.text((0, _MARGIN + height + 2 * _MARGIN), verdict, "black", font)
    sheet.save(path, "PNG")


def _name(colours: Sequence[str]) -> str:
    return "viridis" if colours == paint.VIRIDIS else "cividis"


def figure_svg(finished: RunOutput, words: Words) -> str:
    """Draw the same figure with titles, as a self-contained SVG."""
    tiles = _tiles(finished)
    height, width = tiles[0][1].shape[:2]
    parts = []
    for i, (key, tile, colours, top) in enumerate(tiles):
        left, below = i * (width + _GAP), _MARGIN + height + 6
        title = html.escape(f"{'abcd'[i]}  {words(key)}")
        parts.append(f'<text x="{left}" y="15">{title}</text>')
        parts.append(
            f'<image x="{left}" y="{_MARGIN}" width="{width}" height="{height}" href="{paint.png_uri(tile)}"/>'
        )
        if colours:
            stops = "".join(
                f'<stop offset="{k / (len(colours) - 1):.3f}" stop-color="{c}"/>' for k, c in enumerate(colours)
            )
            parts.append(f'<linearGradient id="scale{i}">{stops}</linearGradient>')
            parts.append(f'<rect x="{left}" y="{below}" width="{width}" height="{_BAR}" fill="url(#scale{i})"/>')
            parts.append(f'<text x="{left}" y="{below + 24}">0</text>')
            parts.append(f'<text x="{left + width}" y="{below + 24}" text-anchor="end">{top}</text>')
    if verdict := descriptions.verdict(finished.recording.facts, words):
        parts.append(f'<text x="0" y="{height + 4 * _MARGIN - 6}">{html.escape(verdict)}</text>')
    full = 4 * width + 3 * _GAP, height + 4 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{full[0]}" height="{full[1]}" viewBox="0 0 {full[0]} {full[1]}" '
        f'font-family="system-ui, sans-serif" font-size="14"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def zipped(paths: Sequence[Path], archive: Path) -> Path:
    """Write files to an uncompressed ZIP archive; nearly all of them are compressed already."""
    with ZipFile(archive, "w") as file:
        for path in paths:
            file.write(path, path.name)
    return archive
