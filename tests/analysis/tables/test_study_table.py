"""Tables of complete and incomplete studies, as a reader sees them."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from results_lab import IMAGENET_NETWORKS, interval, is_expected, network, results_of, study_with_runs

from analysis.read.published import published_text, published_value, reported
from analysis.stats import MeanStd, contrast
from analysis.tables.captions import OFFICIAL_IMAGES
from analysis.tables.cell_results import index_runs
from analysis.tables.cells import Count, Difference, Label, Measure, Published, format_cell
from analysis.tables.study_table import build_table
from records import names


def rows(study: Any, runs: Any) -> list[list[str]]:
    return [[format_cell(cell) for cell in row] for row in build_table(study, runs).rows]


def caption(study: Any, runs: Any) -> str:
    return " ".join(build_table(study, runs).caption)


def test_half_done_study_prints_what_is_there(make_study: Any, half_done: Any) -> None:
    table = build_table(make_study(), half_done)
    is_expected("table3-half-done", table)
    assert table.stem == "table3-cluttershapes-quick-1"


COMPLETE = {
    (56, "arl"): {0: 10.0, 1: 11.0, 2: 12.0},
    (56, "nal"): {0: 10.5, 1: 11.5, 2: 12.6},
    (92, "arl"): {0: 9.0, 1: 9.4, 2: 9.9},
    (92, "nal"): {0: 13.0, 1: 12.0, 2: 14.8},
    (128, "arl"): {0: 8.0, 1: 8.1, 2: 8.2},
    (128, "nal"): {0: 18.0, 1: 25.0, 2: 33.0},
    (164, "arl"): {0: 7.0, 1: 7.7, 2: 7.1},
    (164, "nal"): {0: 55.0, 1: 57.0, 2: 56.0},
}


def test_complete_study(make_runs: Any) -> None:
    networks = {cell: network(f"attention{cell[0]}", 0.5) for cell in COMPLETE}
    study, runs = study_with_runs("arl_vs_nal", COMPLETE, profile="short-1", networks=networks)
    is_expected("table3-complete", build_table(study, results_of((study, runs)).runs))


def test_each_contrast_has_one_interval_and_holms_decision_is_a_mark() -> None:
    study, runs = study_with_runs("arl_vs_nal", COMPLETE)
    table = build_table(study, results_of((study, runs)).runs)
    found = {row[0].value: row[-1] for row in table.rows if isinstance(row[-1], Difference)}  # type: ignore[union-attr]
    pairs = {depth: [[COMPLETE[depth, way][seed] for seed in range(3)] for way in ("nal", "arl")] for depth in found}
    theirs = {depth: scipy.stats.ttest_rel(*pairs[depth]) for depth in found}
    for depth, cell in found.items():
        low, high = theirs[depth].confidence_interval(0.95)
        assert cell.contrast is not None
        assert (cell.contrast.low, cell.contrast.high) == pytest.approx((low, high))
    # 164 and 56 are rejected in turn, 92 is retained at 0.05 / 2 although its p is below 0.05, so 128 is, too
    assert sorted(found, key=lambda depth: theirs[depth].pvalue) == [164, 56, 92, 128]
    assert theirs[92].pvalue < 0.05
    assert [depth for depth, cell in found.items() if cell.marked] == [56, 164]
    assert [format_cell(row[-1]).endswith(" *") for row in table.rows[1::2]] == [True, False, False, True]
    assert "*: differs from 0 by Holm's test over the 4 differences at 5 %." in table.caption


@pytest.mark.parametrize(
    "cells",
    [
        {cell: errors for cell, errors in COMPLETE.items() if cell[1] == "nal"},
        {(56, "arl"): {0: 10.0}, (56, "nal"): {1: 11.0}},
    ],
    ids=["no baseline", "no seed in common"],
)
def test_cells_without_a_pair_are_not_taken_for_one_seed(cells: dict) -> None:
    study, runs = study_with_runs("arl_vs_nal", cells)
    said = caption(study, results_of((study, runs)).runs)
    assert "none here, because no seed has a result of both." in said
    assert "two seeds" not in said


def test_a_plan_that_is_not_done_marks_nothing() -> None:
    study, runs = study_with_runs("arl_vs_nal", COMPLETE, plan=range(5))
    table = build_table(study, results_of((study, runs)).runs)
    assert not any(cell.marked for row in table.rows for cell in row if isinstance(cell, Difference))
    text = " ".join(table.caption)
    assert "Interim: a difference is judged when all planned seeds are there." in text
    assert "5 planned seeds" in text
    assert "Of 40 runs: 16 not run." in text
    study, runs = study_with_runs("arl_vs_nal", COMPLETE, plan=(0,))
    assert "an interval needs two seeds." in caption(study, results_of((study, runs)).runs)
    study, runs = study_with_runs("arl_vs_nal", COMPLETE, plan=())
    text = caption(study, results_of((study, runs)).runs)
    assert "Nothing is judged: no plan of seeds is on record." in text


def test_a_row_says_the_same_as_its_difference_where_seeds_go_beyond_the_plan() -> None:
    """Seed 3 turns the means around, but the difference is over the plan: so are the means."""
    more = {cell: errors | {3: 90.0 if cell[1] == "arl" else 1.0} for cell, errors in COMPLETE.items()}
    study, runs = study_with_runs("arl_vs_nal", more, seeds=range(4), plan=(0, 1, 2))
    found, plain = rows(study, results_of((study, runs)).runs), study_with_runs("arl_vs_nal", COMPLETE)
    assert [row[3:] for row in found] == [row[3:] for row in rows(plain[0], results_of(plain).runs)]
    assert found[0][2] == "3 +1"
    text = caption(study, results_of((study, runs)).runs)
    assert "of 3 planned seeds" in text
    assert "+: finished seeds beyond the plan, which do not count." in text
    # of whose plan nothing was run, all seeds count, and nothing is judged
    other = {cell: {seed + 5: error for seed, error in errors.items()} for cell, errors in COMPLETE.items()}
    study, runs = study_with_runs("arl_vs_nal", other, seeds=(5, 6, 7), plan=(0, 1, 2))
    assert [row[2] for row in rows(study, results_of((study, runs)).runs)] == ["3"] * 8
    assert "of 3 launched seeds" in caption(study, results_of((study, runs)).runs)
    assert "Interim" in caption(study, results_of((study, runs)).runs)


def test_with_results_per_image_the_interval_is_over_them_too() -> None:
    draw = np.random.default_rng(0)
    wrong = {cell: draw.random((3, 500)) < errors[0] / 100 for cell, errors in COMPLETE.items()}
    study, runs = study_with_runs("arl_vs_nal", {}, wrong=wrong)
    results = results_of((study, runs))
    table = build_table(study, index_runs(results.runs, results.kept))
    cell = table.rows[1][-1]
    assert isinstance(cell, Difference)
    assert cell.contrast == contrast(100.0 * wrong[56, "nal"] - 100.0 * wrong[56, "arl"])
    assert "in which other seeds and other test images would put it" in " ".join(table.caption)
    # a result per image that is not of this error is not used
    runs[0] = dataclasses.replace(runs[0], metrics={**runs[0].metrics, names.FINAL_TEST_ERR: 50.0})
    results = results_of((study, runs))
    cell = build_table(study, index_runs(results.runs, results.kept)).rows[1][-1]
    assert isinstance(cell, Difference)
    assert cell.contrast is not None
    assert cell.contrast.images == 0


def test_caption_says_data_profile_rule_n_and_what_is_missing(make_study: Any, half_done: Any) -> None:
    text = caption(make_study(), half_done)
    assert "cluttershapes (built-in, synthetic). Profile: quick-1. Selection: test error at the last step." in text
    assert "over the n finished of 3 planned seeds" in text
    assert (
        "Published: the paper's values on CIFAR-10; ours are measured on cluttershapes (built-in, synthetic)." in text
    )
    assert (
        "NAL − ARL: mean difference of runs with the same seed, with the range (95 %) in which other seeds would put "
        "it (not every run kept its result per test image)." in text
    )
    assert "Of 12 runs: 1 diverged, 1 failed, 1 killed, 2 not run." in text
    assert "1 run has two results; the first counts. Further attempts: 1 killed." in text
    assert "A diverged run counts as guessing: in 1 pair." in text
    assert "Overrides" not in text


def test_complete_study_names_no_shortfall(make_study: Any, make_runs: Any) -> None:
    study = make_study(dataset="cifar10", profile="paper-1")
    done = [{"fingerprint": run.fingerprint, "test_err": 5.0 + run.seed} for run in study.runs]
    text = caption(study, make_runs(done))
    assert "Published: the paper's values on CIFAR-10." in text
    assert "Of 12" not in text
    assert "guessing" not in text


def test_no_run_at_all_is_a_table_of_dashes(make_study: Any, make_runs: Any) -> None:
    study = make_study()
    assert rows(study, make_runs([])) == [
        ["Attention-56", "ARL", "0/3", "–", "5.52", ""],
        ["Attention-56", "NAL", "0/3", "–", "5.89", "–"],
        ["Attention-92", "ARL", "0/3", "–", "4.99", ""],
        ["Attention-92", "NAL", "0/3", "–", "5.35", "–"],
    ]
    assert "Of 12 runs: 12 not run." in caption(study, make_runs([]))


def test_the_difference_is_paired_by_seed(make_study: Any, make_runs: Any) -> None:
    study = make_study()
    # ARL lacks seed 0, so only seeds 1 and 2 are pairs, although NAL has three.
    errors = {
        (56, "arl", 1): 10.0,
        (56, "arl", 2): 20.0,
        (56, "nal", 0): 50.0,
        (56, "nal", 1): 11.0,
        (56, "nal", 2): 23.0,
    }
    done = [
        {"fingerprint": run.fingerprint, "test_err": errors[(*run.cell, run.seed)]}
        for run in study.runs
        if (*run.cell, run.seed) in errors
    ]
    cell = build_table(study, make_runs(done)).rows[1][-1]
    assert isinstance(cell, Difference)
    assert cell.contrast is not None
    assert (cell.contrast.mean, cell.contrast.n) == (2.0, 2)
    assert format_cell(cell) == "+2.00 [−10.71, +14.71] (n = 2)"


def test_other_outcomes(make_study: Any, make_runs: Any) -> None:
    study = make_study()
    by_place = {(*run.cell, run.seed): run.fingerprint for run in study.runs}
    runs = make_runs(
        [{"fingerprint": by_place[56, "arl", seed], "outcome": names.DIVERGED} for seed in range(3)]
        + [
            {"fingerprint": by_place[56, "nal", 0], "outcome": "running"},
            {"fingerprint": by_place[56, "nal", 1], "outcome": names.FINISHED, "test_err": math.nan},
            {"fingerprint": by_place[56, "nal", 2], "outcome": "of a later version", "test_err": 3.0},
        ]
    )
    assert rows(study, runs)[0][2:4] == ["0/3", "div. 3/3"]
    assert rows(study, runs)[1][2:4] == ["0/3", "unfinished 2/3"]
    expected = "3 diverged, 1 unfinished, 1 without a test error, 6 not run, 1 of unknown outcome."
    assert expected in caption(study, runs)


def test_a_study_without_paper_table_or_comparison(make_study: Any, half_done: Any) -> None:
    table = build_table(make_study(table=None, compare=None, study="my.own"), half_done)
    assert [column.header for column in table.columns] == ["network", "learning", "n", "test error (%)"]
    assert table.stem == "my.own-cluttershapes-quick-1"
    assert not table.title.startswith("Table")
    assert "Published" not in " ".join(table.caption)


def test_three_values_are_compared_with_the_named_baseline(make_study: Any, make_runs: Any) -> None:
    axis = {
        "name": "mask_activation",
        "header": "mask",
        "values": ["mixed", "channel", "spatial"],
        "labels": ["f1", "f2", "f3"],
    }
    planned = [{"fingerprint": v.encode().hex(), "cell": {"mask_activation": v}, "seed": 0} for v in axis["values"]]
    study = make_study(table="1", axes=[axis], runs=planned, compare={"axis": "mask_activation", "baseline": "mixed"})
    runs = make_runs(
        [{"fingerprint": b"mixed".hex(), "test_err": 6.0}, {"fingerprint": b"spatial".hex(), "test_err": 5.0}]
    )
    table = build_table(study, runs)
    assert table.columns[-1].header == "difference to f1 [95 % interval]"
    assert rows(study, runs) == [
        ["f1", "1/3", "6.00", "5.52", ""],
        ["f2", "0/3", "–", "6.24", "–"],
        ["f3", "1/3", "5.00", "6.33", "−1.00"],
    ]


def test_overrides_stand_in_caption_and_file_name(make_study: Any, half_done: Any) -> None:
    table = build_table(make_study(overrides={"train.steps": 10, "model.width": 0.5}), half_done)
    assert "Overrides: model.width = 0.5, train.steps = 10." in table.caption
    other = build_table(make_study(overrides={"train.steps": 20}), half_done)
    assert table.stem.startswith("table3-cluttershapes-quick-1-")
    assert table.stem != other.stem


def test_cells_format() -> None:
    assert format_cell(Label("ARL", "arl")) == "ARL"
    assert [format_cell(Count(3, 3)), format_cell(Count(2, 3)), format_cell(Count(1, 3, 2))] == [
        "3",
        "2/3",
        "1/3, div. 2",
    ]
    assert format_cell(Measure(MeanStd(5.555, 0.1, 3), 0, 3)) in ("5.55 ± 0.10", "5.56 ± 0.10")
    assert format_cell(Measure(MeanStd(5.0, None, 1), 1, 4, failed=1, unfinished=1)) == (
        "5.00, div. 1/4, failed 1/4, unfinished 1/4"
    )
    assert format_cell(Measure(None, 0, 3)) == "–"
    assert format_cell(Difference(interval(-0.001, -0.5, 0.5, 3), 3)) == "+0.00 [−0.50, +0.50]"
    assert format_cell(Difference(interval(-0.0011, -0.0021, 0.5, 3), 3, digits=3)) == "−0.001 [−0.002, +0.500]"
    assert [format_cell(Published(value, signed=True)) for value in (-0.5, 0.25, None)] == ["−0.50", "+0.25", "–"]


def test_counts_are_of_the_network_that_ran() -> None:
    networks = {("attention56",): network("attention56", 0.5), ("trunk",): network("attention56_trunk", 0.5)}
    logged = {names.FINAL_TEST_ERR: 9.0, names.COST_PARAMS: 123_456.0, names.COST_MACS: 7_890_000.0}
    cells = {("attention56",): {0: logged}, ("no_mask",): {0: logged}}
    study, runs = study_with_runs("controls", cells, networks=networks)
    found = rows(study, results_of((study, runs)).runs)
    assert [row[1:3] for row in found] == [["0.26", "0.0308"], ["0.12", "0.0079"], ["0.20", "0.0297"]]
    assert "MACs: multiply-adds of convolutions and classifier for one image." in caption(
        study, results_of((study, runs)).runs
    )
    plain, none = study_with_runs("controls", {("no_mask",): {0: 9.0}})
    assert [column.key for column in build_table(plain, results_of((plain, none)).runs).columns] == [
        "network", "n", "error", "difference",
    ]  # fmt: skip


def test_noise_shows_what_was_memorised() -> None:
    def noisy(error: float, given: float, true: float, memorised: float) -> dict[str, float]:
        return {
            names.FINAL_TEST_ERR: error,
            names.FINAL_TRAIN_ERR: given,
            names.FINAL_TRAIN_ERR_CLEAN: true,
            names.FINAL_MEMORISED: memorised,
        }

    cells: dict[Any, Any] = {
        (0.0, "resnet164"): {0: 5.0},
        (0.0, "attention92"): {0: 4.5, 1: "killed"},
        (0.5, "resnet164"): {0: noisy(20.0, 10.0, 45.0, 80.0), 1: noisy(22.0, 12.0, 47.0, 82.0)},
        (0.5, "attention92"): {0: noisy(15.0, 11.0, 42.0, 70.0), 1: noisy(17.5, 12.0, 42.0, 71.0), 2: "diverged"},
    }
    networks = {cell: network(cell[1], 0.5) for cell in [*cells, (0.7, "resnet164")]}
    study, runs = study_with_runs(
        "noisy_labels", cells, profile="short-1", networks=networks, params={"data.train_images": "2000"}
    )
    is_expected("table5-noise", build_table(study, results_of((study, runs)).runs))


def test_hours_of_a_run_count_once() -> None:
    study, runs = study_with_runs("controls", {("trunk",): {0: 9.0, 1: "diverged"}}, hours=1.5)
    assert "Cost: 3.0 hours over 2 runs." in caption(study, results_of((study, runs + runs)).runs)
    study, runs = study_with_runs("controls", {("trunk",): {0: 9.0}}, hours=0.02)
    assert "Cost: 1.2 minutes over 1 run." in caption(study, results_of((study, runs)).runs)
    study, runs = study_with_runs("controls", {("trunk",): {0: 9.0}}, hours=0.0008)
    assert "Cost: 3 seconds over 1 run." in caption(study, results_of((study, runs)).runs)
    study, runs = study_with_runs("controls", {("trunk",): {0: 9.0}}, hours=None)
    assert "Cost" not in caption(study, results_of((study, runs)).runs)


@pytest.mark.parametrize(
    ("num_classes", "params", "said"),
    [
        (1000, {OFFICIAL_IMAGES: "1281167", "data.train_images": "None", "data.test_images": "None"}, None),
        (10, {OFFICIAL_IMAGES: "1000"}, "these data have 10 classes, 1,000 training images;"),
        (10, {OFFICIAL_IMAGES: "1281167"}, "these data have 10 classes, 1,281,167 training images;"),
        (1000, {OFFICIAL_IMAGES: "1000"}, "these data have 1,000 classes, 1,000 training images;"),
        (1000, {OFFICIAL_IMAGES: "1281167", "data.train_images": "5000"}, "1,000 classes, 5,000 training images;"),
        (1000, {OFFICIAL_IMAGES: "1281167", "data.test_images": "100"}, "a test on 100 images;"),
        (1000, {}, "an unknown number of training images;"),
        (None, {OFFICIAL_IMAGES: "1281167"}, "an unknown number of classes"),
    ],
)
def test_a_sample_is_never_called_imagenet(num_classes: int | None, params: dict[str, str], said: str | None) -> None:
    names_ = [*IMAGENET_NETWORKS]
    networks = {(n,): network(n, num_classes=num_classes, image_size=224) for n in names_ if num_classes}
    study, runs = study_with_runs(
        "imagenet", {(names_[0],): {0: 30.0}}, dataset="imagenet", networks=networks, params=params
    )
    text = caption(study, results_of((study, runs)).runs)
    if said is None:
        assert "Data: ImageNet." in text
        assert "No ImageNet results" not in text
    else:
        assert "Data: an image folder" in text
        assert "No ImageNet results: these data have " in text
        assert said in text
        assert "ours are measured on an image folder" in text


@pytest.mark.parametrize(
    ("table", "dataset", "cell", "value"),
    [
        ("1", "cifar10", {"mask_activation": "spatial"}, 6.33),
        ("3", "cluttershapes", {"learning": "nal", "depth": 164}, 7.18),
        ("4", "cifar10", {"mask_structure": "local_conv"}, 6.48),
        ("5", "cifar10", {"noise": 0.7, "network": "resnet164"}, 17.21),
        ("5", "cifar10", {"noise": 0.0, "network": "resnet164"}, None),
        ("6", "cifar10", {"network": "attention452"}, 3.90),
        ("6", "cifar100", {"network": "attention452"}, 20.45),
        ("7", "imagenet", {"network": "attention92_imagenet"}, 19.5),
    ],
)
def test_published(table: str, dataset: str, cell: dict[str, Any], value: float | None) -> None:
    paper = reported(table, dataset)
    assert paper is not None
    assert published_value(table, cell, paper[1]) == value


def test_what_the_paper_says_in_words_is_kept_beside_what_its_tables_say() -> None:
    assert published_text({"mask_structure": "encoder_decoder"}, "gain") == (
        "0.94 %-points over local convolutions, section 4.1; Table 4 gives 0.96"
    )
    assert published_text({"mask_structure": "local_conv"}, "gain") is None
    # the notes against the tables
    local, ours = (published_value("4", {"mask_structure": m}, "test_err") for m in ("local_conv", "encoder_decoder"))
    assert local is not None
    assert ours is not None
    assert round(local - ours, 2) == 0.96
    params = {n: published_value("7", {"network": f"{n}_imagenet"}, "params") for n in ("attention56", "resnet152")}
    assert f"{100 * params['attention56'] / params['resnet152']:.1f}" == "53.0"  # type: ignore[operator]
    assert "gives 53.0" in str(published_text({"network": "attention56_imagenet"}, "params_ratio"))
    assert "say 20.45" in str(published_text({"network": "attention452"}, "cifar100_err"))
    assert published_value("6", {"network": "attention452"}, "cifar100_err") == 20.45


def test_two_guesses_are_not_compared() -> None:
    """Their difference is 0 at every seed, and an interval without width would claim to know it."""
    lost = {0: "diverged", 1: "diverged"}
    cells = {("attention56",): lost, ("trunk",): lost, ("no_mask",): {0: 9.0, 1: 9.5}}
    study, runs = study_with_runs("controls", cells)
    rows = {row[0].value: format_cell(row[-1]) for row in build_table(study, results_of((study, runs)).runs).rows}
    assert rows["trunk"] == "–"
    assert rows["no_mask"].startswith("−80.75 [")
