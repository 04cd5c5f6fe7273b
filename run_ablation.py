"""Runs a study or a search: parse, plan, execute, print. `python run_ablation.py --help` lists the flags."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.console.ending import leave
from records.collector import collector_paused
from records.command import prepare_process
from records.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

    from experiments.cli import Launch
    from experiments.profiles import Profile
    from experiments.study import Study
    from ran.config import RunConfig

UNREAD = (129, 143)
"""exit statuses after which nobody waits for a table: a terminal was closed, or SIGTERM sent"""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all done, 1 some failed, 2 refused input, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP."""
    arguments = sys.argv[1:] if argv is None else argv
    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":  # torchrun started several processes
        from experiments.runner.torchrun import run_under_torchrun

        return run_under_torchrun(lambda: _main(arguments), arguments)
    return _main(arguments)


def _main(arguments: Sequence[str]) -> int:
    with collector_paused():
        from experiments.catalog import listing, with_import_hint
        from experiments.cli import parse_launch

    try:
        launch, rest = parse_launch(arguments)
        if launch.list:
            print(listing())
            return 0
        if launch.search is not None:
            return _search(launch, rest)
        return _run_study(launch, *_chosen_study(launch, rest))
    except UserError as error:
        print(f"run_ablation: {with_import_hint(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("run_ablation: stopped at once; the same command continues", file=sys.stderr)
        return 130


@collector_paused()
def _chosen_study(launch: "Launch", rest: Sequence[str]) -> "tuple[Study, Profile, str, RunConfig]":
    """Returns the study of a launch, its profile and why, and its config with the overrides."""
    from experiments.catalog import import_modules, load_study, study_names
    from experiments.cli import UsageError, check_flags, parse_overrides
    from experiments.profiles import PROFILES

    check_flags(launch)
    if launch.study is None:
        unknown = f" ({rest[0]} is no option without it)" if rest else ""
        valid = ", ".join(study_names())
        raise UsageError(f"--study is missing{unknown}. Valid: {valid}, or the path of a study file.")
    import_modules(launch.imports)
    study = load_study(launch.study)
    if launch.profile is not None:
        PROFILES[launch.profile]  # an unknown name is refused before torch is loaded

    from experiments.prepare import base_config, choose_profile  # torch, which a refusal above does without

    profile, why = choose_profile(study, launch.profile, launch.placement)
    return study, profile, why, parse_overrides(rest, study, base_config(study, profile))


def _search(launch: "Launch", rest: Sequence[str]) -> int:
    from experiments.catalog import import_modules, load_search
    from experiments.cli import ask_if_long, check_flags, parse_overrides
    from experiments.profiles import PROFILES

    check_flags(launch)
    import_modules(launch.imports)
    search = load_search(str(launch.search))
    if launch.profile is not None:
        PROFILES[launch.profile]  # an unknown name is refused before torch is loaded

    with collector_paused():
        from experiments.prepare import choose_profile, deliver_waiting
        from experiments.search import launch as searching
        from experiments.search.confirm import confirming_study
        from experiments.search.prepare import describe, headline, prepare, search_base

    profile, why = choose_profile(search, launch.profile, launch.placement)
    config = parse_overrides(rest, search, search_base(search, profile)[0])
    prepared = prepare(launch, search, profile, config)
    if launch.confirm:
        study = confirming_study(prepared, launch.trial, launch.seeds)
        return _run_study(dataclasses.replace(launch, seeds=None), study, profile, why, config)
    deliver_waiting(launch)
    print("\n".join([headline(prepared, why), *prepared.remarks]), file=sys.stdout if launch.dry_run else sys.stderr)
    if launch.dry_run:
        print(describe(prepared))
        return 0
    ask_if_long(prepared.seconds, yes=launch.yes)
    finished = searching.run(prepared)
    if finished.table and finished.exit_status not in UNREAD:
        print(finished.table)
    for line in finished.problems:
        print(line, file=sys.stderr)
    return finished.exit_status


def _run_study(launch: "Launch", study: "Study", profile: "Profile", why: str, config: "RunConfig") -> int:
    from experiments.cli import ask_if_long
    from experiments.plan import select_cells
    from experiments.prepare import deliver_waiting, describe, headline, prepare

    deliver_waiting(launch)
    prepared = prepare(launch, study, profile, config)
    print("\n".join([headline(prepared, why), *prepared.remarks]), file=sys.stdout if launch.dry_run else sys.stderr)
    if launch.dry_run:
        print(describe(prepared))
        return 0
    from experiments import launch as launching

    ask_if_long(prepared.seconds, yes=launch.yes)
    # The cells of --cells: those of another --shard are being trained elsewhere and stay in the table.
    uri, cells = prepared.settings.tracking_uri, {cell.key for cell in select_cells(study.cells, launch.cells)}
    finished = launching.run(prepared, lambda parent_id: _page().table_so_far(uri, parent_id, cells))
    if finished.exit_status not in UNREAD and (text := _page().table_so_far(uri, finished.parent_id, cells)):
        print(text, flush=True)
        _page().finish(uri, finished.parent_id, figures=profile.name != "smoke", may_write=finished.may_write)
    for line in finished.problems:
        print(line, file=sys.stderr)
    return finished.exit_status


def _page() -> "ModuleType":
    from analysis import parent_page  # pandas, which training does without

    return parent_page


if __name__ == "__main__":
    prepare_process()
    leave(main())
