"""The paper's tables of networks: ours as counted in costs.csv, beside the published numbers. Needs no runs."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.cells import MISSING, Cell, Column, Label, Measure, Number, Table, signed
from analysis.published import published_networks, published_value

COSTS_CSV = Path(__file__).with_name("costs.csv")

# (network, classes, input size in pixels) -> the other columns of costs.csv
Costs = Mapping[tuple[str, int, int], Mapping[str, int]]
# (network, quantity of published.csv) -> what our runs gave
Errors = Mapping[tuple[str, str], Measure]


class CostsError(ValueError):
    """A costs.csv that is missing or damaged; the message is one line."""


@dataclass(frozen=True)
class _Shown:
    """One of the paper's tables: where its networks are counted, and which errors it reports."""

    title: str
    num_classes: int
    image_size: int
    errors: Mapping[str, str]
    """quantity of published.csv -> header"""


_SHOWN = {
    "2": _Shown("ImageNet networks", 1000, 224, {}),
    "6": _Shown("CIFAR networks", 10, 32, {"cifar10_err": "CIFAR-10 error (%)", "cifar100_err": "CIFAR-100 error (%)"}),
    "7": _Shown("ImageNet networks, single crop", 1000, 224, {"top1_err": "top-1 (%)", "top5_err": "top-5 (%)"}),
}
ALL = "networks"  # the table of every network in costs.csv
COST_TABLES = (*_SHOWN, ALL)

_LABELS = {
    "resnet164": "ResNet-164",
    "resnet1001": "ResNet-1001",
    "wrn16_8": "WRN-16-8",
    "wrn28_10": "WRN-28-10",
    "attention92": "Attention-92",
    "attention236": "Attention-236",
    "attention452": "Attention-452",
    "attention56_imagenet": "Attention-56",
    "attention92_imagenet": "Attention-92",
    "attentionnext56_imagenet": "AttentionNeXt-56",
    "attentioninception56_imagenet": "AttentionInception-56",
    "resnet152_imagenet": "ResNet-152",
    "resnet200_imagenet": "ResNet-200",
    "resnext101_32x4d_imagenet": "ResNeXt-101",
    "inception_resnet_v1_imagenet": "Inception-ResNet-v1",
    "inception_resnet_v2_imagenet": "Inception-ResNet-v2",
}

# Why our counts are not the paper's, printed only where they are not.
_REASONS = {
    "attention92": "the paper does not state the widths",
    "attention452": "counted by Figure 2 and the stated p, t, r = 2, 4, 3; r = 2 would give 8.75 M",
    "attention56_imagenet": "counted from the authors' network file",
    "attention92_imagenet": "the authors' network file has 52,466,344 parameters, the paper's are of another network",
    "attentionnext56_imagenet": "counted from the authors' network file, the paper repeats Attention-56's",
    "attentioninception56_imagenet": "the paper does not describe the network, the design is ours",
    "resnet152_imagenet": "as in torchvision, the stride is on the 3x3 convolutions",
    "resnext101_32x4d_imagenet": "the paper's numbers are ResNet-101's",
}

_NAMES = {"depth": "depth", "params": "parameters", "macs": "MACs"}
_UNITS = {"depth": "", "params": " M", "macs": " G"}
_SCALES = {"depth": 1, "params": 1e6, "macs": 1e9}


def read_costs(path: Path | None = None) -> Costs:
    """Returns what costs.csv holds, depths and counts as they are. Raises CostsError."""
    path = COSTS_CSV if path is None else path
    if not path.is_file():
        raise CostsError(f"no {path}: `python -m ran.models.cost` writes it")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                (row.pop("name"), int(row.pop("num_classes")), int(row.pop("image_size"))): {
                    key: int(value) for key, value in row.items() if value
                }
                for row in csv.DictReader(file)
            }
    except (KeyError, ValueError, AttributeError) as error:
        raise CostsError(f"{path} is damaged ({error}): `python -m ran.models.cost` writes it anew") from None


def cost_table(name: str, costs: Costs, errors: Errors | None = None) -> Table:
    """Returns one of COST_TABLES. `errors` are ours, by network and quantity; a missing one prints as an en dash."""
    return _all_networks(costs) if name == ALL else _paper_table(name, costs, errors or {})


def _paper_table(number: str, costs: Costs, errors: Errors) -> Table:
    shown = _SHOWN[number]
    networks = published_networks(number)
    sizes = {network: _published(number, network, "test_size") for network in networks}
    with_sizes = any(sizes.values())
    counted = ("depth", "params", "macs") if number == "2" else ("params", "macs")

    columns = [Column("network", "network", numeric=False)]
    for quantity in counted:
        columns += _pair(quantity, _header(quantity))
    if number == "2":
        columns += [_header_of_masks("params"), _header_of_masks("macs")]
    if with_sizes:
        columns.append(Column("test_size", "px", numeric=True))
    for quantity, header in shown.errors.items():
        columns += _pair(quantity, header)

    rows = []
    for network in networks:
        cost = costs.get((network, shown.num_classes, shown.image_size), {})
        row: list[Cell] = [Label(_LABELS.get(network, network), network)]
        for quantity in counted:
            row += [_ours(cost, quantity), _digits(quantity, _published(number, network, quantity))]
        if number == "2":
            row += [_ours(cost, "params", "mask_"), _ours(cost, "macs", "mask_")]
        if with_sizes:
            row.append(Number(sizes[network], 0))
        for quantity in shown.errors:
            row += [
                errors.get((network, quantity), Measure(None, 0, 0)),
                Number(_published(number, network, quantity), 2),
            ]
        rows.append(tuple(row))

    caption = [
        f"Counted with {shown.num_classes} classes at {shown.image_size}x{shown.image_size} RGB. {_COUNTED}",
        f"Paper: the number it prints; {MISSING}: none.",
    ]
    if with_sizes:
        caption += _at_test_sizes(sizes, shown, costs)
    for network in networks:
        cost = costs.get((network, shown.num_classes, shown.image_size), {})
        caption += _differs(number, network, counted, cost)
    return Table(f"table{number}", f"Table {number}: {shown.title}", tuple(caption), tuple(columns), tuple(rows))


_COUNTED = "Parameters: trainable. MACs: multiply-adds of convolutions and classifier for one image."


def _all_networks(costs: Costs) -> Table:
    columns = [
        Column("network", "network", numeric=False),
        Column("image_size", "px", numeric=True),
        Column("depth", "depth", numeric=True),
        *_pair("params", _header("params")),
        *_pair("macs", _header("macs")),
        _header_of_masks("params"),
        _header_of_masks("macs"),
    ]
    rows: dict[str, tuple[Cell, ...]] = {}
    heads: dict[str, None] = {}
    for (network, num_classes, image_size), cost in costs.items():
        if network in rows:  # the file's first line of a network is its own data set at its own size
            continue
        heads[f"{num_classes} classes at {image_size} px"] = None
        row: list[Cell] = [Label(network, network), Number(image_size, 0), _ours(cost, "depth")]
        for quantity in ("params", "macs"):
            published = (_published(number, network, quantity) for number in _SHOWN)
            row += [_ours(cost, quantity), _digits(quantity, next((p for p in published if p is not None), None))]
        rows[network] = (*row, _ours(cost, "params", "mask_"), _ours(cost, "macs", "mask_"))
    caption = (
        f"Counted with {', '.join(heads) or 'nothing'}. {_COUNTED}",
        f"Paper: the first of its Tables {', '.join(_SHOWN)} that has the number; {MISSING}: none does.",
    )
    return Table(ALL, "Every network", caption, tuple(columns), tuple(rows.values()))


def _published(number: str, network: str, quantity: str) -> float | None:
    return published_value(number, {"network": network}, quantity)


def _header(quantity: str) -> str:
    return f"{_NAMES[quantity]} ({_UNITS[quantity].strip()})" if _UNITS[quantity] else f"trunk {_NAMES[quantity]}"


def _header_of_masks(quantity: str) -> Column:
    return Column(f"mask_{quantity}", f"of masks ({_UNITS[quantity].strip()})", numeric=True)


def _pair(quantity: str, header: str) -> list[Column]:
    header = header.replace("parameters", "params")  # eleven columns have to fit a terminal
    return [Column(quantity, header, numeric=True), Column(f"{quantity}_published", "paper", numeric=True)]


def _ours(cost: Mapping[str, int], quantity: str, branch: str = "") -> Number:
    value = cost.get(branch + quantity)
    return Number(None if value is None else value / _SCALES[quantity], 0 if quantity == "depth" else 2)


def _digits(quantity: str, value: float | None) -> Number:
    """A published count with the digits that the paper prints."""
    return Number(value, 0 if quantity == "depth" else 1)


def _differs(number: str, network: str, quantities: Sequence[str], cost: Mapping[str, int]) -> list[str]:
    """What to say of published counts: that ours round to others and why, or that the paper contradicts itself."""
    against, remarks, contradictions = [], [], []
    for quantity in quantities:
        published = _published(number, network, quantity)
        if published is None:
            continue
        unit, digits = _UNITS[quantity], _digits(quantity, published).digits
        if quantity in cost:
            ours = cost[quantity] / _SCALES[quantity]
            if f"{ours:.{digits}f}" != f"{published:.{digits}f}":
                percent = signed(100 * (ours / published - 1), 1)
                against.append(
                    f"{_ours_text(ours, quantity)}{unit} against the paper's {published:.{digits}f}{unit} ({percent} %)"
                )
                with_bn = cost.get("params_with_bn", 0) / 1e6
                if quantity == "params" and f"{with_bn:.{digits}f}" == f"{published:.{digits}f}":
                    remarks.append(f"with BatchNorm's running statistics {with_bn:.2f} M")
        for other in _SHOWN:
            elsewhere = _published(other, network, quantity)
            if elsewhere not in (None, published):
                contradictions.append(f"the paper's Table {other} says {elsewhere:.{digits}f}{unit}")
    if against and network in _REASONS:
        remarks.append(_REASONS[network])
    said = [*([", ".join(against)] if against else []), *remarks, *contradictions]
    return [f"{_LABELS.get(network, network)}: {'; '.join(said)}."] if said else []


def _ours_text(value: float, quantity: str) -> str:
    return f"{value:.0f}" if quantity == "depth" else f"{value:.2f}"


def _at_test_sizes(sizes: Mapping[str, float | None], shown: _Shown, costs: Costs) -> list[str]:
    """MACs at the sizes that the errors are of; the paper's are at 224 px all the same (Attention-92's 10.4 G)."""
    found = []
    for network, size in sizes.items():
        if size is not None and size != shown.image_size:
            macs = costs.get((network, shown.num_classes, int(size)), {}).get("macs")
            if macs is not None:
                found.append(f"{_LABELS.get(network, network)} {macs / 1e9:.2f} G at {size:.0f} px")
    there = f" MACs there: {', '.join(found)}." if found else ""
    return [f"px: side of the test image, which the paper's MACs do not follow.{there}"]
