"""Export of a trained network to other formats; each file is loaded back and compared with the network.

pt2 and onnx take unnormalised images, uint8 (N, 3, size, size) for any N, and return logits, float32 (N, K): they
contain the normalisation. They compute in float32. ONNX needs the extra `export`.
"""

import copy
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ran import trained as trained_files
from ran.engine.evaluate import predict
from ran.registry import Registry
from ran.trained import Trained
from records.errors import UserError
from records.files import write_whole

TOLERANCE = 1e-4
"""largest allowed difference of log-probabilities after loading, relative to the largest: 1000 float32 roundings"""
LEAST = -80.0
"""lower limit of log-probabilities: MLflow's models return probabilities, and float32 has no smaller ones"""
Loaded = Callable[[Tensor], Tensor]
"""uint8 (N, 3, size, size) -> float32 (N, K), both on the CPU"""


class ExportError(UserError):
    """A network that cannot be exported, or an export whose outputs differ."""


@dataclass(frozen=True)
class Format:
    """A file format: its suffix, a function that writes a network, and one that loads the file."""

    suffix: str
    write: Callable[[Trained, Path], None]
    load: Callable[[Path], Loaded]


FORMATS: Registry[Format] = Registry("export format")


def export(trained: Trained, path: Path, name: str) -> Loaded:
    """Writes a network, which must lie on the CPU, and returns the function that the written file computes.

    Raises ExportError if an extra is missing, UnknownNameError for the format, and WriteError.
    """
    kind = FORMATS[name]
    kind.write(trained, path)
    return kind.load(path)


def difference(trained: Trained, loaded: Loaded, images: Tensor) -> float:
    """Returns the largest difference of log-probabilities between `loaded` and the network, relative to the largest.

    For uint8 (N, 3, size, size), the network in float32. Raises ExportError if it exceeds TOLERANCE.
    """
    arithmetic = replace(trained.arithmetic, precision="float32")
    expected = predict(trained.network, images, trained.interface.normalization, arithmetic)
    expected = expected.log_softmax(1).clamp(min=LEAST)
    found = torch.cat([loaded(chunk) for chunk in images.split(64)]).log_softmax(1).clamp(min=LEAST)
    apart = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not apart <= TOLERANCE:
        raise ExportError(
            f"the export computes something else: log-probabilities {apart:.1e} of the largest apart; report it"
        )
    return apart


class Classifier(nn.Module):
    """The network with its normalisation. uint8 (N, 3, H, W) -> float32 (N, K)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, trained: Trained):
        super().__init__()
        self.network = copy.deepcopy(trained.network).eval().to(memory_format=torch.contiguous_format)
        self.register_buffer("mean", trained.interface.normalization.mean.clone())
        self.register_buffer(
            "scale", torch.as_tensor(trained.interface.normalization.scale, dtype=torch.float32).clone()
        )

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float() - self.mean) / self.scale
        return self.network(x.contiguous(memory_format=torch.channels_last))  # twice as fast on CPUs


def program(trained: Trained, *, fold: bool = True) -> ExportedProgram:
    """Returns images -> logits as a graph of PyTorch's operations, with `fold` BatchNorms folded into convolutions."""
    size = trained.interface.size
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    batch = {"images": {0: Dim("batch", min=1)}}
    exported = torch.export.export(Classifier(trained).eval(), (images,), dynamic_shapes=batch)
    if fold:
        fold_batchnorm(exported)
    return exported


def fold_batchnorm(exported: ExportedProgram) -> int:
    """Folds each BatchNorm that alone reads a convolution without bias into its weights; returns how many.

    In place: the convolution's weight is scaled by channel, and the BatchNorm's bias becomes the convolution's.
    """
    aten = torch.ops.aten
    graph, state = exported.graph, exported.state_dict
    signature = exported.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    folded = 0
    for norm in graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        conv, gamma, beta, mean, var, training, _, eps, *_ = norm.args
        if getattr(conv, "target", None) is not aten.conv2d.default or len(conv.users) > 1 or training:
            continue
        if len(conv.args) > 2 and conv.args[2] is not None:
            continue
        weight = names[conv.args[1].name]
        values = {key: state[names[node.name]] for key, node in zip("gbmv", (gamma, beta, mean, var), strict=True)}
        factor = values["g"] / (values["v"] + eps).sqrt()
        state[weight] = nn.Parameter((state[weight] * factor[:, None, None, None]).detach(), requires_grad=False)
        state[names[beta.name]] = nn.Parameter((values["b"] - values["m"] * factor).detach(), requires_grad=False)
        conv.args = (*conv.args[:2], beta, *conv.args[3:])
        norm.replace_all_uses_with(conv)
        graph.erase_node(norm)
        folded += 1
    graph.lint()
    exported.graph_module.recompile()
    return folded


def _write_pt2(trained: Trained, path: Path) -> None:
    content = io.BytesIO()
    torch.export.save(program(trained), content)
    write_whole(path, content.getvalue())


def loaded_program(exported: ExportedProgram) -> Loaded:
    """Returns a function that runs a graph without gradients."""
    module = exported.module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            return module(images)

    return run


def _load_pt2(path: Path) -> Loaded:
    return loaded_program(torch.export.load(path))


def _write_onnx(trained: Trained, path: Path) -> None:
    _extra("onnxscript")
    made = torch.onnx.export(
        program(trained, fold=False), dynamo=True, input_names=["images"], output_names=["logits"], verbose=False
    )
    if made is None:
        raise ExportError("PyTorch's ONNX exporter produced no model")
    write_whole(path, made.model_proto.SerializeToString())


def _load_onnx(path: Path) -> Loaded:
    session = _extra("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return run


def _load_safetensors(path: Path) -> Loaded:
    loaded = trained_files.load(path)
    arithmetic = replace(loaded.arithmetic, precision="float32")
    return lambda images: predict(loaded.network, images, loaded.interface.normalization, arithmetic)


def _extra(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ExportError(f"this needs {module}: pip install -e '.[export]'") from None


FORMATS.register("safetensors")(Format(".safetensors", trained_files.save, _load_safetensors))
FORMATS.register("pt2")(Format(".pt2", _write_pt2, _load_pt2))
FORMATS.register("onnx")(Format(".onnx", _write_onnx, _load_onnx))
