"""Every kind of figure: what it shows of complete and incomplete studies, what it says, and that it can be printed."""

import base64
import itertools
import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from results_lab import interval
from scipy.stats import gmean
from synthetic import results_of, study_lines

from analysis.claims.paper import CLAIMS
from analysis.figures import FIGURES, CaptionedFigure, collect_figures, forest, render
from analysis.figures.cost import _free, _hits
from analysis.figures.curves_over_seeds import band, windows
from analysis.figures.depth import DEPTH
from analysis.figures.error_vs_axis import _limits
from analysis.figures.points import lines_of
from analysis.figures.style import look, new_figure, styled
from analysis.options import select
from analysis.read.results import Results
from records import names


@pytest.fixture(autouse=True)
def _no_store(empty_folder: Path) -> None:
    """No default store is found, so that the archive alone counts."""


def half_done(cell: dict[str, Any], seed: int) -> str | None:
    """One diverged run and one that never was."""
    if (cell.get("depth"), cell.get("learning"), seed) == (164, "nal", 1):
        return names.DIVERGED
    return None if (cell.get("depth"), cell.get("learning"), seed) == (128, "arl", 2) else names.FINISHED


def figures(kind: str, *lines: list[dict[str, Any]], overrides: bool = False) -> list[CaptionedFigure]:
    results = results_of(Path("archive"), *lines)
    return collect_figures(results, select(results.studies, overrides=overrides), [kind])[0]


def only(kind: str, *lines: list[dict[str, Any]]) -> CaptionedFigure:
    (drawn,) = figures(kind, *lines)
    return drawn


def draw(drawn: CaptionedFigure) -> Figure:
    with styled():
        figure = drawn.draw()
        FigureCanvasAgg(figure)
        figure.set_dpi(144)
        figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


def line(axes: Any, label: str) -> Any:
    return next(found for found in axes.lines if found.get_label() == label)


def errors(results: Results, cell: dict[str, Any], study: str = "arl_vs_nal") -> list[float]:
    """The test errors of the finished runs of a cell."""
    record = next(s for s in results.studies if s.name == study)
    marks = record.cells()[tuple(cell.values())].values()
    runs = results.runs.set_index("fingerprint")["test_err"].dropna()
    return [float(runs[mark]) for mark in marks if mark in runs.index]


# What a reader sees of all kinds.


def test_a_number_of_seeds_stays_on_one_line() -> None:
    subtitle = new_figure(
        3.5, 2.0, "title", "arl_vs_nal · cluttershapes (built-in, synthetic) · profile quick-2 · n = 3 seeds"
    )
    lines = subtitle.texts[1].get_text().splitlines()
    assert len(lines) == 2
    assert any("n = 3" in text for text in lines)


def faults(figure: Figure) -> list[str]:
    """Texts that leave the figure or cover each other, as printed."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    hidden: set[int] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            shown = set(map(id, axis._update_ticks())) if axes.axison and axes.get_visible() else set()
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                hidden |= set() if id(tick) in shown else {id(tick.label1), id(tick.label2)}
            hidden |= set() if axes.axison and axes.get_visible() else {id(axis.label), id(axes.title)}
    boxes = []
    for text in figure.findobj(Text):
        axes = getattr(text, "axes", None)
        there = text.get_visible() and id(text) not in hidden and (axes is None or axes.get_visible())
        if there and text.get_text().strip():
            boxes.append((text.get_text(), Text.get_window_extent(text, renderer)))
    frame = figure.bbox
    found = [
        f"outside: {text!r}"
        for text, box in boxes
        if min(box.x0 - frame.x0, box.y0 - frame.y0, frame.x1 - box.x1, frame.y1 - box.y1) < -0.5
    ]
    found += [f"TeX: {text!r}" for text, _ in boxes if "\\math" in text]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1.5:
            found.append(f"{one!r} covers {other!r}")
    return found


EVERYTHING = ("arl_vs_nal", "noisy_labels", "cifar", "mask_structure", "gates", "depth_response", "budget")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, list[CaptionedFigure]]:
    """All figures of seven studies, three seeds each, one run diverged and one missing."""
    lines = [study_lines(name, outcomes=half_done) for name in EVERYTHING]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("everything"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        results = results_of(Path("archive"), *lines)
    return results, collect_figures(results, select(results.studies))[0]


def test_every_kind_is_there_and_says_what_it_is(everything: tuple[Results, list[CaptionedFigure]]) -> None:
    results, drawn = everything
    assert list(dict.fromkeys(one.kind for one in drawn)) == list(FIGURES)
    stems = [one.stem for one in drawn]
    assert len(set(stems)) == len(stems)
    assert all(re.fullmatch(r"[\w.-]+-cifar10-short-1", stem) for stem in stems)
    known = set(results.runs["fingerprint"])
    for one in drawn:
        caption = " ".join(one.caption)
        assert all(study.name in caption for study in one.studies)
        assert "Data: CIFAR-10. Profile: short-1." in caption
        assert re.search(r"\bn = \d", caption)
        assert one.fingerprints
        assert set(one.fingerprints) <= known
        planned = {run.fingerprint for study in one.studies for run in study.runs}
        assert set(one.fingerprints) <= planned


# The largest of each kind: 8 cells by 3 seeds, 10 cells, 7 networks, 5 gates, all cells of a profile.
PRINTED = (
    "curves-arl_vs_nal", "curves-noisy_labels", "curves-cifar", "curves-gates", "depth-arl_vs_nal",
    "noise-noisy_labels", "cost", "figure1-masks-arl_vs_nal", "figure2-attention56", "figure2-attention452-p2t4r3",
    "figure2-attention56-se", "figure3-receptive-fields-arl_vs_nal", "figure3-receptive-fields-mask_structure",
    "figure4-response", "figure4-training", "budget-budget",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stem", PRINTED)
def test_no_text_is_cut_or_covered(everything: tuple[Results, list[CaptionedFigure]], stem: str) -> None:
    drawn = next(one for one in everything[1] if one.stem == f"{stem}-cifar10-short-1")
    figure = draw(drawn)
    assert faults(figure) == []
    width, height = figure.get_size_inches()
    assert width <= 7.21
    assert height <= 10.5
    head = " ".join(texts(figure).split())
    assert " ".join(drawn.title.split()) in head
    assert all(part in head for part in ("CIFAR-10", "short-1"))


def test_what_is_compared_differs_without_colour() -> None:
    looks = [look(i) for i in range(7)]
    assert len({(str(one["linestyle"]), one["marker"]) for one in looks}) == 7
    assert len({str(one["linestyle"]) for one in looks}) == 7


def test_files_are_the_same_each_time_and_embed_their_fonts() -> None:
    drawn = figures("4", study_lines("depth_response", (0,)))[0]
    png, pdf = render(drawn, "png"), render(drawn, "pdf")
    assert (png, pdf) == (render(drawn, "png"), render(drawn, "pdf"))
    assert png.startswith(b"\x89PNG")
    assert b"pHYs" in png
    per_metre = int.from_bytes(png[png.index(b"pHYs") + 4 :][:4], "big")
    assert per_metre * 0.0254 >= 199.9
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"Date" not in pdf
    with pytest.raises(ValueError, match=r"unknown format 'gif'\. Valid: png, pdf\."):
        render(drawn, "gif")


def test_profiles_data_sets_and_overrides_never_mix() -> None:
    lines = [
        study_lines("depth_response", (0,)),
        study_lines("depth_response", (0,), profile="paper-1", start=5.5, steps=160_000),
        study_lines("depth_response", (0,), dataset="cifar100", start=60),
        study_lines("depth_response", (0,), overrides={"optim.lr": 0.3}),
    ]
    results = results_of(Path("archive"), *lines)
    plain, _ = collect_figures(results, select(results.studies))
    changed, _ = collect_figures(results, select(results.studies, overrides=True))
    assert len({one.stem for one in plain + changed}) == len(plain + changed)
    runs = results.runs.set_index("fingerprint")
    for one in plain + changed:
        where = {study.key[1:] for study in one.studies}
        assert len(where) == 1
        found = runs.loc[list(one.fingerprints), ["profile", "dataset", "overrides"]]
        assert {tuple(row) for row in found.to_numpy()} == where
    assert {kind for one in changed for kind in one.kind} == {kind for one in plain for kind in one.kind}
    assert all("Overrides: optim.lr = 0.3." in one.caption for one in changed)
    assert all("optim.lr = 0.3" in texts(draw(one)) for one in changed if one.kind == "curves")


@pytest.mark.slow
def test_an_archive_of_old_lines_gives_what_it_can_and_says_the_rest() -> None:
    results = results_of(Path("archive"), study_lines("arl_vs_nal", (0, 1), profile="quick-1", old=True))
    drawn, skipped = collect_figures(results, select(results.studies))
    assert [one.kind for one in drawn] == ["claims", "depth", "cost", "curves"]
    assert [gap.kind for gap in skipped] == ["1", "2", "3", "4", "4", "noise", "budget"]
    assert all("\n" not in gap.message and "`python run_ablation.py --study " in gap.message for gap in skipped)
    assert skipped[-2].message == (
        "no figure noise of CIFAR-10 · profile quick-1: no finished run of noisy_labels; "
        "`python run_ablation.py --study noisy_labels --profile quick`"
    )
    assert all(render(one, "png") for one in drawn)


def test_a_study_without_runs_is_skipped_with_the_command_of_its_record() -> None:
    results = results_of(
        Path("archive"), study_lines("mask_type"), study_lines("human_noise", outcomes=lambda cell, seed: None)
    )
    drawn, skipped = collect_figures(results, select(results.studies), ["curves"])
    assert [one.stem for one in drawn] == ["curves-mask_type-cifar10-short-1"]
    assert [gap.message for gap in skipped] == [
        "no figure curves of CIFAR-10 · profile short-1: no run of human_noise with curves; "
        "`python run_ablation.py --study human_noise --profile short`"
    ]


@pytest.mark.parametrize(
    ("field", "broken"),
    [
        ("probes", {"schema": 1}),
        ("probes", {"response": {"mean_abs": [0.0, 1.0]}, "receptive_fields": [{"stage": 1}]}),
        ("probes", {"response": {"mean_abs": [1.0, None]}, "receptive_fields": [{"gradient": {"uint8": "%"}}]}),
        ("probes", {"response": [], "receptive_fields": 3}),
        ("spec", {}),
        ("spec", {"stages": [], "stem": "conv3"}),
        ("masks", base64.b64encode(b"no zip").decode()),
    ],
)
def test_broken_artifacts_are_skipped(field: str, broken: Any) -> None:
    lines = study_lines("depth_response", (0,))
    for one in lines[1:]:
        one[field] = broken
    results = results_of(Path("archive"), lines)
    drawn, skipped = collect_figures(results, select(results.studies))
    kinds = {"probes": {"3", "4"}, "spec": {"2"}, "masks": {"1"}}[field]
    assert {gap.kind for gap in skipped if gap.kind in "1234"} == kinds
    assert {one.stem for one in drawn if one.kind in kinds} <= {"figure4-training-cifar10-short-1"}


# Curves over seeds.


def test_a_last_window_of_a_batch_or_so_is_left_out():
    curve = [(12, 80.0), (24, 70.0), (36, 60.0)]
    assert windows([*curve, (37, 10.0)]) == curve
    assert windows([*curve, (42, 10.0)]) == [*curve, (42, 10.0)], "half a window stays"
    assert windows(curve) == curve
    assert windows(curve[:1]) == curve[:1]


@given(st.lists(st.floats(0, 100), max_size=400), st.integers(1, 50))
def test_windows_keep_the_mean_and_the_last_step(values: list[float], most: int) -> None:
    curve = [(3 * (i + 1), value) for i, value in enumerate(values)]
    wider = windows(curve, most)
    assert len(wider) <= most
    width = -(-len(curve) // most)
    weights = [min(width, len(curve) - i * width) for i in range(len(wider))]
    assert sum(weights) == len(curve)
    total = sum(weight * value for weight, (_, value) in zip(weights, wider, strict=True))
    assert total == pytest.approx(sum(values))
    assert [step for step, _ in wider][-1:] == [step for step, _ in curve][-1:]


@given(
    st.lists(st.dictionaries(st.integers(0, 9), st.floats(-1e6, 1e6), min_size=1), min_size=1, max_size=4),
    st.booleans(),
)
def test_bands_agree_with_numpy_at_the_common_steps(curves: list[dict[int, float]], ends: bool) -> None:
    given_ = [sorted(curve.items()) for curve in curves]
    if ends:
        given_[0].append((99, float("nan")))
    found = band(given_)
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not common:
        assert found is None
        return
    assert found is not None
    values = np.array([[curve[step] for step in common] for curve in curves])
    assert list(found.steps) == common
    assert found.mean == pytest.approx(values.mean(0))
    if len(curves) == 1:
        assert found.deviation() is None
        assert found.extent() is None
        return
    low, high = found.deviation() or ([], [])
    assert high - low == pytest.approx(2 * values.std(0, ddof=1), abs=1e-6)
    assert found.extent() == (pytest.approx(values.min(0)), pytest.approx(values.max(0)))


def test_curves_leave_diverged_runs_out_of_the_mean_and_end_them_in_a_cross() -> None:
    drawn = only("curves", study_lines("arl_vs_nal", outcomes=half_done))
    assert "n = 2 to 3 seeds" in drawn.caption[2]
    assert "Of 24 runs: 1 diverged, 1 not run." in drawn.caption
    figure = draw(drawn)
    assert [axes.get_title() for axes in figure.axes[:4]] == [f"Attention-{d}" for d in (56, 92, 128, 164)]
    last = figure.axes[3]
    crosses = [one for one in last.lines if one.get_marker() == "x"]
    assert len(crosses) == 1
    assert crosses[0].get_xdata()[0] < 250
    whole = [one for one in last.lines if len(one.get_xdata()) == 10]
    assert len(whole) == 2  # ARL and NAL; the diverged run of three has stopped
    assert not [one for axes in figure.axes[:3] for one in axes.lines if one.get_marker() == "x"]


def test_curves_of_one_seed_have_no_band() -> None:
    one, three = (draw(only("curves", study_lines("mask_type", seeds))) for seeds in ((0,), (0, 1, 2)))
    assert [len(axes.collections) for axes in one.axes] == [0, 0]
    assert [len(axes.collections) for axes in three.axes] == [3, 3]
    assert "line: the one run" in texts(one)
    assert "band: mean ± sample standard deviation" in texts(three)


def test_one_evaluation_is_a_marker_with_a_bar_and_no_figure_over_training() -> None:
    lines = study_lines("arl_vs_nal")
    for one in lines[1:]:
        for name in (names.VAL_ERR, *(names.RESPONSE.format(stage) for stage in (1, 2, 3))):
            one["curves"][name] = one["curves"][name][-1:]
    results = results_of(Path("archive"), lines)
    (of_errors,), _ = collect_figures(results, results.studies, ["curves"])
    evaluated = draw(of_errors).axes[0]
    assert [(len(one.get_xdata()), one.get_marker()) for one in evaluated.lines] == [(1, "o")] * 2
    assert len(evaluated.collections) == 2, "the bars"
    (trained,), (missing,) = collect_figures(results, results.studies, ["4"])
    assert "over training" not in trained.title
    assert "evaluated once, at the end" in missing.message


def test_noise_studies_have_a_row_for_each_kind_of_label() -> None:
    figure = draw(only("curves", study_lines("noisy_labels", (0,))))
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["validation error (%)", "training error (%)", "training error\ntrue labels (%)"]
    given_, true = figure.axes[5], figure.axes[10]  # without noise both are one
    assert list(given_.lines[0].get_ydata()) == list(true.lines[0].get_ydata())
    given_, true = figure.axes[9], figure.axes[14]  # 70 %
    assert given_.lines[0].get_ydata()[-1] > true.lines[0].get_ydata()[-1] + 10


def test_paper_profiles_show_the_test_error() -> None:
    figure = draw(only("curves", study_lines("cifar", (0,), profile="paper-1", start=5.5, steps=160_000)))
    assert "test error of ResNet-164" in texts(figure)
    assert "validation" not in texts(figure)
    assert figure.axes[0].get_yscale() == "log"
    assert "100k" in texts(figure)


# Errors against depth and noise.


def test_depth_shows_means_intervals_and_paired_differences() -> None:
    lines = study_lines("arl_vs_nal", outcomes=half_done)
    results, drawn = results_of(Path("archive"), lines), only("depth", lines)
    figure = draw(drawn)
    ours, published, difference = figure.axes
    expected = [np.mean(errors(results, {"depth": d, "learning": "arl"})) for d in (56, 92, 128, 164)]
    means = [one for one in ours.lines if one.get_marker() == "o"]
    assert list(means[0].get_ydata()) == pytest.approx(expected)
    assert [text.get_text() for text in ours.texts] == ["1 div."]
    assert published.get_title() == "published (CIFAR-10)"
    nal = [one for one in published.lines if one.get_marker() == "s"]
    assert list(nal[0].get_ydata()) == [5.89, 5.35, 5.57, 7.18]
    assert difference.get_title() == "NAL \N{MINUS SIGN} ARL"
    paired = [one for one in difference.lines if one.get_marker() == "s" and len(one.get_xdata()) == 4]
    arl, nal_ = (errors(results, {"depth": 56, "learning": learning}) for learning in ("arl", "nal"))
    assert paired[0].get_ydata()[0] == pytest.approx(np.mean(np.subtract(nal_, arl)))
    assert "differs from 0 by Holm's test over the 4 differences" in " ".join(drawn.caption)


def test_the_papers_errors_share_our_axis_where_they_are_near() -> None:
    figure = draw(only("depth", study_lines("arl_vs_nal", profile="paper-1", start=5.5)))
    assert [axes.get_title() for axes in figure.axes] == ["test error", "NAL \N{MINUS SIGN} ARL"]
    grey = [one for one in figure.axes[0].lines if one.get_color() == "#808080"]
    assert [list(one.get_ydata()) for one in grey] == [[5.52, 4.99, 4.44, 4.31], [5.89, 5.35, 5.57, 7.18]]


def test_one_seed_has_no_interval_and_says_so() -> None:
    drawn = only("noise", study_lines("noisy_labels", (0,)))
    figure = draw(drawn)
    assert "marker: the one run" in texts(figure)
    assert all(len(set(one.get_xdata())) > 1 for one in figure.axes[0].lines)  # no bar
    assert [axes.get_title() for axes in figure.axes][-1] == "memorised wrong labels"
    assert list(figure.axes[0].get_xticks()) == [0, 10, 30, 50, 70]


@pytest.mark.parametrize("floor", [0.0, -np.inf])
def test_an_interval_of_two_seeds_does_not_hide_the_values(floor: float) -> None:
    axes = Figure().subplots()
    axes.plot([1, 2], [40.0, 41.0], marker="o")
    _limits(axes, [39.5, 41.5], [interval(40.5, -500.0, 600.0, 2), interval(40.5, None, None, 1), None], floor)
    low, high = axes.get_ylim()
    assert low < 39.5
    assert high > 41.5
    assert high - low < 4 * (41.5 - 39.5)


# All claims, and the effect against the budget.


def test_the_forest_shows_ours_beside_the_papers_turned_to_the_claim() -> None:
    drawn = only("claims", study_lines("arl_vs_nal"))
    figure = draw(drawn)
    points, ratios = figure.axes
    said = texts(figure)
    for claim in CLAIMS:
        assert textwrap.shorten(claim.sentence, 60, placeholder="") in " ".join(said.split())
    assert points.get_ylim()[0] > points.get_ylim()[1], "the first claim stands above"
    diamonds = [float(one.get_xdata()[0]) for one in points.lines if one.get_marker() == "D"]
    assert diamonds[:4] == pytest.approx([0.37, 0.36, 1.13, 2.87]), "ARL - NAL < 0 is drawn to the right"
    dots = [one for one in points.lines if one.get_marker() == "o"]
    bars = [one for one in points.lines if len(one.get_xdata()) == 2 and len(set(one.get_ydata())) == 1]
    assert len(dots) == len(bars) == 4 + 1 + 3 + 2
    assert all(
        bar.get_xdata()[0] < dot.get_xdata()[0] < bar.get_xdata()[1] for bar, dot in zip(bars, dots, strict=True)
    )
    assert [float(one.get_xdata()[0]) for one in ratios.lines if one.get_marker() == "D"][:2] == pytest.approx(
        [0.1 / 0.016, 0.1 / 0.009]
    )
    assert figure.get_figwidth() < 4.5
    assert figure.get_figheight() < 12.5


def test_the_forest_wraps_a_long_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = "undecided: 10 of 10 means as claimed; no number of seeds would have 80 % power for the paper's effect"
    monkeypatch.setattr(forest, "verdict_text", lambda one: verdict)
    figure = draw(only("claims", study_lines("arl_vs_nal")))
    assert [fault for fault in faults(figure) if "undecided" in fault or "effect" in fault] == []


def test_the_forest_has_a_figure_for_each_group_of_runs() -> None:
    drawn = figures("claims", study_lines("arl_vs_nal", (0,)), study_lines("mask_type", (0,), profile="paper-1"))
    assert {one.stem for one in drawn} == {"claims-cifar10-short-1", "claims-cifar10-paper-1"}
    (gap,) = collect_figures(results_of(Path("none"), study_lines("gates", (0,))), select(
        results_of(Path("none"), study_lines("gates", (0,))).studies
    ), ["claims"])[1]  # fmt: skip
    assert "no claim has runs" in gap.message


def test_the_effect_stands_over_the_images_seen_and_the_papers_over_its_own() -> None:
    drawn = only("budget", study_lines("budget"))
    (axes,) = draw(drawn).axes
    lines = {one.get_label(): one for one in axes.lines if not one.get_label().startswith("_")}
    assert list(lines) == [f"Attention-{depth}, NAL" for depth in (56, 164)]
    for label, one in lines.items():
        assert [x / 32 for x in one.get_xdata()] == pytest.approx([156, 625, 2500], rel=0.1), label
    theirs = [one for one in axes.lines if one.get_markerfacecolor() == "white"]
    assert [float(one.get_ydata()[0]) for one in theirs] == pytest.approx([0.37, 2.87])
    assert all(float(one.get_xdata()[0]) == pytest.approx(10_240_000, rel=0.1) for one in theirs)
    assert axes.get_xlim()[1] > 10_240_000
    assert max(max(one.get_xdata()) for one in lines.values()) < 100_000, "no line leads to the paper's"


def test_the_effect_against_images_seen_is_asked_for_once_with_a_launch_that_is_accepted() -> None:
    """The study has a profile of its own, whatever those of the studies on record are."""
    lines = study_lines("arl_vs_nal", (0,)) + study_lines("mask_type", (0,), profile="paper-1")
    results = results_of(Path("none"), lines)
    (gap,) = collect_figures(results, select(results.studies), ["budget"])[1]
    assert gap.message == "no figure budget: no run of budget; `python run_ablation.py --study budget`"


# Figure 4.


def relatives(line_: dict[str, Any]) -> list[float]:
    absolute = line_["probes"]["response"]["mean_abs"]
    return [value / absolute[0] for value in absolute]


def test_figure_4_shows_measured_and_published_down_to_the_smallest() -> None:
    lines = study_lines("depth_response", (0, 1))
    trained, over = figures("4", lines)
    axes = draw(trained).axes[0]
    nal = [one for one in lines[1:] if one["params"]["model.learning"] == "nal"]
    expected = gmean([relatives(one) for one in nal])
    assert list(line(axes, "Attention-164 NAL").get_ydata()) == pytest.approx(list(expected))
    assert list(line(axes, "Attention-164 NAL, published").get_ydata()) == [1, 0.016, 0.009]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] < 0.009
    assert len(trained.fingerprints) == 6
    panels = draw(over).axes
    assert [panel.get_title() for panel in panels] == ["Attention-164 ARL", "Attention-164 NAL", "ResNet-164"]
    curves = [dict(one["curves"][names.RESPONSE.format(k)]) for one in nal for k in (1, 3)]
    for curve in curves:
        assert curve.pop(0, None) is not None, "step 0, which the first runs logged, says nothing"
    ratios = [curves[1][step] / curves[0][step] for step in curves[0]], [curves[3][s] / curves[2][s] for s in curves[2]]
    assert list(line(panels[1], "stage 3").get_ydata()) == pytest.approx(list(gmean(ratios)))


def test_a_point_over_finished_runs_has_the_tables_mean_and_says_what_it_leaves_out() -> None:
    """A diverged run is marked; only differences count it, as guessing."""

    def ends(cell: dict[str, Any], seed: int) -> str:
        gone = cell == {"depth": 164, "learning": "nal"} and seed > 0
        return names.DIVERGED if gone else names.FINISHED

    lines = study_lines("arl_vs_nal", outcomes=ends)
    (error,) = (o["metrics"][names.FINAL_TEST_ERR] for o in lines[1:] if ends_164_nal(o))
    results = results_of(Path("archive"), lines)
    point = lines_of(DEPTH, results.studies[0], results)["NAL"][-1]
    assert (point.mean.mean, point.mean.n) == (pytest.approx(error), 1)
    assert draw(only("depth", lines))
    for kind in ("cost", "4"):
        assert "Left out: 2 diverged runs." in figures(kind, lines)[0].caption


def ends_164_nal(one: dict[str, Any]) -> bool:
    network = one["params"]["model.name"], one["params"]["model.learning"]
    return network == ("attention164", "nal") and names.FINAL_TEST_ERR in one["metrics"]


def test_figure_4_takes_runs_of_arl_vs_nal_and_says_what_lacks() -> None:
    trained, over = figures("4", study_lines("arl_vs_nal", (0,)))
    assert "No runs of ResNet-164." in trained.caption
    assert [study.name for study in over.studies] == ["arl_vs_nal"]
    assert len(draw(over).axes) == 2


def test_figure_4_takes_no_network_that_saw_other_data() -> None:
    trained, _ = figures("4", study_lines("arl_vs_nal", (0,)), study_lines("noisy_labels", (0,)))
    assert "No runs of ResNet-164." in trained.caption
    assert [study.name for study in trained.studies] == ["arl_vs_nal"]


# Figures 1 and 3, cost.


def test_masks_show_the_arrays_of_the_baseline_by_class() -> None:
    lines = study_lines("mask_type", (0, 1))
    drawn = only("1", lines)
    chosen = next(one for one in lines[1:] if one["spec"]["mask_activation"] == "mixed" and "masks" in one)
    assert drawn.fingerprints == (chosen["fingerprint"],)
    results = results_of(Path("archive"), lines)
    arrays = results.masks(chosen["fingerprint"]) or {}
    figure = draw(drawn)
    pictures = [axes for axes in figure.axes if axes.images]
    shown = [axes.get_ylabel() for axes in pictures if axes.get_ylabel()]
    assert shown == [synthetic.CIFAR[label] for label in arrays["labels"]]
    assert np.array_equal(pictures[0].images[0].get_array(), arrays["images"][0].transpose(1, 2, 0))
    rows = len(arrays["images"])
    wanted = [arrays[f"{part}_{k}"][i] for k in (0, 1) for part in ("before", "mask", "after") for i in range(rows)]
    shown_arrays = [np.asarray(axes.images[0].get_array()) for axes in pictures[rows:]]
    assert len(shown_arrays) == len(wanted)
    assert all(np.allclose(a, b) for a, b in zip(shown_arrays, wanted, strict=True))
    assert {"stage 1, module 1\nmask", "stage 3, module 1\nmask"} <= {axes.get_title() for axes in pictures}


def test_no_run_has_its_masks_drawn_twice() -> None:
    drawn = figures("1", study_lines("mask_type"), study_lines("arl_vs_nal"), study_lines("gates"))
    marks = [mark for one in drawn for mark in one.fingerprints]
    assert len(marks) == len(set(marks)) == 1
    assert {study.name for study in drawn[0].studies} == {"mask_type", "arl_vs_nal", "gates"}


@pytest.mark.parametrize("value", [0.5, float("nan"), 60000.0])
def test_constant_and_non_finite_masks_are_drawn(value: float) -> None:
    from analysis.figures.masks import _range

    low, high = _range(np.full((2, 4, 4), value, np.float16), (0, 100))
    assert low < high
    assert np.isfinite([low, high]).all()


def test_receptive_fields_show_map_and_mean_radius() -> None:
    lines = study_lines("mask_structure")
    figure = draw(only("3", lines))
    fields = [one["probes"]["receptive_fields"] for one in lines[1:]]
    baseline = [
        f for one, f in zip(lines[1:], fields, strict=True) if one["spec"]["mask_structure"] == "encoder_decoder"
    ]
    trunk = next(f for f in baseline[0] if (f["stage"], f["branch"]) == (1, "trunk"))
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["stage 1", "stage 2", "stage 3"] * 2
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["trunk", "mask"]
    image = np.asarray(figure.axes[0].images[0].get_array())
    peak = np.frombuffer(base64.b64decode(trunk["gradient"]["uint8"]), np.uint8).reshape(32, 32)
    assert np.allclose(image, (peak / 255 * trunk["gradient"]["max"]) ** 0.5)
    assert figure.axes[0].patches[0].get_radius() == trunk["radius"]
    radii = figure.axes[6]
    squares = [one.get_xdata()[0] for one in radii.lines if one.get_marker() == "s"]
    expected = np.mean([f["radius"] for one in baseline for f in one if (f["stage"], f["branch"]) == (1, "mask")])
    assert squares[0] == pytest.approx(expected)
    assert len(squares) == 3


def test_a_gradient_of_zeros_has_no_radius() -> None:
    from analysis.figures.receptive_fields import parse_fields

    probes = study_lines("mask_structure")[1]["probes"]
    whole = parse_fields(probes)
    dead = next(one for one in probes["receptive_fields"] if (one["stage"], one["branch"]) == (2, "mask"))
    dead["gradient"] |= {"max": 0.0}
    assert whole.keys() - parse_fields(probes).keys() == {(2, "mask")}


@pytest.mark.slow
def test_receptive_fields_that_were_shown_are_not_shown_again() -> None:
    drawn = figures("3", study_lines("mask_type"), study_lines("gates"), study_lines("depth_response", (0,)))
    assert [one.studies[0].name for one in drawn] == ["mask_type", "depth_response", "gates"]
    assert len(figures("3", study_lines("arl_vs_nal"), study_lines("depth_response"))) == 1


def test_cost_shows_each_configuration_once_and_no_noisy_labels() -> None:
    lines = [study_lines(name, (0, 1)) for name in ("arl_vs_nal", "mask_type", "noisy_labels")]
    drawn = only("cost", *lines)
    assert [study.name for study in drawn.studies] == ["mask_type", "arl_vs_nal"]
    assert len(drawn.fingerprints) == 2 * (8 + 2)
    assert "Left out: 10 cells with label noise or other training than the rest." in drawn.caption
    macs, minutes, key = draw(drawn).axes
    assert (macs.get_xlabel(), minutes.get_xlabel()) == ("multiply-adds of an image (G)", "wall minutes of a run")
    points = [one for one in macs.lines if one.get_marker() not in ("", "None")]
    runs = {one["fingerprint"]: one["metrics"] for group in lines for one in group[1:]}
    cells = {tuple(study.cells()[cell].values()) for study in drawn.studies for cell in study.cells()}
    expected = {
        (runs[marks[0]][names.COST_MACS] / 1e9, np.mean([runs[mark][names.FINAL_TEST_ERR] for mark in marks]))
        for marks in cells
    }
    assert len(points) == len(expected) == 10
    found = sorted((one.get_xdata()[0], one.get_ydata()[0]) for one in points)
    assert np.allclose(found, sorted(expected))
    numbers = [text.get_text() for text in macs.texts]
    assert numbers == [str(i) for i in range(1, 11)]
    assert [text.get_text() for text in key.texts].count("1") == 2  # Mixed is Attention-56 with ARL


def test_cost_in_a_profile_of_one_training_leaves_out_noisy_labels_alone() -> None:
    drawn = only("cost", study_lines("noisy_labels", (0,), profile="paper-1", start=5.5))
    assert len(drawn.fingerprints) == 2
    assert "Left out: 8 cells with label noise or other training than the rest." in drawn.caption


coordinates = st.tuples(st.floats(0, 200), st.floats(0, 200))


@given(st.lists(coordinates, min_size=1, max_size=25, unique=True))
def test_numbers_cover_neither_points_nor_each_other(points: list[tuple[float, float]]) -> None:
    taken = [(x - 2, y - 2, x + 2, y + 2) for x, y in points]
    frame = (-100.0, -100.0, 300.0, 300.0)
    labels = []
    for point in points:
        _, _, box = _free(point, (7, 5), [*taken, *labels], frame)
        assert not any(_hits(box, other) for other in [*taken, *labels])
        labels.append(box)


def test_labels_with_dollars_are_no_formulas() -> None:
    lines = study_lines("mask_type", (0,))
    text = json.dumps(lines[0]).replace("Spatial", "cheap ($5) & $x")
    figure = draw(only("curves", [json.loads(text), *lines[1:]]))
    assert "cheap ($5) & $x" in texts(figure)


def test_a_kind_that_does_not_exist_is_refused() -> None:
    results = results_of(Path("archive"), study_lines("mask_type", (0,)))
    everything: Callable[..., Any] = collect_figures
    with pytest.raises(KeyError):
        everything(results, list(results.studies), ["5"])
