"""Describe images, checkpoints and runs in the visitor's language.

Functions that return HTML escape all text, including names read from files and checkpoints.
"""

import html
import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from app.analysis.ensemble import marked_disagreement
from app.core import catalogue
from app.core.catalogue import Card
from app.core.domain_check import ImageCheck
from app.core.frames import Recording
from app.i18n import Words
from app.inputs.images import InputImage, phantom
from app.inputs.sample_images import missing, sample_images
from app.views import films, paint, panels
from app.views.tables import table
from medsegdiff.metrics import mean

__all__ = [
    "brief",
    "card",
    "chrome",
    "domain",
    "estimate",
    "facts",
    "head",
    "in_browser",
    "option",
    "parts",
    "tasks",
    "thumbnails",
    "uploaded",
    "verdict",
    "waiting",
    "warning",
]


_ELSEWHERE = ' target="_blank" rel="noopener"'


def thumbnails(chosen: int | None, known: Card | None, w: Words) -> dict[str, Any]:
    """Build the value of the thumbnails component: synthetic examples, sample images and the hardest examples."""
    task = known.task if known else catalogue.TASK
    named = w.known(f"task.{task}", task)
    readers = len(phantom(catalogue.examples(task)[0], task).reference)
    real = sample_images(task)
    hint = w("picture.drawn_hint_readers", count=readers) if readers > 1 else w("picture.drawn_hint")
    if real:
        hint = w("sample.hint")
    of, worst = catalogue.hard(known.name, known.sha256) if known else (0, ())
    return {
        "items": [
            {
                "seed": seed,
                "src": catalogue.thumbnail(seed, task),
                "alt": w("picture.example_alt", task=named, seed=seed),
            }
            for seed in catalogue.examples(task)
        ],
        "hard": [
            {
                "seed": row.seed,
                "src": catalogue.thumbnail(row.seed, task),
                "alt": w("picture.hard_alt", task=named, seed=row.seed, dice=f"{row.dice:.2f}"),
                "caption": f"{row.dice:.2f}",
            }
            for row in worst
        ],
        "real": [
            {
                "seed": row.number,
                "src": catalogue.thumbnail(row.number, task),
                "alt": w(f"sample.{row.key}.alt"),
                "caption": w("sample.real"),
                "text": w(f"sample.{row.key}.text"),
            }
            for row in real
        ],
        "real_heading": w("sample.heading"),
        "real_about": w("sample.about"),
        "hard_heading": w("picture.hard", of=of),
        "hard_hint": w("picture.hard_hint"),
        "chosen": chosen,
        "heading": w("picture.drawn"),
        "hint": hint,
        "another": w("picture.another"),
    }


def tasks(cards: Mapping[str, Card], chosen: str | None, w: Words) -> dict[str, Any]:
    """Build the value of the tasks component: a tile for each task, with the versions of the model below it."""
    tiles: dict[str, dict[str, Any]] = {}
    for name, known in sorted(cards.items(), key=lambda row: (row[1].kind == "v1", len(row[0]))):
        label = name.rpartition("/")[2]
        if name.startswith(f"{known.task}-{known.kind}"):
            label = f"{known.kind.upper()} {name.removeprefix(f'{known.task}-{known.kind}').strip('-')}".strip()
        tile = tiles.setdefault(known.task, {"label": w.known(f"task.{known.task}", known.task), "versions": []})
        tile["versions"].append({"name": name, "label": w.known(f"model.{label}", label)})
        tile["src"] = catalogue.thumbnail(catalogue.examples(known.task)[0], known.task)
    order = list(dict.fromkeys(known.task for known in cards.values()))
    return {"legend": w("model.tasks"), "tiles": [tiles[task] for task in order], "chosen": chosen}


def head(recording: Recording | None, w: Words) -> str:
    """Introduce the page in a sentence, a strip of pictures and links, as HTML."""
    shown = "".join(
        f'<li><img src="{src}" alt=""><span>{html.escape(w(f"page.strip_{key}"))}</span></li>'
        for key, src in zip(("image", "noise", "masks", "result"), _strip(recording), strict=False)
    )
    strip = f'<ol class="strip" aria-label="{html.escape(w("page.strip"))}">{shown}</ol>' if shown else ""
    links = " · ".join(
        f'<a href="{html.escape(address)}"{_ELSEWHERE if "://" in address else ""}>{html.escape(w(f"page.{key}"))}</a>'
        for key, address in _links().items()
    )
    title, lead = w("page.title"), w("page.lead")
    return f'<div><h1>{title}</h1><p class="lead">{lead}</p><p class="links">{links}</p></div>{strip}'


@lru_cache(maxsize=4)
def _strip(recording: Recording | None) -> list[str]:
    return [] if recording is None else [paint.data_uri(tile) for tile in films.strip(recording)]


def _links() -> dict[str, str]:
    """Return the addresses of the papers, the code, the course and the API, as far as they are known."""
    space = os.environ.get("SPACE_ID", "")
    addresses = {
        "paper_v1": "https://arxiv.org/abs/2211.00611",
        "paper_v2": "https://arxiv.org/abs/2301.11798",
        "code": os.environ.get("MEDSEGDIFF_CODE_URL")
        or (f"https://huggingface.co/spaces/{space}/tree/main" if space else ""),
        "course": os.environ.get("MEDSEGDIFF_COURSE_URL", ""),
        "api": "?view=api",
    }
    return {key: address for key, address in addresses.items() if address.startswith(("https://", "http://", "?"))}


def uploaded(image: InputImage, w: Words, *, switched: str | None = None, run: bool = False) -> str:
    """Name an uploaded image and its size, as HTML.

    Arguments:
        image: the upload.
        w: the visitor's language.
        switched: name of the checkpoint that was selected because it fits.
        run: mark the image as one that fits its checkpoint and can be run at once.
    """
    picture = image.picture
    text = w("picture.size", height=picture.height, width=picture.width)
    if picture.slice_count > 1:
        text += w("picture.slice", slice=picture.slice_index + 1, slices=picture.slice_count)
    mark = " data-run" if run else ""
    below = f"<p>{html.escape(w('picture.switched', name=switched))}</p>" if switched else ""
    return f"<p{mark}><b>{html.escape(image.name or w('picture.yours_heading'))}</b> · {html.escape(text)}</p>{below}"


def parts(recording: Recording | None, w: Words) -> list[tuple[str, str]]:
    """List the network components that a run has recorded, as (label, key) choices."""
    there = [p.key for p in panels.PANELS if p.tab == "inside" and recording is not None and p.needs(recording)]
    return [(w(f"panel.{key}.title"), key) for key in there]


def warning(known: Card | None, w: Words) -> str:
    """Warn if there is no checkpoint or it is untrained, as HTML; otherwise an empty string."""
    if known is None:
        return f"<p>{html.escape(w('model.none'))}</p>"
    return "" if known.trained else f"<p>{html.escape(w('model.untrained'))}</p>"


def domain(known: Card | None, image: InputImage, check: ImageCheck, w: Words) -> str:
    """State whether an image resembles the training images, as HTML; for a phantom, whether it replaces a sample image."""
    if image.seed is not None:
        row = missing(image.seed)
        if row is None:
            return ""
        why = "absent" if known and known.task in row.crops else "other"
        text = w(f"sample.{why}", what=w(f"sample.{row.key}.alt"), package=row.package)
        return f'<p class="doubt">{html.escape(text)}</p>'
    judged = check.verdict
    if known is None or judged is None:
        return ""
    text = w(f"domain.{judged.level}", reasons=reasons(judged.facts()["reasons"], w), image=kind(known.task, w))
    offer = w("domain.suggested", name=check.suggested) if check.suggested else ""
    if judged.level == "other" and check.nearest:
        offer = w("domain.none", name=check.nearest)
    text = w("domain.then", one=text, other=offer) if offer else text
    return f'<p class="{"fine" if judged.level == "fits" else "doubt"}">{html.escape(text)}</p>'


def kind(task: str | None, w: Words) -> str:
    """Name an image of a task."""
    return w.known(f"kind.{task}", task or "")


def reasons(found: list[dict[str, Any]], w: Words) -> str:
    """Join the reasons why an image is unlike the training images, as `Verdict.facts` lists them."""
    text = ""
    for one in found:
        values = one["values"] | {
            key: w(f"domain.{one['values'][key]}") for key in ("plane", "trained") if key in one["values"]
        }
        if one["key"] == "kind":
            values = {"image": kind(values["task"], w)}
        reason = w(f"domain.{one['key']}", **values)
        text = w("domain.and", one=text, other=reason) if text else reason
    return text


def verdict(known: dict[str, Any], w: Words) -> str:
    """State the result of the domain check of a run in one line; an empty string if there was none."""
    if not (judged := known.get("domain")):
        return ""
    note = reasons(judged["reasons"], w) or w("domain.like_training")
    return w("domain.line", heading=w("domain.heading"), level=w(f"domain.level_{judged['level']}"), note=note)


def estimate(seconds: float | None, w: Words) -> str:
    """State the estimated time of a run, as HTML; an empty string if it is unknown."""
    if seconds is None:
        return ""
    return f"<p>{html.escape(w('run.estimate', seconds=f'{seconds:.0f}' if seconds >= 10 else f'{seconds:.1f}'))}</p>"


def brief(known: Card | None, w: Words) -> str:
    """Summarise a checkpoint in one line: modality, classes, measured Dice and licence, as HTML."""
    if known is None:
        return ""
    labels = [w.known(f"class.{label}", label) for label in known.labels]
    items = [
        w.known(f"modality.{known.modality}", known.modality),
        ", ".join(labels) if len(labels) < 4 else w("model.classes", count=len(labels)),
    ]
    dice, pictures = catalogue.measured(known.name, known.sha256)
    if pictures:
        items.append(w("model.measured", dice=f"{dice:.3f}", pictures=pictures))
    items.append(w("model.licence", licence=_licence(known, w)))
    return f"<p>{html.escape(' · '.join(items))}</p>"


def _licence(known: Card, w: Words) -> str:
    return w.known(f"licence.{known.licence}", known.licence)


def chrome(w: Words) -> str:
    """Translate labels of Gradio itself, as a style element with CSS variables that page.css uses."""
    labels = (
        f"--label-{name}: {json.dumps(w(f'chrome.{name}'), ensure_ascii=False)};"
        for name in ("drop", "api", "look", "error", "large")
    )
    return f"<style>:root {{ {' '.join(labels)} }}</style>"


def in_browser(w: Words) -> str:
    """Link to the edition that runs in the browser, where MEDSEGDIFF_WEB_URL gives its address (http or https)."""
    address = os.environ.get("MEDSEGDIFF_WEB_URL", "")
    if not address.startswith(("https://", "http://")):
        return ""
    link = html.escape(f"{address}{'&' if '?' in address else '?'}lang={w.language}")
    return f'<p><a href="{link}" target="_blank" rel="noopener">{w("picture.in_browser")}</a></p>'


def card(known: Card | None, w: Words) -> str:
    """Describe a checkpoint, as HTML."""
    if known is None:
        return ""
    text = w(
        "model.card",
        kind={"v1": "MedSegDiff (V1)", "v2": "MedSegDiff-V2", "unet": w("model.plain")}.get(known.kind, known.kind),
        parameters=f"{known.parameters / 1e6:.1f}",
        size=known.size,
        modality=w.known(f"modality.{known.modality}", known.modality),
        labels=", ".join(w.known(f"class.{label}", label) for label in known.labels),
        source=w.known(f"source.{known.source}", known.source),
        licence=_licence(known, w),
        digest=known.sha256[:16],
    )
    return f"<p>{html.escape(text)}</p>"


def option(field: str, choice: str | int, w: Words) -> str:
    """Return the label of an option of a control."""
    if field == "size":
        return f"{choice} × {choice}" if choice else w("settings.trained_size")
    return w(f"settings.{field}.{choice}")


_TILES = 3  # most classes shown as one figure each; more are listed in a table
_BARE = ("CT", "MR", "PT")  # modalities whose images hardly ever contain burned-in text


def waiting(image: InputImage, w: Words) -> str:
    """Describe the image that is ready to be run."""
    picture = image.picture
    if image.seed is not None:
        return w("picture.waiting", seed=image.seed)
    if image.sample:
        return w("sample.waiting", what=w(f"sample.{image.sample}.alt"))
    if picture.slice_count > 1:
        values = {"slice": picture.slice_index + 1, "slices": picture.slice_count}
        text = w("picture.yours_slice", height=picture.height, width=picture.width, **values)
    else:
        text = w("picture.yours", height=picture.height, width=picture.width)
    if picture.burned_in:
        return text + w("picture.burned")
    doubtful = picture.source_kind == "dicom" and picture.burned_in is None and picture.modality not in _BARE
    return text + w("picture.maybe_burned") if doubtful else text


def facts(recording: Recording, w: Words, *, live: bool) -> str:
    """Format the figures of a run, as HTML."""
    known, many = recording.facts, len(recording.facts["areas"]) > _TILES
    cells, rows = [], []
    for index, (label, area) in enumerate(known["areas"].items()):
        detail = "result.area_detail_mm2" if "mm2" in area else "result.area_detail"
        note = w(detail, pixels=f"{area['pixels']:,}", mm2=f"{area.get('mm2', 0):,.1f}")
        between = alike = "–"
        if members := known.get("confidence", {}).get(label):  # recordings made earlier have none
            whole = (
                known["picture"]["height"] * known["picture"]["width"]
            )  # the recording holds the image at display size
            low, high = (f"{100 * end / whole:.1f}" for end in members["pixels"])
            between = w("result.between", low=low, high=high)
            note += w("result.members_area", low=low, high=high)
            if members["pairwise_dice"] is not None:
                alike = f"{members['pairwise_dice']:.3f}"
                note += w("result.members_dice", dice=alike)
        named, share = w.known(f"class.{label}", label), w("result.area_value", share=f"{100 * area['share']:.1f}")
        cells.append((named, share, note))
        dices = ["–" if math.isnan(dice[index]) else f"{dice[index]:.3f}" for dice in known["dice"]]
        rows.append([named, *dices, share, f"{area['pixels']:,}", between, alike])
    listed = ""
    if many:
        heads = ["", *[w("result.dice")] * len(known["dice"])]
        heads += [w(f"result.head_{key}") for key in ("area", "pixels", "members", "pairwise")]
        filled = [i for i in range(len(heads)) if i == 0 or any(row[i] != "–" for row in rows)]
        listed = table([heads[i] for i in filled], [[row[i] for i in filled] for row in rows])
        cells = []
    for i, dice in enumerate(known["dice"]):
        if all(math.isnan(d) for d in dice):
            cells.append((w("result.dice"), "–", w("result.dice_none")))
            continue
        detail = "result.dice_detail_readers" if recording.opening.readers else "result.dice_detail"
        note = w(detail)
        if known["anchor_dice"]:
            note = w(f"{detail}_anchor", anchor=f"{mean(known['anchor_dice'][i]):.3f}")
        cells.append((w("result.dice"), f"{mean(dice):.3f}", note))
    settings = known["settings"]
    if settings["members"] > 1:
        inside, whole = marked_disagreement(recording), f"{known['disagreement']:.3f}"
        note = w("result.disagreement_none" if math.isnan(inside) else "result.disagreement_detail", whole=whole)
        cells.append((w("result.disagreement"), "–" if math.isnan(inside) else f"{inside:.2f}", note))
    counts = w("result.seconds_detail", members=settings["members"], steps=settings["steps"])
    if judged := known.get("domain"):
        note = reasons(judged["reasons"], w) or w("domain.like_training")
        cells.append((w("domain.heading"), w(f"domain.level_{judged['level']}"), note))
    cells.append((w("result.seconds"), w("result.seconds_value", seconds=f"{known['seconds']:.2f}"), counts))
    shown = "".join(
        f"<div><dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd><dd class=detail>{html.escape(c)}</dd></div>"
        for a, b, c in cells
    )
    origin = w("run.live" if live else "run.recorded")
    origin += " " + w("result.weights", digest=known["digest"][:8], seed=settings["seed"])
    return f'<dl class="facts">{shown}</dl><div class="words">{listed}</div><p class="origin">{html.escape(origin)}</p>'
