"""Record what the course shows without computing it: samples, a training, and the pictures of the chapters.

python -m scripts.record_course [samples] [training] [thumbnails]
"""

import argparse
from dataclasses import fields

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from app.core import catalogue
from app.core.frames import Recording
from app.course.chapters import CHAPTERS, forward, raters, training
from app.course.parts import noisy, outlined
from app.course.thumbnails import SHEET, SIDE
from app.course.toy import ITERATIONS, History, held_out, trained_on
from app.course.trainer import Trainer
from app.i18n import words
from app.inputs.images import phantom
from app.views import films, paint

__all__ = ["main"]

_SIZE = (SIDE, SIDE)
_PARTS = ("samples", "training", "thumbnails")


def main() -> None:
    """Record what is named on the command line; without names, everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)} (default: all)")
    names = parser.parse_args().parts or _PARTS
    if unknown := [name for name in names if name not in _PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(_PARTS)}")
    raters.RECORDED.parent.mkdir(exist_ok=True)
    if "samples" in names:
        found = raters.Recorded.computed()
        np.savez_compressed(raters.RECORDED, **{f.name: getattr(found, f.name) for f in fields(found)})
    if "training" in names:
        _train()
    if "thumbnails" in names:
        drawn = _thumbnails()
        Image.fromarray(np.hstack([drawn[chapter.key] for chapter in CHAPTERS])).save(SHEET, quality=85, method=6)


def _train() -> None:
    trainer = Trainer(0, trained_on(), held_out())
    with tqdm(total=ITERATIONS, unit="it") as bar:
        while not trainer.finished:
            trainer.advance(1.0)
            bar.update(len(trainer.history.noise) - bar.n)
    trainer.history.save(training.RECORDED)


def _thumbnails() -> dict[str, paint.RGB]:
    """Draw a picture for every chapter: what its films show of phantom 3, and for chapter 9 its loss."""
    v1, v2 = (_recording(f"{catalogue.TASK}-{kind}") for kind in ("v1", "v2"))
    experts, w = raters._experts(3), words("en", "course")
    noised = forward._noised(3, "linear", 1.0, 0)
    noise, clean = zip(*films.states(v1, _SIZE), strict=True)
    third = SIDE // 3
    strip = [noise[0][:, :third], noise[len(noise) // 2][:, third:-third], clean[-1][:, -third:]]
    affinity = films.plane_views(v1, w, "affinity", _SIZE)[-1].tiles[-1]
    spectrum = films.plane_views(v1, w, "spectrum after", _SIZE)[0].tiles[-1]
    tokens = films.plane_views(v2, w, "token affinity", _SIZE)[0].tiles[-1]
    gate = next(view for view in films.anchor_views(v2, w) if view.key.startswith("anchor gate"))
    spread = paint.mapped(
        paint.fit(v2.outcome.disagreement, _SIZE), 0, max(1, int(v2.outcome.disagreement.max())), "cividis"
    )
    return {
        "raters": outlined(experts.picture, experts.masks[0], (experts.masks[1],), size=_SIZE),
        "forward": noisy(noised.x_t[len(noised.times) // 5], _SIZE),
        "reverse": np.hstack(strip),
        "conditioning": affinity,
        "parser": spectrum,
        "anchor": paint.fit(gate.tiles[0], _SIZE),
        "transformer": tokens,
        "ensembles": spread,
        "training": _loss(),
        "own": _upload(),
    }


def _recording(name: str) -> Recording:
    return catalogue.recording(catalogue.recordings()[name, 3])


def _loss() -> paint.RGB:
    losses = np.array(History.load(training.RECORDED).noise)
    boxes = losses[: len(losses) // 10 * 10].reshape(-1, 10).mean(1)
    x = np.linspace(10, SIDE - 10, len(boxes))
    y = SIDE - 12 - (boxes - boxes.min()) / np.ptp(boxes) * (SIDE - 24)
    picture = Image.new("RGB", _SIZE, "#f4f6f8")
    pen = ImageDraw.Draw(picture)
    pen.line([(8, 8), (8, SIDE - 8), (SIDE - 8, SIDE - 8)], "#8a949c", 2)
    pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), "#0072B2", 4, joint="curve")
    return np.asarray(picture)


def _upload() -> paint.RGB:
    picture = Image.fromarray((paint.fit(phantom(14).picture.pixels, _SIZE) * 0.75).astype(np.uint8))
    pen, middle = ImageDraw.Draw(picture), SIDE // 2
    pen.line([(middle, 24), (middle, 64)], "white", 7)
    pen.line([(middle - 17, 41), (middle, 24), (middle + 17, 41)], "white", 7, joint="curve")
    pen.line([(22, 62), (22, 76), (SIDE - 22, 76), (SIDE - 22, 62)], "white", 7, joint="curve")
    return np.asarray(picture)


if __name__ == "__main__":
    main()
