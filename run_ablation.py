"""Runs a study or a search: parse, plan, execute, print. `python run_ablation.py --help` lists the flags."""

import dataclasses
import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ran.config import DataConfig
from records.errors import UserError

if TYPE_CHECKING:
    from experiments.cli import Launch
    from experiments.profiles import Profile
    from experiments.study import Study
    from ran.config import RunConfig

ASK_SECONDS = 3600


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all done, 1 some failed, 2 refused input, 130 Ctrl-C, 143 SIGTERM."""
    arguments = sys.argv[1:] if argv is None else argv
    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":  # torchrun started several of us
        from experiments.runner.torchrun import together

        return together(lambda: _main(arguments), arguments)
    return _main(arguments)


def _main(arguments: Sequence[str]) -> int:
    from experiments.cli import parse_launch

    try:
        launch, rest = parse_launch(arguments)
        if launch.list:
            return _list()
        return _study(launch, rest) if launch.search is None else _search(launch, rest)
    except UserError as error:
        print(f"run_ablation: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run_ablation: stopped at once; the same command continues from the last checkpoints", file=sys.stderr)
        return 130


def _list() -> int:
    from experiments.catalog import load_search, load_study, search_names, study_names
    from experiments.profiles import PROFILES

    print("Studies (--study NAME)")
    for name in study_names():
        study = load_study(name)
        table = f"Table {study.table}; " if study.table else ""
        print(f"  {name:<14} {study.title} ({table}{len(study.cells)} cells x {len(study.seeds)} seeds)")
    print("Searches (--search NAME --trials TOTAL)")
    for name in search_names():
        search = load_search(name)
        print(f"  {name:<14} {search.title} ({len(search.space)} parameters, pruned by {search.pruner})")
    print("Profiles (--profile NAME)")
    for profile in PROFILES.values():
        print(f"  {profile.name:<14} {profile.summary} ({profile.tag})")
    return 0


def _study(launch: "Launch", rest: Sequence[str]) -> int:
    from experiments.catalog import import_module, load_study, study_names
    from experiments.cli import UsageError, check_flags, parse_overrides
    from experiments.profiles import PROFILES

    check_flags(launch)
    if launch.study is None:
        raise UsageError(f"--study is missing. Valid: {', '.join(study_names())}, or the path of a study file.")
    for module in launch.imports:
        import_module(module)
    study = load_study(launch.study)
    if launch.profile is not None:
        PROFILES[launch.profile]  # an unknown name is refused before torch is loaded

    from experiments import launch as launching

    profile, why = launching.choose_profile(study, launch, DataConfig())
    config = parse_overrides(rest, study, launching.base_config(study, profile))
    return _run_study(launch, study, profile, why, config)


def _search(launch: "Launch", rest: Sequence[str]) -> int:
    from experiments.catalog import import_module, load_search
    from experiments.cli import check_flags, parse_overrides
    from experiments.profiles import PROFILES

    check_flags(launch)
    for module in launch.imports:
        import_module(module)
    search = load_search(str(launch.search))
    if launch.profile is not None:
        PROFILES[launch.profile]

    from experiments import launch as launching
    from experiments.search import launch as searching
    from experiments.search import prepare as search_plan
    from experiments.search.confirm import confirming_study

    profile, why = launching.choose_profile(search, launch, DataConfig())
    config = parse_overrides(rest, search, search_plan.search_base(search, profile)[0])
    prepared = search_plan.prepare(launch, search, profile, config)
    if launch.confirm:
        study = confirming_study(prepared, launch.trial, launch.seeds)
        return _run_study(dataclasses.replace(launch, seeds=None), study, profile, why, config)
    _deliver(launch)
    print(search_plan.headline(prepared, why), file=sys.stdout if launch.dry_run else sys.stderr)
    if launch.dry_run:
        print(search_plan.describe(prepared))
        return 0
    _ask(launch, prepared.seconds)
    finished = searching.run(prepared)
    if finished.table and finished.exit_status != 143:
        print(finished.table)
    for line in finished.problems:
        print(line, file=sys.stderr)
    return finished.exit_status


def _deliver(launch: "Launch") -> None:
    from experiments.launch import deliver_waiting

    if delivered := len(deliver_waiting(launch).delivered):
        print(f"delivered to the tracking store what {delivered} run(s) had logged while it was away", file=sys.stderr)


def _ask(launch: "Launch", seconds: float) -> None:
    from experiments.cli import UsageError, confirm
    from experiments.console.progress import duration

    if seconds > ASK_SECONDS and not launch.yes and not confirm(f"This takes about {duration(seconds)}. Start?"):
        raise UsageError(f"this takes about {duration(seconds)}; --yes starts it, --profile quick takes less")


def _run_study(launch: "Launch", study: "Study", profile: "Profile", why: str, config: "RunConfig") -> int:
    from experiments import launch as launching
    from experiments.console.progress import duration

    _deliver(launch)
    prepared = launching.prepare(launch, study, profile, config)
    plan, seconds = prepared.plan, prepared.seconds
    time = f", about {duration(seconds)}" if plan.todo else ""
    print(
        f"{study.name}: profile {profile.tag} ({why}), data {plan.source.name}, {prepared.device}"
        f"{f', {placed}' if (placed := str(prepared.placement)) else ''}; "
        f"{len(plan.todo)} of {len(plan.runs)} runs to do{time}",
        file=sys.stdout if launch.dry_run else sys.stderr,
    )
    if launch.dry_run:
        print(launching.describe(prepared))
        return 0
    _ask(launch, seconds)
    finished = launching.run(prepared)
    if finished.exit_status != 143:  # who sends SIGTERM waits for no table
        _print_table(prepared.uri, finished.parent_id)
    for line in finished.problems:
        print(line, file=sys.stderr)
    return finished.exit_status


def _print_table(uri: str, parent_id: str) -> None:
    from analysis.read.mlflow_client import StoreError  # only now: what trains does not wait for pandas
    from analysis.tables.formats import to_text
    from analysis.tables.study_table import study_table

    try:
        print(to_text(study_table(uri, parent_id)))
    except StoreError as error:
        print(f"no table: {error}", file=sys.stderr)


if __name__ == "__main__":
    status = main()
    gc.freeze()  # else Python searches all that torch and MLflow are made of for cycles before it ends: a second
    sys.exit(status)
