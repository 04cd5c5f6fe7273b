"""What the tests of searches share: a tiny search of a user's own, ways to launch it, and training that is made up."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch
from lab import ROOT, Lab, Said, main
from optuna.trial import FrozenTrial

from experiments.search.storage import open_storage
from ran.config import RunConfig
from ran.engine.train import Result, TrainHooks
from records import names

NAME = "tiny smoke-1 cluttershapes"
SEARCH = '''"""What the user wrote about it."""
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.search_spec import Search

SEARCH = Search(
    name="tiny",
    title="A tiny search",
    profile="smoke",
    space={
        "optim.lr": FloatDistribution(0.01, 1.0, log=True),
        "train.batch_size": CategoricalDistribution((8, 16)),
    },
    derived=("steps",),
)
'''


def tiny(*changes: tuple[str, str]) -> str:
    """The search file, with some of its text replaced."""
    content = SEARCH
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    return content


def arguments(lab: Lab, *more: str, content: str = SEARCH, storage: str | None = None) -> list[str]:
    (lab.folder / "tiny.py").write_text(content)
    storage = storage or str(lab.folder / "optuna.journal")
    return ["--search", str(lab.folder / "tiny.py"), "--storage", storage, *lab.places(), *more]


def search(lab: Lab, *more: str, **options: Any) -> Said:
    return main(*arguments(lab, *more, **options))


def start(lab: Lab, *more: str, before: str = "", **options: Any) -> subprocess.Popen[str]:
    """A launch in a process of its own; `before` is run in it first."""
    code = f"{before}\nimport sys, run_ablation\nsys.exit(run_ablation.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments(lab, *more, **options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{lab.folder}"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=lab.folder, env=environment, text=True, stdout=pipe, stderr=pipe)


def optuna_study(lab: Lab, storage: str | None = None, name: str = NAME) -> optuna.Study:
    opened = open_storage(storage or str(lab.folder / "optuna.journal"), create=False)
    assert opened is not None
    return optuna.load_study(study_name=name, storage=opened)


def trials(lab: Lab, storage: str | None = None, name: str = NAME) -> list[FrozenTrial]:
    return optuna_study(lab, storage, name).get_trials()


def states(found: list[FrozenTrial]) -> list[str]:
    return [t.state.name for t in found]


def record(lab: Lab) -> dict[str, Any]:
    """The search.json of the only search."""
    (parent,) = [run for run in lab.all_runs() if names.SEARCH in run.data.tags]
    return json.loads(lab.artifact(parent, names.SEARCH_JSON).read_text())


def pretend(
    error: Callable[[RunConfig, float], float], meanwhile: Callable[[RunConfig, int], None] = lambda config, step: None
) -> Callable[..., Result]:
    """In the place of the training loop: a run whose validation error is `error(config, share of its steps)`.

    A NaN is a divergence. `meanwhile` is called after each step.
    """

    def train(config: RunConfig, splits: Any, hooks: TrainHooks, **_: Any) -> Result:
        network = torch.nn.Linear(1, 1)
        steps, evals = config.train.steps, config.train.evals
        every = -(-steps // evals)
        for step in range(1, steps + 1):
            if hooks.stop():
                return Result(names.KILLED, step - 1, network, {}, f"stopped at step {step - 1}/{steps}")
            hooks.on_step(step)
            meanwhile(config, step)
            now = error(config, step / steps)
            if now != now:
                return Result(names.DIVERGED, step, network, {}, f"loss not finite by step {step}")
            if step % every == 0 or step == steps:
                hooks.log(step, {names.VAL_ERR: now})
        return Result(names.FINISHED, steps, network, {names.FINAL_VAL_ERR: now, names.FINAL_TEST_ERR: 50.0})

    return train


def by_rate(config: RunConfig, share: float) -> float:
    """An error that falls over the run, the lower the nearer the rate is to 0.1."""
    return min(99.0, 40 * abs(1 + torch.log10(torch.tensor(config.optim.lr)).item()) + 40 - 20 * share)


# Run first in a process of its own: training that is made up, and takes a moment so that launches meet.
MADE_UP = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from searchlab import by_rate, pretend
from experiments import estimate
from experiments.runner import execute
execute.train = pretend(by_rate, lambda config, step: time.sleep(0.05))
execute.log_probes = lambda *arguments: None
estimate._measured_rate = lambda *arguments: 1e9
"""

# Run after that: the first step of a launch waits until there are two.
MEET = """
import glob, os


def meet(config, step):
    open(f"here-{os.getpid()}", "w").close()
    end = time.monotonic() + 200
    while len(glob.glob("here-*")) < 2 and time.monotonic() < end:
        time.sleep(0.01)


execute.train = pretend(by_rate, meet)
"""
