"""Draw curves and heat maps as Plotly figures.

All figures share one style: a transparent background for light and dark pages, the colours of `paint`, and tick labels on
every axis and colour bar. Data that change over the steps are shown by `films` instead.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Num
from numpy import ndarray
from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from app.views import paint

__all__ = ["Curve", "Figure", "apart", "curves", "radial", "surface"]

_TEXT = "#7d8590"  # readable on white and on near-black
_BETWEEN = 0.1  # two panels, as a share of the figure's width
_GRID = "rgba(125, 133, 144, 0.25)"
_ROW = 29  # height of a row of the legend, in pixels
_COUNTED = 6  # span of whole numbers up to which Plotly would also set ticks between them
_CYCLE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]


class Curve:
    """One line of a chart."""

    __slots__ = ("color", "mode", "name", "panel", "width", "x", "y")

    def __init__(
        self,
        name: str,
        x: Sequence[float],
        y: Sequence[float],
        *,
        panel: int = 0,
        width: float = 2.5,
        mode: Literal["", "lines", "markers", "dots"] = "",
        color: str = "",
    ) -> None:
        self.name, self.x, self.y, self.panel, self.width = name, x, y, panel, width
        self.color = color  # by default from _CYCLE, one colour per name
        self.mode = mode or ("lines+markers" if len(x) < 16 else "lines")  # "dots": a dotted line


def _layout(height: int) -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": _TEXT},
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 40, "b": 84},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"font": {"family": "system-ui, sans-serif"}},
        "colorway": _CYCLE,
    }


def _styled(figure: Figure, height: int) -> Figure:
    figure.update_layout(_layout(height))
    figure.update_annotations(font={"size": 13, "color": _TEXT})
    return figure


def curves(
    lines: Sequence[Curve], titles: Sequence[str], x: str, y: Sequence[str], *, least: Sequence[float | None] = ()
) -> Figure:
    """Draw lines in panels side by side; lines of the same name share colour and legend entry.

    `least` gives for each panel an upper bound of the lower end of its y axis, which then ends at 1. The figure is made at
    once, in an eighth of the time that `make_subplots` and the updates of its axes take.
    """
    names = list(dict.fromkeys(line.name for line in lines))
    seen: set[str] = set()
    data: list[dict[str, Any]] = []
    for line in lines:
        axis = str(line.panel + 1) if line.panel else ""
        data.append(
            {
                "type": "scatter",
                "x": line.x,
                "y": line.y,
                "name": line.name,
                "mode": "lines" if line.mode == "dots" else line.mode,
                "line": {
                    "width": line.width,
                    "color": line.color or _CYCLE[names.index(line.name) % len(_CYCLE)],
                    "dash": "dot" if line.mode == "dots" else "solid",
                },
                "marker": {"size": 9 if line.mode == "markers" else 4 + line.width},
                "legendgroup": line.name,
                "showlegend": line.name not in seen and len(names) > 1,
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
            }
        )
        seen.add(line.name)
    rows = max(min(len(names), 3), -(-len(names) // 3)) if len(titles) == 1 else 1  # of the legend
    layout = _layout(290 + _ROW * rows)
    layout["margin"]["b"] = 54 + _ROW * rows
    layout["annotations"] = []
    width = (1 - _BETWEEN * (len(titles) - 1)) / len(titles)
    for i, (title, label) in enumerate(zip(titles, y, strict=True)):
        axis, left = str(i + 1) if i else "", i * (width + _BETWEEN)
        grid = {"gridcolor": _GRID, "zeroline": False}
        layout[f"xaxis{axis}"] = grid | {"title": {"text": x}, "anchor": f"y{axis}", "domain": [left, left + width]}
        here = [value for line in lines if line.panel == i for value in line.x]
        if here and max(here) - min(here) <= _COUNTED and all(float(value).is_integer() for value in here):
            layout[f"xaxis{axis}"]["dtick"] = 1  # no ticks between two steps
        layout[f"yaxis{axis}"] = grid | {"title": {"text": label}, "anchor": f"x{axis}", "domain": [0, 1]}
        if i < len(least) and (low := least[i]) is not None:
            lowest = min(value for line in lines if line.panel == i for value in line.y)
            layout[f"yaxis{axis}"]["range"] = [min(low, lowest) - 0.01, 1.01]
        place = {
            "x": left + width / 2,
            "y": 1,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "center",
            "yanchor": "bottom",
        }
        text = {"text": title, "showarrow": False, "font": {"size": 13, "color": _TEXT}}
        layout["annotations"].append(place | text)
    return Figure(data=data, layout=layout)


def surface(
    title: str, values: Num[ndarray, "h w"], x: Sequence[float], y: Sequence[float], x_title: str, y_title: str
) -> Figure:
    """Draw values in [0, 1] over two axes as a heat map with its colour bar."""
    figure = make_subplots(1, 1, subplot_titles=[title])
    bar = {"thickness": 8, "ticklen": 3, "tickfont": {"size": 10}, "outlinewidth": 0, "nticks": 5}
    rounded = np.asarray(values, np.float32).round(4)
    figure.add_heatmap(z=rounded, x=x, y=y, zmin=0, zmax=1, colorscale=list(paint.VIRIDIS), colorbar=bar)
    figure.update_xaxes(title=x_title, showgrid=False, zeroline=False)
    figure.update_yaxes(title=y_title, showgrid=False, zeroline=False)
    figure.update_yaxes(title_font_size=12).update_xaxes(title_font_size=12)
    figure = _styled(figure, 300).update_layout(margin={"t": 56, "b": 48, "r": 8})
    return figure.update_annotations(font_size=12)


def apart(figure: Figure) -> list[Figure]:
    """Split a figure with several panels into one figure for each, which a page can place side by side or below each other."""
    places = [key.removeprefix("xaxis") for key in figure.to_dict()["layout"] if key.startswith("xaxis")]
    if len(places) < 2:
        return [figure]
    parts, data = [], cast("list[Any]", list(figure.data))
    for place, title in zip(places, figure.layout.annotations, strict=True):
        traces = [t for t in data if (t.xaxis or "x") == f"x{place}"]
        part = _styled(Figure(), 300)
        part.update_layout(title={"text": title.text, "font": {"size": 13}, "x": 0.5})
        for trace in traces:
            part.add_trace(trace.to_plotly_json() | {"xaxis": "x", "yaxis": "y"})
        part.update_xaxes(figure.layout[f"xaxis{place}"].to_plotly_json() | {"domain": [0, 1], "anchor": "y"})
        part.update_yaxes(figure.layout[f"yaxis{place}"].to_plotly_json() | {"domain": [0, 1], "anchor": "x"})
        if part.layout.yaxis.scaleanchor:
            part.update_yaxes(scaleanchor="x")
        part.update_traces(colorbar={"x": 1.01, "y": 0.5, "len": 1}, selector={"type": "heatmap"})
        names: list[str] = list(dict.fromkeys(t.name for t in traces if t.name))
        shown: set[str] = set()
        for trace in cast("list[Any]", list(part.data)):
            if trace.name:
                trace.showlegend = trace.name not in shown and len(names) > 1
                shown.add(trace.name)
        if not names:
            part.update_layout(height=290, margin={"b": figure.layout.margin.b, "r": 8})
        else:
            # Pixels of the legend in one row; a Chinese character is twice as wide.
            wide = sum(60 + sum(14 if ord(letter) > 0x2E80 else 7 for letter in name) for name in names)
            rows = max(-(-wide // 280), 2) if len(names) > 1 else 0
            part.update_xaxes(title_standoff=4)
            part.update_layout(height=262 + _ROW * rows, margin={"b": 44 + _ROW * rows})
        parts.append(part)
    return parts


def radial(spectrum: Num[ndarray, "h w"]) -> tuple[Num[ndarray, " r"], Num[ndarray, " r"]]:
    """Average a centred spectrum over rings of equal radial frequency.

    Returns:
        Frequencies in cycles per cell, and the mean of each ring.
    """
    values = np.asarray(spectrum, np.float64)
    height, width = values.shape
    v, u = np.meshgrid(
        (np.arange(height) - height // 2) / height, (np.arange(width) - width // 2) / width, indexing="ij"
    )
    ring = np.rint(np.hypot(u, v) * min(height, width)).astype(int).ravel()
    inside = ring <= min(height, width) // 2
    total = np.bincount(ring[inside], values.ravel()[inside])
    count = np.bincount(ring[inside])
    return np.arange(len(count)) / min(height, width), total / np.maximum(count, 1)
