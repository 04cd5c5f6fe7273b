"""Options that the commands on trained networks share."""

import argparse
import dataclasses
import shutil
import textwrap
from typing import TYPE_CHECKING

from records.command import OneLineParser
from records.errors import UserError

if TYPE_CHECKING:
    from experiments.after_training.resolve_run import ResolvedRun


def command_parser(module: str, document: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a command, with --tracking-uri."""
    parser = OneLineParser(
        f"python -m experiments.{module}", description=wrapped(document or ""), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store; default: the same as for run_ablation.py")
    return parser


def network_parser(module: str, document: str | None, *, device: bool = True) -> argparse.ArgumentParser:
    """Returns the parser of a command on a trained network, with RUN, --import and, if `device`, --device."""
    parser = command_parser(module, document)
    parser.add_argument(
        "run", metavar="RUN",
        help="MLflow run id, fingerprint (or its first 6 or more digits), checkpoint, folder with a run's artifacts, "
        ".safetensors file from experiments.export, or the name of weights that come with the package",
    )  # fmt: skip
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="module to import first, which registers your own masks, data sets, ...",
    )  # fmt: skip
    parser.set_defaults(device="cpu", root=None, download=False)
    if device:
        parser.add_argument(
            "--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N, mps or xpu; default: auto"
        )
    return parser


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds --data.root and --data.download, the arguments of `Trained.with_data`."""
    parser.add_argument("--data.root", dest="root", metavar="PATH", help="folder with data sets; default: the run's")
    parser.add_argument(
        "--data.download", dest="download", action="store_true", help="download the data set if it is not there"
    )


def add_size(parser: argparse.ArgumentParser) -> None:
    """Adds --size, the argument of `Trained.with_test_size`."""
    parser.add_argument(
        "--size", type=int, metavar="N", help="side of the test crop of image files, e.g. 320; default: the run's"
    )


def wrapped(document: str) -> str:
    """Returns a docstring wrapped to the width of the terminal, except its indented paragraphs, which are commands."""
    width = shutil.get_terminal_size().columns - 2
    parts = document.strip().split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else textwrap.fill(part, width, break_on_hyphens=False) for part in parts
    )


def resolve_network(options: argparse.Namespace) -> "ResolvedRun":
    """Returns the network that the options name, on their device, with their folder of data sets. Raises UserError."""
    from experiments.after_training.resolve_run import find
    from experiments.catalog import import_module, with_import_hint
    from ran.engine.device import pick_device
    from ran.registry import UnknownNameError

    device = pick_device(options.device)
    for module in options.imports:
        import_module(module)
    try:
        found = find(options.run, options.tracking_uri)
    except UnknownNameError as error:
        raise UserError(with_import_hint(error)) from None
    trained = found.trained.with_data(options.root, download=options.download)
    return dataclasses.replace(found, trained=trained.to(device))
