"""One run on two GPUs: the numbers of one, by micro-batches and with SyncBatchNorm, and the same bits twice."""

import multiprocessing
import os
import socket

import pytest
import torch
import torch.distributed as dist
from gpu_runs import config, noise

from ran.distributed.group import ALONE, data_group
from ran.engine.train import Checkpointing, TrainHooks, train

pytestmark = [
    pytest.mark.two_gpus,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]
STEPS = 3


def settings():
    return config(train__batch_size=16, train__micro_batch=8, train__steps=STEPS, optim__lr=0.01, train__evals=0)


def trained(processes, device, folder):
    result = train(
        settings(), noise(), TrainHooks(), num_classes=10, fingerprint="f" * 64, device=device,
        checkpoints=Checkpointing(folder), processes=processes,
    )  # fmt: skip
    return {key: value.cpu() for key, value in result.network.state_dict().items()}


def take_part(rank, port, sync_batchnorm, folder, results):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    dist.init_process_group("gloo")
    with data_group(device, sync_batchnorm=sync_batchnorm) as processes:
        state = trained(processes, device, folder)
    if rank == 0:
        results.put({key: value.numpy() for key, value in state.items()})
    dist.destroy_process_group()


def by_two(sync_batchnorm, folder):
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = context.Queue()
    members = [
        context.Process(target=take_part, args=(rank, port, sync_batchnorm, folder, results)) for rank in range(2)
    ]
    for member in members:
        member.start()
    state = results.get(timeout=120)
    for member in members:
        member.join(60)
        assert member.exitcode == 0
    return {key: torch.from_numpy(value) for key, value in state.items()}


@pytest.mark.parametrize("sync_batchnorm", [False, True])
def test_two_gpus_compute_what_one_does(sync_batchnorm, tmp_path):
    one = trained(ALONE, torch.device("cuda", 0), tmp_path / "one")
    two, again = (by_two(sync_batchnorm, tmp_path / name) for name in ("two", "again"))
    for key, value in one.items():
        assert torch.allclose(two[key].double(), value.double(), rtol=1e-2, atol=1e-3), key
        assert torch.equal(two[key], again[key]), key
