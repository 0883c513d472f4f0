"""Override behaviour of Gradio that does not suit this page."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.routes import templates
from jinja2 import ChoiceLoader, DictLoader

from app.gradio_ui import remote_files

__all__ = ["Page", "UntrackedFiles", "set_link_preview"]

_TEMPLATE = "frontend/index.html"


class Page(gr.Blocks):
    """Blocks with limits on the download of URL inputs, and with updates that also reach slow browsers."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> Any:
        """Download URL inputs, then delegate to Gradio."""
        inputs = await remote_files.download_inputs(inputs, Path(self.GRADIO_CACHE), self.upload_file_set)
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
        """Send changed values as a whole and unchanged values not at all.

        Gradio sends only the difference within a value, which its page applies to the previous value. If a slow browser
        has not rendered the previous value yet, the update is lost, and with it the result of a short run.
        """
        given = list(data)
        sent = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if final or simple_format:
            return sent
        return [
            [["replace", [], new]] if edits and edits is not new else edits
            for edits, new in zip(sent, given, strict=True)
        ]


def set_link_preview(title: str, description: str) -> None:
    """Replace the title and the description that other sites show for a link to the page, which are Gradio's own."""
    loader = templates.env.loader
    assert loader is not None
    source = loader.get_source(templates.env, _TEMPLATE)[0]
    source = re.sub(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>', "", source)
    tags = {"og:title": title, "og:description": description, "description": description}
    tags = {name: html.escape(text) for name, text in tags.items()}
    tags |= {"og:type": "website", "og:url": "{{ config['root'] }}", "twitter:card": "summary"}
    kinds = {name: "property" if name.startswith("og:") else "name" for name in tags}
    metas = "".join(f'<meta {kinds[name]}="{name}" content="{text}" />' for name, text in tags.items())
    own = DictLoader({_TEMPLATE: source.replace("</head>", f"{metas}</head>", 1)})
    templates.env.loader = ChoiceLoader([own, loader])


class UntrackedFiles(set[str]):
    """Temporary files that Gradio creates without tracking, listed so that its cache cleaning deletes them.

    Gradio's MCP server decodes images sent as data: URLs to files, and leaves an empty file for every file it returns.
    """

    def __iter__(self) -> Iterator[str]:
        folder = Path(gr.mcp.DEFAULT_TEMP_DIR)
        yield from (str(path) for path in folder.glob("*/file*"))
        yield from (str(path) for path in folder.glob("tmp*") if path.is_file())
