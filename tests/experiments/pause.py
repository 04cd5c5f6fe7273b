"""Stops a launch with SIGSTOP for longer than its lease while another launch takes over its run, and lets it go on.

    python tests/experiments/kill.py --phase pause --moments 20

The two launches share the store and have checkpoint folders of their own, as two machines do. The lease is shortened to
LEASE seconds. The first one must notice, write nothing more of that run, and end with the result of the other.
"""

import os
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from kill import FORKS, NAME, launch
from lab import Lab, same_bits

from records import names

LEASE = 1.0
LONGEST_WAIT = 30.0
"""seconds; a process that is stopped within a transaction of sqlite's keeps the file locked, and nobody takes over"""
STEPS = 12
STEP_SECONDS = 0.1


def _child(lab: Lab, checkpoints: Path, output: str) -> None:
    """A launch with short leases, slow steps and a checkpoint after each of them."""
    import torch

    import experiments.launch
    import run_ablation
    from experiments.console.progress import PlainReporter
    from experiments.runner import settings
    from experiments.tracking import leases

    class Slow(PlainReporter):
        def step(self, name: str, step: int) -> None:
            super().step(name, step)
            time.sleep(STEP_SECONDS)

    torch.set_num_threads(1)
    os.chdir(lab.folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    settings.CHECKPOINT_SECONDS = 0.0
    leases.LEASE_SECONDS, leases.RENEW_SECONDS, leases.CONFIRM_SECONDS = LEASE, LEASE / 10, LEASE / 10
    experiments.launch.reporter = Slow
    places = ["--tracking-uri", lab.uri, "--data.root", lab.data, "--checkpoints", str(checkpoints)]
    steps = ("--train.steps", str(STEPS), "--train.evals", "3", "--cells", "learning=arl")
    os._exit(run_ablation.main(["--study", "smoke", *places, *steps]))


def check(lab: Lab, whole: Lab, *, stop_at: float, go_on_after: float) -> tuple[str, str]:
    """Returns what was found wrong, "" for nothing, and what happened.

    `stop_at`: seconds from the first's lease to SIGSTOP; `go_on_after`: from the second's lease to SIGCONT.
    """
    first = FORKS.Process(target=_child, args=(lab, lab.folder / "one", "one.txt"))
    first.start()
    _wait_for_lease(lab, whole, 0, first)
    first.join(stop_at)
    if first.is_alive():
        os.kill(first.pid or 0, signal.SIGSTOP)
    second = FORKS.Process(target=_child, args=(lab, lab.folder / "two", "two.txt"))
    second.start()
    _wait_for_lease(lab, whole, 1, second)
    second.join(go_on_after)
    if first.is_alive():
        os.kill(first.pid or 0, signal.SIGCONT)
    first.join(60)
    second.join(60)
    first.kill()  # if it still runs
    second.kill()
    said = (lab.folder / "one.txt").read_text()
    state = "taken over" if "left to another launch" in said else "not taken over"
    run = lab.children()[NAME]
    wrong = {
        "ended": (first.exitcode, second.exitcode) != (0, 0),
        "weights": not same_bits(lab.weights(NAME), whole.weights(NAME)),
        "points": lab.comparable(NAME) != whole.comparable(NAME) or not lab.each_point_once(NAME),
        "outcome": run.data.tags[names.OUTCOME] != names.FINISHED,
        "runs": (len(lab.all_runs()), len(lab.parents())) != (2, 1),
        "claims": bool(lab.client.search_registered_models()),
        "traceback": "Traceback" in said + (lab.folder / "two.txt").read_text(),
    }
    return ", ".join(what for what, is_wrong in wrong.items() if is_wrong), state


def _wait_for_lease(lab: Lab, whole: Lab, number: int, process: BaseProcess) -> None:
    """Waits until the run has a lease of this number, the process has ended, or LONGEST_WAIT seconds."""
    end = time.monotonic() + LONGEST_WAIT
    key = whole.children()[NAME].data.tags[names.FINGERPRINT][:16]
    while (
        process.is_alive()
        and time.monotonic() < end
        and not lab.client.search_registered_models(f"name = 'ran-claim-{key}-{number}'")
    ):
        time.sleep(0.01)


def harness(folder: Path, migrated: Path, moments: int, seed: int) -> list[tuple[str, str]]:
    """Returns, of each pause, what was found wrong and what happened."""

    def lab(name: str) -> Lab:
        return Lab.with_store(folder / name, migrated)

    whole = lab("whole")
    assert launch(whole) == 0, (whole.folder / "output.txt").read_text()
    generator = random.Random(seed)
    found = []
    for i in range(moments):
        one = lab(f"pause{i}")
        stop_at = generator.uniform(0, STEPS * STEP_SECONDS)
        go_on_after = generator.uniform(0, STEPS * STEP_SECONDS)
        found.append(check(one, whole, stop_at=stop_at, go_on_after=go_on_after))
        wrong, state = found[-1]
        times = f"stopped at {stop_at:.2f} s, goes on {go_on_after:.2f} s into the other"
        print(f"{i + 1:>4} {times}: {state}: {wrong or 'as one launch'}", flush=True)
        if not wrong:
            shutil.rmtree(one.folder)
    return found
