"""What a run leaves when it ends: final metrics, weights, probes and masks."""

import logging
import traceback

import numpy as np

from experiments.plan import PlannedRun
from experiments.tracking.run_log import RunLog
from ran import snapshot
from ran.data.datasets import Splits
from ran.engine.checkpoint import write_tensors
from ran.engine.train import Result
from records import names
from records.files import writing

logger = logging.getLogger(__name__)


def log_results(run: PlannedRun, result: Result, log: RunLog, *, weights: bool) -> None:
    """Logs the final metrics of a run, and its weights as safetensors if `weights`."""
    final = {**result.metrics, names.COST_PARAMS: run.cost.params, names.COST_MACS: run.cost.macs}
    if result.outcome == names.DIVERGED:
        final[names.DIVERGED_STEP] = result.step
    log.metrics(result.step, final)
    if weights:
        write_tensors(log.artifacts / names.WEIGHTS, result.network.state_dict(), {"fingerprint": run.fingerprint})
        log.artifact(names.WEIGHTS)


def log_probes(run: PlannedRun, result: Result, splits: Splits, log: RunLog) -> None:
    """Logs what the figures are drawn from. A user's network that cannot be probed does not fail its run."""
    device = next(result.network.parameters()).device
    normalization = splits.normalization.to(device)
    test = splits.test.to(device)
    try:
        probes = snapshot.probes(result.network, test.images, normalization)
        masks = snapshot.masks(result.network, test.images, test.labels, run.source.classes, normalization)
    except Exception:
        logger.warning("%s: the network could not be probed; probe_error.txt says why", run.name)
        log.text("probe_error.txt", traceback.format_exc())
        return
    log.json(names.PROBES_JSON, probes)
    if masks is not None:
        with writing(log.artifacts / names.MASKS_NPZ):
            np.savez_compressed(log.artifacts / names.MASKS_NPZ, allow_pickle=False, **masks)
        log.artifact(names.MASKS_NPZ)
