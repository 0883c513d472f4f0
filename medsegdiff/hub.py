"""Find checkpoints: a folder, a shipped name, or a repository on the Hugging Face Hub.

Local copies are used first: folders, shipped checkpoints, then the Hub client's cache, without any request. A shipped name
whose weights are not here stands for the commit it was published as (`medsegdiff.shipped`). Otherwise one request gets the
repository's list of files and their sizes, and three files are downloaded. Both have a time limit: the result is a folder, or a
HubError within that limit.

    resolve("runs/mine")    resolve("v2-tiny")    resolve("owner/name")    resolve("owner/name@<commit>")

A branch such as `main` can change; its cached copy is updated only with `refresh`, and files with the same ETag are not
downloaded again. A full commit hash never changes.

References:
    huggingface_hub, https://huggingface.co/docs/huggingface_hub
"""

import json
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    HfApi,
    ModelCard,
    ModelInfo,
    scan_cache_dir,
    snapshot_download,
)
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from medsegdiff import shipped as here
from medsegdiff.checkpoint import CARD, CONFIG, CONFIG_BYTES, PICKLES, WEIGHTS, CheckpointError, load

__all__ = [
    "Held",
    "HubError",
    "addressed",
    "begun",
    "cached",
    "copy",
    "digest",
    "find",
    "push",
    "resolve",
    "shipped",
    "weights_of",
]

_T = TypeVar("_T")

_REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILES = [WEIGHTS, CONFIG, CARD]
_PUBLISHED = [*_FILES, "thumbnail.png"]  # uploaded where they exist
_COMMIT = re.compile("[0-9a-f]{40}")


class HubError(CheckpointError):
    """A repository could not be loaded. The code is "hub.STATE" or "hub.STATE.DETAIL"."""

    @property
    def state(self) -> str:
        """The kind of failure: offline, missing, gated, format, pickle, size, time or broken."""
        return self.code.split(".")[1]


@dataclass(frozen=True, slots=True)
class Held:
    """One commit of a repository in the client's cache."""

    repository: str
    commit: str
    branches: tuple[str, ...]  # and tags that pointed to this commit when it was downloaded
    folder: Path
    size: int  # bytes
    sha256: str  # of the weights, according to config.json; verified on loading


def shipped() -> list[str]:
    """Return the names of the shipped checkpoints."""
    return here.names()


def resolve(
    source: str,
    revision: str | None = None,
    *,
    cache: Path | None = None,
    endpoint: str | None = None,
    seconds: float = 8.0,
    longest: float = 1800.0,
    most: int | None = None,
    refresh: bool = False,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Return the folder of a checkpoint for `checkpoint.load`, downloading it if necessary.

    Arguments:
        source: a folder, the name of a shipped checkpoint, or "owner/name" on the Hub, also "owner/name@revision".
        revision: commit, branch or tag; if given, `source` must be a repository. Default: main.
        cache: folder of the Hub client's cache; by default the client's own.
        endpoint: address of the Hub; by default the client's own.
        seconds: time limit for the Hub's first response.
        longest: time limit for the download, in seconds.
        most: largest download in bytes; by default unlimited.
        refresh: check the Hub even if a branch is in the cache; the cached copy is used if the Hub does not respond.
        token: as in huggingface_hub: a token, False for none, by default that of `hf auth login`.
        local_files_only: make no request; only what is on this machine is used.
        force_download: download again what is in the cache.

    Raises:
        HubError: it could not be loaded from the Hub; see `state`.
        CheckpointError: `source` is neither a folder, a shipped name nor a repository id.
    """
    if revision is None:
        if Path(source).is_dir():
            return Path(source)
        source = here.FORMER_NAMES.get(source, source)
        if source in shipped():
            if here.has_weights(folder := here.FOLDER / source):
                return folder
            return _fetch_published(source, cache, endpoint, seconds, longest, token, local_files_only)
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
        token=token,
    )
    held = None
    with suppress(LocalEntryNotFoundError):  # not cached, or incomplete
        folder = Path(fetch(local_files_only=True))
        held = folder if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file() else None
    if held and not force_download and (local_files_only or not refresh or _COMMIT.fullmatch(wanted)):
        return held
    if local_files_only:
        raise HubError(
            "hub.offline.local_only",
            "{repository} is not on this machine; leave out local_files_only to download it",
            repository=repository,
        )
    try:
        _require_weights(_ask(HfApi(endpoint=endpoint, token=token), repository, wanted, seconds), repository, most)
    except HubError as error:
        if held and error.state in ("offline", "broken"):
            return held
        raise
    download = partial(fetch, force_download=force_download)
    return _within(longest, lambda: Path(download()), partial(_unfetched, repository, longest))


def _fetch_published(
    name: str,
    cache: Path | None,
    endpoint: str | None,
    seconds: float,
    longest: float,
    token: str | bool | None,
    local_files_only: bool,
) -> Path:
    """Download a shipped checkpoint whose weights are not here, and compare the digest with the one in config.json here."""
    at = here.published()[name]
    folder = resolve(
        at.repository,
        at.revision,
        cache=cache,
        endpoint=endpoint,
        seconds=seconds,
        longest=longest,
        token=token,
        local_files_only=local_files_only,
    )
    expected, found = digest(here.FOLDER / name), digest(folder)
    if found != expected:
        raise HubError(
            "hub.broken.digest",
            "{repository} has the weights {found} at commit {commit}, but {name} here has {expected}; "
            "install the version that published it",
            repository=at.repository,
            commit=at.revision[:12],
            name=name,
            found=str(found)[:12],
            expected=str(expected)[:12],
        )
    return folder


def weights_of(folder: Path, longest: float = 1800.0) -> Path:
    """Return the folder with the weights of a shipped checkpoint: this one, or the published copy, downloaded if need be."""
    if here.has_weights(folder) or folder.parent != here.FOLDER:
        return folder
    return resolve(folder.name, longest=longest)


def _ask(hub: HfApi, repository: str, revision: str, seconds: float) -> ModelInfo:
    """Return the repository's list of files with their sizes.

    The client's own timeout restarts for each address of a host and does not cover the name look-up, so the request runs in a
    thread that can be abandoned.
    """
    question = partial(hub.model_info, repository, revision=revision, timeout=seconds, files_metadata=True)
    return _within(seconds, question, partial(_unanswered, repository, revision, hub.endpoint))


def begun(call: Callable[[], _T]) -> "Future[_T]":
    """Start a call in a daemon thread and return its future."""
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer


def _within(seconds: float, call: Callable[[], _T], reason: Callable[[Exception], HubError]) -> _T:
    """Call in a daemon thread and wait at most so many seconds."""
    try:
        return begun(call).result(seconds)
    except Exception as error:  # the client's transport errors have no common public base class
        raise reason(error) from error


def _unfetched(repository: str, longest: float, error: Exception) -> HubError:
    if isinstance(error, TimeoutError):
        return HubError(
            "hub.time",
            "{repository} takes longer than {seconds} s; the download continues; try again later",
            repository=repository,
            seconds=round(longest),
        )
    reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
    return HubError(
        "hub.broken.download",
        "{repository} could not be fetched whole ({reason}); try again",
        repository=repository,
        reason=reason,
    )


def _unanswered(repository: str, revision: str, endpoint: str, error: Exception) -> HubError:
    match error:
        case GatedRepoError():
            return HubError(
                "hub.gated",
                "{repository} is gated; accept its terms on {address} and log in with `hf auth login`",
                repository=repository,
                address=f"{endpoint}/{repository}",
            )
        case RepositoryNotFoundError():
            return HubError(
                "hub.missing.repository",
                "{repository} is neither a folder here nor a repository on {endpoint}; "
                "check the spelling, or log in with `hf auth login` if it is private",
                repository=repository,
                endpoint=endpoint,
            )
        case RevisionNotFoundError():
            commits = f"{endpoint}/{repository}/commits/main"
            return HubError(
                "hub.missing.revision",
                "{repository} has no revision {revision}; choose one from {commits}",
                repository=repository,
                revision=repr(revision),
                commits=commits,
            )
        case HfHubHTTPError():
            return HubError(
                "hub.broken.answer",
                "{endpoint} answered {status} when asked for {repository}; try again later",
                endpoint=endpoint,
                status=error.response.status_code,
                repository=repository,
            )
        case OfflineModeIsEnabled():
            return HubError(
                "hub.offline.variable",
                "{repository} is not on this machine and HF_HUB_OFFLINE is set; unset it or name a folder",
                repository=repository,
            )
        case _:
            return HubError(
                "hub.offline.no_answer",
                "{repository} is not on this machine and {endpoint} did not answer ({what}); "
                "connect and try again, or name a folder",
                repository=repository,
                endpoint=endpoint,
                what=type(error).__name__,
            )


def _require_weights(info: ModelInfo, repository: str, most: int | None) -> None:
    held = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    if missing := [name for name in (WEIGHTS, CONFIG) if name not in held]:
        pickles = sorted(name for name in held if name.lower().endswith(PICKLES))
        facts = {"repository": repository, "file": missing[0], "files": str(_FILES[:2])}
        if pickles:
            raise HubError(
                "hub.pickle",
                "{repository} has no {file} but {pickle}, a pickle, which may run code and is not opened; "
                "choose a repository that holds {files}",
                **facts,
                pickle=pickles[0],
            )
        raise HubError("hub.format", "{repository} has no {file}; choose a repository that holds {files}", **facts)
    size = sum(held.get(name, 0) for name in _FILES)
    if most is not None and size > most:
        raise HubError(
            "hub.size",
            "{repository} has {size} MB, more than the limit of {most} MB; choose a smaller checkpoint",
            repository=repository,
            size=round(size / 1e6),
            most=round(most / 1e6),
        )


def cached(cache: Path | None = None) -> tuple[Held, ...]:
    """List the checkpoints in the Hub client's cache, by repository, most recently used first; makes no request."""
    try:
        repositories = sorted(scan_cache_dir(cache).repos, key=lambda repo: repo.repo_id)
    except CacheNotFound:
        return ()
    return tuple(
        Held(repo.repo_id, one.commit_hash, tuple(sorted(one.refs)), one.snapshot_path, one.size_on_disk, digest)
        for repo in repositories
        if repo.repo_type == "model"
        for one in sorted(repo.revisions, key=lambda one: one.last_modified, reverse=True)
        if (digest := _promised(one.snapshot_path)) is not None
    )


def find(sha256: str, cache: Path | None = None) -> Path | None:
    """Return the folder of a shipped or cached checkpoint with this digest of the weights, or None."""
    folders = [*(here.FOLDER / name for name in shipped()), *(held.folder for held in cached(cache))]
    return next((folder for folder in folders if _promised(folder) == sha256), None)


def _promised(folder: Path) -> str | None:
    """Return the digest of the weights in a folder; None if there is no checkpoint."""
    return digest(folder) if here.has_weights(folder) else None


def digest(folder: Path) -> str | None:
    """Return the sha256 that a config.json states; None if it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        if (folder / CONFIG).stat().st_size <= CONFIG_BYTES:
            return str(json.loads((folder / CONFIG).read_bytes())["weights"]["sha256"])
    return None


def copy(folder: Path, target: Path) -> None:
    """Copy the files of a checkpoint that belong in a repository."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _PUBLISHED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def addressed(card: str, repository: str) -> str:
    """Return a model card whose code and commands load the checkpoint from a repository instead of by its name here.

    Raises:
        CheckpointError: the YAML at its beginning cannot be read.
    """
    try:
        name = ModelCard(card, ignore_metadata_errors=True).data.get("model_name")
    except Exception as error:  # of the YAML parser, whose errors are no ValueErrors
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the YAML at the beginning of {CARD} cannot be read ({reason}); correct it") from error
    if not name:
        return card
    card = card.replace(f'from_pretrained("{name}")', f'from_pretrained("{repository}")')
    return card.replace(f"--checkpoint {name} ", f"--checkpoint {repository} ")


def push(
    folder: Path | str,
    repository: str,
    *,
    private: bool | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
) -> CommitInfo:
    """Upload weights, config.json, model card and thumbnail of a checkpoint to the Hub, and return the commit.

    In the card's code and commands the checkpoint has the name of the repository (`addressed`).

    The commit is a string, its address, with the hash as `oid`.

    Arguments:
        folder: of the checkpoint.
        repository: owner/name; created if it does not exist.
        private: whether a new repository is private.
        endpoint: address of the Hub; by default the client's own.
        token: by default that of `hf auth login`.
        branch: to commit to; by default main.
        create_pr: open a pull request instead of committing.
        message: of the commit.

    Raises:
        CheckpointError: the folder does not load, has no model card, or `repository` is not owner/name.
            Also if nobody is logged in, without permission to write, and without network.
    """
    match = _REPOSITORY.fullmatch(repository)
    if match is None or match["revision"]:
        raise CheckpointError(f"{repository!r} is not the name of a repository; give owner/name, as in me/my-model")
    load(folder)  # never upload a checkpoint that does not load
    files = {name: path for name in _PUBLISHED if (path := Path(folder) / name).is_file()}
    if CARD not in files:
        raise CheckpointError(f"{folder} has no {CARD}; write the model card first: python -m medsegdiff card {folder}")
    card = addressed(files[CARD].read_text(encoding="utf-8"), repository)
    hub = HfApi(endpoint=endpoint, token=token)
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        return hub.create_commit(
            repo_id=repository,
            operations=[
                CommitOperationAdd(name, card.encode() if name == CARD else path) for name, path in files.items()
            ],
            commit_message=message or f"Upload {Path(folder).name}",
            revision=branch,
            create_pr=create_pr,
        )
    except Exception as error:  # the client's transport errors have no common public base class
        raise _unsent(repository, hub.endpoint, error) from error


def _unsent(repository: str, endpoint: str, error: Exception) -> CheckpointError:
    match error:
        case LocalTokenNotFoundError():
            return CheckpointError(f"nobody is logged in to {endpoint}; log in with `hf auth login`")
        case HfHubHTTPError() if (code := error.response.status_code) in (401, 403):
            login = "log in with `hf auth login` and a token that may write there"
            return CheckpointError(f"{endpoint} refused {repository} ({code}); {login}")
        case HfHubHTTPError():
            return CheckpointError(f"{endpoint} answered {error.response.status_code} to the upload; try again later")
        case OfflineModeIsEnabled():
            return CheckpointError("HF_HUB_OFFLINE is set, so nothing was uploaded; unset it")
        case RuntimeError():  # one file of several
            reason = str(error).rstrip(".")
            return CheckpointError(f"{repository} was not uploaded whole ({reason}); try again, only the rest is sent")
        case _:
            return CheckpointError(
                f"{repository} was not uploaded: {endpoint} did not answer ({type(error).__name__}); try again"
            )
