"""Images marked by several readers: what is kept of a run, computed and shown."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from app.analysis import ensemble
from app.core import frames
from app.core.frames import Recording
from app.i18n import LANGUAGES, words
from app.inputs.images import phantom
from app.views import ensemble_views, films, paint, panels
from medsegdiff.records import Step

SIDE = 16


@pytest.fixture
def recording(recorded) -> Recording:
    """Two of four readers marked the left half, the others nothing; three of four members and the anchor marked it."""
    nothing, half = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    half[:, : SIDE // 2] = 1
    whole = Recording.load(recorded)
    picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
    opening = frames.Opening(picture, (half, nothing, half, nothing), (half * 255,))
    outcome = frames.Outcome(half, half * 191, half * 100, np.stack([half, half, nothing, half]))
    kept = tuple(replace(frame, shares=(0.5, 0.5, 0.0, 0.5)) for frame in whole.frames)
    return Recording(opening, kept, outcome, whole.facts)


@pytest.mark.slow
def test_every_readers_mask_comes_back_as_it_was_saved(recording, tmp_path):
    recording.save(tmp_path / "readers.npz")
    again = Recording.load(tmp_path / "readers.npz")
    np.testing.assert_array_equal(np.stack(recording.opening.readers), np.stack(again.opening.readers))
    assert len(again.opening.anchor) == 1


def test_dice_is_against_the_only_mask_or_the_readers_majority():
    one, other = np.eye(2, dtype=np.uint8), np.zeros((2, 2), np.uint8)
    assert frames.target(()) == ()
    assert frames.target((one,))[0] is one
    np.testing.assert_array_equal(frames.target((one, other))[0], one)  # half of the readers are enough
    np.testing.assert_array_equal(frames.target((one, other, other))[0], other)


def test_members_are_compared_with_readers_as_two_sets(recording):
    found = ensemble.beside_readers(recording)
    assert found.readers == (0.5, 0, 0.5, 0)
    assert found.members == (0.5, 0.5, 0, 0.5)
    assert found.anchor == (0.5,)
    assert found.shares == ((0, 0), (0.75, 0.5))
    assert found.distance == pytest.approx(2 * 0.5 - 2 * 0.25 * 0.75 - 0.5)  # any two masks agree or share nothing
    assert found.anchor_distance == (pytest.approx(2 * 0.5 - 0 - 0.5),)
    one = replace(recording, opening=replace(recording.opening, reference=recording.opening.reference[:1]))
    assert ensemble.beside_readers(one) is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_members_stand_beside_readers_in_both_languages(recording, language):
    w = words(language)
    found = ensemble.beside_readers(recording)
    shown = ensemble_views.reader_film(recording, w)
    assert [view["title"] for view in shown["views"]][3:5] == [
        w("film.one_reader", number=4),
        w("film.one_member", number=1),
    ]
    text = ensemble_views.beside_readers_words(found, w)
    assert all(number in text for number in ("50.00", "0.00", "0.12", "0.50"))
    areas, shares = ensemble_views.beside_readers_charts(found, w)
    assert [list(line.y) for line in areas.data] == [[0, 50, 50, 50], [0, 0, 50, 50], [50, 50]]
    assert list(shares.data[1].y) == [0, 0.5]
    for panel in panels.PANELS:
        if panel.needs(recording):
            panels.charts_of(panel, recording, w)
    assert films.still(recording.opening, w, "")["legend"] == []  # the readers' masks appear with the run
    lines = films.legend(recording, w, members=False)
    assert w("film.reader", number=1) in str(lines)
    assert w("film.reader_empty", number=2) in str(lines)


def test_readers_who_agree_are_both_visible():
    mask = np.zeros((40, 40), np.uint8)
    mask[8:32, 8:32] = 1
    tile = paint.on_picture(np.zeros((40, 40, 3), np.uint8), np.zeros_like(mask), (mask, mask))
    colours = {tuple(pixel) for pixel in tile[8, 8:32].tolist()}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in paint.READERS[:2]} <= colours


def test_what_a_network_sees_is_placed_in_the_middle_of_the_image():
    x_0 = torch.full((1, 1, 4, 4), 1.0)
    step = Step(0, 1, 999, -1, torch.zeros(1, 1, 4, 4), x_0, x_0)
    frame = frames.from_step(step, torch.cat([1 - x_0, x_0], 1), field=0.5)
    middle = np.pad(np.full((4, 4), 255), 2)
    np.testing.assert_array_equal(frame.mean, middle)
    assert frame.members.shape == (1, 8, 8)
    assert frame.shares == (0.25,)


def test_a_synthetic_nodule_has_four_readers():
    image = phantom(3, "lung-nodule")
    assert (image.picture.height, len(image.reference)) == (128, 4)
    assert len(phantom(3, "skin-lesion").reference) == 1
