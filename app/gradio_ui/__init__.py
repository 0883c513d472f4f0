"""Build the Gradio page. No other package imports Gradio; all content is computed in `app.analysis` and `app.views`.

    page            layout, language, server          run_tab             run, live view, stop, downloads
    page_state      state shared by all tabs          inside_tab          network components, runs with a change
    sidebar         image, checkpoint, settings       ensemble_tab        members, fusion rules, calibration
    hub, files      checkpoints from the Hub, files   comparison_tab      setups on the same noise
    api             public endpoints                  reference_mask_tab  scores against an uploaded or painted mask
    remote_files    downloads of URL inputs           mcp_disconnect      stop runs of disconnected MCP clients
    gradio_overrides  workarounds for Gradio

Each tab module has a function `build(page: PageState) -> Tab` that creates the widgets, connects their events, and returns a
`Tab` whose `show` displays a `Selection`: the image, checkpoint and run that the visitor has chosen.
"""

from app.gradio_ui.page import build, serve

__all__ = ["build", "serve"]
