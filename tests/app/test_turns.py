"""Runs take turns in the order they came, and whoever is gone holds nobody up."""

import threading

import pytest

from app.core.turns import Turns


def test_runs_take_turns_in_the_order_they_came():
    turns, order = Turns(), []
    with turns.place() as first:
        assert first(0) == 0
        with turns.place() as second, turns.place() as third:
            assert (second(0), third(0)) == (1, 2)
    with turns.place() as alone:
        assert alone(0) == 0

    def run(name):
        with turns.place() as ahead:
            begun.set()
            while ahead(0.05):
                pass
            order.append(name)

    with turns.place() as held:
        threads = []
        for name in "abc":
            begun = threading.Event()
            threads.append(threading.Thread(target=run, args=(name,)))
            threads[-1].start()
            assert begun.wait(60)
        assert held(0) == 0
        assert order == []
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c"]


def test_a_run_that_stands_still_loses_its_turn():
    turns = Turns(patience=0.0)
    with turns.place() as gone, turns.place() as ahead:
        assert ahead(0.01) == 0
        with pytest.raises(ValueError, match="lost its turn"):
            gone(0)
