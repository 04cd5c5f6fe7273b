"""Runs one stage in this process, and writes what it finds after each step of it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.stages import Stage, Work
from benchmarks.stages.commands import cells, commands, tests
from benchmarks.stages.sharing import one_of_several, sharing
from benchmarks.stages.speed import machine, profiled, speed
from benchmarks.stages.training import training
from ran.engine.device import pick_device
from records.command import entry
from records.files import write_whole

STAGES: dict[str, Stage] = {
    "machine": machine, "tests": tests, "speed": speed, "profile": profiled, "sharing": sharing, "training": training,
    "commands": commands, "cells": cells,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0."""
    parser = argparse.ArgumentParser("python -m benchmarks.stages", description="One stage of benchmarks.device.")
    parser.add_argument("stage", choices=[*STAGES, "one_of_several"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kept", type=Path, default=Path())
    parser.add_argument("--found", type=Path, help="JSON file for what is found")
    options = parser.parse_args(argv)
    work = Work(pick_device(options.device), options.seconds, options.kept.absolute())
    if options.stage == "one_of_several":
        one_of_several(work)
        return 0
    for found in STAGES[options.stage](work):
        if options.found is None:
            print(json.dumps(found, indent=1))
        else:
            write_whole(options.found, json.dumps(found, indent=1).encode())
    return 0


if __name__ == "__main__":
    entry("stages", main)
