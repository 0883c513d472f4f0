"""Publish the project on the Hugging Face Hub: the page, the course or the browser edition as a Space, checkpoints as models.

    python -m scripts.deploy space --space owner/name                     the page (Gradio); --kind course or static
    python -m scripts.deploy space --dry out                              write the tree of the Space into out, upload nothing
    python -m scripts.deploy hub --owner name                             every checkpoint into a model repository of its own
    python -m scripts.deploy hub --owner name --dry out                   write the trees into out/NAME, upload nothing

`make space` and `make hub` call it. Log in with `hf auth login` first, or set HF_TOKEN. Both may be repeated: only what changed
is uploaded. `hub` writes the commit of every published checkpoint into checkpoints/hub.json; a Space deployed afterwards
describes those checkpoints and has the Hub preload their weights at build time, instead of carrying them. It carries weights
that have changed since they were published.

References:
    Spaces, https://huggingface.co/docs/hub/spaces-config-reference
    model cards, https://huggingface.co/docs/hub/model-cards
"""

import argparse
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import HfApi, ModelCard, SpaceCard, SpaceCardData, SpaceHardware
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id
from PIL import Image

from medsegdiff import hub, shipped
from medsegdiff.shipped import CARD, CONFIG, WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
TORCH = "2.13.0"  # among the versions that ZeroGPU supports
GRADIO = "6.31.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # the default index has a CUDA build of several gigabytes
DEFAULT = "skin-lesion-v2"  # always carried, so that a Space works before and without any download
THUMBNAIL = "thumbnail.png"
LFS = ("*.npz", "*.onnx", "*.png", "*.safetensors", "*.wasm", "*.webp")

SDKS = {"page": "gradio", "course": "docker", "static": "static"}
MARKERS = {"page": "app/gradio_ui/page.py", "course": "app/streamlit_ui/page.py", "static": "models.json"}
PARTS = {
    "page": ("app.py", "app/**/*", "medsegdiff/**/*"),
    "course": (
        "app.py",
        "app/**/*",
        "medsegdiff/**/*",
        "notebooks/**/*.ipynb",
        "docs/fidelity.md",
        ".streamlit/config.toml",
    ),
}
LEFT_OUT = {
    "page": ("app/streamlit_ui", "app/course", "app/i18n/course.", "app/i18n/web."),
    "course": ("app/gradio_ui", "app/i18n/web."),
}
NOT_NEEDED = {"page": ("streamlit", "pytest"), "course": ("gradio", "pytest")}
WORDS = {
    "page": ("Watch diffusion segment medical images, step by step", "The page of MedSegDiff, in English and Chinese."),
    "course": ("A course on diffusion segmentation, computed live", "Ten chapters, in English and Chinese."),
    "static": ("Diffusion segmentation in your browser, nothing uploaded", "Runs on this device; no image leaves it."),
}


def main(words: list[str] | None = None) -> int:
    """Stage and upload; what fails is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m scripts.deploy", description="Publish on the Hugging Face Hub.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    space = verbs.add_parser("space", help="the page, the course or the browser edition as a Space")
    space.add_argument("--space", metavar="OWNER/NAME", help="the Space; may be left out with --dry")
    space.add_argument("--kind", choices=SDKS, default="page")
    space.add_argument("--hardware", choices=[h.value for h in SpaceHardware], default="cpu-basic")
    space.add_argument("--minutes", type=float, default=30, help="longest wait for the build")
    models = verbs.add_parser("hub", help="checkpoints as model repositories")
    models.add_argument("--owner", required=True, help="user or organisation")
    models.add_argument("--checkpoint", nargs="+", metavar="NAME", help="by default all that are shipped")
    for verb in (space, models):
        verb.add_argument("--dry", type=Path, metavar="FOLDER", help="write the files there and upload nothing")
        verb.add_argument("--private", action="store_true", help="make new repositories private")
    arguments = parser.parse_args(words)
    try:
        (deploy_space if arguments.verb == "space" else deploy_models)(arguments)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{arguments.verb}: {error}", file=sys.stderr)
        return 2
    return 0


# ---------------------------------------------------------------------------------------------------------- Spaces


def deploy_space(arguments: argparse.Namespace) -> None:
    """Stage a Space and, unless it is a dry run, upload it and wait until it runs."""
    name, kind, hardware = arguments.space, arguments.kind, arguments.hardware
    if name is None and arguments.dry is None:
        raise ValueError("name the Space, as in SPACE=owner/name, or write its files only, with DRY=folder")
    if name is not None:
        require_id(name)
    if kind != "page" and hardware.startswith("zero-"):
        raise ValueError(f"{hardware} is for Gradio Spaces only; choose other hardware, or KIND=page")
    with staging(arguments.dry) as folder:
        stage_space(folder, name, kind, hardware)
        report(folder)
        if arguments.dry is None and name is not None:
            upload_space(folder, name, kind, hardware, private=arguments.private, minutes=arguments.minutes)


def stage_space(folder: Path, name: str | None, kind: str, hardware: str) -> None:
    """Write the tree of a Space: the same files for the same repository, whenever and wherever it is written."""
    if kind == "static":
        site = ROOT / "web" / "dist"
        if not (site / "index.html").is_file():
            raise ValueError(f"{site} has no index.html; build the browser edition first: make web")
        shutil.copytree(site, folder, dirs_exist_ok=True)
        carried = sorted(row["name"] for row in json.loads((site / "models.json").read_text(encoding="utf-8")))
        preloaded: list[str] = []
    else:
        for pattern in PARTS[kind]:
            copy_files(ROOT.glob(pattern), folder, left_out=LEFT_OUT[kind])
        carried, preloaded = copy_checkpoints(folder)
        (folder / "requirements.txt").write_text(requirements(kind, hardware), encoding="utf-8")
    if kind == "course":
        (folder / "Dockerfile").write_text(dockerfile(), encoding="utf-8")
    write_attributes(folder)
    (folder / THUMBNAIL).write_bytes(thumbnail(shipped.FOLDER / DEFAULT))
    (folder / "LICENSE.md").write_text(licences([*carried, *preloaded]), encoding="utf-8")
    (folder / CARD).write_text(space_card(name, kind, hardware, preloaded), encoding="utf-8")


def copy_files(paths: Iterable[Path], folder: Path, base: Path = ROOT, left_out: tuple[str, ...] = ()) -> None:
    """Copy the files among some paths to the same place below another folder."""
    for path in paths:
        place = path.relative_to(base)
        if path.is_file() and "__pycache__" not in place.parts and not place.as_posix().startswith(left_out):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / place)


def copy_checkpoints(folder: Path) -> tuple[list[str], list[str]]:
    """Copy checkpoints, their recordings and results; without the weights where the published ones are the same.

    Returns:
        The names of those with weights, among them always the default, and of those without.
    """
    here, names = shipped.FOLDER, shipped.names()
    preloaded = [name for name in names if name != DEFAULT and is_published(name)]
    carried = [name for name in names if name not in preloaded]
    if pointers := shipped.lfs_pointers(here.glob("*/*.safetensors")):
        raise ValueError(f"{pointers[0]} is a Git LFS pointer; run `git lfs install && git lfs pull` first")
    files = [here / name / file for name in names for file in (CONFIG, CARD)]
    files += [here / name / WEIGHTS for name in carried]
    copy_files([*files, *(here / "domain").iterdir(), here / shipped.INDEX], folder / "checkpoints", here)
    for name in names:
        copy_files((ROOT / "results" / name).glob("*.json"), folder)
        copy_files((ROOT / "recordings").glob(f"{name}-[0-9]*.npz"), folder)
    copy_files([ROOT / "recordings" / "hard.json"], folder)
    return carried, preloaded


def is_published(name: str) -> bool:
    """Return whether the Hub has the present weights of a checkpoint, or those that are not here."""
    at, folder = shipped.published().get(name), shipped.FOLDER / name
    return at is not None and (at.sha256 == hub.digest(folder) or not shipped.has_weights(folder))


def requirements(kind: str, hardware: str) -> str:
    """Return requirements.txt of a Space: that of the project without what this kind does not import, and a fixed torch."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    named = {re.split(r"[^\w-]", line, maxsplit=1)[0]: line for line in lines if line and not line.startswith("#")}
    named = {key: line for key, line in named.items() if key not in NOT_NEEDED[kind]}
    named["torch"] = f"torch=={TORCH}"
    if "gradio" in named:
        named["gradio"] = f"gradio[mcp]=={GRADIO}"
    if hardware.startswith("zero-"):
        return "\n".join([*named.values(), "spaces>=0.51,<1"]) + "\n"
    index = [f"--extra-index-url {CPU_INDEX}"] if hardware.startswith("cpu-") else []
    return "\n".join([*index, *named.values()]) + "\n"


def dockerfile() -> str:
    """Return the course's Dockerfile, set up for a Space: in its frame browsers block the cookie of the XSRF protection."""
    text, last = (ROOT / "docker" / "course.Dockerfile").read_text(encoding="utf-8"), "EXPOSE 8501\n"
    assert text.count(last) == 1
    return text.replace(last, f"ENV STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION=false\n{last}")


def space_card(name: str | None, kind: str, hardware: str, preloaded: list[str]) -> str:
    """Return README.md of a Space, with front matter that huggingface_hub reads back unchanged."""
    short, text = WORDS[kind]
    facts: dict[str, Any] = {"emoji": "🩻", "colorFrom": "blue", "colorTo": "green", "short_description": short}
    facts |= {"license_name": "mit-code-weights-as-listed", "license_link": "LICENSE.md", "pinned": False}
    if kind == "page":
        facts |= {"header": "mini", "fullWidth": True}
    if kind == "static":  # threads in WebAssembly need an isolated page
        isolated = {
            "embedder-policy": "require-corp",
            "opener-policy": "same-origin",
            "resource-policy": "cross-origin",
        }
        facts["custom_headers"] = {f"cross-origin-{header}": value for header, value in isolated.items()}
    else:
        facts["suggested_hardware"] = hardware
    if name is not None:
        facts["thumbnail"] = f"https://huggingface.co/spaces/{name}/resolve/main/{THUMBNAIL}"
    at = shipped.published()
    if preloaded:
        files = ",".join((WEIGHTS, CONFIG, CARD))
        facts["preload_from_hub"] = [f"{at[one].repository} {files} {at[one].revision}" for one in preloaded]
    data = SpaceCardData(
        title="MedSegDiff",
        sdk=SDKS[kind],
        sdk_version=GRADIO if kind == "page" else None,
        python_version="3.12" if kind == "page" else None,
        app_file={"page": "app.py", "static": "index.html"}.get(kind),
        app_port=8501 if kind == "course" else None,
        license="other",
        models=[at[one].repository for one in sorted(at)] or None,
        tags=["medical-imaging", "image-segmentation", "diffusion", "uncertainty", "education"],
        **facts,
    )
    warning = "**For research and teaching only.** Not a medical device, not for diagnosis."
    terms = "The code is MIT; every checkpoint has the licence of its data, see [LICENSE.md](LICENSE.md)."
    card = f"---\n{data.to_yaml()}\n---\n\n# MedSegDiff\n\n{text}\n\n{warning}\n\n{terms}\n"
    assert SpaceCard(card).data.to_dict() == data.to_dict()
    return card


def licences(names: list[str]) -> str:
    """Return LICENSE.md of a Space: the licence of the weights of every checkpoint, then that of the code."""
    rows = []
    for name in sorted(names):
        domain = json.loads((shipped.FOLDER / name / CONFIG).read_text(encoding="utf-8"))["domain"]
        rows.append(f"| `{name}` | {domain['source']} | {domain['licence']} |")
    table = "\n".join(["| weights | trained on | licence |", "|---|---|---|", *rows])
    return f"# Weights\n\n{table}\n\n# Code\n\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}"


def upload_space(folder: Path, name: str, kind: str, hardware: str, *, private: bool, minutes: float) -> None:
    """Create or update the Space, wait for the build, and print the address, or the log if it fails.

    Raises:
        ValueError: a repository of this name exists and is another project's.
        RuntimeError: the upload or the build failed.
    """
    hub_ = HfApi()
    address = f"{hub_.endpoint}/spaces/{name}"
    machine = None if kind == "static" else SpaceHardware(hardware)
    with explained(name):
        try:
            hub_.create_repo(
                name, repo_type="space", space_sdk=SDKS[kind], space_hardware=machine, private=private or None
            )
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            files = set(hub_.list_repo_files(name, repo_type="space"))
            if MARKERS[kind] not in files and not files <= {CARD, ".gitattributes"}:
                raise ValueError(
                    f"{address} exists and is no {kind} of this project; choose another name, or delete that Space"
                ) from error
        hub_.upload_folder(
            repo_id=name, repo_type="space", folder_path=folder, delete_patterns="*", commit_message="Deploy"
        )
        if machine is not None and hub_.get_space_runtime(name).requested_hardware not in (None, machine):
            hub_.request_space_hardware(name, machine)
        print(f"{address} is uploaded; building", flush=True)
        runtime = hub_.wait_for_space(name, timeout=60 * minutes, poll_interval=2)
    if runtime.stage != "RUNNING":
        build = runtime.stage in ("BUILDING", "BUILD_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
        with explained(name):
            log = list(hub_.fetch_space_logs(name, build=build))
        sys.stderr.writelines(log[-100:])
        raise RuntimeError(f"{address} ended as {runtime.stage}; the log is above")
    print(f"{address} is running")


# ---------------------------------------------------------------------------------------------------------- models


def deploy_models(arguments: argparse.Namespace) -> None:
    """Stage the model repositories and, unless it is a dry run, upload them and record their commits in hub.json."""
    names = arguments.checkpoint or [name for name in shipped.names() if shipped.has_weights(shipped.FOLDER / name)]
    for name in names:
        repository = f"{arguments.owner}/medsegdiff-{name}"
        require_id(repository)
        with staging(None if arguments.dry is None else arguments.dry / name) as folder:
            stage_model(folder, name, repository)
            report(folder)
            if arguments.dry is None:
                with explained(repository):
                    commit = hub.push(folder, repository, private=arguments.private or None, message=f"Publish {name}")
                rows = shipped.published() | {name: shipped.Published(repository, commit.oid, hub.digest(folder) or "")}
                shipped.write_index(rows)
                print(f"{HfApi().endpoint}/{repository} at {commit.oid}", flush=True)


def stage_model(folder: Path, name: str, repository: str) -> None:
    """Write the tree of a model repository: weights, config.json, a thumbnail, and the card with the name it has there."""
    source = hub.weights_of(shipped.FOLDER / name)
    hub.copy(source, folder)
    write_attributes(folder)
    (folder / THUMBNAIL).write_bytes(thumbnail(source))
    card = ModelCard((shipped.FOLDER / name / CARD).read_text(encoding="utf-8"))
    card.data["thumbnail"] = f"https://huggingface.co/{repository}/resolve/main/{THUMBNAIL}"
    title, _, rest = card.text.strip().partition("\n")
    picture = f"![A synthetic example, and the mask of this model on it]({THUMBNAIL})"
    text = f"---\n{card.data.to_yaml()}\n---\n\n{title}\n\n{picture}\n{rest}\n"
    (folder / CARD).write_text(hub.addressed(text, repository), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- common


def thumbnail(folder: Path) -> bytes:
    """Segment a synthetic example, and return it beside itself with mask and ground truth, as PNG."""
    from app.inputs.images import phantom
    from app.views import paint
    from medsegdiff import RunSettings, Segmenter

    segmenter = Segmenter.from_pretrained(folder, device="cpu")
    example = phantom(3, segmenter.domain.task)
    result = segmenter(example.picture, RunSettings(members=5, steps=10, seed=0))
    image = example.opening.picture
    masks = [paint.fit(mask, image.shape[:2], smooth=False) for mask in (result.labels, *example.opening.reference[:1])]
    tiles = [image, paint.on_picture(image, masks[0], masks[1:])]
    held = io.BytesIO()
    Image.fromarray(np.concatenate([paint.fit(tile, (384, 384)) for tile in tiles], 1)).save(held, "PNG", optimize=True)
    return held.getvalue()


def write_attributes(folder: Path) -> None:
    """Write .gitattributes: on the Hub every binary file is stored by LFS, while this repository has no LFS."""
    lines = (f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LFS)
    (folder / ".gitattributes").write_text("".join(lines), encoding="utf-8")


@contextmanager
def staging(dry: Path | None) -> Iterator[Path]:
    """Give an empty folder: the one of a dry run, or a temporary one.

    Raises:
        ValueError: the folder holds something else than what an earlier dry run wrote.
    """
    if dry is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    if dry.exists() and any(dry.iterdir()):
        if not (dry / ".gitattributes").is_file() or (dry / ".git").exists():
            raise ValueError(f"{dry} holds other files; choose an empty folder for DRY")
        shutil.rmtree(dry)
    dry.mkdir(parents=True, exist_ok=True)
    yield dry


def report(folder: Path) -> None:
    """Print what was staged."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{folder}: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB", flush=True)


def require_id(repository: str) -> None:
    """Check the name of a repository."""
    validate_repo_id(repository)
    if repository.count("/") != 1:
        raise ValueError(f"{repository!r} is no repository of the Hub; write owner/name")


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Turn what the Hub's client raises into a sentence that says what to do."""
    try:
        yield
    except ValueError:
        raise
    except Exception as error:  # the client's transport errors have no common public base class
        raise RuntimeError(reason(repository, error)) from error


def reason(repository: str, error: Exception) -> str:
    """Say why something failed on the Hub, and what to do."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    said = str(error).strip().splitlines()[-1].rstrip(".") if str(error).strip() else type(error).__name__
    cases: dict[int | None, Callable[[], str]] = {
        401: lambda: "the Hub did not accept the token; log in with `hf auth login`, or set HF_TOKEN",
        402: lambda: "this hardware needs a paid plan; choose other HARDWARE, or KIND=static, which is free",
        403: lambda: (
            f"the token may not write there; use a token with write permission for {repository.partition('/')[0]}"
        ),
    }
    if isinstance(error, LocalTokenNotFoundError):
        status = 401
    if status in cases:
        return f"{repository}: {cases[status]()}"
    if isinstance(error, TimeoutError):
        return f"{repository}: {said}. It goes on building; look at its page"
    return f"{repository}: {said}; run the same command again, what has arrived is not sent twice"


if __name__ == "__main__":
    sys.exit(main())
