"""The plan: which runs, in which order, in which state, and under which fingerprint."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments import estimate
from experiments.cli import UsageError, parse_launch, parse_overrides, parse_seeds, parse_shard
from experiments.plan import (
    DONE,
    FAILED,
    NEW,
    RESUMABLE,
    EarlierRuns,
    PlanError,
    RunSelection,
    make_plan,
    select_cells,
)
from experiments.prepare import base_config
from experiments.profiles import PROFILES
from experiments.study import Comparison, Study, axis
from experiments.tracking.records import StoredRun
from experiments.tracking.spool import SPOOL
from ran.config import ConfigError, DataConfig, flatten, override
from ran.data.datasets import DATASETS, open_source
from ran.engine.checkpoint import FORMAT, CheckpointError, path_of
from ran.engine.device import DeviceCapabilities
from ran.registry import UnknownNameError
from ran.tensor_file import write_tensors
from records import names

GRID = Study(
    name="grid",
    title="A grid",
    axes=(
        axis("depth", {d: {"model.name": f"attention{d}"} for d in (56, 92)}, short="d{}".format),
        axis("learning", ("arl", "nal"), field="model.learning"),
    ),
    seeds=(0, 1),
    compare=Comparison("learning", "arl"),
)


def plan(study=GRID, *, stored=None, checkpoints="nowhere", overrides=None, profile="smoke", **options):
    profile = PROFILES[profile]
    base = base_config(study, profile)
    selection = {name: options.pop(name) for name in ("seeds", "cells", "shard") if name in options}
    config = override(base, overrides or {})
    return make_plan(
        study, profile, config, base,
        source=open_source(config.data),
        selection=RunSelection(**{"seeds": study.seeds, **selection}),
        earlier=EarlierRuns(stored or {}, Path(checkpoints), **options),
        capabilities=DeviceCapabilities(),
    )  # fmt: skip


def record(print_, outcome, **changes):
    run = StoredRun(run_id="id", fingerprint=print_, outcome=outcome, images_per_s=100.0, test_err=12.5)
    return replace(run, **changes)


def labels(runs):
    return [run.name for run in runs]


# Grids and filters


def test_the_first_axis_is_outermost():
    assert [str(cell) for cell in GRID.cells] == [
        "depth=56,learning=arl", "depth=56,learning=nal", "depth=92,learning=arl", "depth=92,learning=nal",
    ]  # fmt: skip
    assert GRID.cells[3].settings == {"model.name": "attention92", "model.learning": "nal"}
    assert [cell.short for cell in GRID.cells] == ["d56 arl", "d56 nal", "d92 arl", "d92 nal"]


def test_runs_go_seed_by_seed():
    cells = ["d56 arl", "d56 nal", "d92 arl", "d92 nal"]
    assert labels(plan().runs) == [f"{cell} s{seed}" for seed in (0, 1) for cell in cells]
    assert labels(plan(seeds=(7, 3)).runs)[:5:4] == ["d56 arl s7", "d56 arl s3"]


def test_a_study_without_axes_has_one_cell():
    (run,) = plan(Study("one", "One", axes=()), seeds=(0,)).runs
    assert (str(run.cell), run.name) == ("all", "s0")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "two words"}, "letters, digits"),
        ({"axes": (GRID.axes[0], GRID.axes[0])}, "two axes of one name"),
        ({"axes": (axis("empty", {}),), "compare": None}, "without values"),
        (
            {"axes": (axis("rate", [1], field="model.t", label={}.__getitem__),), "compare": None},
            r"axis 'rate': label\(1\) raises KeyError: 1",
        ),
        ({"axes": (axis("rate", [1], field="model.t", short=abs),), "compare": None}, r"short\(1\) is 1, not a text"),
        ({"axes": GRID.axes[0]}, "axes must be a tuple"),
        ({"axes": (*GRID.axes, axis("seed", (1, 2), field="seed"))}, "seeds are no axis"),
        (
            {"axes": (*GRID.axes, axis("form", (1, 2), field="model.learning"))},
            "axes learning and form both set model.learning",
        ),
        ({"axes": (axis("a", {"x": {}, "y": {}}),), "compare": None}, "cells a=x and a=y have the same settings"),
        ({"axes": (axis("t", (1, 2), field="model.t", short=lambda t: "t"),), "compare": None}, "one name, 't'"),
        (
            {"axes": (axis("t", ("1,2",), field="model.t"),), "compare": None},
            "which --cells cannot name",
        ),
        ({"seeds": 3}, "different whole numbers, as .0, 1, 2., not 3"),
        ({"seeds": ()}, "different whole numbers"),
        ({"seeds": (0, 0)}, "different whole numbers"),
        ({"seeds": (-1,)}, "different whole numbers"),
        ({"compare": ("depth", 56)}, "compare must be a Comparison"),
        ({"compare": Comparison("depth", 57)}, "compares along"),
        ({"compare": Comparison("width", 1)}, "compares along"),
    ],
)
def test_a_study_that_makes_no_sense(changes, says):
    with pytest.raises(ValueError, match=says):
        replace(GRID, **changes)


def test_an_axis_that_is_a_list_needs_a_field():
    with pytest.raises(ValueError, match="needs field="):
        axis("rate", [0.1, 0.2])
    with pytest.raises(ValueError, match="needs a list of its values, not a mapping"):
        axis("t", {"few": {"model.t": 1}}, field="model.t")
    with pytest.raises(ValueError, match="not one text"):
        axis("activation", "mixed", field="model.mask_activation")


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        ([], ["d56 arl", "d56 nal", "d92 arl", "d92 nal"]),
        (["depth=92"], ["d92 arl", "d92 nal"]),
        (["depth=92,learning=arl"], ["d92 arl"]),
        (["learning=arl, depth=92"], ["d92 arl"]),
        (["depth=92,learning=nal", "depth=56,learning=arl"], ["d56 arl", "d92 nal"]),
        (["depth=92", "depth=92,learning=nal"], ["d92 arl", "d92 nal"]),
    ],
)
def test_a_comma_is_and_a_second_filter_is_or(filters, chosen):
    assert [cell.short for cell in select_cells(GRID.cells, filters)] == chosen
    assert labels(plan(cells=filters, seeds=(0,)).runs) == [f"{cell} s0" for cell in chosen]


@pytest.mark.parametrize(
    "text", ["", "depth", "width=1", "depth=57", "depth=", "depth=56,", "depth=56,depth=92", "=56"]
)
def test_filters_that_are_refused(text):
    with pytest.raises(PlanError, match="--cells"):
        select_cells(GRID.cells, [text])


VALUES = st.lists(st.integers(0, 99) | st.text("abc.-_", min_size=1, max_size=4), min_size=1, max_size=3, unique_by=str)


@st.composite
def grids(draw):
    axes = [
        axis(name, {value: {name: i} for i, value in enumerate(draw(VALUES))})
        for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    ]
    return Study("grid", "Grid", axes=tuple(axes)).cells


@st.composite
def grids_and_filters(draw):
    cells = draw(grids())
    axes = {name: sorted({str(cell.values[name]) for cell in cells}) for name in cells[0].values}
    one = st.sets(st.sampled_from(sorted(axes)), min_size=1).flatmap(
        lambda chosen: st.fixed_dictionaries({name: st.sampled_from(axes[name]) for name in sorted(chosen)})
    )
    return cells, draw(st.lists(one, max_size=3))


@given(grids_and_filters())
def test_filters_against_a_literal_reference(grid):
    cells, filters = grid
    expected = []
    for cell in cells:
        wanted = not filters
        for conditions in filters:
            agrees = True
            for name, value in conditions.items():
                agrees = agrees and str(cell.values[name]) == value
            wanted = wanted or agrees
        if wanted:
            expected.append(cell)
    texts = [",".join(f"{name}={value}" for name, value in conditions.items()) for conditions in filters]
    assert select_cells(cells, texts) == expected


@given(grids())
def test_every_cell_finds_itself_alone(cells):
    assert len({str(cell) for cell in cells}) == len(cells)
    for cell in cells:
        assert select_cells(cells, [str(cell)]) == [cell]


# Seeds and shards


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0,1,2", (0, 1, 2)), ("5, 3", (5, 3)), ("1,1,0,1", (1, 0)), ("007", (7,))]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1,", "-1", "0,-1", "1.0", "1e3", "0-2", "0 1", "nan"])
def test_seeds_that_are_refused(text):
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(text)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
def test_seeds_round_trip_each_once_in_order(seeds):
    assert parse_seeds(",".join(map(str, seeds))) == tuple(dict.fromkeys(seeds))


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("1/2", (1, 2)), ("12/12", (12, 12))])
def test_shards(text, shard):
    assert parse_shard(text) == shard


@pytest.mark.parametrize(
    "text", ["", "x", "1", "0/2", "3/2", "-1/2", "1/-2", "1/0", "1/2/3", "1.0/2", "a/b", "²/3", "/"]
)
def test_shards_that_are_refused(text):
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)


@pytest.mark.slow
@given(st.integers(1, 12), st.sampled_from([(), ("depth=56",), ("depth=92,learning=arl", "depth=56,learning=nal")]))
def test_shards_part_the_runs(count, cells):
    everything = labels(plan(cells=cells).runs)
    parts = [labels(plan(cells=cells, shard=(i, count)).runs) for i in range(1, count + 1)]
    assert sorted(name for part in parts for name in part) == sorted(everything), "each run in exactly one"
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for part in parts:
        assert part == [name for name in everything if name in part], "in the order of the plan"


def test_study_json_lists_all_runs_whatever_is_chosen():
    part = plan(cells=["depth=56"], shard=(1, 2), seeds=(0, 1))
    assert len(part.runs) == 2
    listed = part.record.to_json()["runs"]
    assert [(run["cell"], run["seed"]) for run in listed] == [
        ({"depth": depth, "learning": learning}, seed)
        for seed in (0, 1) for depth in (56, 92) for learning in ("arl", "nal")
    ]  # fmt: skip
    assert [run["fingerprint"] for run in listed] == [run.fingerprint for run in plan().runs]
    assert plan(seeds=(7,)).record.planned_seeds == part.study.seeds == (0, 1), "not those of --seeds"


# States


@pytest.fixture
def one():
    """A study of one run, and its fingerprint."""
    study = Study("one", "One", axes=(), seeds=(0,))
    return study, plan(study).runs[0].fingerprint


def header(checkpoints, run_print, step, owner=None):
    head = {"fingerprint": owner or run_print, "step": str(step), "seconds": "1", "evaluation_due": "False"}
    write_tensors(path_of(Path(checkpoints) / run_print[:16], step), {}, {"format": FORMAT, **head})


@pytest.mark.parametrize(
    ("outcome", "checkpoint", "flags", "state"),
    [
        ("absent", False, {}, NEW),
        (None, False, {}, NEW),  # killed with -9 before a checkpoint
        (None, True, {}, RESUMABLE),
        (names.KILLED, False, {}, NEW),
        (names.KILLED, True, {}, RESUMABLE),
        (names.FINISHED, False, {}, DONE),
        (names.FINISHED, True, {}, DONE),
        (names.DIVERGED, False, {}, DONE),
        (names.DIVERGED, False, {"retry_failed": True}, DONE),
        (names.FINISHED, False, {"retry_failed": True}, DONE),
        (names.FAILED, False, {}, FAILED),
        (names.FAILED, True, {}, FAILED),
        (names.FAILED, False, {"retry_failed": True}, NEW),
        (names.FAILED, True, {"retry_failed": True}, RESUMABLE),
        (names.FINISHED, True, {"rerun": True}, NEW),
        (names.DIVERGED, False, {"rerun": True}, NEW),
        (names.FAILED, True, {"rerun": True}, NEW),
        ("absent", True, {"rerun": True}, NEW),
    ],
)
def test_states(outcome, checkpoint, flags, state, one, tmp_path):
    study, print_ = one
    if checkpoint:
        header(tmp_path, print_, step=4)
    records = {} if outcome == "absent" else {print_: record(print_, outcome)}
    (run,) = (planned := plan(study, stored=records, checkpoints=tmp_path, **flags)).runs
    assert run.state == state
    assert run.step == (4 if state == RESUMABLE else 0)
    assert run.fresh is flags.get("rerun", False)
    assert (run in planned.todo) is (state in (NEW, RESUMABLE))


def test_a_checkpoint_of_a_run_that_the_store_does_not_know(one, tmp_path):
    """Continued in another store, the run would lack the points up to there."""
    study, print_ = one
    header(tmp_path, print_, step=4)
    with pytest.raises(PlanError, match=r"at step 4, but the tracking store knows no such run.*--rerun"):
        plan(study, checkpoints=tmp_path)
    assert plan(study, checkpoints=tmp_path, asked=False).runs[0].state == RESUMABLE, "the store was away"
    (tmp_path / print_[:16] / SPOOL).touch()  # it was begun while the store was away
    assert plan(study, checkpoints=tmp_path).runs[0].state == RESUMABLE


def test_the_record_of_another_run_says_nothing(one, tmp_path):
    study, _ = one
    assert plan(study, stored={"f" * 64: record("f" * 64, names.FINISHED)}).runs[0].state == NEW


def test_a_checkpoint_of_another_run_is_refused_unless_all_starts_afresh(one, tmp_path):
    study, print_ = one
    header(tmp_path, print_, step=4, owner="f" * 64)
    with pytest.raises(CheckpointError, match="another configuration"):
        plan(study, checkpoints=tmp_path)
    assert plan(study, checkpoints=tmp_path, rerun=True).runs[0].state == NEW


# Identity


def test_identical_cells_of_two_studies_share_a_fingerprint():
    other = Study(
        "other", "Another order, other labels",
        axes=(
            axis("rule", {"residual": {"model.learning": "arl"}, "naive": {"model.learning": "nal"}}),
            axis("layers", {"92": {"model.name": "attention92"}, "128": {"model.name": "attention128"}}),
        ),
        seeds=(1, 0),
    )  # fmt: skip
    ours = {run.fingerprint: run.name for run in plan().runs}
    theirs = {run.fingerprint: run.name for run in plan(other).runs}
    shared = {ours[p]: theirs[p] for p in ours.keys() & theirs.keys()}
    assert shared == {
        f"d92 {rule} s{seed}": f"{name} 92 s{seed}"
        for rule, name in (("arl", "residual"), ("nal", "naive")) for seed in (0, 1)
    }  # fmt: skip
    assert plan().parent_key != plan(other).parent_key


def test_all_runs_of_a_study_differ():
    assert len({run.fingerprint for run in plan().runs}) == 8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"train.threads": 1}, {"train.threads": 2}),
        ({}, {"model.learning": "arl"}),  # the default
        ({"model.learning": "arl"}, {}),
    ],
)
def test_two_cells_that_are_one_run_are_refused(one, other):
    study = replace(GRID, axes=(axis("a", {"x": one, "y": other}),), compare=None)
    (field,) = one | other
    with pytest.raises(PlanError, match=rf"cells a=x and a=y are one run, because {field} either has the same value"):
        plan(study)


@pytest.mark.parametrize(
    "overrides", [{"train.evals": 9}, {"data.root": "x"}, {"train.threads": 4}, {"train.steps": 6}]
)
def test_overrides_that_change_nothing_make_no_other_parent(overrides):
    same = plan(overrides=overrides)
    assert same.parent_key == plan().parent_key
    assert dict(same.overrides) == {}
    assert [run.fingerprint for run in same.runs] == [run.fingerprint for run in plan().runs]


def test_overrides_make_another_parent_and_other_runs():
    other = plan(overrides={"optim.lr": 0.05})
    assert other.overrides_json == '{"optim.lr": 0.05}'
    assert other.parent_key != plan().parent_key
    assert not {run.fingerprint for run in other.runs} & {run.fingerprint for run in plan().runs}


def test_profiles_make_other_parents_and_runs():
    keys = {name: plan(profile=name).parent_key for name in ("smoke", "quick")}
    assert keys["smoke"] != keys["quick"]


def test_auto_precision_is_the_one_it_stands_for():
    runs = [plan(overrides={"train.precision": p}, seeds=(0,)).runs[0] for p in ("auto", "bf16", "float32")]
    auto, *named = (run.fingerprint for run in runs)
    assert auto in named
    assert named[0] != named[1]


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ({"train.batch_size": 1}, ConfigError),
        ({"optim.schedule": "cosin"}, UnknownNameError),
        ({"model.mask_structure": "none at all"}, UnknownNameError),
    ],
)
def test_what_cannot_run_is_refused_with_the_plan(overrides, error):
    with pytest.raises(error):
        plan(overrides=overrides)


@pytest.mark.parametrize(
    "overrides",
    [{}, {"optim.lr": 0.03}, {"data.noise": 0.25, "model.mask_structure": "none"}],
)
def test_the_recorded_command_plans_the_same_runs(overrides, tmp_path):
    """Typed as it stands it is parsed to the same fingerprints."""
    study = replace(GRID, path="my grid.py")
    first = plan(study, overrides=overrides)
    words = shlex.split(first.command)
    assert words[:4] == ["python", "run_ablation.py", "--study", "my grid.py"]
    launch, rest = parse_launch(words[2:])
    base = base_config(study, PROFILES[launch.profile])
    config = parse_overrides(rest, study, base)
    again = plan(study, overrides={key: value for key, value in flatten(config).items() if key in overrides})
    assert config == override(base, overrides)
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in first.runs]


@pytest.mark.parametrize("how", [
    {"train.kernels": "eager"}, {"train.channels_last": False}, {"train.compile": True}, {"train.threads": 2},
    {"train.recompute": True},
])  # fmt: skip
def test_the_way_of_computing_makes_neither_another_run_nor_another_study(how):
    usual, other = plan(), plan(overrides=how)
    assert [run.fingerprint for run in other.runs] == [run.fingerprint for run in usual.runs]
    assert (other.parent_key, other.overrides) == (usual.parent_key, {})
    assert all(run.config.train != usual.runs[0].config.train for run in other.runs), "and it is what was asked for"


def test_the_planned_seeds_are_the_profiles_unless_the_study_names_some():
    named, unnamed = (Study("one", "One", axes=(), seeds=seeds) for seeds in ((5,), None))
    for profile in PROFILES.values():
        assert profile.planned(named.seeds) == (5,)
        assert profile.planned(unnamed.seeds) == profile.seeds
    assert PROFILES["short"].seeds == (0, 1, 2, 3, 4)


def test_a_test_image_too_small_for_the_network_is_refused_with_the_plan():
    source = open_source(DataConfig("cluttershapes"))
    size = 8
    with DATASETS.holding("shrunk", lambda config: replace(source, name="shrunk", test_size=size)):
        assert plan(overrides={"data.name": "shrunk"}).runs
        size = 4
        with pytest.raises(ConfigError, match="smallest image_size is 8"):
            plan(overrides={"data.name": "shrunk"})


# Cost


def test_image_files_take_at_least_as_long_as_decoding_them(monkeypatch):
    def seconds(step: float, reading: float) -> list[float]:
        monkeypatch.setattr(estimate, "seconds_to_read", lambda source: reading)
        estimates = estimate.estimate_seconds(plan(), torch.device("cpu"), lambda *_, **__: step)
        return [estimates[run.fingerprint] for run in plan().runs[:3:2]]

    shallow, deep = seconds(1e-3, 0)
    assert deep > 1.3 * shallow
    assert seconds(1e-3, 1e-6) == [shallow, deep]
    assert seconds(1e-6, 1e-3) == pytest.approx([shallow, shallow])
    monkeypatch.setattr(estimate, "seconds_to_read", lambda source: open_source(DataConfig("imagenet", root="none")))
    assert estimate.estimate_seconds(plan(), torch.device("cpu"), lambda *_, **__: 1e-3)[
        plan().runs[0].fingerprint
    ] == (pytest.approx(shallow))
