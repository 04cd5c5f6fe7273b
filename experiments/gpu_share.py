"""How many runs share a GPU. Small networks leave it idle: their kernels end before the processor launches the next.

All numbers here are stated, not measured: they come from counted operations (docs/gpu.md). `python -m
benchmarks.device` measures them, and --gpus-per-run overrides them.
"""

from collections.abc import Iterable

from experiments.plan import PlannedRun
from ran.models.zoo import config_spec

BY_WORK = ((0.25e9, 4), (1e9, 2))
"""(multiply-adds of one layer's forward pass over a batch, at most; runs on a GPU). Attention-56 to -164 in batches of
64 images of 32x32 have 0.14e9 and keep an H200 busy for an estimated third of the time."""
CONTEXT_BYTES = 1.5 * 2**30
"""memory of a process before its network: CUDA's context, libraries, workspaces"""
BYTES_PER_MAC = 0.25
"""memory that an image's maps take in training, by multiply-adds at width 1; 0.15 to 0.25 in docs/performance.md"""
USABLE = 0.9
"""share of the GPU's memory that is planned with"""
SLOWER_EACH = 0.15
"""how much slower a run is for each other run on its GPU: four runs then do 2.8 times the work of one"""


def runs_per_gpu(runs: Iterable[PlannedRun], *, memory: int | None, cores: int) -> int:
    """Returns how many runs of a plan to train on one GPU at once.

    `memory`: bytes of the GPU, None if not known; `cores`: processor cores for each GPU, of which a run needs one.
    """
    found = {(run.config.model, run.config.train, run.source.image_size): run for run in runs}
    return max(1, min([cores, *(_fitting(run, memory) for run in found.values())])) if found else 1


def _fitting(run: PlannedRun, memory: int | None) -> int:
    model, train = run.config.model, run.config.train
    macs = run.cost.macs * (train.micro_batch or train.batch_size)
    busy = next((count for limit, count in BY_WORK if macs / config_spec(model).trunk_depth <= limit), 1)
    if memory is None:
        return busy
    return min(busy, int(USABLE * memory / (CONTEXT_BYTES + BYTES_PER_MAC * macs / min(1, model.width))))


def slowdown(gpus: float) -> float:
    """Returns how many times longer a run takes with this share of a GPU, all of it in use, than alone on one."""
    return 1 + SLOWER_EACH * (1 / gpus - 1) if 0 < gpus < 1 else 1.0
