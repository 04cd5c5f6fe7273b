"""The options that the commands share: what they read, what they choose, what they refuse."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from analysis import archive
from analysis.options import SelectionError, add_arguments, from_arguments, select
from analysis.read.mlflow_store import StoreError
from records.command import OneLineParser


def parse(*argv: str) -> argparse.Namespace:
    parser = OneLineParser("make_tables", allow_abbrev=False)
    add_arguments(parser)
    return parser.parse_args(argv)


def test_defaults() -> None:
    options = parse()
    assert (options.profile, options.data, options.experiment, options.tracking_uri) == (None, None, None, None)
    assert (options.overrides, options.archive, options.out) == (False, None, Path("results"))


def test_store_and_archive_are_read_together(store_folder: Path) -> None:
    assert archive.main(["export", "--profile", "quick-1", "--data", "cluttershapes", "--out", "kept"]) == 0
    assert from_arguments(parse()).sources == ("sqlite:///mlflow.db: 10 runs",)
    both = from_arguments(parse("--archive", "kept", "--tracking-uri", "sqlite:///mlflow.db"))
    assert both.sources == ("sqlite:///mlflow.db: 10 runs", "kept/cluttershapes-quick-1.jsonl: 0 runs")
    (store_folder / "mlflow.db").unlink()
    assert from_arguments(parse("--archive", "kept")).sources == ("kept/cluttershapes-quick-1.jsonl: 10 runs",)
    assert from_arguments(parse("--archive", "kept", "--experiment", "ran/cluttershapes")).studies
    for argv, message in (
        (["--archive", "none"], "no tracking store at"),
        (["--archive", "gone"], "no archive folder gone$"),
        (
            ["--archive", "kept/cluttershapes-quick-1.jsonl"],
            "no archive folder kept/cluttershapes-quick-1.jsonl: --archive takes its folder, kept",
        ),
        (["--archive", "kept", "--experiment", "ran/x"], "no runs in experiment 'ran/x'. There is: ran/cluttershapes."),
    ):
        with pytest.raises(StoreError, match=message):
            from_arguments(parse(*argv))


@pytest.fixture
def studies(make_study: Any) -> list[Any]:
    return [
        make_study(study="mine", table=None),
        make_study(profile="paper-1", dataset="cifar10"),
        make_study(overrides={"train.steps": 10}),
        make_study(study="mask_type", table="1"),
        make_study(),
    ]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, ["mask_type quick-1", "arl_vs_nal paper-1", "arl_vs_nal quick-1", "mine quick-1"]),
        ({"profile": "quick"}, ["mask_type quick-1", "arl_vs_nal quick-1", "mine quick-1"]),
        ({"profile": "paper-1"}, ["arl_vs_nal paper-1"]),
        ({"data": "cifar10"}, ["arl_vs_nal paper-1"]),
        ({"wanted": ["mine", "1"]}, ["mask_type quick-1", "mine quick-1"]),
        ({"wanted": ["3"], "data": "cluttershapes"}, ["arl_vs_nal quick-1"]),
        ({"overrides": True}, ["arl_vs_nal quick-1"]),
    ],
)
def test_select(studies: list[Any], chosen: Any, expected: list[str]) -> None:
    found = select(studies, **chosen)
    assert [f"{study.name} {study.profile}" for study in found] == expected
    assert {bool(study.overrides) for study in found} == {chosen.get("overrides", False)}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"wanted": ["3", "8"]}, "no study or table '8'. There is: 1 (mask_type), 3 (arl_vs_nal), mine."),
        ({"profile": "short"}, "no runs of profile 'short'. There is: paper-1, quick-1."),
        ({"data": "imagenet"}, "no runs on data set 'imagenet'. There is: cifar10, cluttershapes."),
        ({"data": "cifar10", "profile": "quick"}, "no runs on data set 'cifar10'. There is: cluttershapes."),
        ({"wanted": ["1"], "overrides": True}, "no runs with overrides here; call it without --overrides to see"),
    ],
)
def test_select_says_what_there_is(studies: list[Any], chosen: Any, message: str) -> None:
    with pytest.raises(SelectionError) as caught:
        select(studies, **chosen)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_any_study() -> None:
    with pytest.raises(SelectionError, match="no study is on record"):
        select([])
