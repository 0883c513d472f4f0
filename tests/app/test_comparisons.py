"""Changes, comparisons, step sweeps, links, and the analysis of ensembles."""

import math
from dataclasses import replace

import numpy as np
import pytest

from app.analysis import comparisons, ensemble
from app.analysis.comparisons import ANCHOR, CHANGES, Pair, Setup, Side, StepsResult
from app.core import links
from app.core.session import RunOutput
from app.core.settings import CONTROLS, read
from app.i18n import words
from app.inputs.images import phantom
from app.views.comparison_views import brief
from medsegdiff.progress import Progress


def settings(**chosen):
    return read([chosen.get(control.field, control.default) for control in CONTROLS])


@pytest.fixture(scope="module")
def finished(session):
    *_, end = session.run("tiny", phantom(3), settings(steps=3, members=3))
    return end


def changed(session, finished, key, *values):
    fields = comparisons.change(key, values)
    labels = finished.result.labels
    *steps, pair = comparisons.intervene(session, phantom(3), finished.recording, labels, key, fields)
    assert [type(step) for step in steps] == [Progress] * 3
    assert isinstance(pair, Pair)
    return pair


def test_a_change_of_a_missing_component_has_no_effect(session, finished):
    pair = changed(session, finished, "low_pass", 0.1)  # the network is a V2
    assert pair.changed == pair.largest == 0
    assert pair.dice in ((1.0,), (pytest.approx(float("nan"), nan_ok=True),))


def test_a_change_is_recorded_in_the_settings_and_keeps_the_noise(session, finished):
    pair = changed(session, finished, "sigma", 3.0)
    before, after = (dict(r.facts["settings"]) for r in (pair.before, pair.after))
    assert after.pop("switches")["sigma"] == 3.0
    before.pop("switches")
    assert before == after
    np.testing.assert_array_equal(pair.before.frames[0].x_t, pair.after.frames[0].x_t)  # the same noise
    again = comparisons.settings_of(pair.after.facts["settings"])
    assert again.switches.sigma == 3.0


@pytest.mark.parametrize(("fuse", "then"), [("anchored", "staple"), ("vote", "vote")])
def test_an_anchor_that_is_removed_does_not_return_by_averaging(session, fuse, then):
    chosen = settings(steps=3, members=3, fuse=fuse, anchor_weight=0.5)
    *_, end = session.run("tiny", phantom(3), replace(chosen, noise="stratified"))
    pair = changed(session, end, "anchor")
    before, after = (recording.facts["settings"] for recording in (pair.before, pair.after))
    assert (before["fuse"], before["anchor_weight"], before["noise"]) == (fuse, 0.5, "stratified")
    assert (after["fuse"], after["anchor_weight"], after["noise"]) == (then, 0.0, "independent")
    *_, pair = comparisons.intervene(session, phantom(3), end.recording, end.result.labels, "nbp", {"nbp": False})
    assert (pair.after.facts["settings"]["fuse"], pair.after.facts["settings"]["anchor_weight"]) == (fuse, 0.5)


def test_every_change_maps_to_interventions():
    from medsegdiff.records import Interventions

    for row in CHANGES:
        fields = comparisons.change(row.key, [d.default for d in row.dials], [1.0, 0.5, 0.0] if row.custom else ())
        assert Interventions(**fields) != Interventions()
    with pytest.raises(ValueError, match="choose ff_parser"):
        comparisons.change("magic")
    with pytest.raises(ValueError, match="sigma is 99"):
        comparisons.change("sigma", [99])


def test_a_band_passes_its_frequencies_only():
    gains = np.array(comparisons.band(0.2, 0.4))
    radius = np.linspace(0, np.sqrt(0.5), len(gains))
    assert gains[(radius >= 0.2) & (radius <= 0.4)].min() == 1
    edge = radius[1]
    assert gains[(radius < 0.2 - edge) | (radius > 0.4 + edge)].max() == 0


def test_setups_share_image_and_seed(session):
    setups = [Setup("tiny", "ddim", 2), Setup("tiny", "ddim", 2), Setup("tiny", ANCHOR, 1)]
    sides = [e for e in comparisons.compare(session, phantom(3), settings(members=2), setups) if isinstance(e, Side)]
    np.testing.assert_array_equal(sides[0].labels, sides[1].labels)
    anchor = session.segmenter("tiny").anchor(phantom(3).picture)
    np.testing.assert_array_equal(sides[2].labels, anchor.labels)


def test_a_sweep_compares_with_its_first_run(session):
    events = list(comparisons.sweep_steps(session, "tiny", phantom(3), settings(members=2), (4, 1)))
    results = [event for event in events if isinstance(event, StepsResult)]
    assert [result.steps for result in results] == [4, 1]
    assert results[0].agreement == 1 or np.isnan(results[0].agreement)
    assert [e.done for e in events if isinstance(e, Progress)] == [1, 2, 3, 4, 5]


def test_the_estimated_time_is_proportional_to_the_work(session, finished):
    assert isinstance(finished, RunOutput)
    one, two = (session.estimate("tiny", settings(steps=n)) for n in (5, 10))
    assert two == pytest.approx(2 * one)
    assert session.estimate("never run", settings()) is None


def test_subset_scores_reach_one_for_the_full_ensemble(finished):
    rows = ensemble.subset_scores(finished.recording)
    assert [row.members for row in rows] == [1, 2, 3]
    assert all(row.low <= row.dice + 1e-12 and row.dice <= row.high + 1e-12 for row in rows)
    assert rows[-1].low == rows[-1].high
    area = ensemble.areas(finished.recording)
    assert min(area.shares) <= area.low <= area.mean <= area.high <= max(area.shares)


def test_the_rule_of_the_run_is_among_the_fusions(finished):
    fused = ensemble.fusions(finished.recording)[finished.result.settings.fuse]
    np.testing.assert_array_equal(fused, finished.recording.outcome.labels)


def test_a_link_round_trips_and_drops_invalid_values():
    values = [control.default for control in CONTROLS]
    values[0], values[3] = 7, "ddpm"
    query = links.write(values, language="zh", checkpoint="tiny", example=11, tab="inside", hide=["upload"])
    asked = dict(pair.split("=") for pair in query[1:].split("&"))
    link = links.parse(asked, ["tiny"], ["run", "inside"])
    assert (list(link.values), link.checkpoint, link.example, link.tab, link.hide) == (
        values,
        "tiny",
        11,
        "inside",
        ("upload",),
    )
    wild = {
        "members": "999",
        "steps": "x",
        "seed": "-1",
        "checkpoint": "/etc",
        "room": "<b>",
        "example": "-3",
        "hide": "all",
    }
    link = links.parse(wild, ["tiny"], ["run"])
    assert list(link.values) == [control.default for control in CONTROLS]
    assert (link.checkpoint, link.example, link.tab, link.hide) == (None, None, None, ())


def test_a_table_cell_lists_few_classes_and_summarises_many():
    w, names = words("en"), ["liver", "spleen", "aorta", "stomach", "pancreas"]
    assert brief(names[:2], (0.9, math.nan), w) == "liver 0.900, spleen –"
    assert brief(names, (0.9, math.nan, 0.5, 1.0, 0.8), w) == "mean 0.800; lowest 0.500 (aorta)"
    assert brief(names, (math.nan,) * 5, w).count("–") == 5
