"""Evaluation: volumes from slices, means over cases and classes, JSON."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from medsegdiff.commands.figure import reliability_plot
from medsegdiff.data.folders import majority
from medsegdiff.evaluation import Scored, case_of, evaluate, table
from medsegdiff.metrics import mean, score

NAMES = ("liver", "spleen")


def volume(seed, slices=12, classes=2):
    coarse = np.random.default_rng(seed).integers(0, classes + 1, (slices, 6, 7))
    return coarse.repeat(3, 1).repeat(3, 2).astype(np.uint8)


def sample(name, labels, truth, classes=2, spacing_mm=None):
    probability = np.eye(classes + 1, dtype=np.float32)[labels].transpose(2, 0, 1)
    return Scored(name=name, labels=labels, probability=probability, truth=truth, seconds=0.5, spacing_mm=spacing_mm)


def slices(case, labels, truth, spacing_mm=None):
    for i, (one, other) in enumerate(zip(labels, truth, strict=True)):
        yield sample(f"{case}_slice{i}.png", one, other, spacing_mm=spacing_mm)


def test_grouped_slices_are_scored_as_a_volume():
    labels, truth = volume(0), volume(1)
    truth[3] = 0  # a slice without anything counts through its false positives
    shuffled = sorted(slices("case7", labels, truth, (0.8, 0.5)), key=lambda s: s.name)  # slice10 before slice2
    result = evaluate(shuffled, NAMES, group=re.compile(r"(case\d+)_"), slice_distance=4.0)
    assert result.scores == (score("case7", labels, truth, 2, (4.0, 0.8, 0.5)),)
    assert result.unit == "mm"
    for c in range(2):
        a, b = labels == c + 1, truth == c + 1
        assert result.scores[0].dice[c] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), rel=1e-6)


def test_means_are_taken_over_cases_that_have_the_class_and_then_over_classes():
    both, one, none = np.zeros((3, 8, 8), np.uint8)
    both[:4], both[4:], one[:4] = 1, 2, 1
    half = one.copy()
    half[2:4] = 0
    result = evaluate(
        [
            sample("a.png", both, both),
            sample("b.png", half, one),
            sample("c.png", one, none),
            sample("d.png", none, none),
        ],
        NAMES,
    )
    liver, spleen = result.per_class
    assert (liver.n, liver.empty, liver.false_positives) == (2, 2, 1)
    assert (spleen.n, spleen.empty, spleen.false_positives) == (1, 3, 0)
    assert (liver.regions, liver.regions_found, liver.false_regions) == (2, 2, 1)
    assert liver.dice == pytest.approx((1 + 2 / 3) / 2, rel=1e-6)
    assert liver.iou == pytest.approx((1 + 1 / 2) / 2, rel=1e-6)
    assert result.to_json()["mean_dice"] == pytest.approx((5 / 6 + 1) / 2, rel=1e-6)
    assert result.empty_truth == pytest.approx(1 / 5)
    assert result.worst == ("b.png",)


def test_the_json_has_all_keys_and_only_json_values():
    labels, truth = volume(0)[0] % 2, volume(1)[0] % 2  # no spleen anywhere: nan inside, null outside
    result = evaluate([sample("a.png", labels, truth)], NAMES, settings={"steps": 10, "fuse": "staple"})
    told = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert {"mean_dice", "per_class", "mean_iou", "mean_hd95", "ece", "seconds_per_image"} <= told.keys()
    assert {"empty_truth", "settings", "cases", "worst"} <= told.keys()
    assert told["per_class"]["spleen"]["dice"] is None
    assert told["mean_dice"] == told["per_class"]["liver"]["dice"] == result.scores[0].dice[0]
    assert told["settings"] == {"steps": 10, "fuse": "staple"}
    assert told["cases"][0]["name"] == "a.png"
    assert told["seconds_per_image"] == 0.5


@pytest.mark.slow
def test_evaluations_of_disjoint_data_can_be_joined():
    samples = [sample(f"{i}.png", a, b) for i, (a, b) in enumerate(zip(volume(0), volume(1), strict=True))]
    whole, shares = evaluate(samples, NAMES), (evaluate(samples[:5], NAMES), evaluate(samples[5:], NAMES))
    assert (shares[0] + shares[1]).to_json() == whole.to_json()


@pytest.mark.slow
def test_members_are_compared_with_several_readers_and_counted_by_how_many_marked():
    one, half, none = (np.zeros((8, 8), np.uint8) for _ in range(3))
    one[:4], half[:2] = 1, 1

    def case(name, readers, members):
        readers, members = np.stack(readers), np.stack(members)
        scored = sample(name, members[0], majority(readers), classes=1)
        return replace(scored, members=members, readers=readers)

    cases = [
        case("p1_n0", [one, one], [one, one]),
        case("p1_n1", [one, none], [one, one]),
        case("p2_n0", [half, one], [half, one]),
    ]
    result = evaluate(cases, ["nodule"], patient=r"^(.+?)_n")
    found = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert found["members"] == 2
    assert found["ged"] == pytest.approx((0 + 0.5 + 0) / 3)  # 2 / 2 - 0 - 1 / 2 where one of two readers saw nothing
    assert found["hm_iou"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["dice_best_match"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["dice_majority"] == pytest.approx((1 + 1 + 2 / 3) / 3)  # of one vote in two, at least half marked it
    assert found["ece_share"] == pytest.approx((16 + 8) / 192)  # pixels too sure at p = 1, missed at p = 0
    assert {count: group["n"] for count, group in found["by_readers_who_marked"].items()} == {"1": 1, "2": 2}
    assert found["by_readers_who_marked"]["2"]["ged"] == 0
    assert "Hungarian-matched IoU | 0.8333" in table(result)
    halves = evaluate(cases[:1], ["nodule"]), evaluate(cases[1:], ["nodule"])
    assert (halves[0] + halves[1]).to_json() == evaluate(cases, ["nodule"]).to_json()
    alone = evaluate([replace(sample("b", one, one, 1), members=np.stack([half, one]))], ["nodule"]).to_json()
    assert alone["dice_best_match"] == 1
    assert alone["diversity"] == pytest.approx(0.25)
    assert "ged" not in alone


def test_intervals_beside_readers_are_over_cases_and_not_printed_for_few():
    marked = (np.random.default_rng(0).random((3, 4, 8, 8)) < 0.5).astype(np.uint8)  # volumes of four slices

    def cases(copies):
        for i, labels in enumerate(marked):
            for k, one in enumerate(labels[[0, 1] * copies]):
                scored = sample(f"v{i}_slice{k}", one, one, classes=1)
                yield replace(scored, members=np.stack([one, one]), readers=np.stack([one, labels[2]]))

    group = re.compile(r"^(.+)_slice")
    once, many = (evaluate(cases(copies), ["nodule"], group=group) for copies in (1, 10))
    intervals = [one.reader_scores()["reader_intervals"]["ged"] for one in (once, many)]
    assert intervals[1] == pytest.approx(intervals[0])  # ten copies of a volume's slices say no more than one
    assert "No intervals for fewer than 5 cases" in table(many)
    assert not re.search(r"\d to \d", table(many))


def test_the_plot_has_a_dot_for_every_filled_bin_and_a_name_for_every_class():
    labels, truth = volume(0)[0], volume(1)[0]
    result = evaluate([sample("a.png", labels, truth)], ("liver", "spleen & more"))
    plot = ElementTree.fromstring(reliability_plot(result, "a < b"))
    dots = list(plot.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == np.count_nonzero(result.reliability.count) == 4  # certain of both classes: two bins each
    sure = next(dot for dot in dots if dot.get("cx") == "376.0")  # probability 1
    share = (truth[labels == 1] == 1).mean()
    assert float(sure.get("cy", "")) == pytest.approx(24 + (1 - share) * 320, abs=0.06)  # rounded to a tenth
    words = [text.text or "" for text in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert words[0] == "a < b"
    assert [word.partition(",")[0] for word in words[-2:]] == ["liver", "spleen & more"]


def test_the_worst_tenth_comes_worst_first():
    truth = np.ones((20, 20), np.uint8)
    found = [np.where(np.arange(20)[:, None] < rows, truth, 0) for rows in range(1, 21)]
    result = evaluate([sample(f"{i:02}", a, truth, classes=1) for i, a in enumerate(found)], ("lesion",))
    assert result.worst == ("00", "01")


def test_the_table_has_a_row_per_class_and_one_for_their_mean():
    samples = [sample(f"{i}.png", a, b) for i, (a, b) in enumerate(zip(volume(0), volume(1), strict=True))]
    result = evaluate(samples, NAMES)
    head, rule, *rows, blank, foot = table(result).splitlines()
    assert "HD95 (pixels)" in head
    assert [row.split(" | ")[0] for row in rows] == ["| liver", "| spleen", "| mean"]
    assert {line.count("|") for line in (head, rule, *rows)} == {8}
    assert f"{mean([c.dice for c in result.per_class]):.3f}" in rows[-1]
    assert not blank
    assert "0.50 s per image" in foot


def test_a_class_of_few_patients_has_no_interval_in_the_table():
    both = [sample(f"p{i}_{k}.png", volume(0)[i], volume(1)[i]) for i in range(8) for k in range(2)]
    some = [replace(s, truth=np.where(s.truth == 2, 0, s.truth) if s.name > "p4" else s.truth) for s in both]
    liver, spleen = table(evaluate(some, NAMES, patient=r"^(p\d+)_")).splitlines()[2:4]
    assert re.search(r"\d to \d", liver)
    assert spleen.endswith("| 8 |")  # cases, of four patients
    assert " to " not in spleen
    assert "over 8 patients, none for a class in fewer than 5" in table(evaluate(some, NAMES, patient=r"^(p\d+)_"))


def test_the_plane_of_a_volume_is_measured_by_rows_and_columns():
    truth, labels = np.zeros((2, 3, 20, 20), np.uint8)
    truth[:, 5:9, 5:9], labels[:, 5:9, 8:12] = 1, 1  # three columns to the right
    group = re.compile(r"(case\d+)_")
    found = evaluate(slices("case1", labels, truth, (0.5, 2.0)), NAMES, group=group, slice_distance=4.0)
    assert found.per_class[0].hd95 == pytest.approx(6.0)


def test_a_case_is_the_first_group_of_the_pattern():
    assert case_of("case0002_slice002.jpg", re.compile(r"^(case\d+)_slice")) == "case0002"
    assert case_of("case0002_slice002.jpg", re.compile(r"case\d+")) == "case0002"
    assert case_of("case0002_slice002.jpg", None) == "case0002_slice002.jpg"
    with pytest.raises(ValueError, match="every file name matches"):
        case_of("lesion.png", re.compile(r"(case\d+)"))


def test_bad_input_gets_one_clear_sentence():
    labels, truth = volume(0), volume(1)
    group = re.compile(r"(case\d)")
    apart = [*slices("case1", labels, truth), *slices("case2", labels, truth), *slices("case1", labels, truth)]
    narrow = sample("case1_b.png", labels[0][:, :9], truth[0][:, :9])
    known = sample("b.png", labels[0], truth[0], spacing_mm=(1.0, 1.0))
    plain = sample("a.png", labels[0], truth[0])
    with pytest.raises(ValueError, match="sort the slices by case"):
        evaluate(apart, NAMES, group=group)
    with pytest.raises(ValueError, match="differ in size"):
        evaluate([sample("case1_a.png", labels[0], truth[0]), narrow], NAMES, group=group)
    with pytest.raises(ValueError, match="evaluate the two apart"):
        evaluate([plain, known], NAMES)
    with pytest.raises(ValueError, match="has label 255"):
        evaluate([sample("a.png", labels[0], truth[0] * 0 + 255)], NAMES)
    with pytest.raises(ValueError, match="at the size of its image"):
        evaluate([sample("a.png", labels[0], truth[0][:5])], NAMES)
    with pytest.raises(ValueError, match="3 probabilities for 1 classes"):
        evaluate([plain], NAMES[:1])
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate([], NAMES)


@pytest.mark.slow
def test_hd95_is_in_3d_only_where_no_slice_is_missing_and_the_distance_is_known():
    labels, truth = volume(0), volume(1)
    truth[5] = 0
    group = re.compile(r"(case\d+)_")
    whole = list(slices("case1", labels, truth, (0.8, 0.5)))
    gap = [s for s in slices("case2", labels, truth, (0.8, 0.5)) if "slice3" not in s.name]
    both = evaluate(whole + gap, NAMES, group=group, slice_distance=4.0)
    assert both.hd95_unit == "mm"
    assert both.per_class[0].hd95 == score("case1", labels, truth, 2, (4.0, 0.8, 0.5)).hd95[0]  # without case2
    assert "HD95 leaves out 1 volumes" in table(both)
    per_slice = [score("s", a, b, 2, (0.8, 0.5)).hd95 for a, b in zip(labels, truth, strict=True)]
    for result in (
        evaluate(gap, NAMES, group=group, slice_distance=4.0),
        evaluate(whole, NAMES, group=group),  # the distance between slices is unknown
    ):
        kept = [d for i, d in enumerate(per_slice) if result.scores[0].name == "case1" or i != 3]
        assert result.hd95_unit == "mm, 2-D per slice"
        assert result.per_class[1].hd95 == pytest.approx(mean([d[1] for d in kept]))
        assert result.scores[0].dice == both.scores[result.scores[0].name == "case2"].dice
        assert "HD95 (mm, 2-D per slice)" in table(result)
    assert evaluate(slices("case1", labels, truth), NAMES, group=group).hd95_unit == "pixels, 2-D per slice"


@pytest.mark.slow
def test_intervals_are_over_patients_also_of_several_classes():
    """Ten copies of a patient's picture say no more than one."""
    cases = [sample(f"p{i}_1.png", a, b) for i, (a, b) in enumerate(zip(volume(0), volume(1), strict=True))]
    once = evaluate(cases, NAMES, patient=r"^(p\d+)_")
    copies = [replace(one, name=f"p{i}_{copy}.png") for i, one in enumerate(cases) for copy in range(10)]
    many = evaluate(copies, NAMES, patient=r"^(p\d+)_")
    assert many.interval == pytest.approx(once.interval)
    assert many.resampled == ("patients", 12)
    assert "over 12 patients" in table(many)
    low, high = evaluate(copies, NAMES).interval
    assert high - low < (many.interval[1] - many.interval[0]) / 2
    assert evaluate(copies, NAMES).to_json()["intervals_over"] == {"what": "cases", "n": 120}
