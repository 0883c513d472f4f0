"""Validation of the controls."""

from dataclasses import replace

import pytest

from app.core.settings import CONTROLS, read
from medsegdiff.config import RunSettings

DEFAULTS = [control.default for control in CONTROLS]


def with_field(field, value):
    return [value if control.field == field else control.default for control in CONTROLS]


def test_controls_have_the_defaults_of_the_package():
    assert read(DEFAULTS) == replace(RunSettings(), trace=True)


def test_a_switch_that_is_off_is_off():
    switches = read(with_field("switches", ["anchor", "nbp"])).switches
    assert (switches.anchor, switches.nbp, switches.ss_former, switches.ff_parser) == (True, True, False, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("members", 26),
        ("members", 2.5),
        ("steps", 0),
        ("seed", -1),
        ("seed", None),
        ("eta", float("nan")),
        ("sampler", "magic"),
        ("size", 300),
        ("switches", ["anchor", "everything"]),
    ],
)
def test_values_outside_the_limits_are_rejected(field, value):
    with pytest.raises(ValueError, match=field):
        read(with_field(field, value))
