"""The runs of the studies `cifar` and `imagenet` by network, for the paper's Tables 6 and 7."""

from collections.abc import Mapping, Sequence

from analysis.tables import captions
from analysis.tables.cell_results import CellRuns, RunResult, collect
from analysis.tables.cells import MINUS, Difference
from analysis.tables.contrasts import marked, measure_error, mixed
from analysis.tables.network_table import Costs, NetworkRuns
from analysis.tables.study_table import cell_count, safe_stem
from records import names
from records.study_json import StudyRecord

# Table -> data set -> quantity of published.csv -> the metric that measures it.
QUANTITIES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "6": {"cifar10": {"cifar10_err": names.FINAL_TEST_ERR}, "cifar100": {"cifar100_err": names.FINAL_TEST_ERR}},
    "7": {"imagenet": {"top1_err": names.FINAL_TEST_ERR, "top5_err": names.FINAL_TEST_ERR5}},
}
# The comparisons of the paper's Table 7 for which we have both networks.
_PAIRS = {
    "attention56_imagenet": "resnet152_imagenet",
    "attentionnext56_imagenet": "resnext101_32x4d_imagenet",
}


def fits(study: StudyRecord) -> bool:
    """Whether a study's runs fit the paper's table of networks."""
    datasets = QUANTITIES.get(study.table or "", {})
    return study.dataset in datasets and [axis.name for axis in study.axes] == ["network"]


def network_runs(studies: Sequence[StudyRecord], runs: Mapping[str, RunResult], costs: Costs) -> NetworkRuns:
    """Returns the results of studies that differ only in the data set, by the networks of their table."""
    first = studies[0]
    cells = {study.dataset: _by_network(study, runs) for study in studies}
    measured = {
        quantity: (study, cells[study.dataset], metric)
        for study in studies
        for quantity, metric in QUANTITIES[first.table or ""][study.dataset].items()
    }
    baselines = _PAIRS if first.table == "7" else _against_one(first)
    contrasts = {
        (network, quantity): measure_error(study, [(1, found[network]), (-1, found[baseline])], metric)
        for quantity, (study, found, metric) in measured.items()
        for network, baseline in baselines.items()
        if network in found and baseline in found
    }
    starred, says_over = marked(contrasts), mixed(contrasts.values())
    expected = {
        (network, quantity): len(cell_runs.values(metric))
        for quantity, (_, found, metric) in measured.items()
        for network, cell_runs in found.items()
    }
    differences = {
        place: Difference(one.shown, expected[place], marked=place in starred, says_over=says_over)
        for place, one in contrasts.items()
    }
    everything = [cell_runs for found in cells.values() for cell_runs in found.values()]
    counted = next(iter(cells.values()))
    return NetworkRuns(
        errors={
            (network, quantity): found[network].measure(metric)
            for quantity, (_, found, metric) in measured.items()
            for network in found
        },
        seeds={
            (network, quantity): found[network].count(metric)
            for quantity, (_, found, metric) in measured.items()
            for network in found
        },
        differences=differences,
        difference_header=_header(first),
        networks={network: cell_runs.network for network, cell_runs in counted.items()},
        counts={
            (network, quantity): cell_count(cell_runs, quantity, costs)
            for network, cell_runs in counted.items()
            for quantity in ("params", "macs")
        },
        caption=(
            *captions.opening_sentences(studies, [list(cells[study.dataset].values()) for study in studies]),
            *_tested_at(everything if first.table == "7" else []),
            *captions.difference_sentences(_name(first), contrasts),
            *captions.closing_sentences(everything),
        ),
        stem=safe_stem(
            f"table{first.table}",
            *(study.dataset for study in studies if len(studies) == 1),
            first.profile,
            overrides=first,
        ),
    )


def _by_network(study: StudyRecord, runs: Mapping[str, RunResult]) -> dict[str, CellRuns]:
    return {str(cell[0]): cell_runs for cell, cell_runs in collect(study, runs).items()}


def _against_one(study: StudyRecord) -> dict[str, str]:
    if study.compare is None:
        return {}
    baseline = str(study.compare.baseline)
    return {str(value): baseline for value in study.axes[0].values if value != baseline}


def _header(study: StudyRecord) -> str:
    return f"{_short(study)} {captions.WITH_INTERVAL}"


def _short(study: StudyRecord) -> str:
    if study.table == "7" or study.compare is None:
        return "difference"
    return f"difference to {study.axes[0].label(study.compare.baseline)}"


def _name(study: StudyRecord) -> str:
    """The two sides of the difference, in words."""
    if study.table != "7":
        return _short(study)
    axis = study.axes[0]
    pairs = [
        f"{axis.label(network)} {MINUS} {axis.label(baseline)}"
        for network, baseline in _PAIRS.items()
        if network in axis.values and baseline in axis.values
    ]
    return "difference (" + ", ".join(pairs) + ")"


def _tested_at(cells: Sequence[CellRuns]) -> list[str]:
    """The size of our test images, which may differ from the paper's."""
    sizes = set()
    for cell_runs in cells:
        for run in cell_runs.by_seed.values():
            given = (run.params.get(f"data.{name}", "") for name in ("test_size", "image_size"))
            known = [int(text) for text in given if text.isdecimal()]
            sizes |= {known[0]} if known else set() if cell_runs.network is None else {cell_runs.network.image_size}
    return [f"Ours: tested at {' and '.join(map(str, sorted(sizes)))} px."] if sizes else []
