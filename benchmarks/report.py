"""What is shown of a measurement: a table in markdown and a figure in SVG."""

from math import ceil, floor, log10
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["figure", "table"]

_LABELS, _BARS, _NUMBERS, _ROW = 300, 420, 90, 30  # pixels
_OURS, _PEER = "#2b6cb0", "#a0aec0"


def table(found: dict[str, Any]) -> str:
    """Lay out the baselines, then the training."""
    machine = found["machine"]
    rate = found["ceiling_flop_per_s"]["median"] / 1e9
    lines = [
        f"{machine['device']}, {machine['threads']} threads, {machine['dtype']}, torch {machine['torch']}; its convolutions "
        f"reach {rate:.0f} GFLOP/s. Medians over {found['rounds']} interleaved rounds, quartiles in brackets.",
        "",
        "| what | size | members x steps | GFLOP a step | ms a step | of the ceiling | seconds a mask | memory | start |",
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
    lines += ["", "\\* steps times the time of one. Memory and start (import and load) are those of a fresh process."]
    if found.get("training"):
        lines += ["", "| training | size | batch | seconds an iteration | memory |", "|---|---:|---:|---:|---:|"]
        for row in found["training"]:
            memory = f"{row['peak_bytes'] / 2**20:.0f} MB"
            lines.append(f"| {row['name']} | {row['size']} | {row['batch']} | {row['iteration_s']:.2f} | {memory} |")
    if found.get("visitors"):
        lines += ["", "Visitors at once are in [docs/speed.md](docs/speed.md)."]
    return "\n".join(lines)


def visitors(found: dict[str, Any]) -> str:
    """Lay out several visitors' runs on one worker as a markdown table."""
    lines: list[str] = []
    if found.get("visitors"):
        lines += ["| visitors at once | threads an operation | masks a second | median wait | 95 % wait |"]
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
    """Draw the seconds of a finished mask as bars on a logarithmic scale."""
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
