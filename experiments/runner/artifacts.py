"""What a run leaves when it ends: final metrics, weights, the result of each test image, probes and masks."""

import io
import logging
import traceback
import zipfile
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from experiments.plan import PlannedRun
from experiments.tracking.run_log import RunLog
from ran import snapshot
from ran.config import flatten
from ran.data.datasets import Splits
from ran.engine.train import Result
from ran.tensor_file import tensors_sha256, write_tensors
from ran.trained import Interface, companions
from records import names
from records.files import write_whole, writing

logger = logging.getLogger(__name__)


def log_results(run: PlannedRun, result: Result, log: RunLog, interface: Interface | None) -> None:
    """Logs the final metrics of a run; with its interface its weights too and, if it finished, what it got right.

    `interface` is None for a run that leaves no artifacts.
    """
    final = dict(result.metrics)
    if result.outcome == names.DIVERGED:
        final[names.DIVERGED_STEP] = result.step
    log.metrics(result.step, final)
    if result.outcome == names.FINISHED:
        log.tag(names.WEIGHTS_SHA256, tensors_sha256(result.network.state_dict()))
    if interface is not None:
        header = {"fingerprint": run.fingerprint, **companions(flatten(run.config), interface.to_json())}
        write_tensors(log.artifacts / names.WEIGHTS, result.network.state_dict(), header)
        log.artifact(names.WEIGHTS)
        if result.correct is not None:
            write_whole(log.artifacts / names.TEST_CORRECT, npz_bytes(packed(result.correct)))
            log.artifact(names.TEST_CORRECT)


def packed(correct: Tensor) -> dict[str, np.ndarray]:
    """Returns bools (N,) as test_correct.npz holds them: `correct`, uint8 of eight images each, and `count` = N."""
    return {"correct": np.packbits(correct.numpy()), "count": np.array(len(correct), np.int64)}


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns arrays as a file that np.load reads: the same bytes for equal arrays, so without the time of writing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # else it names the operating system
            archive.writestr(member, content.getvalue())
    return buffer.getvalue()


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
