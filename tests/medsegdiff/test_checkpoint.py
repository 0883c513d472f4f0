"""Checkpoints load as they were saved, and damage is refused with its location."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from medsegdiff.checkpoint import CONFIG, WEIGHTS, CheckpointError, load, save
from medsegdiff.config import PRESETS, DiffusionConfig, Domain, V1Config, V2Config
from medsegdiff.nn.build import build
from medsegdiff.records import Switches

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 7796090\n" % (b"0" * 64)

DIFFUSION = DiffusionConfig(timesteps=100, schedule="cosine", parametrization="x_0", scale=0.3)
DOMAIN = Domain(task="lesion", modality="dermoscopy", labels=("lésion",), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
TRAINING = {"seed": 7, "preset": "none", "curve": [[0, 1.5], [1, 0.25]], "note": None}


def tiny(config: V1Config | V2Config, seed: int = 0) -> nn.Module:
    """A network in which no weight keeps a special value, so that a mistaken one shows."""
    model, generator = build(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


def store(folder: Path, config: V1Config | V2Config, model: nn.Module | None = None, **others: Any) -> str:
    settings = {"diffusion": DIFFUSION, "domain": DOMAIN, "training": TRAINING} | others
    return save(folder, model or tiny(config), model_config=config, **settings)


@pytest.fixture
def folder(tmp_path: Path, v1_config: V1Config) -> Path:
    store(tmp_path / "tiny", v1_config)
    return tmp_path / "tiny"


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, tiny_config):
    config = replace(tiny_config, switches=Switches(ff_parser=False, nbp=False))
    model = tiny(config)
    digest = store(tmp_path, config, model)
    back = load(tmp_path)
    assert (back.model_config, back.diffusion, back.domain) == (config, DIFFUSION, DOMAIN)
    assert (back.training, back.digest, back.folder) == (TRAINING, digest, tmp_path)
    assert digest == hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()
    assert not any(module.training for module in back.model.modules())
    assert back.model.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(back.model.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_in_float16_every_weight_is_rounded_once(tmp_path, tiny_config):
    model = tiny(tiny_config)
    store(tmp_path, tiny_config, model, dtype=torch.float16)
    back = load(tmp_path).model.state_dict()
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    assert {tensor.dtype for tensor in back.values()} == {torch.float32}
    assert all(torch.equal(back[name], tensor.half().float()) for name, tensor in model.state_dict().items())


def test_files_that_a_training_replaces_while_they_are_read_are_read_again(tmp_path, v1_config, monkeypatch):
    from medsegdiff import checkpoint

    store(tmp_path, v1_config, tiny(v1_config))
    check, digests = checkpoint._require_header, []

    def replaced(path, config):  # after config.json was read, before the weights are
        monkeypatch.undo()
        digests.append(store(tmp_path, v1_config, tiny(v1_config, seed=1)))
        check(path, config)

    monkeypatch.setattr(checkpoint, "_require_header", replaced)
    assert load(tmp_path).digest == digests[0]


@pytest.mark.parametrize("folder", ["runs/mine", "runs/mine/checkpoint", "runs/mine/best"])
def test_a_checkpoint_of_a_training_has_the_name_of_the_run(tmp_path, v1_config, folder):
    store(tmp_path / folder, v1_config)
    assert load(tmp_path / folder).name == "mine"


@pytest.mark.parametrize("name", PRESETS)
def test_the_configs_of_every_preset_come_back_equal(folder, name):
    from medsegdiff.checkpoint import _typed

    for config in (PRESETS[name].model, PRESETS[name].diffusion):
        assert _typed(type(config), json.loads(json.dumps(asdict(config))), "config") == config


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_everything_said_of_the_domain_comes_back(tmp_path, v1_config, axis):
    domain = Domain(task="t", modality="m", labels=("l",), axis=axis, temperature=1.5, fuse="mean")
    save(tmp_path, tiny(v1_config), model_config=v1_config, diffusion=DiffusionConfig(), domain=domain, training={})
    assert load(tmp_path).domain == domain


def test_the_same_weights_have_the_same_digest(tmp_path, v1_config):
    assert store(tmp_path / "one", v1_config) == store(tmp_path / "two", v1_config)
    assert store(tmp_path / "one", v1_config) != store(tmp_path / "two", v1_config, tiny(v1_config, seed=1))


def test_saving_and_loading_leave_the_random_numbers_of_others_alone(tmp_path, v1_config):
    model, before = tiny(v1_config), torch.get_rng_state()
    store(tmp_path, v1_config, model)
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_card_and_a_good_checkpoint_survive_a_failed_save(folder, v1_config):
    (folder / "README.md").write_text("a card")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = replace(v1_config, image_size=64)  # the FF-Parser's tables are larger
    broken, huge = tiny(v1_config), tiny(v1_config)
    with torch.no_grad():
        next(broken.parameters()).view(-1)[0] = torch.inf
        next(huge.parameters()).view(-1)[0] = 1e5  # beyond float16
    for sentence, config, model, others in (
        ("has the shape", other, tiny(v1_config), {}),
        ("not finite", v1_config, broken, {}),
        ("not finite", v1_config, huge, {"dtype": torch.float16}),
        ("expected 'float16' or 'float32'", v1_config, None, {"dtype": torch.bfloat16}),
        ("domain.labels has 2", v1_config, None, {"domain": replace(DOMAIN, labels=("a", "b"))}),
        ("domain.std has 1", v1_config, None, {"domain": replace(DOMAIN, std=(1.0,))}),
        ("learned_variance", v1_config, None, {"diffusion": replace(DIFFUSION, learned_variance=True)}),
        ("JSON cannot hold", v1_config, None, {"training": {"loss": float("nan")}}),
        ("JSON cannot hold", v1_config, None, {"training": {"model": object()}}),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            store(folder, config, model, **others)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


# ------------------------------------------------------------------------------------------------------------- damage


def edit_config(folder: Path, change: Callable[[Any], Any]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change tensors and let config.json vouch for the result, so that only the tensors themselves can tell."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    edit_config(folder, lambda config: config["weights"].update(sha256=digest))


def edit_bytes(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))


def a_tensor(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name, tensor in tensors.items() if tensor.ndim == 4)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda f: f.rename(f.with_name("elsewhere")), "no such folder"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "model.safetensors is missing"),
    "no config": (lambda f: (f / CONFIG).unlink(), "config.json is missing"),
    "cut short": (lambda f: edit_bytes(f, WEIGHTS, lambda b: b[:-100]), "cut short"),
    "git lfs pointer": (lambda f: edit_bytes(f, WEIGHTS, lambda b: POINTER), "is a Git LFS pointer"),
    "one bit": (
        lambda f: edit_bytes(f, WEIGHTS, lambda b: b[:-1] + bytes([b[-1] ^ 1])),
        r"has the sha256 \w{12}\.\.\.",
    ),
    "tensor missing": (
        lambda f: edit_weights(f, lambda t: t.pop(a_tensor(t))),
        r"lacks '\w+\..*which this network needs",
    ),
    "tensor surplus": (lambda f: edit_weights(f, lambda t: t.update(extra=torch.ones(1))), "holds 'extra', which"),
    "tensor shape": (
        lambda f: edit_weights(f, lambda t: t.update({a_tensor(t): torch.ones(2, 3)})),
        r"has the shape \(2, 3\), this network expects \(\d+",
    ),
    "tensor dtype": (
        lambda f: edit_weights(f, lambda t: t.update({a_tensor(t): t[a_tensor(t)].half()})),
        "is stored as torch.float16, config.json promises torch.float32",
    ),
    "tensor not finite": (
        lambda f: edit_weights(f, lambda t: t[a_tensor(t)].view(-1)[3:4].fill_(torch.nan)),
        "not finite",
    ),
    "not JSON": (lambda f: edit_bytes(f, CONFIG, lambda b: b[:-9]), "is not JSON"),
    "not text": (lambda f: edit_bytes(f, CONFIG, lambda b: b"\xff\xfe" + b), "is not JSON"),
    "bottomless": (lambda f: edit_bytes(f, CONFIG, lambda b: b"[" * 200_000), "is not JSON"),
    "not a number": (lambda f: edit_bytes(f, CONFIG, lambda b: b.replace(b"0.25", b"NaN")), "holds NaN"),
    "not an object": (lambda f: edit_bytes(f, CONFIG, lambda b: b"[1]"), r"is \[1\]; expected an object"),
    "format": (lambda f: edit_config(f, lambda c: c.update(format=2)), "format 2; this version of the project reads 1"),
    "kind": (lambda f: edit_config(f, lambda c: c.update(kind="v3")), "kind is \"v3\"; expected 'v1' or 'v2'"),
    "other kind": (lambda f: edit_config(f, lambda c: c.update(kind="v2")), "unknown key 'model.decoder_blocks'"),
    "value": (lambda f: edit_config(f, lambda c: c["diffusion"].update(scale=-1.0)), "diffusion: scale is -1.0"),
    "division": (lambda f: edit_config(f, lambda c: c["model"].update(stem=0)), "config.json: model: "),
    "length": (
        lambda f: edit_config(f, lambda c: c["model"].update(blocks=[1, 1])),
        "blocks is .* expected a list of 4",
    ),
    "parameters": (lambda f: edit_config(f, lambda c: c["weights"].update(parameters=1)), "config.json promises 1;"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_refused_by_name(folder, damage, sentence):
    damage(folder)
    with pytest.raises(CheckpointError, match=sentence) as error:
        load(folder)
    assert str(error.value).startswith(f"{folder}: ")
    assert "; " in str(error.value)
    assert "\n" not in str(error.value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key and list entry below a JSON value, except in what is free in form."""
    if path != ("training",) and isinstance(value, dict | list):
        for key, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(below, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def refused(folder: Path, config: Any, *words: str) -> bool:
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as error:
        load(folder)
    return all(word in str(error.value) for word in words)


LATER = {field.name for one in (V2Config, Domain) for field in fields(one) if field.metadata.get("later")}
"""Keys added after the first checkpoints were written."""


def test_no_key_may_be_missing_and_none_may_be_unknown_at_any_level(folder):
    text = (folder / CONFIG).read_text()
    for *above, key in places(json.loads(text)):
        if isinstance(key, str):
            config = json.loads(text)
            del at(config, above)[key]
            if key not in LATER:  # see the next test
                assert refused(folder, config, str(key))
            config = json.loads(text)
            at(config, above)["surprise"] = 1
            assert refused(folder, config, ".".join([*above, "surprise"]))


def test_keys_added_later_mean_their_defaults_where_an_older_file_lacks_them(tmp_path, v2_config):
    model = build(v2_config)
    save(
        tmp_path / "old",
        model,
        model_config=v2_config,
        diffusion=DiffusionConfig(),
        domain=Domain(task="t", modality="m", labels=("l",)),
        training={},
    )

    def older(config: Any) -> None:
        for part in ("model", "domain"):
            for key in LATER & config[part].keys():
                del config[part][key]

    edit_config(tmp_path / "old", older)
    found = load(tmp_path / "old")
    assert (found.model_config, found.domain) == (v2_config, Domain(task="t", modality="m", labels=("l",)))


@pytest.mark.slow
def test_no_value_of_another_type_is_taken_for_the_right_one(folder):
    text = (folder / CONFIG).read_text()
    for *above, key in places(json.loads(text)):
        old = at(json.loads(text), above)[key]
        for new in (None, True, 1, 1.0, "1", [], {}, ["1"]):
            if type(new) is type(old) or (type(old) is float and type(new) is int):
                continue
            config = json.loads(text)
            at(config, above)[key] = new
            assert refused(folder, config, str(above[-1] if isinstance(key, int) else key)), (above, key, new)


class Bomb:
    """A pickle that leaves a file behind when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("opened"),)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_a_pickle_is_refused_and_never_opened(folder, monkeypatch, suffix):
    monkeypatch.chdir(folder)
    (folder / WEIGHTS).unlink()
    (folder / f"model{suffix}").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=rf"'model\{suffix}' is a pickle, which may run code and is not opened"):
        load(folder)
    assert not (folder / "opened").exists()


@pytest.mark.parametrize("task", ["../../x", "a/b", "a\\b", ".hidden", "a" * 101, "a\n"])
def test_a_task_that_could_lead_out_of_a_folder_is_refused(folder, task):
    assert replace(DOMAIN, task="肺结节_v1.2-b").task
    assert replace(DOMAIN, task="my polyps").task
    with pytest.raises(ValueError, match="letters, digits, spaces, '_', "):
        replace(DOMAIN, task=task)
    config = json.loads((folder / CONFIG).read_text())
    config["domain"]["task"] = task
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="domain: task is "):
        load(folder)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("widths", "[4096, 4096]", "holds .stages"),  # would take gigabytes if it were built to be compared
        ("blocks", "20000", "blocks is 20000; choose 1 to 32"),
        ("token_width", "1" + "0" * 4000, "choose 1 to 4096"),
        ("token_width", "1" + "0" * 5000, "is not JSON"),
        ("image_size", "4096", "tokens"),
    ],
)
def test_a_configuration_that_asks_for_gigabytes_is_refused_before_it_gets_them(
    organs, tmp_path, name, value, sentence
):
    folder = tmp_path / "wide"
    shutil.copytree(organs, folder)
    config = json.loads((folder / CONFIG).read_text())
    config["model"][name] = "HERE"
    (folder / CONFIG).write_text(json.dumps(config).replace('"HERE"', value))
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=sentence):
        load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
