"""Open the page: `python app.py` serves it on a local port, and on a Hugging Face Space it is the Space.

`streamlit run app.py` opens the course instead. Installed from a wheel, this file and the package `app` lie in a folder of their
own, `medsegdiff_app`, and the commands are `medsegdiff-demo` and `medsegdiff-course`.
"""

import argparse
import os
import runpy
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

# Before torch is imported: its threads must sleep, not spin, while they wait; visitors share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what Apple's MPS lacks runs on the CPU
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)  # where `app` is, also if a wheel's command imports this file


def main() -> None:
    """Read the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(description="Open the page in a browser.")
    parser.add_argument("--port", type=int, help="port to listen on; by default the first free one from 7860")
    parser.add_argument("--host", help="address to listen on; by default this machine only")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FOLDER",
        help="offer this checkpoint too, before those shipped",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... or mps")
    arguments = parser.parse_args()

    require("gradio")
    from app import gradio_ui
    from app.core import catalogue
    from app.core.session import Session

    try:
        catalogue.require_files()
        sources = catalogue.with_own(arguments.checkpoint)
    except ValueError as error:
        sys.exit(str(error))
    session = Session(sources, arguments.device)
    address, wait = gradio_ui.serve(session, port=arguments.port, host=arguments.host)
    print(f"The page is open at {address}", flush=True)
    # After the first paint, not before.
    threading.Thread(target=lambda: (session.warm(), session.prefetch()), daemon=True).start()
    wait()


def course() -> None:
    """Open the course; arguments are those of `streamlit run`."""
    require("streamlit")
    os.chdir(HERE)  # Streamlit reads .streamlit/config.toml from the current folder
    sys.argv[:] = ["streamlit", "run", str(Path(__file__).resolve()), *sys.argv[1:]]
    runpy.run_module("streamlit", run_name="__main__")


def require(package: str) -> None:
    """Exit with a sentence if the packages of the application are not installed."""
    if find_spec(package) is None:
        sys.exit(
            f"{package} is not installed; the page and the course need the app extra: pip install 'medsegdiff[app]'"
        )


def under_streamlit() -> bool:
    """Return whether Streamlit runs this file, without importing it."""
    runtime = sys.modules.get("streamlit.runtime")
    return runtime is not None and runtime.exists()


if __name__ == "__main__":
    if under_streamlit():
        from app.core import catalogue
        from app.streamlit_ui import main as chapters

        catalogue.require_files()
        chapters()
    else:
        main()
