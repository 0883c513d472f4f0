"""Export a checkpoint to ONNX, and run exported networks with onnxruntime.

    condition.onnx    image (1, c, s, s) in [-1, 1]         ->  feature_i, and anchor_logits where there is an anchor
    denoiser.onnx     x_t (members, k, s, s), t, feature_i   ->  output, variance where it is learned, and traces
    model.json        everything else that a run needs: schedule, scale, labels, window, normalisation, digests of the files

The number of members is dynamic, the size s is the checkpoint's. Transforms are real matrix products (`nn.real_dft`).
Traces are further outputs of the denoiser, the tensors of `records.Trace` that depend on the run; model.json says which
output is which. A plain U-Net has no denoiser.

With `float16` the weights are stored in half precision and converted when the model is loaded; the arithmetic stays
float32. Shipped checkpoints hold float16 weights, so nothing is lost.

Needs the `export` extra: onnx to write, onnxruntime to run.

References:
    ONNX operators, https://onnx.ai/onnx/operators/
"""

import hashlib
import io
import json
import warnings
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnxruntime
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from medsegdiff.atomic import replacing, write_text
from medsegdiff.checkpoint import Checkpoint
from medsegdiff.nn.build import Network
from medsegdiff.nn.real_dft import real_valued
from medsegdiff.nn.unet import PlainUNet
from medsegdiff.nn.v1 import MedSegDiffV1
from medsegdiff.nn.v2 import MedSegDiffV2
from medsegdiff.records import Condition, Prediction, Switches, Trace
from medsegdiff.schedule import Diffusion

__all__ = ["MODEL", "OnnxNetwork", "export"]

CONDITION, DENOISER, MODEL = "condition.onnx", "denoiser.onnx", "model.json"
OPSET = 18

_FORMAT = 1
_TABLE = 1024  # bytes from which a constant is stored once, however often it is used
_ALL = Switches()
_FIXED = ("gain", "phase", "mean", "sigma")  # fields of traces that depend on the weights only


def export(checkpoint: Checkpoint, folder: Path | str, *, float16: bool = False) -> dict[str, Any]:
    """Write a checkpoint's networks and their description into a folder; return what model.json says.

    Arguments:
        checkpoint: on the CPU.
        folder: created if necessary; files of an earlier export are replaced.
        float16: store weights in half precision, rounding each once.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = checkpoint.model_config
    network = real_valued(checkpoint.model).float().eval()
    diffusion = Diffusion(checkpoint.diffusion, config.classes)
    size = config.image_size

    image = torch.zeros(1, config.image_channels, size, size)
    with torch.no_grad():
        condition = network.encode(image)
    features = [f"feature_{i}" for i in range(len(condition.features))]
    anchors = ["anchor_logits"] * len(condition.anchor_logits)
    models = {CONDITION: _traced(_Encoder(network), (image,), ["image"], [*features, *anchors], set())}
    traces: list[dict[str, str]] = []
    if not isinstance(network, PlainUNet):
        denoiser = _Denoiser(network)
        x_t = torch.zeros(2, diffusion.channels, size, size)  # two, so that no member is broadcast while tracing
        arguments = (x_t, torch.tensor([0]), *condition.features)
        with torch.no_grad():
            told = denoiser.predict(*arguments).trace
        traces = [facts for facts, _ in _tensors(told)]
        varying = {facts["output"] for facts, tensor in _tensors(told) if len(tensor) == len(x_t)}
        outputs = ["output", *(["variance"] if network.config.learned_variance else [])]
        names = [*outputs, *(facts["output"] for facts in traces)]
        dynamic = {"x_t", *outputs, *varying}
        models[DENOISER] = _traced(denoiser, arguments, ["x_t", "t", *features], names, dynamic)
    read = {entry.name for model in models.values() for entry in model.graph.input}
    _keep_outputs(models[CONDITION], read | {*anchors})

    files = {}
    for name, model in models.items():
        _share_tables(model)
        if float16:
            _halve_weights(model)
        onnx.checker.check_model(model)
        data = model.SerializeToString()
        with replacing(folder / name) as draft:
            draft.write_bytes(data)
        files[name] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "inputs": [entry.name for entry in model.graph.input],
            "outputs": [entry.name for entry in model.graph.output],
        }
    facts = {
        "format": _FORMAT,
        "name": checkpoint.name,
        "kind": "unet" if isinstance(network, PlainUNet) else "v1" if isinstance(network, MedSegDiffV1) else "v2",
        "checkpoint": {"task": checkpoint.domain.task, "sha256": checkpoint.digest},
        "weights": "float16" if float16 else "float32",
        "image": {"size": size, "channels": config.image_channels, "low": -1, "high": 1},
        "mask": {"channels": diffusion.channels, "classes": config.classes},
        "diffusion": {**asdict(checkpoint.diffusion), "alpha_bar": diffusion.schedule.alpha_bar.tolist()},
        "domain": asdict(checkpoint.domain),
        "files": files,
        "traces": traces,
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    write_text(folder / MODEL, text + "\n")
    return json.loads(text)


class OnnxNetwork:
    """An exported folder, run by onnxruntime on the CPU: a `records.Denoiser` without switches.

    Arguments:
        folder: what `export` wrote.
        threads: of every operation.

    Raises ValueError for a folder without an export, or with files that are not those that model.json names.
    """

    def __init__(self, folder: Path | str, threads: int = 1) -> None:
        folder = Path(folder)
        if not (folder / MODEL).is_file():
            raise ValueError(f"{folder} holds no {MODEL}; write it with python -m medsegdiff export")
        self.facts: dict[str, Any] = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        for name, facts in self.facts["files"].items():
            data = (folder / name).read_bytes()
            if hashlib.sha256(data).hexdigest() != facts["sha256"]:
                raise ValueError(f"{folder / name} is not the file that {MODEL} describes; export it again")
            self._sessions[name] = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def encode(self, image: Float[Tensor, "1 c s s"]) -> Condition:
        """Run the condition network; a feature that the denoiser does not read is left empty."""
        names = self.facts["files"][CONDITION]["outputs"]
        values = self._sessions[CONDITION].run(names, {"image": image.contiguous().numpy()})
        found = {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}
        last = max([int(name.removeprefix("feature_")) for name in found if name.startswith("feature_")], default=-1)
        features = tuple(found.get(f"feature_{i}", torch.empty(1, 0)) for i in range(last + 1))
        return Condition(features, tuple(found[name] for name in names if name == "anchor_logits"))

    def predict(
        self, x_t: Float[Tensor, "b k s s"], t: Int[Tensor, " 1"], condition: Condition, *, trace: bool = False
    ) -> tuple[Prediction, dict[str, Tensor]]:
        """Predict from a noisy mask, and compute the outputs that model.json lists as traces if they are wanted."""
        feed = {"x_t": x_t.contiguous().numpy(), "t": t.numpy()}
        feed |= {f"feature_{i}": feature.numpy() for i, feature in enumerate(condition.features) if feature.numel()}
        traces = [facts["output"] for facts in self.facts["traces"]]
        names = [name for name in self.facts["files"][DENOISER]["outputs"] if trace or name not in traces]
        found = dict(zip(names, map(torch.from_numpy, self._sessions[DENOISER].run(names, feed)), strict=True))
        return Prediction(found.pop("output"), found.pop("variance", None)), found

    def __call__(
        self,
        x_t: Float[Tensor, "b k s s"],
        t: Int[Tensor, " 1"],
        condition: Condition,
        *,
        trace: bool = False,
        switches: Switches = _ALL,
    ) -> Prediction:
        """Predict from a noisy mask, without a trace (see `predict`) or switches."""
        if trace or switches != _ALL:
            raise ValueError("an exported network has no switches and records no trace here; run the checkpoint itself")
        return self.predict(x_t, t, condition)[0]


class _Encoder(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        condition = self.network.encode(image)
        return (*condition.features, *condition.anchor_logits)


class _Denoiser(nn.Module):
    def __init__(self, network: MedSegDiffV1 | MedSegDiffV2) -> None:
        super().__init__()
        self.network = network

    def predict(self, x_t: Tensor, t: Tensor, *features: Tensor) -> Prediction:
        return self.network(x_t, t, Condition(features), trace=True)

    def forward(self, x_t: Tensor, t: Tensor, *features: Tensor) -> tuple[Tensor, ...]:
        prediction = self.predict(x_t, t, *features)
        variance = () if prediction.variance is None else (prediction.variance,)
        return (prediction.output, *variance, *(tensor for _, tensor in _tensors(prediction.trace)))


def _tensors(trace: Trace) -> list[tuple[dict[str, str], Tensor]]:
    """List the tensors of a trace that depend on the run, each with what it is and the name of its output."""
    found = []
    for kind in fields(trace):
        for i, record in enumerate(getattr(trace, kind.name)):
            for field in fields(record):
                if field.name not in ("stage", "kind", *_FIXED):
                    facts = {"output": f"trace_{kind.name}_{i}_{field.name}", "kind": kind.name}
                    facts |= {"stage": record.stage, "field": field.name}
                    found.append((facts, getattr(record, field.name)))
    return found


def _traced(
    module: nn.Module, arguments: tuple[Tensor, ...], inputs: list[str], outputs: list[str], dynamic: set[str]
) -> onnx.ModelProto:
    """Export by tracing; the first axis of the `dynamic` inputs and outputs is the number of members."""
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of every size that becomes a constant, which is meant, and of the exporter that follows it, which
        # takes ten times as long here and needs one more package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            arguments,
            file,  # pyright: ignore[reportArgumentType]  a file object serves as well as a path
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,  # weights keep their names and sizes; the runtime folds constants on loading
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "members"} for name in dynamic},
        )
    model = onnx.load_model_from_string(file.getvalue())
    for node in model.graph.node:
        node.doc_string = ""
    return model


def _keep_outputs(model: onnx.ModelProto, names: set[str]) -> None:
    """Remove unused outputs; the runtime removes the nodes that compute them."""
    kept = [entry for entry in model.graph.output if entry.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _share_tables(model: onnx.ModelProto) -> None:
    """Store each large constant (a table of cosines) once, as an initializer, however many nodes use it."""
    first: dict[bytes, str] = {}
    renamed: dict[str, str] = {}
    for node in list(model.graph.node):
        if node.op_type != "Constant" or len(value := node.attribute[0].t.SerializeToString()) < _TABLE:
            continue
        if value not in first:
            first[value] = f"table_{len(first)}"
            table = onnx.TensorProto()
            table.CopyFrom(node.attribute[0].t)
            table.name = first[value]
            model.graph.initializer.append(table)
        renamed[node.output[0]] = first[value]
        model.graph.node.remove(node)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store the weights in float16, each converted by a Cast that a runtime folds when it loads."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type == onnx.TensorProto.FLOAT and not weight.name.startswith("table_"):
            full, half = weight.name, f"{weight.name}_float16"
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight).astype(np.float16), half))
            casts.append(onnx.helper.make_node("Cast", [half], [full], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
