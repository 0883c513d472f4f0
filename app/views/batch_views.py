"""Show the results of several files as a table."""

import html
import math
from collections.abc import Sequence

from app.export.batch import MOST_FILES, BatchRow
from app.i18n import Words
from app.views import descriptions, paint

__all__ = ["table", "uploaded"]

_COLUMNS = ("mask", "file", "area", "disagreement", "checkpoint", "domain")


def uploaded(count: int, w: Words) -> str:
    """State how many files were uploaded, as HTML; the mark makes the page run them."""
    note = w("picture.first_files", most=MOST_FILES) if count > MOST_FILES else ""
    return f"<p data-batch><b>{html.escape(w('picture.files', count=count))}</b> {html.escape(note)}</p>"


def table(rows: Sequence[BatchRow], w: Words) -> str:
    """Make a table with a row for each file, as HTML; an error takes the place of the results."""
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{html.escape(w(f"batch.{key}"))}</th>' for key in _COLUMNS)
    body = "".join(f"<tr>{_cells(row, w)}</tr>" for row in rows)
    note = html.escape(w("batch.note"))
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(w("batch.heading"))}">'
    return f"{region}<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div><p>{note}</p>"


def _cells(row: BatchRow, w: Words) -> str:
    name = f'<th scope="row">{html.escape(row.name)}</th>'
    if row.error is not None:
        reason = html.escape(w.because("errors.picture", row.error))
        return f'<td></td>{name}<td class="bad" colspan="{len(_COLUMNS) - 2}">{reason}</td>'
    image = ""
    if row.tile is not None:
        image = f'<img src="{paint.data_uri(row.tile)}" alt="{html.escape(w("batch.alt", name=row.name))}">'
    disagreement = "–" if math.isnan(row.disagreement) else f"{row.disagreement:.2f}"
    values = (f"{100 * row.share:.1f} %", disagreement, row.checkpoint, _verdict(row, w))
    return f"<td>{image}</td>{name}" + "".join(f"<td>{html.escape(value)}</td>" for value in values)


def _verdict(row: BatchRow, w: Words) -> str:
    if row.domain is None:
        return "–"
    level, found = w(f"domain.level_{row.domain['level']}"), descriptions.reasons(row.domain["reasons"], w)
    return w("batch.verdict", level=level, reasons=found) if found else level
