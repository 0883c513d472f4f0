"""Where Gradio does otherwise than this page needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from app.gradio_ui import remote_files

__all__ = ["Page", "Strays"]


class Page(gr.Blocks):
    """Blocks whose events fetch no address without a limit, and whose updates reach a slow browser too."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        """Bring what is far here, then do as Gradio does."""
        inputs = await remote_files.bring(inputs, Path(self.GRADIO_CACHE))
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)

    def handle_streaming_diffs(
        self,
        block_fn: Any,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """Send every value that has changed whole, and of the others nothing.

        Gradio sends what differs within a value, and its page writes that into the value sent before. One that the
        browser has not come to show until then is lost: on a slow machine the result of a run that ends soon.
        """
        given = list(data)
        sent = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if final or simple_format:
            return sent
        return [
            [["replace", [], new]] if edits and edits is not new else edits
            for edits, new in zip(sent, given, strict=True)
        ]


class Strays(set[str]):
    """Files that Gradio makes and does not note, for its own clearing up of the cache to find.

    Its MCP server unpacks a picture that came as a data: address, and every file it hands over leaves an empty one.
    """

    def __iter__(self) -> Iterator[str]:
        folder = Path(gr.mcp.DEFAULT_TEMP_DIR)
        yield from (str(path) for path in folder.glob("*/file*"))
        yield from (str(path) for path in folder.glob("tmp*") if path.is_file())
