"""Inference speed of a trained network, in PyTorch and exported.

    python -m benchmarks.inference --batch 1 --out results/benchmarks/inference-1.json

uint8 images to logits, with normalisation, in float32. pt2 with and without BatchNorms folded into the preceding
convolutions; onnx with ONNX Runtime, which folds them itself.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import report
from ran import export
from ran.config import RunConfig, override
from ran.data.augment import Normalization
from ran.models.network import build, initialize
from ran.models.zoo import config_spec
from ran.trained import Interface, Trained
from records.command import entry

COLUMNS = ["variant", "ms", "images/s", "times eager"]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON; returns 0."""
    parser = report.arguments("benchmarks.inference", __doc__)
    parser.add_argument("--network", default="attention56")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(argv)
    config = override(RunConfig(), {"model.name": options.network, "train.precision": "float32"})
    network = build(config_spec(config.model), num_classes=10, image_size=options.image_size)
    initialize(network, 0)
    interface = Interface(
        dataset="none", classes=tuple("abcdefghij"), size=options.image_size, share=1.0,
        normalization=Normalization(torch.zeros(3, 1, 1), 255.0, pad=0),
    )  # fmt: skip
    network.eval().to(memory_format=torch.channels_last)
    trained = Trained(network=network, config=config, interface=interface, fingerprint="")
    images = torch.randint(0, 256, (options.batch, 3, options.image_size, options.image_size), dtype=torch.uint8)
    times = report.in_turns(steps(trained, images), options.rounds)
    rows = [
        [name, 1e3 * report.middle(found), options.batch / report.middle(found), report.ratio(times["eager"], found)]
        for name, found in times.items()
    ]
    report.publish(
        "benchmarks.inference", argv, options.out, report.torch_machine(),
        f"{options.network} in use, {options.batch} image{'s' if options.batch > 1 else ''} of "
        f"{options.image_size}x{options.image_size}, median of {options.rounds} rounds",
        COLUMNS, rows,
    )  # fmt: skip
    return 0


def steps(trained: Trained, images: Tensor) -> dict[str, Callable[[], object]]:
    """Returns the functions to time, by name."""
    found: dict[str, export.Loaded] = {"eager": trained.logits}
    for name, fold in (("pt2", False), ("pt2, folded", True)):
        found[name] = export.loaded_program(export.program(trained, fold=fold))
    with tempfile.TemporaryDirectory(prefix="inference-") as folder:
        found["onnx"] = export.export(trained, Path(folder) / "one.onnx", "onnx")
    return {name: lambda run=run: run(images) for name, run in found.items()}  # type: ignore[misc]


if __name__ == "__main__":
    entry("inference", main)
