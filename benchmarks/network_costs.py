"""Parameters and multiply-adds of every network at every size: analysis/tables/costs.csv, which the tables read.

python -m benchmarks.network_costs             # write the file; takes minutes
python -m benchmarks.network_costs --check     # exit status 1 if the file is not up to date
"""

import csv
import functools
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ran.config import ConfigError
from ran.data import cluttershapes
from ran.models import zoo
from ran.models.cost import CIFAR, IMAGENET, breakdown, usual_heads
from ran.models.masks import MASK_STRUCTURES
from ran.models.network import NetworkSpec
from ran.models.zoo import create_model, network_spec
from records.command import OneLineParser, entry
from records.files import write_whole

COSTS_CSV = Path(__file__).parents[1] / "analysis" / "tables" / "costs.csv"
FIELDS = (
    "name", "width", "mask_structure", "num_classes", "image_size", "depth",
    "params", "params_with_bn", "macs", "mask_params", "mask_macs",
)  # fmt: skip
WIDTHS = (1.0, 0.5, 0.25, 0.125)
"""of the CIFAR networks: those of the profiles"""
BUILT_IN = (len(cluttershapes.CLASSES), cluttershapes.SIDE)
_ANY_MASK = "attention56"  # the network that studies give every mask structure; the others have their own


@dataclass(frozen=True)
class Setting:
    """A size of a network: its key in costs.csv, besides its name."""

    num_classes: int
    image_size: int
    """side of the input in pixels"""
    width: float = 1.0
    mask_structure: str = NetworkSpec.mask_structure


def settings(name: str) -> list[Setting]:
    """Returns the settings at which costs.csv counts a network, its own data set at its own size first.

    A mask structure that does not fit a width (local_conv_macs in a very narrow network) is left out.
    """
    if usual_heads(name) == IMAGENET:
        return [Setting(num_classes=classes, image_size=size) for classes, size in IMAGENET]
    structures = [NetworkSpec.mask_structure]
    if name == _ANY_MASK:
        structures += [structure for structure in MASK_STRUCTURES if structure not in structures]
    found = [
        Setting(num_classes=num_classes, image_size=image_size, width=width, mask_structure=structure)
        for structure in structures
        for width in WIDTHS
        for num_classes, image_size in (*CIFAR, BUILT_IN)
    ]
    return [setting for setting in found if _can_be_built(name, setting.width, setting.mask_structure)]


@functools.cache
def _can_be_built(name: str, width: float, mask_structure: str) -> bool:
    if mask_structure == NetworkSpec.mask_structure:
        return True
    try:
        _build(name, Setting(num_classes=10, image_size=32, width=width, mask_structure=mask_structure))
    except ConfigError:
        return False
    return True


def _build(name: str, setting: Setting) -> nn.Module:
    with torch.device("meta"):
        return create_model(
            name, num_classes=setting.num_classes, width=setting.width, mask_structure=setting.mask_structure
        )


def row(name: str, setting: Setting) -> dict[str, object]:
    """Returns a named network's line of costs.csv: depth of the trunk branch, parameters and MACs, and the masks'."""
    parts = breakdown(_build(name, setting), image_size=setting.image_size)
    masks = [part for part in parts if part.branch == "mask"]
    counts = (
        sum(p.params for p in parts), sum(p.params_with_bn for p in parts), sum(p.macs for p in parts),
        sum(p.params for p in masks), sum(p.macs for p in masks),
    )  # fmt: skip
    depth = getattr(network_spec(name), "trunk_depth", None)
    key = (f"{setting.width:g}", setting.mask_structure, setting.num_classes, setting.image_size)
    return dict(zip(FIELDS, (name, *key, depth, *counts), strict=True))


def costs_csv(names: Sequence[str]) -> Iterator[str]:
    """Yields the lines of costs.csv for these networks: the header, then one a network and setting."""
    yield _line(FIELDS)
    for name in names:
        for setting in settings(name):
            yield _line(row(name, setting).values())


def _line(values: object) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)  # type: ignore[arg-type]
    return out.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the file, or checks it with --check. Returns 0, or 1 if the check finds it stale. Raises WriteError."""
    parser = OneLineParser("python -m benchmarks.network_costs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the file is up to date")
    options = parser.parse_args(argv)
    due = list(costs_csv(zoo.list_models()))
    if not options.check:
        write_whole(COSTS_CSV, "".join(due).encode())
        print(f"wrote {COSTS_CSV}", file=sys.stderr)
        return 0
    there = COSTS_CSV.read_text(encoding="utf-8").splitlines(keepends=True) if COSTS_CSV.exists() else []
    if there == due:
        print(f"{COSTS_CSV} is up to date")
        return 0
    stale = [line.strip() for line in due if line not in there] + [line.strip() for line in there if line not in due]
    first = stale[0] if stale else "its order"
    print(f"{COSTS_CSV} is stale ({first}): `python -m benchmarks.network_costs` writes it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    entry("benchmarks.network_costs", main)
