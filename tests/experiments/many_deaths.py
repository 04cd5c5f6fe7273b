"""Imported by launches and workers that are killed often: a checkpoint after each step, no run fails for its deaths.

And little work that has nothing to do with it: short waits for other launches, few images for the probes, no steps
that are only timed.
"""

from experiments import estimate
from experiments.executors import run_plan
from experiments.runner import execute, settings
from ran import snapshot

settings.CHECKPOINT_SECONDS = 0.0
execute.MAX_DEATHS = 1_000
run_plan.POLL_SECONDS = 0.1
snapshot.FIELD_IMAGES = 2
estimate._measured_rate = lambda *_: 1e9
