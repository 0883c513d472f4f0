"""Record the film of the README: two runs side by side, from noise to a finished mask, as animated WebP.

    python -m scripts.record_film                                        docs/film.webp
    python -m scripts.record_film --language zh --font NotoSansCJK.ttc   docs/film.zh.webp

The upper row is a synthetic lung nodule, the lower row the retina of scikit-image (CC0). Both runs start from the seed on
the command line, so the same weights give the same film.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.core import catalogue
from app.core.frames import Recording
from app.core.session import RunOutput, Session
from app.i18n import LANGUAGES, words
from app.inputs.images import phantom
from app.inputs.sample_images import SAMPLES
from app.views import films, paint
from medsegdiff.config import RunSettings

__all__ = ["film", "record"]


@dataclass(frozen=True, slots=True)
class _Row:
    checkpoint: str
    seed: int  # of the synthetic image, or the number of a sample image


ROWS = (_Row("lung-nodule-v2", 15), _Row("optic-disc-cup-v2", SAMPLES[0].number))

_TITLES = {
    "en": ("Image", "Noisy mask x_t", "Predicted mask x_0", "Mask on the image"),
    "zh": ("图像", "含噪掩膜 x_t", "预测掩膜 x_0", "叠加在图像上"),
}
_STEP = {"en": "step {0} of {1}, t = {2}", "zh": "第 {0} / {1} 步，t = {2}"}
_FIRST = {"en": "before the first step: anchor only", "zh": "第一步之前：仅有锚点"}
_LAST = {"en": "result: {0} members, fused", "zh": "结果：{0} 个成员融合"}

_TILE, _GAP, _HEAD, _FOOT = 208, 8, 30, 26  # pixels
_MILLISECONDS, _END = 260, 3200  # of a frame, and of the last one
_PAPER, _INK = "#ffffff", "#1f2937"


def record(session: Session, row: _Row, settings: RunSettings) -> Recording:
    """Run one row's checkpoint on its image."""
    image = phantom(row.seed, session.task(row.checkpoint))
    *_, output = session.run(row.checkpoint, image, settings)
    assert isinstance(output, RunOutput)
    return output.recording


def film(runs: list[tuple[str, Recording]], language: str, font: ImageFont.FreeTypeFont) -> list[Image.Image]:
    """Arrange several runs with the same number of steps as the frames of a film.

    Arguments:
        runs: (checkpoint name, run), from top to bottom.
        language: a key of `app.i18n.LANGUAGES`.
        font: must have the glyphs of the language.
    """
    rows = []
    for name, run in runs:
        tiles = zip(*(view.tiles for view in films.step_views(run, words(language))), strict=True)
        captions = [f"{name} · {text}" for text in _captions(run, language)]
        rows.append(([(run.seen.opening.picture, *shown) for shown in tiles], captions))
    counts = {len(captions) for _, captions in rows}
    if len(counts) > 1:
        raise ValueError(f"the runs have {sorted(counts)} frames; record them with the same number of steps")
    return [_frame([(tiles[i], captions[i]) for tiles, captions in rows], language, font) for i in range(counts.pop())]


def _captions(run: Recording, language: str) -> list[str]:
    before = [_FIRST[language]] * len(run.opening.anchor)
    steps = [_STEP[language].format(frame.index + 1, frame.total, frame.t) for frame in run.frames]
    return [*before, *steps, _LAST[language].format(run.facts["settings"]["members"])]


def _frame(rows: list[tuple[tuple[paint.RGB, ...], str]], language: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    columns = len(_TITLES[language])
    width, height = columns * (_TILE + _GAP) + _GAP, _HEAD + len(rows) * (_TILE + _FOOT)
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, title in enumerate(_TITLES[language]):
        pen.text((_GAP + i * (_TILE + _GAP), 6), title, _INK, font)
    for j, (tiles, caption) in enumerate(rows):
        top = _HEAD + j * (_TILE + _FOOT)
        for i, tile in enumerate(tiles):
            fitted = Image.fromarray(paint.fit(np.ascontiguousarray(tile), (_TILE, _TILE)))
            sheet.paste(fitted, (_GAP + i * (_TILE + _GAP), top))
        pen.text((_GAP, top + _TILE + 3), caption, _INK, font)
    return sheet


def main() -> None:
    """Parse the command line and write the film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of the captions (default: %(default)s)")
    parser.add_argument("--font", help="font file with the glyphs of that language (default: Pillow's, Latin only)")
    parser.add_argument("--out", type=Path, help="file (default: docs/film.webp, or docs/film.LANGUAGE.webp)")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps (default: %(default)s)")
    parser.add_argument("--members", type=int, default=5, help="ensemble members (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.language != "en" and arguments.font is None:
        parser.error(f"--language {arguments.language} needs --font FILE")
    font = ImageFont.truetype(arguments.font, 15) if arguments.font else ImageFont.load_default(15)
    assert isinstance(font, ImageFont.FreeTypeFont)
    suffix = "" if arguments.language == "en" else f".{arguments.language}"
    out = arguments.out or catalogue.ROOT / "docs" / f"film{suffix}.webp"

    session = Session(catalogue.shipped())
    settings = RunSettings(members=arguments.members, steps=arguments.steps, seed=arguments.seed)
    runs = [(row.checkpoint, record(session, row, settings)) for row in ROWS]
    first, *others = film(runs, arguments.language, font)
    times = [_MILLISECONDS] * len(others) + [_END]
    first.save(out, "WEBP", save_all=True, append_images=others, duration=times, loop=0, quality=70, method=6)
    print(f"{out}: {len(times)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
