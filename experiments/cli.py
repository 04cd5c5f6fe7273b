"""The command line of a launch: its flags, and the config overrides, typed by the dataclasses of the config."""

import contextlib
import difflib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from experiments.search_spec import Search
from experiments.study import Study
from ran.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from records.errors import UserError

if TYPE_CHECKING:
    from experiments.placement import PlacementRequest

T = TypeVar("T")
ASK_SECONDS = 3600
"""time above which a launch asks for confirmation"""


def _text(metavar: str) -> Any:
    """Names an option's value in the help; the option's own text states the default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Flag = Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help_behavior_hint="")]


class UsageError(UserError):
    """A command line that cannot be parsed."""


@dataclass(frozen=True)
class Launch:
    """Trains every cell of a study at every seed, logs each run to MLflow and prints the study's table.

    Finished runs are not trained again; interrupted runs continue from their last checkpoints.
    """

    study: Annotated[str | None, _text("NAME")] = None
    """study to run: a name that --list prints, or the path of a study file"""
    search: Annotated[str | None, _text("NAME")] = None
    """Optuna search to run instead of a study: a name that --list prints, or the path of a search file"""
    trials: Annotated[int | None, _text("TOTAL")] = None
    """total number of trials of a search, including completed ones"""
    objectives: Annotated[str, _text("LIST")] = "error"
    """objectives of a search: error (default), or error,macs for the Pareto front of both"""
    storage: Annotated[str | None, _text("PATH_OR_URL")] = None
    """where a search keeps its trials: Optuna's journal file or a database URL; default: optuna.journal"""
    confirm: Flag = False
    """compare the search's best trial with its base, at seeds that the search did not use"""
    trial: Annotated[int | None, _text("NUMBER")] = None
    """with --confirm: compare this trial instead of the best"""
    list: Flag = False
    """list studies, searches and profiles, and exit"""
    dry_run: Flag = False
    """print the plan with the state and cost of each run; train nothing and write nothing to the store"""
    profile: Annotated[str | None, _text("NAME")] = None
    """size of the runs: smoke, quick, short or paper; default: the study's own, else paper if CUDA and the data are
    available, else quick"""
    seeds: Annotated[str | None, _text("LIST")] = None
    """seeds, e.g. 0,1,2; default: those of the study or search, else of the profile"""
    cells: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], _text("FILTER")] = ()
    """run only these cells, e.g. depth=92,learning=arl; a comma is AND, a second --cells is OR"""
    shard: Annotated[str, _text("I/N")] = "1/1"
    """run only the i-th of n parts of the runs, e.g. 1/2; default: all"""
    retry_failed: Flag = False
    """train failed runs again"""
    rerun: Flag = False
    """train the chosen runs again, even those that are finished"""
    yes: Flag = False
    """start without asking, however long it takes"""
    device: Annotated[str, _text("NAME")] = "auto"
    """auto, cpu, cuda, cuda:N, or the untried mps and xpu; default: auto, which is CUDA if there is a CUDA device"""
    workers: Annotated[int | None, _text("N")] = None
    """number of runs to train at once; default: what suits the machine if Ray is installed, else 1"""
    gpus_per_run: Annotated[float | None, _text("SHARE")] = None
    """share of a GPU for each run, e.g. 0.25; default: what suits the networks, or the GPUs divided among --workers"""
    ray_address: Annotated[str | None, _text("ADDRESS")] = None
    """Ray cluster to train on: auto on one of its nodes, or host:port; default: this machine"""
    sync_batchnorm: Flag = False
    """under torchrun on GPUs: split each micro-batch among the processes, and normalise it as a whole"""
    deterministic: Flag = False
    """refuse operations whose bits can differ on CUDA, as your own parts may have; the networks here have none"""
    tracking_uri: Annotated[str | None, _text("URI")] = None
    """MLflow store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"""
    checkpoints: Annotated[str, _text("PLACE")] = "checkpoints"
    """folder, or URI such as s3://bucket/folder, for the state of unfinished runs; default: checkpoints"""
    checkpoint_seconds: Annotated[float | None, _text("SECONDS")] = None
    """time between two checkpoints of a run, shorter at its start; default: 60"""
    keep: Annotated[str, _text("WHAT")] = "final"
    """what to keep after a run finishes, besides the final weights: final = nothing else, last = its last two
    checkpoints, all = all checkpoints; none = not even weights or other artifacts, for thousands of runs"""
    imports: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(name="import", metavar="MODULE", help_behavior_hint=""),
    ] = ()
    """module to import first, which registers your own masks, data sets, ..."""

    @property
    def placement(self) -> "PlacementRequest":
        """Where the user wants the runs to train."""
        from experiments.placement import PlacementRequest  # torch, which --help does without

        return PlacementRequest(
            device=self.device,
            workers=self.workers,
            gpus_per_run=self.gpus_per_run,
            ray_address=self.ray_address,
            sync_batchnorm=self.sync_batchnorm,
            search=self.search is not None and not self.confirm,
            dry_run=self.dry_run,
        )


@dataclass(frozen=True)
class Overrides:
    """Config fields, which take precedence over the study's own under the chosen profile."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def parse_launch(argv: Sequence[str]) -> tuple[Launch, list[str]]:
    """Returns the launch flags and the remaining arguments, which are config overrides. Raises UsageError."""
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
    default = Overrides(model=base.model, data=base.data, optim=base.optim, train=base.train)
    parsed = _quietly(Overrides, arguments, default=default, use_underscores=True)
    return replace(base, model=parsed.model, data=parsed.data, optim=parsed.optim, train=parsed.train)


def _help() -> None:
    with contextlib.suppress(SystemExit):
        tyro.cli(Launch, args=["--help"], prog="run_ablation.py")
    print("Config overrides (defaults: the paper's protocol; a study and its profile set their own):")
    tyro.cli(Overrides, args=["--help"], prog="run_ablation.py", use_underscores=True)


def _quietly(kind: type[T], arguments: Sequence[str], **options: Any) -> Any:
    """Calls tyro.cli and turns its boxed message into one line."""
    complaint = io.StringIO()
    # tyro draws the box that _one_line takes apart only for a stdout of this encoding.
    of_utf8 = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(of_utf8):
            return tyro.cli(kind, args=list(arguments), prog="run_ablation.py", **options)
    except SystemExit:
        raise UsageError(_one_line(complaint.getvalue())) from None


_KINDS = {
    r"invalid literal for int\(\) with base 10": "a whole number",
    "could not convert string to float": "a number",
}
"""what an option takes, by what Python says of a text that is something else"""
_LAUNCH_FLAGS = [{"imports": "import"}.get(each.name, each.name).replace("_", "-") for each in fields(Launch)]


def _one_line(box: str) -> str:
    lines = [line.strip("│ ").strip() for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = re.split(r"─{8,}", "\n".join(lines))
    message = " ".join(sections[0].split()).rstrip(".")
    for complaint, kind in _KINDS.items():
        if found := re.fullmatch(rf"Error parsing (--[\w.-]+): .*{complaint}: ('.*')", message):
            message = f"{found[1]} takes {kind}, got {found[2]}"
    if found := re.fullmatch(r"Unrecognized options: ([^-\s]\S*).*", message):
        return f"{found[1]!r} belongs to no option. Lists have commas, as --seeds 0,1,2; a second --cells is OR."
    near = []
    if found := re.fullmatch(r"Unrecognized options: --([\w-]+)\b.*", message):
        near = [f"--{flag}" for flag in difflib.get_close_matches(found[1], _LAUNCH_FLAGS, n=1)]
    if not near and len(sections) > 1 and "meant" in sections[1]:
        near = re.findall(r"--[\w.]+", sections[1])
    return f"{message}." + (f" Did you mean {near[0]}?" if near else " See --help for the valid options.")


def check_flags(launch: Launch) -> None:
    """Raises UsageError for flags that do not fit together."""
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
        raise UsageError("--trials is missing: the total number of trials, such as --trials 40")
    if launch.trials < 1:
        raise UsageError(f"--trials must be at least 1, got {launch.trials}")


def ask_if_long(seconds: float, *, yes: bool) -> None:
    """Asks for confirmation above ASK_SECONDS. Raises UsageError if it is not given; `yes` gives it."""
    if yes or seconds <= ASK_SECONDS:
        return
    from experiments.console.progress import duration  # rich

    time = duration(seconds)
    if not confirm(f"This takes about {time}. Start?"):
        raise UsageError(f"this takes about {time}; --yes starts it, --profile quick takes less")


def confirm(question: str) -> bool:
    """Returns the answer of a person at the terminal; False if there is no terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds of "0,1,2". Raises UsageError."""
    try:
        seeds = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UsageError(f"--seeds takes integers separated by commas, as 0,1,2; got {text!r}") from None
    if min(seeds) < 0:
        raise UsageError(f"--seeds: seeds are not negative; got {text!r}")
    return seeds


def parse_shard(text: str) -> tuple[int, int]:
    """Returns (i, n) of "i/n", 1 <= i <= n. Raises UsageError."""
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise UsageError(f"--shard takes i/n with 1 <= i <= n, as 1/2; got {text!r}")
