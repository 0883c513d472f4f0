"""The options of a training recipe, on the command line or in a TOML file with the same names.

    # recipes/NAME.toml
    preset = "v2-tiny"
    size = 128
    parametrization = "v"
    learning-rate = 5e-4
    widths = [32, 64, 96, 128]
    augment = false

    [[stage]]                     # optional: several trainings, each from the best state of the one before
    iterations = 1000

    [[stage]]
    size = 256
    iterations = 300

What the command line names overrides the file, a stage overrides what stands above it, and the file overrides the preset. Every
field of `config.DiffusionConfig`, `V1Config`, `V2Config`, `UNetConfig` and `TrainConfig` is an option; the classes come from the
data.
"""

import argparse
import copy
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

from medsegdiff.config import PRESETS, DiffusionConfig, ModelConfig, Preset, TrainConfig, UNetConfig, V1Config, V2Config
from medsegdiff.data.dataset import MIRRORS
from medsegdiff.switches import Switches

__all__ = ["DATA", "add_options", "command", "command_with_file", "completed", "is_shipped", "preset_of"]

_FOLDER = Path(__file__).resolve().parents[2] / "recipes"
_DEFAULTS: dict[str, Any] = {"preset": "v2-tiny", "seed": 0, "accumulate": 1}

_FLAG = argparse.BooleanOptionalAction
_NOT_OPTIONS = (
    "image_channels",
    "classes",
    "switches",
    "image_size",
    "seed",
)  # --size, --without and --seed stand for these
_OPTIONS: dict[str, tuple[Any, str]] = {
    # training
    "iterations": (int, "number of iterations"),
    "batch": (int, "images per iteration, over all processes"),
    "draws": (int, "samples of t and noise per image"),
    "learning_rate": (float, "peak learning rate"),
    "warmup": (int, "iterations of linear warm-up of the learning rate"),
    "constant": (_FLAG, "keep the learning rate after the warm-up, instead of cosine decay to 1 %%"),
    "weight_decay": (float, "weight decay of AdamW on weights of convolutions and linear layers"),
    "clip": (float, "maximum norm of the gradient"),
    "ema": (float, "decay of the moving average of the weights"),
    "alpha": (int, "V2: supervise the anchor where t is a multiple of this"),
    "beta": (float, "weight of the anchor's cross-entropy"),
    "anchor_dice": (float, "V2: weight of the anchor's soft Dice"),
    "dice": (float, "weight of soft Dice on the predicted x_0"),
    "unroll": (float, "share of samples whose x_t comes from the network's own predictions"),
    "anchor_first": (int, "V2: train the condition network alone for the first so many iterations"),
    "balance": (float, "weight images by (marked area)^-BALANCE in the loss"),
    "augment": (_FLAG, "augment the training images"),
    "strong": (_FLAG, "augment as widely as nnU-Net: wider zoom, colour and contrast, noise, blur and low resolution"),
    "field": (float, "share of an image's sides, about its centre, that the network sees"),
    "encoder_rate": (float, "learning rate of a pretrained encoder relative to the rest; 0 keeps it as it is"),
    "band_rate": (float, "V2: learning rate of the NBP-Filters relative to the rest"),
    "phantoms": (float, "share of synthetic images among the training images"),
    "held": (int, "number of training images (whole patients or volumes) to hold out for selecting the best state"),
    "frozen": (_FLAG, "V2 with --init: keep the condition network fixed and train the denoiser only, at half the cost"),
    # diffusion
    "timesteps": (int, "T, timesteps of the forward process"),
    "schedule": (("linear", "cosine"), "noise schedule"),
    "parametrization": (("epsilon", "v", "x_0"), "what the network predicts"),
    "learned_variance": (_FLAG, "also predict the variance of the reverse process"),
    "scale": (float, "signal scale of masks"),
    # networks
    "stem": (int, "pixels folded into channels on each side"),
    "widths": ([int], "channels of every level"),
    "condition_widths": ([int], "V2: channels of every level of the condition network (default: as --widths if given)"),
    "encoder": (
        ("residual", "efficientnet-lite0"),
        "V2 and the plain U-Net: encoder of the condition network; the second starts with ImageNet weights",
    ),
    "blocks": ([int], "residual blocks per level; four numbers for V1"),
    "decoder_blocks": (int, "V1: residual blocks per decoder stage"),
    "full_spectrum": (_FLAG, "V1: FF-Parser on the two-sided spectrum"),
    "skips": (("sum", "mask"), "V1: features that reach the decoder by skip connections"),
    "anchors": (int, "V2: levels gated by an anchor, 1 or 2"),
    "gate": (
        ("shared", "channel"),
        "V2: gates of an anchor: one shared by all channels of the mask feature, or one for each; with --init of a network "
        "that shares one, each channel begins with it",
    ),
    "gaussian_size": (int, "V2: window of the learnable Gaussian in cells, odd"),
    "ss_blocks": (int, "V2: N, blocks of the SS-Former"),
    "patch": (int, "V2: cells per token side"),
    "token_width": (int, "V2: width of a token"),
    "heads": (int, "V2: heads of the SS-Former"),
    "band": (("nbp", "sine"), "V2: filter of the affinity"),
    "nbp_blocks": (int, "V2: R, blocks of the NBP-Filter"),
    "nbp_width": (int, "V2: channels of the NBP-Filter"),
    "nbp_octaves": (int, "V2: octaves of Fourier features in the NBP-Filter; 0 for raw coordinates"),
    "sine_scale": (float, "V2: a in sin(a n M) / (a n), with --band sine; 0 for sin M"),
}
DATA: dict[str, tuple[Any, str]] = {
    "labels": ([str], "names of the classes 1..K"),
    "modality": (str, "kind of image, for the model card"),
    "source": (str, "who made the images and how to cite them, for the model card"),
    "licence": (str, "licence of the images, for the model card"),
    "patient": (
        str,
        "pattern of the patient in file names, first group: patients are kept together and intervals are over them",
    ),
    "mirror": (
        tuple(MIRRORS),
        "flips that keep the anatomy; both: also rotations (default: horizontal; none where a class is left or right)",
    ),
    "axis": (int, "slice volumes along this axis: 0 sagittal, 1 coronal, 2 axial"),
    "window": (
        [float],
        "grey values of more than 8 bits shown as black and white, LOW HIGH, recorded in the checkpoint",
    ),
    "val_share": (float, "flat folders: share of the images held out for validation (default: 0.2)"),
    "split_seed": (int, "flat folders: seed of the split (default: 0)"),
}
"""Options that describe the data; dataset.toml may hold them too."""

_MODELS: dict[type[ModelConfig], str] = {V1Config: "V1", V2Config: "V2", UNetConfig: "the plain U-Net"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add every option that a recipe file may hold; the value of one that is not given is None."""
    run = parser.add_argument_group("run")
    run.add_argument(
        "--preset", choices=sorted(PRESETS), help="network, diffusion and recipe to start from (default: v2-tiny)"
    )
    run.add_argument("--size", type=int, help="training resolution in pixels")
    run.add_argument(
        "--init",
        help="start from the weights of this checkpoint (name, folder or Hub id) of the same network; V2 also of another size",
    )
    run.add_argument("--seed", type=int, help="seed of weights, order, augmentation and noise (default: 0)")
    run.add_argument(
        "--accumulate", type=int, help="gradient accumulation: parts of a process's share of a batch (default: 1)"
    )
    data = parser.add_argument_group("data", "what the images are; also in dataset.toml beside them")
    data.add_argument(
        "--task", help="a task of medsegdiff/data/tasks.py (default: that of the layout, or the name of the folder)"
    )
    data.add_argument("--empty", type=float, help="volumes: share of slices without a label among the training slices")
    _add(data, DATA)
    group = parser.add_argument_group("recipe", "defaults are those of the preset")
    group.add_argument(
        "--without",
        nargs="+",
        choices=[field.name for field in fields(Switches)],
        help="components to leave out of the network, as in the paper's ablation",
    )
    _add(group, _OPTIONS)


def _add(group: argparse._ArgumentGroup, options: dict[str, tuple[Any, str]]) -> None:
    for name, (kind, words) in options.items():
        option = f"--{name.replace('_', '-')}"
        match kind:
            case [each]:
                group.add_argument(option, type=each, nargs="+", help=words)
            case tuple():
                group.add_argument(option, choices=kind, help=words)
            case _ if kind is _FLAG:
                group.add_argument(option, action=_FLAG, help=words)
            case _:
                group.add_argument(option, type=kind, help=words)


class _Strict(argparse.ArgumentParser):
    """A parser whose errors are sentences."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def completed(arguments: argparse.Namespace, path: Path | None) -> list[argparse.Namespace]:
    """Return the arguments of every stage: those given, what a recipe file holds beyond them, and defaults; one without stages.

    `recipe_content` is the content of the file.

    Raises:
        ValueError: the file is not TOML, or holds an unknown option or an invalid value.
    """
    found: dict[str, Any] = {}
    if path is not None:
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as TOML ({error}); correct it") from error
    common, stages = {k: v for k, v in found.items() if k != "stage"}, found.get("stage", [{}])
    if not (isinstance(stages, list) and stages and all(isinstance(stage, dict) for stage in stages)):
        raise ValueError(f"{path}: 'stage' holds no tables; begin every stage with a line [[stage]]")
    return [_completed(arguments, common | stage, path, recipe_content=found) for stage in stages]


def _completed(
    arguments: argparse.Namespace, found: dict[str, Any], path: Path | None, *, recipe_content: dict[str, Any]
) -> argparse.Namespace:
    parser = _Strict(prog=str(path), add_help=False, allow_abbrev=False)
    add_options(parser)
    known = {action.dest for action in parser._actions}
    if unknown := [key for key in found if key.replace("-", "_") not in known]:
        raise ValueError(f"{path} holds the unknown option {unknown[0]!r}; `train --help` lists those of a recipe")
    try:
        given = parser.parse_args([word for key, value in found.items() for word in _words(key, value)])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    whole = copy.copy(arguments)
    for name, value in (vars(given) | {"recipe_content": recipe_content}).items():
        if getattr(whole, name, None) is None:
            setattr(whole, name, value)
    for name, default in _DEFAULTS.items():
        if getattr(whole, name) is None:
            setattr(whole, name, default)
    return whole


def _words(key: str, value: object) -> list[str]:
    option = f"--{key.replace('_', '-')}"
    match value:
        case True:
            return [option]
        case False:
            return [f"--no-{option[2:]}"]
        case list():
            return [option, *map(str, value)]
        case _:
            return [f"{option}={value}"]


def preset_of(arguments: argparse.Namespace, classes: int) -> Preset:
    """Return the preset with all given options applied.

    Raises:
        ValueError: an option belongs to another network than the preset's, or a value is invalid.
    """
    preset = PRESETS[arguments.preset]
    given = {name: value for name in _OPTIONS if (value := getattr(arguments, name)) is not None}
    mine = {field.name for field in fields(preset.model)}
    of_diffusion, of_training = ({field.name for field in fields(kind)} for kind in (DiffusionConfig, TrainConfig))
    for name in given:
        if name not in mine | of_diffusion | of_training:
            owners = [word for kind, word in _MODELS.items() if name in {field.name for field in fields(kind)}]
            raise ValueError(
                f"--{name.replace('_', '-')} is an option of {' and '.join(owners)}; {arguments.preset} has none"
            )
    if arguments.empty is not None and not 0 <= arguments.empty < 1:
        raise ValueError(f"--empty is {arguments.empty:g}; it is a share of the training slices, 0 to below 1")
    if arguments.accumulate < 1:
        raise ValueError(f"--accumulate is {arguments.accumulate}; a batch is split into 1 part or more")
    if arguments.without and "switches" not in mine:
        raise ValueError(f"{arguments.preset} is a plain U-Net without such components; leave out --without")
    model = {name: _shaped(preset.model, name, value) for name, value in given.items() if name in mine}
    if "widths" in model and "condition_widths" in mine:
        model.setdefault("condition_widths", model["widths"])
    if arguments.without:
        model["switches"] = replace(Switches(), **dict.fromkeys(arguments.without, False))
    parametrization = given.get("parametrization", preset.diffusion.parametrization)
    if given.get("dice") and parametrization != "x_0" and not isinstance(preset.model, UNetConfig):
        raise ValueError(
            f"--dice is of logits, which --parametrization {parametrization} has none of; use x_0 or leave it out"
        )
    size = preset.model.image_size if arguments.size is None else arguments.size
    return Preset(
        model=replace(preset.model, classes=classes, image_size=size, **model),
        diffusion=replace(preset.diffusion, **{k: v for k, v in given.items() if k in of_diffusion}),
        training=replace(preset.training, seed=arguments.seed, **{k: v for k, v in given.items() if k in of_training}),
    )


def _shaped(model: ModelConfig, name: str, value: Any) -> Any:
    """Return a list as the tuple or single number that the field of a network holds."""
    if not isinstance(value, list):
        return value
    if isinstance(getattr(model, name), tuple):
        return tuple(value)
    if len(value) != 1:
        raise ValueError(f"--{name.replace('_', '-')} has {len(value)} numbers; {_MODELS[type(model)]} takes one")
    return value[0]


def command(arguments: argparse.Namespace, task: str) -> str:
    """Return the command that reproduces a checkpoint without the recipe file, with placeholders for folders."""
    return _command(f"--preset {arguments.preset}", task, vars(arguments))


def command_with_file(whole: str, found: dict[str, Any], file: str, task: str) -> str:
    """Return the command that reproduces a checkpoint with its recipe file, and the options given beside it.

    Arguments:
        whole: command of the last stage without the file, as `command` returns it.
        found: content of the file.
        file: its path.
        task: of the data.
    """
    parser = _Strict(prog=file, add_help=False, allow_abbrev=False)
    for option in ("--data", "--out"):
        parser.add_argument(option)
    add_options(parser)
    *before, last = found.get("stage", [{}])
    held = {key: value for key, value in found.items() if key != "stage"} | last
    in_file = vars(parser.parse_args([word for key, value in held.items() for word in _words(key, value)]))
    known = {name: _DEFAULTS.get(name) if value is None else value for name, value in in_file.items()}
    options = vars(parser.parse_args(shlex.split(whole)[4:]))
    given = {name: value for name, value in options.items() if value != known[name]}
    if before:
        given.pop("init", None)  # the weights of the stage before
    preset = f" --preset {given['preset']}" if "preset" in given else ""
    return _command(f"--recipe {shlex.quote(file)}{preset}", task, given)


def is_shipped(name: str, found: dict[str, Any]) -> bool:
    """Return whether recipes/NAME is here and has this content."""
    path = _FOLDER / name
    return path.is_file() and tomllib.loads(path.read_text(encoding="utf-8")) == found


def _command(start: str, task: str, given: Mapping[str, Any]) -> str:
    words = [f"python -m medsegdiff train {start} --data DATA/{task} --out RUN"]
    first = ("task", *DATA, "size", "without", "empty")
    last = ("accumulate", "seed", "init", "frozen")
    for name in (*first, *(name for name in _OPTIONS if name != "frozen"), *last):
        value = given.get(name)
        if value is not None and (name, value) != ("accumulate", 1):
            words += _written(name, Path(value).name if name == "init" else value)
    return " ".join(words)


def _written(name: str, value: object) -> Iterable[str]:
    option, *values = (
        _words(name, value) if isinstance(value, bool | list) else (f"--{name.replace('_', '-')}", str(value))
    )
    return [option, *map(shlex.quote, values)]
