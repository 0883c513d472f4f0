"""Timesteps of the sampling trajectory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsegdiff.sampling import SPACINGS, spaced


@settings(deadline=None)
@given(st.sampled_from(SPACINGS), st.integers(1, 1200), st.data())
def test_times_descend_within_the_schedule_without_repetition(spacing, timesteps, data):
    steps = data.draw(st.integers(1, timesteps))
    times = spaced(timesteps, steps, spacing)
    assert len(set(times)) == steps
    assert times == sorted(times, reverse=True)
    assert times[0] < timesteps
    assert times[-1] >= 0
    if spacing != "leading":
        assert times[0] == timesteps - 1  # pure noise is where training put it
    if spacing == "leading" or (spacing == "even" and steps > 1):
        assert times[-1] == 0


@pytest.mark.parametrize("steps", [0, 101])
def test_more_steps_than_the_schedule_has_are_refused(steps):
    with pytest.raises(ValueError, match=f"{steps} sampling steps were asked of a schedule of 100; choose 1 to 100"):
        spaced(100, steps)


def test_an_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match="choose trailing, early, leading, even"):
        spaced(100, 10, "linspace")
