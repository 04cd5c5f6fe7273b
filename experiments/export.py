"""Exports a trained network, loads the export and compares the two.

    python -m experiments.export RUN --format onnx
    python -m experiments.export RUN --format mlflow --out model
    mlflow models serve -m model --env-manager local

safetensors: weights, configuration, classes and normalization in one file, for ran.load and the other commands; a
--data.root is written into it. pt2 (torch.export) and onnx: a graph from uint8 images (N, 3, size, size) to logits,
including the normalization. mlflow: the same graph as a pyfunc model that returns probabilities, with signature,
example and pinned requirements.

All formats except safetensors compute in float32. The export fails if a log-probability differs from the network's by
more than 1e-4 of the largest.
"""

import argparse
import contextlib
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.after_training.options import add_data, network_parser, resolve_network
from records.command import entry

if TYPE_CHECKING:
    from torch import Tensor

    from ran.export import Loaded
    from ran.trained import Trained

FORMATS = ("safetensors", "pt2", "onnx", "mlflow")
IMAGES = 64  # number of images compared, per kind


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0. Raises UserError."""
    options = _parse(argv)
    from ran import export
    from records.errors import UserError
    from records.files import writing

    found = resolve_network(options)
    trained = found.trained
    suffix = "" if options.format == "mlflow" else export.FORMATS[options.format].suffix
    parts = (trained.config.model.name, trained.fingerprint[:12])
    out = options.out or Path("-".join(filter(None, parts)) + suffix)
    if out.exists():
        raise UserError(f"{out} exists already; move it or choose another --out")
    partial = out.with_name(f".{out.stem}.{os.getpid()}.partial{out.suffix}")  # renamed after the comparison
    try:
        with writing(out):
            write = _mlflow if options.format == "mlflow" else functools.partial(export.export, name=options.format)
            loaded = write(trained, partial)
        for kind, images in _images(trained):
            apart = export.difference(trained, loaded, images)
            print(f"{len(images)} {kind} images: log-probabilities differ by at most {apart:.1e} of the largest")
        with writing(out):
            os.replace(partial, out)
    finally:
        _remove(partial)
    print(f"wrote {out} ({_megabytes(out):.1f} MB) of {found.name}: {trained}")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = network_parser("export", __doc__, device=False)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, metavar="PATH", help="default: name of the network and fingerprint, here")
    add_data(parser)
    return parser.parse_args(argv)


def _images(trained: "Trained") -> "list[tuple[str, Tensor]]":
    """The images to compare: noise, and the run's first test images if its data set is on this machine."""
    import torch

    from ran.data.datasets import load_splits
    from ran.data.image_folder.reader import loaded
    from records.errors import UserError

    size = trained.interface.size
    noise = torch.randint(
        0, 256, (IMAGES, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    try:
        return [
            ("random", noise),
            ("test", loaded(load_splits(trained.test_data(), trained.config.seed).test.images[:IMAGES])),
        ]
    except UserError as error:
        print(f"not compared on real images: {error}", file=sys.stderr)
        return [("random", noise)]


def _mlflow(trained: "Trained", folder: Path) -> "Loaded":
    """Writes an MLflow model; returns a function to its log-probabilities, which are logits up to a constant."""
    import mlflow
    import numpy as np
    import torch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from ran import export

    size, classes = trained.interface.size, len(trained.interface.classes)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(np.uint8), (-1, 3, size, size))]),
        Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]),
    )
    with tempfile.TemporaryDirectory(prefix="ran-") as temporary:
        program = Path(temporary) / "program.pt2"
        export.export(trained, program, "pt2")
        mlflow.pyfunc.save_model(
            path=folder,
            python_model=str(Path(__file__).parent / "after_training" / "mlflow_model.py"),
            artifacts={"program": str(program)},
            signature=signature,
            input_example=np.zeros((1, 3, size, size), np.uint8),
            pip_requirements=[f"{m.__name__}=={m.__version__.partition('+')[0]}" for m in (torch, np, mlflow)],
            metadata={"classes": list(trained.interface.classes), "fingerprint": trained.fingerprint},
        )
    model = mlflow.pyfunc.load_model(str(folder))
    return lambda images: torch.from_numpy(model.predict(images.numpy())).log()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) / 1e6


if __name__ == "__main__":
    entry("export", main)
