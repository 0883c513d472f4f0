"""Chapter 2. The forward process, and why masks need a smaller signal scale than photographs.

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps,       SNR_t = scale^2 alpha_bar_t / (1 - alpha_bar_t)

A mask is constant over large areas, so averaging n x n pixels raises its signal-to-noise ratio by a factor of n^2. A blur,
without learning and without the image, recovers the mask from x_t up to large t. A network that can do this has no need to
use the image.
"""

from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from app.components.scrubber import Bar, Position, View, film
from app.core import catalogue
from app.core.settings import Choice, Slide
from app.course.bench import Bench
from app.course.chapter import Chapter, Equation, Fact, Seen, Symbol, Task, Values
from app.course.parts import CASE, SEED, TILE, dice, noisy, outlined
from app.i18n import Words
from app.views import paint
from app.views.charts import Curve, curves
from medsegdiff.data.synthetic import draw
from medsegdiff.noise_levels import alpha_bar

__all__ = ["CHAPTER"]

_SIZE, _TIMESTEPS, _PLACES, _WINDOW = 128, 1000, 28, 9
_GREY = Bar(("#000000", "#ffffff"), "−3", "3")


@dataclass(frozen=True, slots=True, eq=False)
class _Noised:
    times: list[int]
    signal: Float[ndarray, " p"]  # sqrt(alpha_bar)
    x_t: Float[ndarray, "p h w"]
    photograph: UInt8[ndarray, "p h w 3"]  # the image with the same noise schedule
    soft: UInt8[ndarray, "p h w 3"]  # the noisy image after the same blur as the mask
    read: Bool[ndarray, "p h w"]  # mask recovered from x_t by a blur
    dice: list[float]  # of `read` against the reference mask
    picture: paint.RGB
    reference: UInt8[ndarray, "h w"]


def noised(
    x_0: Float[ndarray, "*c h w"], eps: Float[ndarray, "*c h w"], power: Float[ndarray, " p"]
) -> Float[ndarray, "p *c h w"]:
    """Compute x_t for each alpha_bar_t in `power`, with the same noise."""
    signal, noise = (part.reshape(-1, *(1,) * x_0.ndim) for part in (np.sqrt(power), np.sqrt(1 - power)))
    return signal * x_0 + noise * eps


def blurred(x_t: Float[ndarray, "*b h w"]) -> Bool[ndarray, "*b h w"]:
    """Recover a mask from its noisy version without a network: average over a window and take the sign."""
    return averaged(x_t) > 0


def averaged(x: Float[ndarray, "*b h w"]) -> Float[ndarray, "*b h w"]:
    """Average over a window of 9 x 9 pixels; beyond its borders an image is reflected."""
    (height, width), border = x.shape[-2:], (_WINDOW // 2,) * 2
    x = np.pad(x, [*[(0, 0)] * (x.ndim - 2), border, border], mode="reflect") / np.float32(_WINDOW**2)
    x = reduce(np.add, (x[..., i : i + height, :] for i in range(_WINDOW)))
    return reduce(np.add, (x[..., i : i + width] for i in range(_WINDOW)))


@lru_cache(maxsize=8)  # of 5 MB each
def _noised(case: int, kind: str, scale: float, seed: int) -> _Noised:
    drawn = draw(catalogue.TASK, case, _SIZE, raters=0)
    times = np.linspace(0, _TIMESTEPS - 1, _PLACES).round().astype(int)
    power = alpha_bar(kind, _TIMESTEPS)[times].astype(np.float32)
    rng = np.random.default_rng(seed)
    mask = scale * (2 * (drawn.labels > 0).astype(np.float32) - 1)
    image = np.moveaxis(drawn.image.astype(np.float32), -1, 0) / 127.5 - 1
    x_t, photograph = (noised(x, rng.standard_normal(x.shape, np.float32), power) for x in (mask, image))
    read = blurred(x_t)
    return _Noised(
        times.tolist(),
        np.sqrt(power),
        x_t,
        _colours(photograph),
        _colours(averaged(photograph)),
        read,
        [dice(one, drawn.labels > 0) for one in read],
        drawn.image,
        drawn.labels,
    )


def _colours(image: Float[ndarray, "p 3 h w"]) -> UInt8[ndarray, "p h w 3"]:
    return np.moveaxis((image.clip(-1.5, 1.5) + 1.5) / 3 * 255, 1, -1).astype(np.uint8)


def _decibels(signal: Float[ndarray, " p"], scale: float) -> list[float]:
    power = signal.clip(1e-6, 1 - 1e-12) ** 2
    return (10 * np.log10(scale**2 * power / (1 - power))).tolist()


def _see(bench: Bench, values: Values, words: Words) -> Seen:
    case, kind, scale, seed = (values[k] for k in ("case", "kind", "scale", "seed"))
    noised = _noised(case, kind, scale, seed)
    at = min(max(int(values["at"]), 0), _PLACES - 1) if values["at"] is not None else _PLACES // 2
    places = [
        Position(
            words("course.forward.place", t=t, signal=f"{s:.3f}", noise=f"{(1 - s * s) ** 0.5:.3f}"),
            words("course.forward.spoken", t=t, dice=f"{d:.2f}"),
        )
        for t, s, d in zip(noised.times, noised.signal, noised.dice, strict=True)
    ]
    texts = [p.spoken for p in places]
    reference = [noised.reference]
    rows = (
        (words("film.x_t"), [noisy(x) for x in noised.x_t], _GREY),
        (words("course.forward.photograph"), [paint.fit(p, TILE, smooth=False) for p in noised.photograph], None),
        (words("course.forward.soft"), [paint.fit(p, TILE) for p in noised.soft], None),
        (words("course.forward.read"), [outlined(noised.picture, r, reference) for r in noised.read], None),
    )
    views = [View(title, tiles, [f"{title}. {text}" for text in texts], bar) for title, tiles, bar in rows]
    legend = [
        (paint.CLASSES[0], "solid", words("course.forward.reader")),
        (paint.REFERENCE, "dotted", words("film.reference")),
    ]
    run = f"forward-{case}-{kind}-{scale}-{seed}"
    shown = film(views, places, words, run=run, at=_PLACES // 2, legend=legend)

    here = words("course.forward.here", t=noised.times[at])
    lines = [
        Curve(words(f"control.kind.{other}"), noised.times, _decibels(_noised(case, other, scale, seed).signal, scale))
        for other in ("linear", "cosine")
    ]
    lines += [
        Curve(
            words("course.forward.at_scale", scale=f"{other:g}"),
            noised.times,
            _noised(case, kind, other, seed).dice,
            panel=1,
            width=3 if other == scale else 1.5,
        )
        for other in sorted({1.0, 0.2, scale}, reverse=True)
    ]
    lines += [
        Curve(here, [noised.times[at]], [_decibels(noised.signal, scale)[at]], width=6, color="#D55E00"),
        Curve(here, [noised.times[at]], [noised.dice[at]], panel=1, width=6, color="#D55E00"),
    ]
    area = float((noised.reference > 0).mean())
    floor = area / (area + 0.5)  # the sign of pure noise is foreground in half of the pixels
    ends = [noised.times[0], noised.times[-1]]
    lines.append(
        Curve(words("course.forward.floor"), ends, [floor] * 2, panel=1, width=1.5, mode="dots", color="#7d8590")
    )
    chart = curves(
        lines, [words("course.forward.snr"), words("course.forward.readable")], "t", ["dB", "Dice"], least=[None, 0.0]
    )
    readable = max((t for t, d in zip(noised.times, noised.dice, strict=True) if d > 0.9), default=0)
    numbers = (
        Fact("t", str(noised.times[at]), words("course.forward.t_detail", signal=f"{noised.signal[at]:.3f}")),
        Fact(
            words("course.forward.snr"),
            f"{_decibels(noised.signal, scale)[at]:+.0f} dB".replace("-", "−"),
            words("course.forward.db"),
        ),
        Fact(words("course.forward.blur"), f"{noised.dice[at]:.2f}", words("course.forward.blur_detail", t=readable)),
        Fact(
            words("course.forward.floor"),
            f"{floor:.2f}",
            words("course.forward.floor_detail", area=f"{100 * area:.0f}"),
        ),
    )
    facts = {
        "t": noised.times[at],
        "signal": round(noised.signal[at], 3),
        "dice": round(noised.dice[at], 3),
        "readable": readable,
        "positions": _PLACES,
    }
    return Seen((shown,), (chart,), numbers, facts)


CHAPTER = Chapter(
    key="forward",
    see=_see,
    controls=(CASE, Choice("kind", "linear", ("linear", "cosine")), Slide("scale", 1.0, 0.1, 1.0, 0.1), SEED),
    tasks=(
        Task("sink", lambda v, f: v["at"] is not None and v["scale"] == 1 and f["dice"] < 0.8),
        Task("scale", lambda v, f: f["readable"] < 300),
        Task("cosine", lambda v, f: v["kind"] == "cosine"),
    ),
    equations=(
        Equation(
            r"q(x_t\mid x_0)=\mathcal N\!\bigl(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t)\,\mathbf I\bigr)",
            "DDPM eq. 4",
        ),
        Equation(r"\mathrm{SNR}_t=\mathrm{scale}^2\,\frac{\bar\alpha_t}{1-\bar\alpha_t}", "course.forward.place_snr"),
    ),
    symbols=(
        Symbol("<i>x</i><sub>t</sub>", "xt", ("tile 0.0",)),
        Symbol("<i>t</i>", "t", ("fact 0",)),
        Symbol("√<i>ᾱ</i><sub>t</sub>", "signal", ("fact 0",), "signal"),
        Symbol("scale", "scale", ("scale",)),
        Symbol("SNR<sub>t</sub>", "snr", ("fact 1", "chart 0.0")),
    ),
    sources=(
        "medsegdiff.noise_levels:alpha_bar",
        "app.course.chapters.forward:noised",
        "app.course.chapters.forward:blurred",
    ),
    fidelity=("F13", "F12"),
    blocks=("x_t",),
    minutes=12,
    answers=("b", "a"),
    prediction="a",
    log=("case", "kind", "scale", "t", "dice", "readable"),
)
