"""Recordings: round trip, size, and replay without torch."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.core import catalogue
from app.core.frames import Recording, vote
from app.i18n import words
from app.views import films
from app.views.descriptions import facts

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_recording_replays_without_torch(recorded):
    code = f"""
import sys
sys.modules["torch"] = None
from app.views import panels
from app.core.frames import Recording, vote
from app.i18n import LANGUAGES, words
recording = Recording.load({str(recorded)!r})
for language in LANGUAGES:
    shown = [p for p in panels.PANELS if p.needs(recording)]
    for panel in shown:
        film = panels.film_of(panel, recording, words(language), "run")
        places = 1 if panel.key == "anchor" else len(recording.frames) + 2  # the anchor is the same at every step
        assert len(film["positions"]) == places, panel.key
        assert all(len(view["alts"]) == len(film["positions"]) for view in film.get("views", []))
        panels.charts_of(panel, recording, words(language))
    assert {{p.key for p in shown}} == {{"steps", "anchor", "transformer", "members"}}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_recording_round_trips(recorded, tmp_path):
    first = Recording.load(recorded)
    first.save(tmp_path / "again.npz")
    second = Recording.load(tmp_path / "again.npz")
    assert first.facts == second.facts
    for one, other in zip(first.frames, second.frames, strict=True):
        assert (one.t, one.shares) == (other.t, other.shares)
        np.testing.assert_array_equal(one.x_t, other.x_t)
        np.testing.assert_array_equal(one.members, other.members)
        assert [(p.kind, p.stage) for p in one.planes] == [(p.kind, p.stage) for p in other.planes]
        for a, b in zip(one.planes, other.planes, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(first.opening.reference[0], second.opening.reference[0])
    np.testing.assert_array_equal(first.outcome.disagreement, second.outcome.disagreement)


def test_films_show_the_part_that_the_network_sees_and_numbers_are_of_the_whole_image(tmp_path):
    catalogue.recording(catalogue.recordings()["lung-nodule-v2", 15]).save(tmp_path / "again.npz")
    run, w = Recording.load(tmp_path / "again.npz"), words("en")
    seen = run.seen
    assert run.opening.field == 0.5
    assert seen.opening.picture.shape == (64, 64, 3)
    np.testing.assert_array_equal(seen.opening.picture, run.opening.picture[32:96, 32:96])
    for whole, part in (
        (run.outcome.members, seen.outcome.members),
        (run.opening.anchor[0] > 127, seen.opening.anchor[0] > 127),
    ):
        assert 2 * part.shape[-1] == whole.shape[-1]
        assert part.sum() == whole.sum() > 0  # outside it nothing is marked
    assert not (seen.frames[0].x_t == 128).all(-1).any()  # noise fills the tile
    area = 100 * (run.outcome.labels > 0).mean()
    image, *_, masks = films.run_views(run, w)
    assert image.title == "Middle of the image, enlarged"
    assert f"mask covers {area:.1f} %" in masks.alts[-1]
    mean = films.member_views(run, w)[0]
    assert f"{run.outcome.probability.mean() / 255:.3f}" in mean.alts[-1]
    whole = replace(run, opening=replace(run.opening, field=1.0))
    assert whole.seen is whole


def test_displayed_values_match_the_arrays(recorded):
    recording = Recording.load(recorded)
    labels, reference = recording.outcome.labels > 0, recording.opening.reference[0] > 0
    dice = 2 * (labels & reference).sum() / (labels.sum() + reference.sum())
    assert recording.facts["dice"] == [[pytest.approx(dice)]]  # phantoms have the stored size, so both values are exact
    assert recording.facts["areas"]["lesion"]["pixels"] == labels.sum()


@pytest.mark.slow
def test_shipped_recordings_are_small_and_match_the_shipped_weights():
    from app.core import catalogue

    paths = catalogue.recordings()
    if not paths:
        pytest.skip("no recordings are here; python -m scripts.record_runs makes them")
    for (name, _), path in paths.items():
        assert path.stat().st_size < 2e6
        assert Recording.load(path).facts["digest"] == catalogue.card(catalogue.shipped()[name]).sha256, path.name


def test_an_image_without_a_lesion_can_be_recorded_and_described(recorded, tmp_path):
    recording = Recording.load(recorded)
    nothing = replace(recording, facts=recording.facts | {"dice": [[math.nan]], "anchor_dice": [[math.nan]]})
    nothing.save(tmp_path / "nothing.npz")
    text = facts(Recording.load(tmp_path / "nothing.npz"), words("en"), live=False)
    assert "–" in text
    assert "nan" not in text


def test_a_tie_of_votes_goes_to_the_lower_label(recorded):
    members = np.array([[[0, 1, 2, 2]], [[1, 2, 2, 0]]], np.uint8)
    assert vote(members).tolist() == [[0, 1, 2, 0]]
    frame = replace(Recording.load(recorded).frames[0], members=members)
    assert films.consensus(frame).tolist() == [[0, 1, 2, 0]]


def test_films_of_an_image_that_is_not_square_have_tiles_of_one_size_where_the_middle_is_enlarged():
    recording = catalogue.recording(catalogue.recordings()["lung-nodule-v2", 15])
    assert recording.opening.field < 1
    for width in range(60, 128, 7):  # the middle of an odd side is rounded
        cut = recording.opening.picture[:, :width]
        seen = replace(recording, opening=replace(recording.opening, picture=cut))
        views = films.run_views(seen, words("en"))
        assert len({tile.shape for view in views for tile in view.tiles}) == 1
