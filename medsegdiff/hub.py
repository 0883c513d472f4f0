"""Where a checkpoint lies: in a folder, among those shipped, or in a repository of the Hugging Face Hub.

What is on this machine is asked first; a repository once fetched is found in the client's cache without any request.
Else the Hub is asked one short question (is it there, and what does it hold?) and then for three files, by name.

    resolve("runs/mine")    resolve("v2-tiny")    resolve("owner/name")    resolve("owner/name@<commit>")

A branch such as `main` moves on, and its cached copy does not follow; a commit, named in full, is the same for ever.

References:
    huggingface_hub, https://huggingface.co/docs/huggingface_hub
"""

import re
import threading
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from medsegdiff.checkpoint import CARD, CONFIG, PICKLES, WEIGHTS, CheckpointError, load

__all__ = ["push", "resolve", "shipped"]

_SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILES = [WEIGHTS, CONFIG, CARD]


def shipped() -> list[str]:
    """Name the checkpoints that come with the project."""
    return sorted(path.parent.name for path in _SHIPPED.glob(f"[!.]*/{CONFIG}"))


def resolve(
    source: str,
    revision: str | None = None,
    *,
    cache: Path | None = None,
    endpoint: str | None = None,
    seconds: float = 8.0,
) -> Path:
    """Find the folder of a checkpoint, fetching it if need be; `checkpoint.load` then reads it.

    Arguments:
        source: a folder, the name of a shipped checkpoint, or "owner/name" on the Hub, also "owner/name@revision".
        revision: commit, branch or tag; given, only the Hub is meant. Default: main.
        cache: folder of the Hub client's cache; by default the client's own.
        endpoint: address of the Hub; by default the client's own.
        seconds: how long the Hub may take to answer at all.

    Raises:
        CheckpointError: nothing is there, or it could not be fetched whole.
    """
    if revision is None:
        if Path(source).is_dir():
            return Path(source)
        if source in shipped():
            return _SHIPPED / source
    match = _REPOSITORY.fullmatch(source)
    if match is None:
        known = ", ".join(shipped()) or "none is shipped"
        raise CheckpointError(
            f"{source!r} is no folder, no shipped checkpoint ({known}) and no owner/name; check the path"
        )
    if revision and match["revision"]:
        raise CheckpointError(f"{source!r} already names a revision; drop it or the other one, {revision!r}")
    repository, wanted = str(match["name"]), str(revision or match["revision"] or "main")
    fetch = partial(
        snapshot_download,
        repository,
        revision=wanted,
        cache_dir=cache,
        endpoint=endpoint,
        etag_timeout=seconds,
        allow_patterns=_FILES,
    )
    try:
        folder = Path(fetch(local_files_only=True))
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
            return folder
    except LocalEntryNotFoundError:
        pass  # not on this machine, or not all of it

    _require_weights(_ask(HfApi(endpoint=endpoint), repository, wanted, seconds), repository)
    try:
        return Path(fetch())
    except Exception as error:  # the client's transport errors share no public base
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
        raise CheckpointError(f"{repository} could not be fetched whole ({reason}); try again") from error


def _ask(hub: HfApi, repository: str, revision: str, seconds: float) -> ModelInfo:
    """Ask what the repository holds, and wait no longer than this.

    The client's own limit counts anew for each address of a host and leaves out the name look-up, and its downloads
    retry for half a minute; so the question has a thread of its own that may be left behind.
    """
    answer: Future[ModelInfo] = Future()

    def question() -> None:
        try:
            answer.set_result(hub.model_info(repository, revision=revision, timeout=seconds))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=question, daemon=True).start()
    try:
        return answer.result(seconds)
    except Exception as error:  # the client's transport errors share no public base
        raise CheckpointError(_sentence(error, repository, revision, hub.endpoint)) from error


def _sentence(error: Exception, repository: str, revision: str, endpoint: str) -> str:
    match error:
        case GatedRepoError():
            return f"{repository} is gated; accept its terms on {endpoint}/{repository} and log in with `hf auth login`"
        case RepositoryNotFoundError():
            return (
                f"{repository} is neither a folder here nor a repository on {endpoint}; "
                "check the spelling, or log in with `hf auth login` if it is private"
            )
        case RevisionNotFoundError():
            return f"{repository} has no revision {revision!r}; choose one from {endpoint}/{repository}/commits/main"
        case HfHubHTTPError():
            return f"{endpoint} answered {error.response.status_code} when asked for {repository}; try again later"
        case OfflineModeIsEnabled():
            return f"{repository} is not on this machine and HF_HUB_OFFLINE is set; unset it or name a folder"
        case _:
            return (
                f"{repository} is not on this machine and {endpoint} did not answer ({type(error).__name__}); "
                "connect and try again, or name a folder"
            )


def _require_weights(info: ModelInfo, repository: str) -> None:
    held = {file.rfilename for file in info.siblings or ()}
    if missing := [name for name in (WEIGHTS, CONFIG) if name not in held]:
        pickles = sorted(name for name in held if name.lower().endswith(PICKLES))
        reason = f" but {pickles[0]}, a pickle, which may run code and is not opened" if pickles else ""
        raise CheckpointError(f"{repository} has no {missing[0]}{reason}; choose a repository that holds {_FILES[:2]}")


def push(folder: Path | str, repository: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Publish a checkpoint's three files on the Hub, and return the commit to name it by.

    The client's own errors (no login, no right to write) pass through.

    Raises:
        CheckpointError: the folder does not load, or has no model card.
    """
    load(folder)  # what does not load here will not load there
    if not (Path(folder) / CARD).is_file():
        raise CheckpointError(f"{folder} has no {CARD}; write the model card before publishing")
    hub = HfApi(endpoint=endpoint)
    hub.create_repo(repository, private=private, exist_ok=True)
    return hub.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=_FILES).oid
