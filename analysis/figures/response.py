"""Figure 4: mean absolute response by stage, relative to the first, of Attention-164 (ARL, NAL) and ResNet-164.

The response of the trained networks is read from their probes, the response over training from their curves.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures import captions, style
from analysis.figures.curves_over_seeds import FigureCell, band, cells_of, noisy, protocol
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.read.published import published_value
from analysis.tables.cell_results import RunResult
from records import names
from records.study_json import StudyRecord, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.read.results import Results

MEAN = "geometric mean"  # as the claims on them: ratios are analysed as logarithms
RANGE = "lowest to highest seed"
TITLE = "Mean response of the stages, relative to stage 1"


@dataclass(frozen=True)
class _ResponseNetwork:
    """One of the figure's networks, with its names in published.csv and in the parameters of a run."""

    label: str
    published: Mapping[str, Value]
    model: str
    learning: str | None
    """None for a network without masks"""


NETWORKS = (
    _ResponseNetwork(
        label="Attention-164 ARL",
        published={"network": "attention164", "learning": "arl"},
        model="attention164",
        learning="arl",
    ),
    _ResponseNetwork(
        label="Attention-164 NAL",
        published={"network": "attention164", "learning": "nal"},
        model="attention164",
        learning="nal",
    ),
    _ResponseNetwork(label="ResNet-164", published={"network": "resnet164"}, model="resnet164", learning=None),
)


@dataclass(frozen=True)
class _Responses:
    """The responses of one network, by seed: run, trained response by stage, curve of each stage; and their cells."""

    network: _ResponseNetwork
    runs: dict[int, str]
    trained: dict[int, list[float]]
    curves: dict[int, dict[int, list[tuple[int, float]]]]
    cells: list[FigureCell]
    diverged: list[FigureCell]
    """cells of this network with a diverged run, which has no response"""


def response(results: "Results", studies: Sequence[StudyRecord]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields Figure 4 and the response over training for each data set, profile and set of overrides."""
    for group in captions.comparable_groups(studies):
        found = _collect(group, results)
        left_out = captions.diverged_sentences(cell for f in found for cell in f.diverged)
        trained, over = [f for f in found if f.trained], [f for f in found if f.curves]
        if trained:
            yield _drawn("response", TITLE, trained, (*_caption(trained), *left_out), _draw)
        else:
            yield MissingFigure(
                "4", captions.missing_message("4", "no run of depth 164 with probes", "depth_response", group[0])
            )
        if len(_steps(over)) > 1:
            caption = (*_caption(over, over=True), *left_out)
            yield _drawn("training", f"{TITLE}, over training", over, caption, _draw_over)
        elif over:
            where = captions.data_line(group[0])
            yield MissingFigure("4", f"no figure 4 over training of {where}: its runs were evaluated once, at the end")
        else:
            what = "no run of depth 164 with its response over training"
            yield MissingFigure("4", captions.missing_message("4", what, "depth_response", group[0]))


def _drawn(name: str, title: str, shown: list[_Responses], caption: tuple[str, ...], draw: Any) -> CaptionedFigure:
    cells = [cell for f in shown for cell in f.cells]
    return CaptionedFigure(
        kind="4",
        stem=captions.file_stem("figure4", name, study=cells[0].study),
        title=title,
        caption=caption,
        draw=lambda: draw(shown, cells, title),
        studies=captions.studies_of(cells),
        fingerprints=tuple(fingerprint for f in shown for fingerprint in f.runs.values()),
    )


def _collect(group: Sequence[StudyRecord], results: "Results") -> list[_Responses]:
    """The runs of each network, first from the study `depth_response`; all with the same training settings."""
    preferred = {name: i for i, name in enumerate(("depth_response", "arl_vs_nal"))}
    ordered = sorted(group, key=lambda study: preferred.get(study.name, len(preferred)))
    cells = [cell for study in ordered for cell in cells_of(study, results)]
    there = [(cell, seed, fingerprint) for cell in cells for seed, fingerprint in cell.finished.items()]
    found: list[_Responses] = []
    first: tuple[str, ...] | None = None
    for network in NETWORKS:
        runs: dict[int, str] = {}
        trained: dict[int, list[float]] = {}
        curves: dict[int, dict[int, list[tuple[int, float]]]] = {}
        used: list[FigureCell] = []
        for cell, seed, fingerprint in there:
            run = cell.runs.by_seed[seed]
            if seed in runs or not _is(network, run) or (first is not None and protocol(run) != first):
                continue
            relative = _relative(results.probes(fingerprint) or {})
            over = _over_training(results.curves(fingerprint))
            if not relative and not over:
                continue
            first = protocol(run)
            runs[seed] = fingerprint
            trained |= {seed: relative} if relative else {}
            curves |= {seed: over} if over else {}
            used += [cell] if cell not in used else []
        diverged = [cell for cell in cells if any(_is(network, cell.runs.by_seed[seed]) for seed in cell.diverged)]
        found.append(
            _Responses(network=network, runs=runs, trained=trained, curves=curves, cells=used, diverged=diverged)
        )
    return found


def _is(network: _ResponseNetwork, run: RunResult) -> bool:
    """Whether a run trained this network as the paper did: with its own mask, without label noise."""
    standard = {"model.mask_structure": "encoder_decoder", "model.mask_activation": "mixed"}
    standard |= {} if network.learning is None else {"model.learning": network.learning}
    unset = ("", "None")  # how a parameter that is None is logged
    own = all(run.params.get(key, value) == value for key, value in standard.items())
    changed = any(run.params.get(key, "") not in unset for key in ("model.p", "model.t", "model.r"))
    return run.params.get("model.name") == network.model and own and not changed and not noisy(run)


def _relative(probes: Mapping[str, Any]) -> list[float]:
    """The response by stage divided by the first stage's; [] if there is none or it is not usable."""
    try:
        absolute = [float(value) for value in probes["response"]["mean_abs"]]
    except (LookupError, TypeError, ValueError):
        return []
    if not absolute or not all(math.isfinite(value) for value in absolute) or absolute[0] == 0:
        return []
    return [value / absolute[0] for value in absolute]


def _over_training(curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict[int, list[tuple[int, float]]]:
    """The curves of the stages from the second on, relative to the first; {} if there are none.

    Step 0, which the first runs logged, is left out: BatchNorm has no statistics yet, and evaluation mode needs them.
    """
    stages: list[dict[int, float]] = []
    while curve := curves.get(names.RESPONSE.format(len(stages) + 1)):
        stages.append(dict(curve))
    if len(stages) < 2:
        return {}
    first = {step: value for step, value in stages[0].items() if step > 0 and value != 0 and math.isfinite(value)}
    return {
        number: [(step, values[step] / first[step]) for step in sorted(values.keys() & first.keys())]
        for number, values in enumerate(stages[1:], 2)
    }


def _steps(shown: Sequence[_Responses]) -> set[int]:
    """The steps of all curves."""
    return {step for f in shown for run in f.curves.values() for curve in run.values() for step, _ in curve}


def _caption(shown: Sequence[_Responses], over: bool = False) -> list[str]:
    cells = [cell for f in shown for cell in f.cells]
    counts = captions.seeds_text(len(f.curves if over else f.trained) for f in shown)
    measure = (
        "Mean absolute value of a stage's output (raw sum of its last unit) over test images, divided by stage 1's"
    )
    if over:
        ours = f"{counts}; line: {MEAN}, band: {RANGE} (none for n = 1), measured at each evaluation."
    else:
        ours = f"{counts}; marker: {MEAN}, bar: {RANGE}."
    sentences = [*captions.source_sentences(cells), ours, f"{measure}; logarithmic scale."]
    sentences.append("Grey: the paper's Figure 4 (CIFAR-10), read from its drawing.")
    missing = [network.label for network in NETWORKS if network not in [f.network for f in shown]]
    return sentences + [f"No runs of {', '.join(missing)}."] * bool(missing)


def _published(network: _ResponseNetwork, stages: int) -> list[float]:
    values = [
        published_value("figure4", {**network.published, "stage": stage}, "relative_response")
        for stage in range(1, stages + 1)
    ]
    return [] if None in values else [value for value in values if value is not None]


def _draw(shown: Sequence[_Responses], cells: Sequence[FigureCell], title: str) -> "Figure":
    counts = captions.seeds_text(len(f.trained) for f in shown)
    marker = f"marker: {MEAN}, bar: {RANGE}" if any(len(f.trained) > 1 for f in shown) else "marker: the one run"
    figure = style.new_figure(style.COLUMN, 2.7, title, f"{captions.source_line(cells)} · {counts} · {marker}")
    axes = figure.subplots()
    stages = max(len(values) for f in shown for values in f.trained.values())
    for i, network in enumerate(NETWORKS):
        theirs = _published(network, stages)
        look = style.look(i) | {"color": style.MUTED, "linewidth": 0.8, "markerfacecolor": "white"}
        axes.plot(range(1, len(theirs) + 1), theirs, **look, zorder=1.5, label=f"{network.label}, published")
    for f in shown:
        i = NETWORKS.index(f.network)
        columns = [[values[k] for values in f.trained.values() if k < len(values)] for k in range(stages)]
        x = [k + 1 + 0.05 * (i - 1) * (k > 0) for k in range(stages)]
        axes.plot(x, [_geometric_mean(column) for column in columns], **style.look(i), label=f.network.label)
        axes.vlines(x, [min(c) for c in columns], [max(c) for c in columns], color=style.COLOURS[i], linewidth=1)
    _scale(axes)
    axes.set_xticks(range(1, stages + 1), [f"stage {k}" for k in range(1, stages + 1)])
    axes.set_ylabel("relative mean response")
    axes.margins(x=0.08)
    handles, labels = axes.get_legend_handles_labels()
    ours = [k for k, label in enumerate(labels) if not label.endswith("published")]
    order = [*ours, *(k for k in range(len(labels)) if k not in ours)]
    figure.legend(
        [handles[k] for k in order], [labels[k] for k in order], loc="outside lower center",
        ncols=2 if len(ours) == len(NETWORKS) else 1,
    )  # fmt: skip
    return figure


def _draw_over(shown: Sequence[_Responses], cells: Sequence[FigureCell], title: str) -> "Figure":
    counts = captions.seeds_text(len(f.curves) for f in shown)
    several = any(len(f.curves) > 1 for f in shown)
    line = f"line: {MEAN}, band: {RANGE}" if several else "line: the one run"
    figure = style.new_figure(
        style.PAGE if len(shown) > 1 else style.COLUMN, 2.2, title, f"{captions.source_line(cells)} · {counts} · {line}"
    )
    row = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    last = max(_steps(shown))
    for axes, f in zip(row, shown, strict=True):
        stages = sorted({stage for run in f.curves.values() for stage in run})
        theirs = _published(f.network, max(stages))
        axes.axhline(1, color=style.MUTED, linewidth=0.6)
        for stage in stages:
            found = band(run[stage] for run in f.curves.values() if stage in run)
            if found is None:
                continue
            look = style.line_look(stage - 2) | {"label": f"stage {stage}"}
            style.curve(axes, found.steps, found.geometric_mean, found.extent(), look)
            if len(theirs) >= stage:
                axes.plot(
                    [last],
                    theirs[stage - 1 : stage],
                    color=style.MUTED,
                    marker="so^"[stage % 3],
                    markerfacecolor="white",
                    linestyle="",
                    label=f"stage {stage}, published (trained)",
                    clip_on=False,
                )
        axes.set_title(f.network.label)
        axes.set_xlabel("step")
        style.step_axis(axes, last)
        _scale(axes)
    row[0].set_ylabel("response relative to stage 1")
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _geometric_mean(values: Sequence[float]) -> float:
    """0 if one of them is."""
    return statistics.geometric_mean(values) if min(values) > 0 else 0.0


def _scale(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(base=10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.plain(value)))
    axes.yaxis.set_minor_locator(LogLocator(base=10, subs=(2, 5)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, axis="y", which="both")
