"""What CUDA can promise where there is none to try it on: no network has an operation whose bits it cannot repeat."""

import os

import pytest
import torch
from watching import Operations

from ran.config import ModelConfig
from ran.engine.device import make_deterministic
from ran.models.network import build
from ran.models.zoo import config_spec

# Those that torch.use_deterministic_algorithms documents as raising on CUDA (2.14), by the names that are dispatched.
REFUSED = {
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "avg_pool3d_backward", "fractional_max_pool2d_backward", "max_pool3d_with_indices_backward", "max_unpool2d",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "replication_pad2d_backward", "nll_loss2d_forward",
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward", "histc", "bincount", "kthvalue", "median", "put_", "grid_sampler_2d_backward",
    "cumsum", "scatter_reduce", "_ctc_loss_backward", "_embedding_bag_dense_backward",
}  # fmt: skip


CASES = [
    *(("attention56", {"mask_structure": s}) for s in ("encoder_decoder", "local_conv", "se", "eca", "cbam", "none")),
    *(("attention56", {"mask_activation": a}) for a in ("channel", "spatial")),
    ("attention56", {"learning": "nal"}),
    *((name, {}) for name in ("resnet164", "wrn16_8", "attention56_imagenet", "attentionnext56_imagenet",
                              "attentioninception56_imagenet", "resnet152_imagenet")),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_no_network_needs_what_cuda_cannot_repeat(name, options):
    network = build(config_spec(ModelConfig(name, width=0.25, **options)), num_classes=10)
    side = 64 if name.endswith("imagenet") else 16
    with Operations() as seen:
        logits = network(torch.rand(2, 3, side, side))
        torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2]), label_smoothing=0.1).backward()
    assert "convolution_backward" in seen.names, "the backward pass was watched"
    assert seen.names & REFUSED == set()


def test_the_mode_is_set(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        make_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8", "without it cuBLAS may differ from call to call"
        assert not torch.utils.deterministic.fill_uninitialized_memory, "else each new tensor is filled, for a check"
    finally:
        torch.use_deterministic_algorithms(False)
