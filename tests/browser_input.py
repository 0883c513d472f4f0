"""Simulate input on the page at the speed of a user."""

from typing import Any

_TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def unfold(page: Any, accordion: str, held: str) -> None:
    """Open an accordion and wait until its widgets can be used.

    Gradio resets the widgets of an accordion in the frame after it is first shown, which would discard earlier input.
    """
    page.locator(f"{accordion} > button").click()
    page.wait_for_selector(held)
    page.evaluate(_TWO_FRAMES)


def turn(page: Any, **settings: int) -> None:
    """Open the settings and type into some of them."""
    unfold(page, "#settings", "#set-steps")
    for name, value in settings.items():
        field = page.locator(f"#set-{name} input[type=number]")
        field.fill(str(value))
        field.press("Enter")
