"""Save and load checkpoints: one folder per model.

    model.safetensors    the weights; the format cannot hold executable code
    config.json          network, diffusion (a plain U-Net has none), domain, how it was trained, sha256 of the weights
    README.md            the model card

Loading is strict: a tensor that is missing, unknown or of the wrong shape is an error that names it, because a network with one
tensor left at its random initial value would still produce masks. Saving ends with loading the files again:

    load(save(m)) = m        bit for bit in float32; in float16 every weight is rounded once

Pickle files are refused, since unpickling can execute code.

References:
    safetensors, https://huggingface.co/docs/safetensors
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from medsegdiff.config import DiffusionConfig, Domain, ModelConfig, UNetConfig, V1Config, V2Config
from medsegdiff.errors import InputError
from medsegdiff.nn.build import Network, build
from medsegdiff.shipped import CARD, CONFIG, WEIGHTS, lfs_pointers

__all__ = [
    "CARD",
    "CONFIG",
    "CONFIG_BYTES",
    "PICKLES",
    "WEIGHTS",
    "Checkpoint",
    "CheckpointError",
    "load",
    "read_config",
    "save",
]

PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")

_FORMAT = 1
# Of the domain: left out where they have their default, so that older versions read the file.
_OPTIONAL = ("channels", "axis", "intensity", "temperature", "fuse")
_DEFAULTS = Domain(task="", modality="", labels=())
CONFIG_BYTES = 2**20
_KINDS: dict[str, type[ModelConfig]] = {"v1": V1Config, "v2": V2Config, "unet": UNetConfig}
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


class CheckpointError(InputError):
    """A checkpoint is damaged, incomplete or inconsistent; the message has the problem and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The entry of config.json that describes model.safetensors."""

    sha256: str  # of the whole file
    dtype: Literal["float16", "float32"]  # of every floating-point tensor in the file
    parameters: int  # learned numbers; buffers are not counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A loaded model with its configuration and metadata."""

    model: Network  # in eval mode, float32
    model_config: ModelConfig
    diffusion: DiffusionConfig  # the default for a plain U-Net
    domain: Domain
    training: dict[str, Any]  # facts for people: preset, command, seed, data, metrics ...
    digest: str  # sha256 of the weights
    folder: Path

    @property
    def name(self) -> str:
        """The name of the folder; for RUN/checkpoint and RUN/best, which every training writes, that of RUN."""
        folder = self.folder.absolute()
        return folder.parent.name if folder.name in ("checkpoint", "best") else folder.name


def save(
    folder: Path | str,
    model: nn.Module,
    *,
    model_config: ModelConfig,
    diffusion: DiffusionConfig,
    domain: Domain,
    training: dict[str, Any],
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write weights and config.json, check that they load, and return the sha256 of the weights.

    Existing files are replaced only once the new ones are complete; README.md is never changed. `training` may hold any JSON
    values (tuples come back as lists). `dtype` is that of the file: float32, or float16 for half the size. `diffusion` is not
    written for a plain U-Net.

    Raises:
        CheckpointError: model and configs do not belong together, or a number is not finite.
    """
    folder = Path(folder)
    precision = next((name for name, known in _DTYPES.items() if known == dtype), str(dtype))
    data = safetensors.torch.save({name: _stored(tensor, dtype) for name, tensor in model.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    kind = next(kind for kind, known in _KINDS.items() if isinstance(model_config, known))
    config: dict[str, Any] = {
        "format": _FORMAT,
        "kind": kind,
        "model": asdict(model_config),
        **({} if kind == "unet" else {"diffusion": asdict(diffusion)}),
        "domain": {
            key: value
            for key, value in asdict(domain).items()
            if key not in _OPTIONAL or value != getattr(_DEFAULTS, key)
        },
        "training": training,
        "weights": {"sha256": digest, "dtype": precision, "parameters": _count(model)},
    }
    try:
        text = json.dumps(config, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"JSON cannot hold these facts ({error}); use finite numbers, strings and lists"
        ) from error

    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as draft:
        (Path(draft) / WEIGHTS).write_bytes(data)
        (Path(draft) / CONFIG).write_text(text + "\n", encoding="utf-8")
        try:
            _read(Path(draft), "cpu")
        except CheckpointError as error:
            raise CheckpointError(f"nothing was saved, for it could not be loaded again: {error}") from error.__cause__
        folder.mkdir(exist_ok=True)
        for name in (WEIGHTS, CONFIG):  # after a crash in between, the digest does not match and loading fails
            os.replace(Path(draft) / name, folder / name)
    return digest


def load(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a checkpoint folder, without any network access.

    Raises:
        CheckpointError: a file, key or tensor is missing, unknown, damaged or of the wrong type.
    """
    try:
        return _read(Path(folder), device)
    except CheckpointError as error:
        error.where = str(folder)
        raise


def read_config(folder: Path | str) -> dict[str, Any]:
    """Read config.json alone, as records: `kind`, `model`, `diffusion`, `domain`, `training`, `weights`.

    Raises:
        CheckpointError: it is missing, or a key is missing, unknown or of the wrong type.
    """
    path = Path(folder) / CONFIG
    try:
        if not path.is_file():
            raise _damaged(f"{CONFIG} is missing")
        return _read_config(path.read_bytes())
    except CheckpointError as error:
        error.where = str(folder)
        raise


def _read(folder: Path, device: torch.device | str, *, again: bool = True) -> Checkpoint:
    _require_files(folder)
    config = _read_config((folder / CONFIG).read_bytes())
    _require_header(folder / WEIGHTS, config["model"])
    data = (folder / WEIGHTS).read_bytes()  # once, so that what is hashed is what is loaded
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise _damaged(f"{WEIGHTS} is cut short ({error})") from error
    digest, promised = hashlib.sha256(data).hexdigest(), config["weights"].sha256
    if digest != promised:
        if again:  # a training may have replaced both files between the two reads
            time.sleep(0.1)
            return _read(folder, device, again=False)
        raise _damaged(f"{WEIGHTS} has the sha256 {digest[:12]}... but {CONFIG} promises {promised[:12]}...")
    with torch.random.fork_rng(devices=[]):  # initial weights are all replaced; leave the global generator as it was
        model = build(config["model"])
    _require_fit(tensors, model, config["weights"])
    model.load_state_dict(tensors, strict=True)
    return Checkpoint(
        model=model.eval().to(device),
        model_config=config["model"],
        diffusion=config["diffusion"],
        domain=config["domain"],
        training=config["training"],
        digest=digest,
        folder=folder,
    )


def _damaged(detail: str) -> CheckpointError:
    return CheckpointError(
        "checkpoint.damaged",
        "{detail}; fetch both files again from one place (delete a cached copy first)",
        detail=detail,
    )


def _wrong_type(detail: str, expected: str) -> CheckpointError:
    return CheckpointError("checkpoint.type", "{detail}; expected {expected}", detail=detail, expected=expected)


def _disagreement(detail: str) -> CheckpointError:
    return CheckpointError("checkpoint.disagreement", "{detail}; make the two agree", detail=detail)


def _not_finite(name: str) -> NoReturn:
    raise CheckpointError("checkpoint.number", "{detail}; use finite numbers", detail=f"{CONFIG} holds {name}")


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kept = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", kept, copy=True).contiguous()  # a copy: safetensors refuses tensors that are tied


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _listed(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return f"{first!r} and {len(others)} more" if others else repr(first)


def _require_files(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError("checkpoint.folder", "there is no such folder; check the path")
    if (folder / CONFIG).is_file() and (folder / CONFIG).stat().st_size > CONFIG_BYTES:
        raise _damaged(f"{CONFIG} is larger than {CONFIG_BYTES >> 20} MiB")
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    pickles = [path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES]
    if WEIGHTS in missing and pickles:
        raise CheckpointError(
            "checkpoint.pickle",
            "{pickle} is a pickle, which may run code and is not opened; provide {file} instead",
            pickle=_listed(pickles),
            file=WEIGHTS,
        )
    if missing:
        raise _damaged(f"{missing[0]} is missing")
    if lfs_pointers([folder / WEIGHTS]):
        raise CheckpointError(
            "checkpoint.lfs_pointer",
            "{file} is a Git LFS pointer, not the weights; run `git lfs install && git lfs pull` in the repository",
            file=WEIGHTS,
        )


def _require_header(path: Path, config: ModelConfig) -> None:
    """Compare the file's table of tensors with the network, before memory is taken for either."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no dict
    except (SafetensorError, OSError) as error:
        raise _damaged(f"{WEIGHTS} is cut short ({error})") from error
    try:
        with torch.device("meta"):
            model = build(config)
    except (RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        raise _damaged(f"{CONFIG} describes a network that cannot be built ({error})") from error
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _require_names(wanted.keys(), found.keys())
    for name, shape in wanted.items():
        if found[name] != shape:
            raise _damaged(f"{name} has the shape {found[name]}, this network expects {shape}")


def _require_names(wanted: AbstractSet[str], found: AbstractSet[str]) -> None:
    if missing := wanted - found:
        raise _damaged(f"{WEIGHTS} lacks {_listed(missing)}, which this network needs")
    if surplus := found - wanted:
        raise _damaged(f"{WEIGHTS} holds {_listed(surplus)}, which this network does not have")


def _require_fit(tensors: dict[str, Tensor], model: nn.Module, weights: Weights) -> None:
    """Compare types with the network's own, and look at every number; `_require_header` has compared names and shapes."""
    for name, own in model.state_dict().items():
        tensor = tensors[name]
        dtype = _DTYPES[weights.dtype] if own.is_floating_point() else own.dtype
        if tensor.dtype != dtype:
            raise _damaged(f"{name} is stored as {tensor.dtype}, {CONFIG} promises {dtype}")
        if not tensor.isfinite().all():
            raise CheckpointError(
                "checkpoint.not_finite",
                "{tensor} holds a number that is not finite; use earlier weights, or float32 if values exceed the range of "
                "float16",
                tensor=name,
            )
    if _count(model) != weights.parameters:
        raise _damaged(f"this network has {_count(model)} parameters, {CONFIG} promises {weights.parameters}")


def _read_config(data: bytes) -> dict[str, Any]:
    """Parse config.json; every key is required and unknown keys are errors, except in `training`."""
    try:
        config = json.loads(data, parse_constant=_not_finite)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:  # also of an integer of thousands of digits
        raise _damaged(f"{CONFIG} is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise _wrong_type(f"{CONFIG} is {_shown(config)}", "an object")
    if config.get("format") != _FORMAT:
        raise CheckpointError(
            "checkpoint.format",
            "{detail}; this version of the project reads {format}",
            detail=f"{CONFIG} has the format {config.get('format')!r}",
            format=_FORMAT,
        )
    kind = _typed(Literal[*_KINDS], config.get("kind"), "kind")
    hints = {"format": int, "kind": str, "model": _KINDS[kind], "domain": Domain, "training": dict, "weights": Weights}
    hints |= {} if kind == "unet" else {"diffusion": DiffusionConfig}
    config = _members(hints, config, "")
    config.setdefault("diffusion", DiffusionConfig())
    _require_agreement(config["model"], config["diffusion"], config["domain"])
    return config


def _require_agreement(model: ModelConfig, diffusion: DiffusionConfig, domain: Domain) -> None:
    for what, count, expected in (
        ("domain.labels", len(domain.labels), model.classes),
        ("domain.mean", len(domain.mean) or model.image_channels, model.image_channels),  # may be left empty
        ("domain.std", len(domain.std) or model.image_channels, model.image_channels),
    ):
        if count != expected:
            raise _disagreement(f"{CONFIG}: {what} has {count} entries, the model expects {expected}")
    if not isinstance(model, UNetConfig) and diffusion.learned_variance != model.learned_variance:
        raise _disagreement(f"{CONFIG}: diffusion.learned_variance and model.learned_variance differ")


def _members(hints: dict[str, Any], value: object, where: str) -> dict[str, Any]:
    """Return a JSON object after checking that it has exactly these keys."""
    if not isinstance(value, dict):
        raise _wrong_type(f"{CONFIG}: {where.removesuffix('.')} is {_shown(value)}", "an object")
    if unknown := sorted(value.keys() - hints.keys()):
        raise CheckpointError(
            "checkpoint.unknown_key",
            "{detail}; remove it, or install the version that wrote it",
            detail=f"{CONFIG} has the unknown key {where + unknown[0]!r}",
        )
    if missing := sorted(hints.keys() - value.keys()):
        raise CheckpointError(
            "checkpoint.missing_key",
            "{detail}; add it, or install the version that wrote the file",
            detail=f"{CONFIG} lacks the key {where + missing[0]!r}",
        )
    return {key: _typed(hint, value[key], where + key) for key, hint in hints.items()}


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Check a JSON value against a type annotation; only lists become tuples and integers become floats."""
    if is_dataclass(hint):
        later = {f.name for f in fields(hint) if f.metadata.get("later")}  # may be absent
        given = value if isinstance(value, dict) else {}
        hints = {name: one for name, one in get_type_hints(hint).items() if name in given or name not in later}
        members = _members(hints, value, where + ".")
        try:
            return hint(**members)  # type: ignore[operator]
        except (ValueError, ArithmeticError) as error:
            raise _damaged(f"{CONFIG}: {where}: {error}") from error
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):  # with None alone
        return None if value is None else _typed(arguments[0], value, where)
    if origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        hints = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(hints) == len(value):
            return tuple(_typed(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:  # not isinstance, for which True is an int
        return value
    raise _wrong_type(f"{CONFIG}: {where} is {_shown(value)}", _expected(hint))


def _shown(value: object) -> str:
    return f"{json.dumps(value):.60}"


def _expected(hint: Any) -> str:
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, arguments))
    if get_origin(hint) is tuple:
        return "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}"
    return {bool: "true or false", int: "an integer", float: "a number", str: "a string", dict: "an object"}[hint]
