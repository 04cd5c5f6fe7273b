"""The figures of a search: its history, the importance and the slices of its parameters, and the Pareto front."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analysis.figures import style
from analysis.figures.figure import CaptionedFigure, MissingFigure
from analysis.tables import captions
from records import names
from records.search_json import INT, PRUNED, ParameterRecord, SearchRecord, Setting, TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERROR = "validation error (%)"
FINISHED_LOOK: dict[str, Any] = {"linestyle": "none", "marker": "o", "color": style.COLOURS[0], "markersize": 3.5}
PRUNED_LOOK: dict[str, Any] = {
    "linestyle": "none", "marker": "o", "color": style.MUTED, "markerfacecolor": "white", "markersize": 3,
    "markeredgewidth": 0.7,
}  # fmt: skip
LOST_LOOK: dict[str, Any] = {"linestyle": "none", "marker": "x", "color": style.COLOURS[1], "markersize": 4}
BEST_LOOK: dict[str, Any] = {"linestyle": "none", "marker": "*", "color": style.COLOURS[2], "markersize": 8}
BASE_LOOK: dict[str, Any] = {"color": style.MUTED, "linestyle": "--", "linewidth": 0.9}
COLUMNS = 4
FEW = 8
WORDS = {
    "optim.lr": "learning rate", "optim.weight_decay": "weight decay", "optim.momentum": "momentum",
    "optim.schedule": "schedule", "optim.label_smoothing": "label smoothing", "train.batch_size": "batch size",
    "model.mask_activation": "mask activation", "model.mask_structure": "mask structure",
    "model.learning": "learning", "model.width": "width", "model.p": "p", "model.t": "t", "model.r": "r",
    "error": "validation error", "macs": "multiply-adds",
}  # fmt: skip


def figures_of(search: SearchRecord, kinds: Sequence[str]) -> Iterator[CaptionedFigure | MissingFigure]:
    """Yields the figures of these kinds and the missing ones. Raises KeyError for a kind that is not in KINDS."""
    for kind in kinds:
        title, draw, lacks = KINDS[kind]
        if missing := lacks(search):
            yield MissingFigure(
                kind, f"no figure {kind} of {search.name} ({search.dataset}, {search.profile}): {missing}"
            )
            continue
        yield CaptionedFigure(
            kind=f"search {kind}",
            stem=f"search-{kind}-{_stem(search)}",
            title=f"{title}: {search.title}",
            caption=tuple(_caption(search, kind)),
            draw=lambda draw=draw, title=title: draw(search, f"{title}: {search.title}"),  # type: ignore[misc]
            studies=(),
            fingerprints=(),
        )


def _stem(search: SearchRecord) -> str:
    """Returns the part of file names that tells searches apart; seeds and spaces are not in it."""
    parts = [search.name, search.dataset, search.profile]
    parts += [",".join(search.objectives)] if len(search.objectives) > 1 else []
    if search.overrides:
        parts.append(hashlib.sha256(json.dumps(search.overrides, sort_keys=True).encode()).hexdigest()[:8])
    return re.sub(r"[^\w.-]", "_", "-".join(parts))


def _spoken(name: str) -> str:
    return WORDS.get(name, name.rpartition(".")[2].replace("_", " "))


def _counts(search: SearchRecord) -> str:
    kinds = ((names.FINISHED, "finished"), (PRUNED, "pruned"), (names.DIVERGED, "diverged"), (names.FAILED, "failed"))
    parts = [f"{n} {spoken}" for outcome, spoken in kinds if (n := len(_of(search, outcome)))]
    return f"{len(search.counted)} trials ({', '.join(parts)})"


def _of(search: SearchRecord, outcome: str) -> list[TrialRecord]:
    return [t for t in search.counted if t.over and t.outcome == outcome]


def _subtitle(search: SearchRecord) -> str:
    n = len(search.seeds)
    parts = [f"search {search.name}", captions.dataset_name(search.dataset, []), f"profile {search.profile}"]
    parts += [f"{key} = {value}" for key, value in sorted(search.overrides.items())]
    return " · ".join([*parts, f"{_counts(search)}, {n} seed{'' if n == 1 else 's'} each"])


def _caption(search: SearchRecord, kind: str) -> Iterator[str]:
    n = len(search.seeds)
    yield f"Search: {search.name}. Data: {captions.dataset_name(search.dataset, [])}. Profile: {search.profile}."
    yield from captions.overrides_sentence(search.overrides)
    yield f"{_counts(search)}, each the mean of {n} seed{'' if n == 1 else 's'}."
    images = "" if search.val_images is None else f"{search.val_images:,} "
    yield f"Error: on the {images}validation images that the search chooses by, so the lowest is too low an estimate."
    if kind == "importances":
        yield "Share of the spread of the complete trials that a parameter explains (fANOVA); few trials say little."
    if kind in ("history", "slices") and _of(search, PRUNED):
        yield "Pruned trials stand at their last error on the way."
    if kind == "slices":
        yield "Dashed: the base. A panel shows one parameter while all others vary."


def _no_trial(search: SearchRecord) -> str:
    return "" if search.finished else f"no trial has finished; `{search.command} --trials 40` continues"


def _no_importances(search: SearchRecord) -> str:
    return "" if search.importances else f"too few trials, or the search is not over; `{search.command} --trials 40`"


def _no_front(search: SearchRecord) -> str:
    if len(search.objectives) == 1:
        return f"it has one objective; `{search.command} --objectives error,macs --trials 40` has two"
    return _no_trial(search)


def _height(trial: TrialRecord) -> float:
    """The y value of a trial: its error, or the last error of a pruned trial."""
    value = trial.last_error if trial.error is None else trial.error
    return float("nan") if value is None else value


def _scale(search: SearchRecord, axes: Sequence["Axes"]) -> float:
    """Sets the scale of the errors; returns the y value of the marks of trials without an error."""
    shown = [_height(t) for t in (*search.finished, *_of(search, PRUNED)) if _height(t) == _height(t)]
    low, high = min(shown), max(shown)
    room = max(high - low, 1.0)
    top = high + 0.16 * room
    for one in axes:
        one.set_ylim(low - 0.06 * room, top + 0.06 * room)
    return top


def _lost(search: SearchRecord) -> list[TrialRecord]:
    return _of(search, names.DIVERGED) + _of(search, names.FAILED)


def _key(figure: "Figure", search: SearchRecord, *more: tuple[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    looks = [("finished", FINISHED_LOOK)]
    looks += [("pruned, at its last error", PRUNED_LOOK)] if _of(search, PRUNED) else []
    looks += [("diverged or failed", LOST_LOOK)] if _lost(search) else []
    handles: list[Any] = [Line2D([], [], label=label, **look) for label, look in (*looks, *more)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)))


def _history(search: SearchRecord, title: str) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    figure = style.new_figure(style.PAGE, 2.4, title, _subtitle(search))
    axes = figure.subplots()
    top = _scale(search, [axes])
    best, line = float("inf"), []
    for t in search.counted:
        if t.error is not None:
            best = min(best, t.error)
        line.append((t.number, best))
    so_far: dict[str, Any] = {"color": style.COLOURS[0], "linewidth": 1.0, "drawstyle": "steps-post"}
    axes.plot([x for x, _ in line], [y if y < float("inf") else float("nan") for _, y in line], **so_far)
    axes.plot([t.number for t in search.finished], [_height(t) for t in search.finished], **FINISHED_LOOK)
    pruned = [t for t in _of(search, PRUNED) if t.last_error is not None]
    axes.plot([t.number for t in pruned], [_height(t) for t in pruned], **PRUNED_LOOK)
    axes.plot([t.number for t in _lost(search)], [top for _ in _lost(search)], **LOST_LOOK)
    axes.set_xlabel("trial")
    axes.set_ylabel(ERROR)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    style.grid(axes)
    _key(figure, search, ("lowest so far", {key: value for key, value in so_far.items() if key != "drawstyle"}))
    return figure


def _importances(search: SearchRecord, title: str) -> "Figure":
    objectives = [name for name in search.objectives if name in search.importances]
    first = search.importances[objectives[0]]
    order = sorted(search.space, key=lambda name: first.get(name, 0.0))
    height = 0.45 + 0.19 * len(order)
    width = style.COLUMN if len(objectives) == 1 else style.PAGE
    figure = style.new_figure(width, height, title, _subtitle(search))
    row = figure.subplots(1, len(objectives), squeeze=False, sharey=True)[0]
    for axes, objective in zip(row, objectives, strict=True):
        shares = [100 * search.importances[objective].get(name, 0.0) for name in order]
        axes.barh(range(len(order)), shares, color=style.COLOURS[0], height=0.62)
        for y, share in enumerate(shares):
            axes.annotate(
                f"{share:.0f}", (share, y), xytext=(2, 0), textcoords="offset points", va="center", fontsize=6
            )
        axes.set_yticks(range(len(order)), [_spoken(name) for name in order])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max(shares) * 1.12 or 1)
        axes.set_xlabel(f"share of the spread of the {_spoken(objective)} (%)")
        style.grid(axes, "x")
    return figure


def _slices(search: SearchRecord, title: str) -> "Figure":
    rows = -(-len(search.space) // COLUMNS)
    columns = -(-len(search.space) // rows)
    width = style.PAGE if columns > 2 else style.COLUMN * max(1, columns)
    figure = style.new_figure(width, 1.55 * rows + 0.3, title, _subtitle(search))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    panels = list(grid.flat)
    top = _scale(search, panels[:1])
    best = min(search.finished, key=lambda t: (_height(t), t.number))
    for axes, name in zip(panels, search.space, strict=False):
        _slice(axes, search, name, best, top)
    for axes in panels[len(search.space) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(ERROR)
    base = [("base", BASE_LOOK)] if any(_has_base(search, name) for name in search.space) else []
    _key(figure, search, (f"the lowest, trial {best.number}", BEST_LOOK), *base)
    return figure


def _has_base(search: SearchRecord, name: str) -> bool:
    parameter, base = search.space[name], search.base.get(name)
    if parameter.choices:
        return base in parameter.choices
    return isinstance(base, (int, float)) and parameter.low <= base <= parameter.high


def _slice(axes: "Axes", search: SearchRecord, name: str, best: TrialRecord, top: float) -> None:
    parameter, base = search.space[name], search.base.get(name)
    choices = _choices(parameter)

    def place(t: TrialRecord) -> float:
        value = t.params[name]
        if not choices:
            return float(value)  # type: ignore[arg-type]
        # Shifted sideways by the trial's number, so that dots of one choice do not cover each other.
        return choices.index(value) + 0.5 * ((t.number * 0.618) % 1 - 0.5)

    there = [t for t in search.counted if name in t.params]
    groups = (
        ([t for t in there if t in _of(search, PRUNED) and t.last_error is not None], None, PRUNED_LOOK),
        ([t for t in there if t.error is not None and t is not best], None, FINISHED_LOOK),
        ([t for t in there if t in _lost(search)], top, LOST_LOOK),
        ([best] if best in there else [], None, BEST_LOOK),
    )
    for found, height, look in groups:
        axes.plot([place(t) for t in found], [_height(t) if height is None else height for t in found], **look)
    if choices:
        axes.set_xticks(range(len(choices)), [str(choice).replace("_", " ") for choice in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
        if _has_base(search, name):
            axes.axvline(choices.index(base), **BASE_LOOK, zorder=0.5)
    else:
        _range(axes, parameter)
        if _has_base(search, name):
            axes.axvline(float(base), **BASE_LOOK, zorder=0.5)  # type: ignore[arg-type]
    axes.set_xlabel(_spoken(name))
    style.grid(axes)


def _choices(parameter: ParameterRecord) -> tuple[Setting, ...]:
    """The values of a parameter with few values, () for a range; short ranges of integers are drawn like names."""
    if parameter.choices or parameter.kind != INT or parameter.high - parameter.low >= FEW:
        return parameter.choices
    return tuple(range(int(parameter.low), int(parameter.high) + 1))


def _range(axes: "Axes", parameter: ParameterRecord) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = parameter.low, parameter.high
    if parameter.log:
        factor = (high / low) ** 0.05
        axes.set_xscale("log")
        axes.set_xlim(low / factor, high * factor)
        style.log_ticks(axes.xaxis, low, high)
        return
    room = 0.05 * (high - low) or 0.5
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=parameter.kind == INT))


def _front(search: SearchRecord, title: str) -> "Figure":
    figure = style.new_figure(style.COLUMN, 2.5, title, _subtitle(search))
    axes = figure.subplots()
    by_number = {t.number: t for t in search.finished}
    front = [by_number[number] for number in search.front if number in by_number]
    others = [t for t in search.finished if t not in front and t.macs]
    dominated = PRUNED_LOOK | {"markersize": 3.5}
    axes.plot([_giga(t) for t in others], [_height(t) for t in others], **dominated)
    line = sorted(front, key=_giga)
    steps: dict[str, Any] = {"color": style.COLOURS[0], "linewidth": 1.0, "drawstyle": "steps-post"}
    axes.plot([_giga(t) for t in line], [_height(t) for t in line], **steps)
    axes.plot([_giga(t) for t in line], [_height(t) for t in line], **FINISHED_LOOK)
    for t in line:
        axes.annotate(
            str(t.number), (_giga(t), _height(t)), xytext=(3, 3), textcoords="offset points", fontsize=6
        )  # fmt: skip
    if search.base_macs:
        axes.axvline(search.base_macs / 1e9, **BASE_LOOK, zorder=0.5)
    axes.set_xlabel("multiply-adds of an image (G)")
    axes.set_ylabel(ERROR)
    axes.margins(x=0.08, y=0.1)
    style.grid(axes)
    from matplotlib.lines import Line2D

    handles: list[Any] = [Line2D([], [], label="front, with its trials", **FINISHED_LOOK)]
    handles += [Line2D([], [], label="beaten in both", **dominated)] if others else []
    handles += [Line2D([], [], label="the base's multiply-adds", **BASE_LOOK)] if search.base_macs else []
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _giga(trial: TrialRecord) -> float:
    return (trial.macs or 0.0) / 1e9


# By the name that --figure takes: title, drawing function, and a function that returns what is missing ("" if nothing).
KINDS: dict[str, tuple[str, Callable[[SearchRecord, str], "Figure"], Callable[[SearchRecord], str]]] = {
    "history": ("Trials of a search", _history, _no_trial),
    "importances": ("Which parameters matter", _importances, _no_importances),
    "slices": ("Each parameter against the error", _slices, _no_trial),
    "front": ("Error against multiply-adds", _front, _no_front),
}
