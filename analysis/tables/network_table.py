"""The paper's tables of networks: ours as counted in costs.csv, beside the published numbers. Needs no runs."""

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.read.published import published_networks, published_value
from analysis.tables.cells import (
    MISSING,
    Blank,
    Column,
    Count,
    Difference,
    Label,
    Measure,
    Number,
    Table,
    TableCell,
    signed,
)
from records import names
from records.study_json import NetworkKey

COSTS_CSV = Path(__file__).with_name("costs.csv")

# network in costs.csv -> its counts
Costs = Mapping[NetworkKey, Mapping[str, int]]
# (network, quantity of published.csv)
Place = tuple[str, str]


@dataclass(frozen=True)
class NetworkRuns:
    """The results of one profile for the networks of one of the paper's tables."""

    errors: Mapping[Place, Measure]
    seeds: Mapping[Place, Count]
    differences: Mapping[Place, Difference]
    difference_header: str
    networks: Mapping[str, NetworkKey | None]
    """the network that ran under the paper's name, for its counts; no entry if none was planned"""
    counts: Mapping[Place, float | None]
    """params in M and macs in G of the networks that ran"""
    caption: tuple[str, ...]
    stem: str


class CostsError(ValueError):
    """A costs.csv that is missing or damaged; the message is one line."""


@dataclass(frozen=True)
class _PaperTable:
    """One of the paper's tables: the input for which its networks are counted, and the errors that it reports."""

    title: str
    num_classes: int
    image_size: int
    errors: Mapping[str, str] = field(default_factory=dict)
    """quantity of published.csv -> header"""
    same_runs: bool = False
    """whether the errors are of the same runs, so that n is printed once"""


_SHOWN = {
    "2": _PaperTable(title="ImageNet networks", num_classes=1000, image_size=224),
    "6": _PaperTable(
        title="CIFAR networks",
        num_classes=10,
        image_size=32,
        errors={"cifar10_err": "CIFAR-10 error (%)", "cifar100_err": "CIFAR-100 error (%)"},
    ),
    "7": _PaperTable(
        title="ImageNet networks, single crop",
        num_classes=1000,
        image_size=224,
        errors={"top1_err": "top-1 (%)", "top5_err": "top-5 (%)"},
        same_runs=True,
    ),
}
ALL = "networks"  # the table of every network in costs.csv
COST_TABLES = (*_SHOWN, ALL)

# Reasons for counts that differ from the paper's, printed only if they differ.
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
    """Returns the depths and counts of costs.csv. Raises CostsError."""
    path = COSTS_CSV if path is None else path
    if not path.is_file():
        raise CostsError(f"no {path}: `python -m benchmarks.network_costs` writes it")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {
                NetworkKey(
                    name=row.pop("name"),
                    width=float(row.pop("width")),
                    mask_structure=row.pop("mask_structure"),
                    num_classes=int(row.pop("num_classes")),
                    image_size=int(row.pop("image_size")),
                ): {key: int(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            }
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CostsError(f"{path} is damaged ({error}): `python -m benchmarks.network_costs` writes it again") from None


def at_full_width(name: str, num_classes: int, image_size: int) -> NetworkKey:
    """Returns the key of a network of the zoo at full width with the standard mask."""
    return NetworkKey(
        name=name, width=1.0, mask_structure="encoder_decoder", num_classes=num_classes, image_size=image_size
    )


def digits_for(values: Collection[float | None]) -> int:
    """Returns the number of printed decimals of a column of counts: two, or more for small networks."""
    smallest = min((value for value in values if value), default=1.0)
    return 2 if smallest >= 0.1 else 3 if smallest >= 0.01 else 4


def cost_table(name: str, costs: Costs, runs: NetworkRuns | None = None) -> Table:
    """Returns one of COST_TABLES; without `runs` only the counts of the full networks beside the paper's values."""
    return _all_networks(costs) if name == ALL else _paper_table(name, costs, runs)


def _paper_table(number: str, costs: Costs, runs: NetworkRuns | None) -> Table:
    shown = _SHOWN[number]
    networks = published_networks(number)
    sizes = {network: _published(number, network, "test_size") for network in networks}
    with_sizes = any(sizes.values())
    counted = ("depth", "params", "macs") if number == "2" else ("params", "macs")
    standard = {network: at_full_width(network, shown.num_classes, shown.image_size) for network in networks}

    columns = [Column(key="network", header="network", numeric=False)]
    for quantity in counted:
        columns += _pair(quantity, _header(quantity))
    if number == "2":
        columns += [_header_of_masks("params"), _header_of_masks("macs")]
    if with_sizes:
        columns.append(Column(key="test_size", header="px", numeric=True))
    for i, (quantity, header) in enumerate(shown.errors.items()):
        group = "errors" if shown.same_runs and runs is None else quantity
        with_seeds = runs is not None and not (shown.same_runs and i)
        columns += [Column(key=f"{quantity}_seeds", header="n", numeric=True, group=group)] if with_seeds else []
        columns += _pair(quantity, header, group)
        if runs is not None:
            columns.append(
                Column(key=f"{quantity}_difference", header=runs.difference_header, numeric=True, group=group)
            )

    ours = {
        (network, quantity): value
        for network in networks
        for quantity in counted
        if (value := _counted(quantity, network, costs.get(standard[network], {}), runs)) is not None
    }
    digits = {quantity: digits_for([v for (_, q), v in ours.items() if q == quantity]) for quantity in counted}
    rows = []
    for network in networks:
        cost = costs.get(standard[network], {})
        row: list[TableCell] = [Label(names.NETWORKS.get(network, network), network)]
        for quantity in counted:
            row.append(Number(ours.get((network, quantity)), 0 if quantity == "depth" else digits[quantity]))
            row.append(_digits(quantity, _published(number, network, quantity)))
        if number == "2":
            row += [_ours(cost, "params", "mask_"), _ours(cost, "macs", "mask_")]
        if with_sizes:
            row.append(Number(sizes[network], 0))
        for i, quantity in enumerate(shown.errors):
            place = (network, quantity)
            if runs is not None and not (shown.same_runs and i):
                row.append(runs.seeds.get(place, Number(None, 0)))
            row.append(
                Measure(stats=None, diverged=0, planned=0)
                if runs is None
                else runs.errors.get(place, Measure(stats=None, diverged=0, planned=0))
            )
            row.append(Number(_published(number, network, quantity), 2))
            if runs is not None:
                row.append(runs.differences.get(place, Blank()))
        rows.append(tuple(row))

    other = {n for n in networks if runs is not None and runs.networks.get(n, standard[n]) != standard[n]}
    as_they_are = {network: cost for network, cost in costs.items() if network.name not in other}
    caption = [
        *([] if runs is None else runs.caption),
        f"{_counted_with(shown, runs)} {COUNTED}",
        f"Paper: the number it prints; {MISSING}: none.",
    ]
    if with_sizes:
        caption += _at_test_sizes(sizes, shown, as_they_are)
    for network in networks:
        caption += _differs(number, network, counted, as_they_are.get(standard[network], {}))
    stem = f"table{number}" if runs is None else runs.stem
    return Table(
        stem=stem,
        title=f"Table {number}: {shown.title}",
        caption=tuple(caption),
        columns=tuple(columns),
        rows=tuple(rows),
    )


def _counted(quantity: str, network: str, cost: Mapping[str, int], runs: NetworkRuns | None) -> float | None:
    """The count of the network that ran, if one was planned, else of the full network."""
    if runs is not None and network in runs.networks and quantity != "depth":
        return runs.counts.get((network, quantity))
    value = cost.get(quantity)
    return None if value is None else value / _SCALES[quantity]


def _counted_with(shown: _PaperTable, runs: NetworkRuns | None) -> str:
    ran = [] if runs is None else [network for network in runs.networks.values() if network is not None]
    shapes = {(n.num_classes, n.image_size) for n in ran} or {(shown.num_classes, shown.image_size)}
    said = " or ".join(f"{classes} classes at {size}x{size} RGB" for classes, size in sorted(shapes))
    widths = sorted({network.width for network in ran} - {1.0})
    narrow = f", at {' and '.join(f'{width:g}' for width in widths)} of the widths" if widths else ""
    return f"Counted with {said}{narrow}."


COUNTED = "Parameters: trainable. MACs: multiply-adds of convolutions and classifier for one image."


def _all_networks(costs: Costs) -> Table:
    columns = [
        Column(key="network", header="network", numeric=False),
        Column(key="image_size", header="px", numeric=True),
        Column(key="depth", header="depth", numeric=True),
        *_pair("params", _header("params")),
        *_pair("macs", _header("macs")),
        _header_of_masks("params"),
        _header_of_masks("macs"),
    ]
    rows: dict[str, tuple[TableCell, ...]] = {}
    heads: dict[str, None] = {}
    for listed, cost in costs.items():
        network = listed.name
        if network in rows:  # the first line of a network in the file is for its own data set and image size
            continue
        heads[f"{listed.num_classes} classes at {listed.image_size} px"] = None
        row: list[TableCell] = [Label(network, network), Number(listed.image_size, 0), _ours(cost, "depth")]
        for quantity in ("params", "macs"):
            published = (_published(number, network, quantity) for number in _SHOWN)
            row += [_ours(cost, quantity), _digits(quantity, next((p for p in published if p is not None), None))]
        rows[network] = (*row, _ours(cost, "params", "mask_"), _ours(cost, "macs", "mask_"))
    caption = (
        f"Counted with {', '.join(heads) or 'nothing'}. {COUNTED}",
        "Depth: convolutions in a row and the classifier; the names of Wide ResNets count three shortcuts more.",
        f"Paper: the first of its Tables {', '.join(_SHOWN)} that has the number; {MISSING}: none does.",
    )
    return Table(stem=ALL, title="Every network", caption=caption, columns=tuple(columns), rows=tuple(rows.values()))


def _published(number: str, network: str, quantity: str) -> float | None:
    return published_value(number, {"network": network}, quantity)


def _header(quantity: str) -> str:
    return f"{_NAMES[quantity]} ({_UNITS[quantity].strip()})" if _UNITS[quantity] else f"trunk {_NAMES[quantity]}"


def _header_of_masks(quantity: str) -> Column:
    return Column(key=f"mask_{quantity}", header=f"of masks ({_UNITS[quantity].strip()})", numeric=True)


def _pair(quantity: str, header: str, group: str = "") -> list[Column]:
    header = header.replace("parameters", "params")  # eleven columns must fit a terminal
    published = Column(key=f"{quantity}_published", header="paper", numeric=True, group=group or quantity)
    return [Column(key=quantity, header=header, numeric=True, group=group or quantity), published]


def _ours(cost: Mapping[str, int], quantity: str, branch: str = "") -> Number:
    value = cost.get(branch + quantity)
    return Number(None if value is None else value / _SCALES[quantity], 0 if quantity == "depth" else 2)


def _digits(quantity: str, value: float | None) -> Number:
    """A published count with as many digits as in the paper."""
    return Number(value, 0 if quantity == "depth" else 1)


def _differs(number: str, network: str, quantities: Sequence[str], cost: Mapping[str, int]) -> list[str]:
    """Remarks on published counts: ours differ and why, or the paper contradicts itself."""
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
    return [f"{names.NETWORKS.get(network, network)}: {'; '.join(said)}."] if said else []


def _ours_text(value: float, quantity: str) -> str:
    return f"{value:.0f}" if quantity == "depth" else f"{value:.2f}"


def _at_test_sizes(sizes: Mapping[str, float | None], shown: _PaperTable, costs: Costs) -> list[str]:
    """MACs at the test sizes of the errors; the paper's MACs are at 224 px nevertheless (Attention-92: 10.4 G)."""
    found = []
    for network, size in sizes.items():
        if size is not None and size != shown.image_size:
            macs = costs.get(at_full_width(network, shown.num_classes, int(size)), {}).get("macs")
            if macs is not None:
                found.append(f"{names.NETWORKS.get(network, network)} {macs / 1e9:.2f} G at {size:.0f} px")
    there = f" MACs there: {', '.join(found)}." if found else ""
    return [f"px: side of the paper's test image, which its MACs do not follow.{there}"]
