"""The front door: `python app.py` opens the page on a local port; on a Hugging Face Space it is the Space.

`streamlit run app.py` opens the course instead.
"""

import argparse
import os
import sys
import threading
from pathlib import Path

# Before torch is imported: its threads must sleep, not spin, while they wait; visitors share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def main() -> None:
    """Read the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="port to listen on; by default the first free one from 7860")
    parser.add_argument("--host", help="address to listen on; by default this machine only")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FOLDER",
        help="offer this checkpoint too, before those shipped",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    arguments = parser.parse_args()

    from app import gradio_ui
    from app.core import catalogue
    from app.core.session import Session

    own = {Path(folder).resolve().name: folder for folder in arguments.checkpoint}
    session = Session(own | catalogue.shipped(), arguments.device)
    address, wait = gradio_ui.serve(session, port=arguments.port, host=arguments.host)
    print(f"The page is open at {address}", flush=True)
    threading.Thread(target=session.warm, daemon=True).start()  # after the first paint, not before
    wait()


def under_streamlit() -> bool:
    """Tell whether Streamlit runs this file, without importing it to ask."""
    runtime = sys.modules.get("streamlit.runtime")
    return runtime is not None and runtime.exists()


if __name__ == "__main__":
    if under_streamlit():
        from app.streamlit_ui import main as course

        course()
    else:
        main()
