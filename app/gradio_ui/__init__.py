"""The Gradio page. No other package imports Gradio; what its widgets show is computed in `app.analysis` and `app.views`.

    page            layout, language, server          run_tab             run, watch, stop, download
    page_state      state shared by all tabs          inside_tab          components of the network, and one changed
    sidebar         image, checkpoint, settings       ensemble_tab        members, fusion, number of members
    hub, files      checkpoints from the Hub, files   comparison_tab      two setups on the same noise
    api             public endpoints                  reference_mask_tab  scores against an uploaded or painted mask
    remote_files    downloads of URL inputs           mcp_disconnect      end of runs whose client has gone
    gradio_overrides  workarounds for Gradio

A tab is a function `build(page: PageState) -> Tab`: it creates its widgets where it is called, connects their events, and
returns how the tab shows a `Selection`, the image, checkpoint and run that the visitor has chosen.
"""

from app.gradio_ui.page import build, serve

__all__ = ["build", "serve"]
