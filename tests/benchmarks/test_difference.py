"""Paired differences of two evaluations, on hand-made cases."""

import json
from pathlib import Path

import pytest

from benchmarks.difference import differences, main


def result(dice: dict[str, list[float | None]], ged: dict[str, float] | None = None, data: str = "polyp") -> dict:
    return {
        "settings": {"data": data},
        "cases": [{"name": name, "dice": values} for name, values in dice.items()],
        "pictures": [{"name": name, "ged": value} for name, value in (ged or {}).items()],
    }


def test_only_what_both_have_counts_and_an_undefined_value_does_not() -> None:
    one = result({"a": [0.9, 0.3], "b": [0.5, None], "c": [None, None], "mine": [0.0, 0.0]})
    other = result({"a": [0.8, 0.1], "b": [0.4, None], "c": [0.1, 0.1], "theirs": [1.0, 1.0]})
    # Over cases first, then over classes: (0.7 + 0.3) / 2; two cases are too few for an interval.
    assert differences(one, other).splitlines()[2:] == ["| Dice | 0.5000 | 0.3500 | +0.1500 |  | 2 |"]


def test_images_of_one_patient_are_resampled_together() -> None:
    names = [f"L{patient:04}_n00_s{s:02}" for patient in range(5) for s in range(10)]
    one = result({}, dict.fromkeys(names, 0.5), "lung-nodule")
    other = result({}, {name: 0.5 + 0.1 * name.startswith("L0000") for name in names}, "lung-nodule")
    (row,) = differences(one, other).splitlines()[2:]
    assert (
        row == "| GED^2 | 0.5000 | 0.5200 | -0.0200 | -0.0600 to +0.0000 | 50 |"
    )  # drawn three times of five, or never


def test_files_that_cannot_be_compared_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, text in (("one", json.dumps(result({"a": [0.9]}))), ("other", json.dumps(result({"b": [0.9]})))):
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "list.json").write_text("[1]")
    for other, said in (("other", "no image in common"), ("list", "is no result"), ("absent", "No such file")):
        assert main([str(tmp_path / "one.json"), str(tmp_path / f"{other}.json")]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
