"""Diffuse a single pixel that some experts mark and others do not: a density with two modes in one dimension.

The denoiser is `oracles.TwoRaters` for masks of one pixel, x_0 = 1 (marked, with probability s) or -1. Everything is exact:

    E[x_0 | x_t = x]     =  tanh( log(s / (1 - s)) / 2  +  sqrt(alpha_bar_t) x / (1 - alpha_bar_t) )
    p_t(x)               =  s N(x; sqrt(alpha_bar_t), 1 - alpha_bar_t)  +  (1 - s) N(x; -sqrt(alpha_bar_t), 1 - alpha_bar_t)
    grad_x log p_t(x)    =  ( sqrt(alpha_bar_t) E[x_0 | x_t = x] - x ) / (1 - alpha_bar_t)               the score

Does not import torch until particles are sampled.

References:
    Score and denoiser (Vincent, 2011), https://doi.org/10.1162/NECO_a_00142
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from app.i18n import Words
from app.views.charts import Curve, Figure, curves
from medsegdiff.noise_levels import alpha_bar

__all__ = ["COUNT", "Particles", "at_a_mode", "density", "density_chart", "particles", "paths_chart", "score"]

COUNT = 60  # particles
_NEAR = 0.1  # distance from a mode that counts as having reached it
_LINES = 24  # paths drawn
_X = np.linspace(-3, 3, 121)
_ALPHA_BAR = alpha_bar()


@dataclass(frozen=True, slots=True, eq=False)
class Particles:
    """Particles moved from noise to the pixel's value by a sampler."""

    times: list[int]  # descending
    x: Float[ndarray, "steps n"]  # before every step
    end: Float[ndarray, " n"]


@lru_cache(maxsize=64)
def particles(share: float, sampler: str, steps: int, seed: int) -> Particles:
    """Sample values of the pixel; the same seed gives the same starting noise to every sampler."""
    from app.course import oracles  # imports torch

    oracle = oracles.two_raters(np.array([1, 0], np.uint8).reshape(2, 1, 1), share, 1.0)
    taken = oracles.sample(oracle, sampler, steps, COUNT, seed)
    x = np.stack([step.x_t.flatten().numpy() for step in taken])
    return Particles([step.t for step in taken], x, taken[-1].x_s.flatten().numpy())


def at_a_mode(moved: Particles) -> float:
    """Return the share of particles that end within 0.1 of 1 or -1."""
    return float((np.abs(np.abs(moved.end) - 1) <= _NEAR).mean())


def density(share: float, x: Float[ndarray, " n"], t: int) -> Float[ndarray, " n"]:
    """Return p_t(x)."""
    signal, noise = _signal_and_noise(t)
    bells = [np.exp(-((x - side * signal) ** 2) / (2 * noise**2)) / (noise * np.sqrt(2 * np.pi)) for side in (1, -1)]
    return share * bells[0] + (1 - share) * bells[1]


def score(share: float, x: Float[ndarray, " n"], t: int) -> Float[ndarray, " n"]:
    """Return the derivative of log p_t at x."""
    signal, noise = _signal_and_noise(t)
    odds = np.log(share / (1 - share)) if 0 < share < 1 else np.copysign(np.inf, share - 0.5)
    x_0 = np.tanh(odds / 2 + signal * x / noise**2)
    return (signal * x_0 - x) / noise**2


def _signal_and_noise(t: int) -> tuple[float, float]:
    return float(np.sqrt(_ALPHA_BAR[t])), float(np.sqrt(1 - _ALPHA_BAR[t]))


def density_chart(share: float, moved: Particles, step: int, words: Words) -> Figure:
    """Draw the density at one step, the score as arrows, and where the particles are."""
    t, here = moved.times[step], moved.x[step]
    p = density(share, _X, t)
    chart = curves(
        [Curve(words("course.pixel.density"), _X.tolist(), p.tolist())],
        [words(f"course.pixel.density_title{'' if 0 < share < 1 else '_one'}", t=t)],
        words("course.pixel.x"),
        [words("course.pixel.density")],
    )
    grid = np.linspace(-2.8, 2.8, 15)
    slope = score(share, grid, t)
    size = 6 + 12 * np.abs(slope) / max(float(np.abs(slope).max()), 1e-9)
    low = -0.14 * float(p.max())
    chart.add_scatter(
        x=here,
        y=np.zeros(len(here)),
        mode="markers",
        name=words("course.pixel.particles"),
        marker={"symbol": "line-ns-open", "size": 12, "color": "#D55E00"},
    )
    chart.add_scatter(
        x=grid,
        y=np.full(len(grid), low),
        mode="markers",
        name=words("course.pixel.score"),
        marker={
            "symbol": ["arrow-right" if s > 0 else "arrow-left" for s in slope],
            "size": size,
            "color": "#009E73",
        },
    )
    chart.update_xaxes(range=[-3, 3])
    return chart.update_layout(showlegend=True, height=330, margin={"b": 112}).update_xaxes(title_standoff=4)


def paths_chart(share: float, runs: Sequence[tuple[str, Particles]], words: Words) -> Figure:
    """Draw the paths of the particles over the density, one panel for each run."""
    lines = [
        Curve(
            title, [*moved.times, 0], [*moved.x[:, i].tolist(), float(moved.end[i])], panel=panel, width=1, mode="lines"
        )
        for panel, (title, moved) in enumerate(runs)
        for i in range(min(_LINES, COUNT))
    ]
    titles = [words("course.pixel.paths", name=title) for title, _ in runs]
    chart = curves(lines, titles, "t", [words("course.pixel.x"), *[""] * (len(runs) - 1)])
    times = np.linspace(0, 999, 60).round().astype(int).tolist()
    cells = np.stack([density(share, _X, t) for t in times], 1)
    density_map = np.sqrt(cells).clip(0, 1).round(3)
    for axis in ["", *map(str, range(2, len(runs) + 1))]:
        chart.add_heatmap(
            z=density_map, x=times, y=_X, colorscale="Blues", showscale=False, xaxis=f"x{axis}", yaxis=f"y{axis}"
        )
    chart.data = sorted(
        cast("list[Any]", list(chart.data)), key=lambda trace: trace.type != "heatmap"
    )  # lines above maps
    chart.update_traces(line={"color": "#D55E00"}, selector={"type": "scatter"})
    chart.update_xaxes(autorange="reversed").update_yaxes(range=[-3, 3])
    return chart.update_layout(showlegend=False)
