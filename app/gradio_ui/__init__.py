"""The page in Gradio, the only package that knows the toolkit: widgets and wires. What they show is made elsewhere.

    page        puts it together and serves it         try_tab       run, watch, stop, download
    desk        what the rooms of one page share       inside        the parts of the network, and one changed
    choose      picture, checkpoint, settings          uncertainty   members, fusion, how many are enough
    hub, files  weights from the Hub, results out      compare       two setups on the same noise
    api         the public endpoints                   truth         a mask of one's own
    mended      where Gradio does otherwise            far, callers  addresses fetched, callers who hang up

A room is a function `lay(desk) -> Room`: it lays its widgets where it is called, wires them, and says how it shows the
scene, which is what the visitor has chosen and run.
"""

from app.gradio_ui.page import build, serve

__all__ = ["build", "serve"]
