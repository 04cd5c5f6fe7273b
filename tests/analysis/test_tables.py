"""Tables of complete and incomplete studies, as a reader sees them."""

# ruff: noqa: RUF001 - tables print a true minus sign and en dash

import math
from typing import Any

import pytest

from analysis.cells import Count, Difference, Label, Measure, format_cell
from analysis.published import published_value, reported
from analysis.render import to_text
from analysis.stats import Interval, MeanStd
from analysis.tables import build_table
from ran import names

HALF_DONE_TEXT = """\
Table 3: Attention residual learning against naive attention learning
────────────────────────────────────────────────────────────────────────────────────────────────────
network       learning    n          test error (%)  published (CIFAR-10)  NAL − ARL, 95 % interval
────────────────────────────────────────────────────────────────────────────────────────────────────
Attention-56  ARL         3            11.00 ± 1.00                  5.52
Attention-56  NAL       2/3  11.00 ± 0.71, div. 1/3                  5.89      +0.50 [+0.50, +0.50]
Attention-92  ARL       1/3                    9.00                  4.99
Attention-92  NAL       1/3                    8.25                  5.35                     −0.75
────────────────────────────────────────────────────────────────────────────────────────────────────
"""


def rows(study: Any, runs: Any) -> list[list[str]]:
    return [[format_cell(cell) for cell in row] for row in build_table(study, runs).rows]


def caption(study: Any, runs: Any) -> str:
    return " ".join(build_table(study, runs).caption)


def test_half_done_study_prints_what_is_there(make_study: Any, half_done: Any) -> None:
    table = build_table(make_study(), half_done)
    text = to_text(table)
    body = "\n".join(line.rstrip() for line in text.splitlines()[:9]) + "\n"
    assert body.replace("─", "") == HALF_DONE_TEXT.replace("─", "")
    assert max(map(len, text.splitlines())) <= 100
    assert table.stem == "table3-cluttershapes-quick-1"


def test_caption_says_data_profile_rule_n_and_what_is_missing(make_study: Any, half_done: Any) -> None:
    text = caption(make_study(), half_done)
    assert "cluttershapes (built-in, synthetic). Profile: quick-1. Selection: test error at the last step." in text
    assert "over the n finished of 3 planned seeds" in text
    assert (
        "Published: the paper's values on CIFAR-10; ours are measured on cluttershapes (built-in, synthetic)." in text
    )
    assert "NAL − ARL: mean difference paired by seed, with its 95 % t-interval." in text
    assert "Of 12 runs: 1 diverged, 1 failed, 1 killed, 2 not run." in text
    assert "Left out of the differences: 1 pair with a diverged run." in text
    assert "Overrides" not in text


def test_complete_study_names_no_shortfall(make_study: Any, make_runs: Any) -> None:
    study = make_study(dataset="cifar10", profile="paper-1")
    done = [{"fingerprint": run.fingerprint, "test_err": 5.0 + run.seed} for run in study.runs]
    text = caption(study, make_runs(done))
    assert "Published: the paper's values on CIFAR-10." in text
    assert "Of 12" not in text
    assert "Left out" not in text


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
    assert cell.interval is not None
    assert (cell.interval.mean, cell.interval.n) == (2.0, 2)
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
    assert rows(study, runs)[1][2:4] == ["0/3", "–"]
    expected = "3 diverged, 1 unfinished, 1 without a test error, 6 not run, 1 of unknown outcome."
    assert expected in caption(study, runs)


def test_a_study_without_paper_table_or_comparison(make_study: Any, half_done: Any) -> None:
    table = build_table(make_study(table=None, compare=None, study="my/own"), half_done)
    assert [column.header for column in table.columns] == ["network", "learning", "n", "test error (%)"]
    assert table.stem == "my_own-cluttershapes-quick-1"
    assert not table.title.startswith("Table")
    assert "Published" not in " ".join(table.caption)


def test_three_values_are_compared_with_the_named_baseline(make_study: Any, make_runs: Any) -> None:
    axis = {
        "name": "mask_activation",
        "header": "mask",
        "values": ["mixed", "channel", "spatial"],
        "labels": ["f1", "f2", "f3"],
    }
    planned = [{"fingerprint": v, "cell": {"mask_activation": v}, "seed": 0} for v in axis["values"]]
    study = make_study(table="1", axes=[axis], runs=planned, compare={"axis": "mask_activation", "baseline": "mixed"})
    runs = make_runs([{"fingerprint": "mixed", "test_err": 6.0}, {"fingerprint": "spatial", "test_err": 5.0}])
    table = build_table(study, runs)
    assert table.columns[-1].header == "difference to f1, 95 % interval"
    assert rows(study, runs) == [
        ["f1", "1", "6.00", "5.52", ""],
        ["f2", "0/1", "–", "6.24", "–"],
        ["f3", "1", "5.00", "6.33", "−1.00"],
    ]


def test_overrides_stand_in_caption_and_file_name(make_study: Any, half_done: Any) -> None:
    table = build_table(make_study(overrides={"train.steps": 10, "model.width": 0.5}), half_done)
    assert "Overrides: model.width = 0.5, train.steps = 10." in table.caption
    other = build_table(make_study(overrides={"train.steps": 20}), half_done)
    assert table.stem.startswith("table3-cluttershapes-quick-1-")
    assert table.stem != other.stem


def test_cells_format() -> None:
    assert format_cell(Label("ARL", "arl")) == "ARL"
    assert format_cell(Count(3, 3)) == "3"
    assert format_cell(Measure(MeanStd(5.555, 0.1, 3), 0, 3)) in ("5.55 ± 0.10", "5.56 ± 0.10")
    assert format_cell(Difference(Interval(-0.001, -0.5, 0.5, 3), 3)) == "+0.00 [−0.50, +0.50]"


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
