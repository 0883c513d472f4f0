"""Present measurements as markdown tables and an SVG figure."""

from math import ceil, floor, log10
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["figure", "table"]

_LABELS, _BARS, _NUMBERS, _ROW = 300, 420, 90, 30  # pixels
_OURS, _PEER = "#2b6cb0", "#a0aec0"


def table(found: dict[str, Any]) -> str:
    """Return the markdown tables of sampling and training."""
    machine = found["machine"]
    rate = found["ceiling_flop_per_s"]["median"] / 1e9
    lines = [
        f"{machine['device']}, {machine['threads']} threads, {machine['dtype']}, torch {machine['torch']}. The ceiling "
        f"is {rate:.0f} GFLOP/s, the throughput of its convolutions. Medians over {found['rounds']} interleaved rounds, "
        "quartiles in brackets.",
        "",
        "| network | size | members x steps | GFLOP per step | ms per step | of the ceiling | s per mask | memory | start-up |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["baselines"]:
        step, mask, alone = row["step_s"], row["mask_s"], row.get("alone")
        estimated = "" if mask["measured"] or row["steps"] == 1 else " *"
        memory = f"{alone['peak_bytes'] / 2**20:.0f} MB" if alone else ""
        start = f"{alone['import_s'] + alone['load_s']:.1f} s" if alone else ""
        lines.append(
            f"| {row['name']} | {row['size']} | {row['members']} x {row['steps']} | {row['flop_of_a_step'] / 1e9:.1f} "
            f"| {_ms(step)} | {row['share']:.0%} | {_number(mask['median'])}{estimated} | {memory} | {start} |"
        )
    lines += [
        "",
        "\\* estimated: number of steps times the time of one. Memory and start-up (import and load) of a fresh process.",
    ]
    if found.get("training"):
        lines += ["", "| training | size | batch | s per iteration | memory |", "|---|---:|---:|---:|---:|"]
        for row in found["training"]:
            memory = f"{row['peak_bytes'] / 2**20:.0f} MB"
            lines.append(f"| {row['name']} | {row['size']} | {row['batch']} | {row['iteration_s']:.2f} | {memory} |")
    return "\n".join(lines)


def visitors(found: dict[str, Any]) -> str:
    """Return the markdown table of simultaneous visitors' runs on one worker."""
    lines: list[str] = []
    if found.get("visitors"):
        lines += ["| visitors | threads per operation | masks per second | median wait | 95 % wait |"]
        lines.append("|---:|---:|---:|---:|---:|")
        for row in found["visitors"]:
            lines.append(
                f"| {row['visitors']} | {row['threads']} | {row['masks_per_s']:.2f} "
                f"| {row['latency_s']['median']:.2f} s | {row['latency_95_s']:.2f} s |"
            )
    return "\n".join(lines)


def _ms(step: dict[str, float]) -> str:
    middle, low, high = (_number(1e3 * step[k]) for k in ("median", "low", "high"))
    return middle if step["n"] == 1 else f"{middle} ({low} to {high})"


def _number(value: float) -> str:
    """Round to three digits, at most two of them behind the point."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def figure(found: dict[str, Any]) -> str:
    """Return an SVG bar chart, on a logarithmic scale, of the seconds until a finished mask."""
    rows = found["baselines"]
    values = [row["mask_s"]["median"] for row in rows]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    width, height = _LABELS + _BARS + _NUMBERS, _ROW * (len(rows) + 2)
    title = f"Seconds until a finished mask, {found['machine']['device']}, {found['machine']['threads']} threads"

    def x(value: float) -> float:
        return _LABELS + _BARS * (log10(value) - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(title)}</text>',
    ]
    bottom = _ROW * (len(rows) + 1)
    for power in range(low, high + 1):
        label = f"{10**power:,.{max(0, -power)}f}"
        parts.append(f'<path d="M{x(10**power):.1f} {_ROW}V{bottom}" stroke="#e2e8f0"/>')
        parts.append(
            f'<text x="{x(10**power):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#4a5568">{label}</text>'
        )
    for i, (row, value) in enumerate(zip(rows, values, strict=True), 1):
        top, colour = _ROW * i + 5, _OURS if row["mask_s"]["measured"] else _PEER
        words = f"{row['name']} ({row['members']} x {row['steps']})"
        parts.append(f'<text x="{_LABELS - 8}" y="{top + 14}" text-anchor="end">{escape(words)}</text>')
        parts.append(f'<rect x="{_LABELS}" y="{top}" width="{x(value) - _LABELS:.1f}" height="20" fill="{colour}"/>')
        parts.append(f'<text x="{x(value) + 5:.1f}" y="{top + 14}">{_number(value)} s</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
