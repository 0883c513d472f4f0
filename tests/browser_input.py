"""Simulate input on the page at the speed of a user."""

import time
from collections.abc import Callable
from typing import Any

_TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_AT_REST = """() => document.getAnimations().every(
    (animation) => animation.playState !== 'running' || animation.effect.getComputedTiming().iterations === Infinity)"""


def wait_until(page: Any, holds: Callable[[], object]) -> None:
    """Wait until a condition holds in this process, at most a minute, while the page goes on."""
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        page.evaluate(_TWO_FRAMES)


def settled(page: Any) -> None:
    """Wait until every request of the page has been answered, and what it brought is drawn and at rest."""
    page.evaluate(_TWO_FRAMES)
    wait_until(page, lambda: not page.pending)
    page.evaluate(_TWO_FRAMES)
    page.wait_for_function(_AT_REST)


def unfold(page: Any, accordion: str, held: str) -> None:
    """Open an accordion and wait until its widgets can be used.

    Gradio resets the widgets of an accordion in the frame after it is first shown, which would discard earlier input.
    """
    page.locator(f"{accordion} > button").click()
    page.wait_for_selector(held)
    page.evaluate(_TWO_FRAMES)


def choose(page: Any, checkpoint: str) -> None:
    """Choose a checkpoint among the tiles."""
    page.locator(f"#tasks input[value='{checkpoint}']").check(force=True)


def turn(page: Any, **settings: int) -> None:
    """Open the settings and type into some of them."""
    unfold(page, "#settings", "#set-steps")
    for name, value in settings.items():
        field = page.locator(f"#set-{name} input[type=number]")
        field.fill(str(value))
        field.press("Enter")
