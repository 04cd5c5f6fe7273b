"""What the commands on a trained network share: how they name it."""

import argparse
import dataclasses
import shutil
import textwrap
from typing import TYPE_CHECKING

from records.command import OneLineParser
from records.errors import UserError

if TYPE_CHECKING:
    from experiments.after_training.resolve_run import Finished


def command_parser(module: str, document: str | None, *, device: bool = True) -> argparse.ArgumentParser:
    """Returns the parser of a command, with what all have: RUN, --tracking-uri, --import and, if told to, --device."""
    made = OneLineParser(
        f"python -m experiments.{module}", description=wrapped(document or ""), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    made.add_argument(
        "run", metavar="RUN",
        help="MLflow run id, fingerprint (or its first 6 or more digits), checkpoint, folder of a run's artifacts, or "
        "a .safetensors file of experiments.export",
    )  # fmt: skip
    made.add_argument("--tracking-uri", metavar="URI", help="MLflow store; default: as run_ablation.py")
    made.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="module to import first, which registers your own masks, data sets, ...",
    )  # fmt: skip
    made.set_defaults(device="cpu")
    if device:
        made.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N; default: auto")
    return made


def add_root(parser: argparse.ArgumentParser) -> None:
    """Adds --data.root, which `Trained.test_data` takes."""
    parser.add_argument("--data.root", dest="root", metavar="PATH", help="folder with data sets; default: the run's")


def add_size(parser: argparse.ArgumentParser) -> None:
    """Adds --size, which `Trained.with_test_size` takes."""
    parser.add_argument(
        "--size", type=int, metavar="N", help="side of the test crop of image files, as 320; default: the run's"
    )


def wrapped(document: str) -> str:
    """Returns a docstring for the width of the terminal, its indented paragraphs, which are commands, as they are."""
    width = shutil.get_terminal_size().columns - 2
    parts = document.strip().split("\n\n")
    return "\n\n".join(part if part.startswith(" ") else textwrap.fill(part, width) for part in parts)


def resolve(options: argparse.Namespace) -> "Finished":
    """Returns what the options name, on their device. Raises UserError."""
    from experiments.after_training.resolve_run import find
    from experiments.catalog import import_module
    from ran.engine.device import pick_device
    from ran.registry import UnknownNameError

    device = pick_device(options.device)
    for module in options.imports:
        import_module(module)
    try:
        found = find(options.run, options.tracking_uri)
    except UnknownNameError as error:
        raise UserError(f"{error} Is it your own? --import MODULE with the module that registers it") from None
    return dataclasses.replace(found, trained=found.trained.to(device))
