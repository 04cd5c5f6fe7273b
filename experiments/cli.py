"""The command line of a launch: its flags, and the config overrides, typed by the config's own dataclasses."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import tyro

from experiments.search import Search
from experiments.study import Study
from ran.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from records.errors import UserError

T = TypeVar("T")


def _text(metavar: str) -> Any:
    """Returns what names an option's value in the help; the default is told by the option's own text."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Flag = Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help_behavior_hint="")]


class UsageError(UserError):
    """A command line that cannot be parsed."""


@dataclass(frozen=True)
class Launch:
    """Trains every cell of a study at every seed, logs each run to MLflow and prints the study's table.

    What is done already is not done again; what was interrupted goes on where it stopped.
    """

    study: Annotated[str | None, _text("NAME")] = None
    """study to run: a name of --list, or the path of a study file"""
    search: Annotated[str | None, _text("NAME")] = None
    """Optuna search to run in place of a study: a name of --list, or the path of a search file"""
    trials: Annotated[int | None, _text("TOTAL")] = None
    """of a search, how many trials it shall have in all; those that it has already count"""
    objectives: Annotated[str, _text("LIST")] = "error"
    """of a search: error (default), or error,macs for the Pareto front of both"""
    storage: Annotated[str | None, _text("PATH_OR_URL")] = None
    """of a search: Optuna's journal file or database URL; default: optuna.journal"""
    confirm: Flag = False
    """compare the search's best trial with its base, at seeds that the search did not use"""
    trial: Annotated[int | None, _text("NUMBER")] = None
    """with --confirm, this trial in place of the best"""
    list: Flag = False
    """list studies, searches and profiles, and leave"""
    dry_run: Flag = False
    """print the plan with the state and cost of each run; trains nothing, and writes nothing to the store"""
    profile: Annotated[str | None, _text("NAME")] = None
    """how big: smoke, quick, short or paper; default: paper where CUDA and the data are, else quick"""
    seeds: Annotated[str | None, _text("LIST")] = None
    """seeds, e.g. 0,1,2; default: the study's or search's own"""
    cells: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], _text("FILTER")] = ()
    """only these cells, e.g. depth=92,learning=arl; a comma is AND, a second --cells is OR"""
    shard: Annotated[str, _text("I/N")] = "1/1"
    """only the i-th of n parts of the runs, e.g. 1/2; default: all"""
    retry_failed: Flag = False
    """try failed runs again"""
    rerun: Flag = False
    """train the chosen runs afresh, even those that are done"""
    yes: Flag = False
    """start without asking, however long it takes"""
    device: Annotated[str, _text("NAME")] = "auto"
    """auto, cpu, cuda or cuda:N; default: auto, which is CUDA where there is one"""
    workers: Annotated[int | None, _text("N")] = None
    """runs to train at once; default: what serves the machine where Ray is installed, else 1"""
    gpus_per_run: Annotated[float | None, _text("SHARE")] = None
    """of a GPU for each run, e.g. 0.25; default: 1, or the GPUs shared out among --workers"""
    ray_address: Annotated[str | None, _text("ADDRESS")] = None
    """Ray cluster to train on: auto on one of its nodes, or host:port; default: this machine"""
    sync_batchnorm: Flag = False
    """under torchrun on GPUs: split each micro-batch among the processes, and normalise it as a whole"""
    deterministic: Flag = False
    """only algorithms that give the same bits each time (slower on CUDA)"""
    tracking_uri: Annotated[str | None, _text("URI")] = None
    """MLflow store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"""
    checkpoints: Annotated[str, _text("PLACE")] = "checkpoints"
    """folder, or URI such as s3://bucket/folder, for the state of unfinished runs; default: checkpoints"""
    checkpoint_seconds: Annotated[float | None, _text("SECONDS")] = None
    """between two checkpoints of a run; default: 60"""
    keep: Annotated[str, _text("WHAT")] = "final"
    """of a finished run, beside the final weights in MLflow: final = nothing, last = its last two checkpoints, all;
    none = not even weights or other artifacts, for searches and studies of thousands of runs"""
    imports: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(name="import", metavar="MODULE", help_behavior_hint=""),
    ] = ()
    """module to import first, which registers your own masks, data sets, ..."""


@dataclass(frozen=True)
class Overrides:
    """Config fields, laid over the study's own under the chosen profile."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def parse_launch(argv: Sequence[str]) -> tuple[Launch, list[str]]:
    """Returns the launch flags and the arguments that are left: config overrides. Raises UsageError."""
    if any(argument in ("-h", "--help") for argument in argv):
        _help()
    launch, rest = _quietly(Launch, argv, return_unknown_args=True)
    return launch, list(rest)


def parse_overrides(arguments: Sequence[str], study: Study | Search, base: RunConfig) -> RunConfig:
    """Returns `base` with the overrides of the command line. Raises UsageError, also for what the study varies."""
    given = {a.partition("=")[0].removeprefix("--").replace("-", "_") for a in arguments if a.startswith("--")}
    for name in given & set(study.axis_fields):
        axis = study.axis_fields[name]
        if isinstance(study, Search):
            raise UsageError(f"--{name} is what search {study.name} draws; leave it out")
        raise UsageError(f"--{name} is what study {study.name} varies (axis {axis}); choose with --cells {axis}=...")
    default = Overrides(base.model, base.data, base.optim, base.train)
    parsed = _quietly(Overrides, arguments, default=default, use_underscores=True)
    return RunConfig(parsed.model, parsed.data, parsed.optim, parsed.train, base.seed)


def _help() -> None:
    with contextlib.suppress(SystemExit):
        tyro.cli(Launch, args=["--help"], prog="run_ablation.py")
    print("Config overrides (defaults: the paper's protocol; a study and its profile set their own):")
    tyro.cli(Overrides, args=["--help"], prog="run_ablation.py", use_underscores=True)


def _quietly(kind: type[T], arguments: Sequence[str], **options: Any) -> Any:
    """tyro.cli, with its boxed complaint turned into one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=list(arguments), prog="run_ablation.py", **options)
    except SystemExit:
        raise UsageError(_one_line(complaint.getvalue())) from None


def _one_line(box: str) -> str:
    lines = [line.strip("│ ").strip() for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = re.split(r"─{8,}", "\n".join(lines))
    message = " ".join(sections[0].split())
    near = re.search(r"--[\w.]+", sections[1]) if len(sections) > 1 and "meant" in sections[1] else None
    return f"{message}." + (f" Did you mean {near[0]}?" if near else " See --help for the valid options.")


def check_flags(launch: Launch) -> None:
    """Raises UsageError for flags that do not go together."""
    seconds = launch.checkpoint_seconds
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise UsageError(f"--checkpoint-seconds must be finite and not negative, got {seconds:g}")
    if launch.search is None:
        of_search = {
            "--trials": launch.trials, "--storage": launch.storage, "--confirm": launch.confirm or None,
            "--trial": launch.trial, "--objectives": None if launch.objectives == "error" else True,
        }  # fmt: skip
        if given := [flag for flag, value in of_search.items() if value is not None]:
            raise UsageError(f"{given[0]} goes with --search NAME")
        return
    if launch.study is not None:
        raise UsageError("--study and --search exclude each other: name one")
    if launch.confirm:
        if launch.trials is not None:
            raise UsageError("--trials and --confirm exclude each other: the search first, then its comparison")
        return
    if launch.trial is not None:
        raise UsageError("--trial goes with --confirm")
    of_study = {"--cells": launch.cells, "--shard": launch.shard != "1/1", "--rerun": launch.rerun}
    if given := [flag for flag, value in of_study.items() if value]:
        raise UsageError(f"{given[0]} goes with --study, or with --search NAME --confirm")
    if launch.trials is None:
        raise UsageError("--trials is missing: how many trials the search shall have in all, as --trials 40")
    if launch.trials < 1:
        raise UsageError(f"--trials must be at least 1, got {launch.trials}")


def confirm(question: str) -> bool:
    """Returns the answer of a person at the terminal, or False where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
