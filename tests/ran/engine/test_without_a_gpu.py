"""What a GPU would be given, walked without one: every operation lies on one device, and no step fetches anything.

The meta device computes shapes and types only, so it refuses what does not fit and what was left on the CPU
(faraway.py). It has no autocast, so for bfloat16 faraway.py casts in its place. That these casts are those of CUDA is
checked of forward passes only, on a faked CUDA device. What cannot be had without a GPU: autocast's own casts in a
backward pass, its cache of cast weights, and any value.
"""

import contextlib
import itertools
import sys
from dataclasses import dataclass

import pytest
import torch
from faraway import FAR, AutocastToBf16, FarAway, as_on_cuda
from torch._subclasses.fake_tensor import FakeTensorMode

from ran.config import ModelConfig, RunConfig, TrainConfig
from ran.data.augment import cifar_normalization
from ran.data.image_folder.dataset import imagenet_normalization
from ran.data.loader import STEPS_AT_ONCE, train_batches
from ran.data.source import Images
from ran.distributed.group import ALONE
from ran.engine.device import Arithmetic
from ran.engine.evaluate import memorisation
from ran.engine.optim import sgd
from ran.engine.scoring import LogWindow, Scoring, not_finite
from ran.engine.setup import TrainingData
from ran.engine.step import TrainStep
from ran.models.attention import LEARNING
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.zoo import NETWORKS, create_model
from ran.probe import attention_names, receptive_field, soft_masks

ONE_OF_EACH_KIND = {"attention32a", "wrn16_8"}
EVERY_NETWORK = [
    pytest.param(name, marks=[] if name in ONE_OF_EACH_KIND else pytest.mark.slow) for name in NETWORKS
]  # fmt: skip
OF_EACH_KIND = [
    pytest.param(name, marks=[] if name in ONE_OF_EACH_KIND else pytest.mark.slow)
    for name in (*sorted(ONE_OF_EACH_KIND), "attention56", "attentionnext56_imagenet", "attentioninception56_imagenet")
]
"""networks with all kinds of operations; deeper ones repeat them"""
GATES = {"se", "eca", "cbam"}  # end in their own sigmoid
MASKS = [
    (structure, activation, learning)
    for structure, activation, learning in itertools.product(MASK_STRUCTURES, MASK_ACTIVATIONS, LEARNING)
    if activation == "mixed" or structure not in GATES | {"none"}
]
IN_BRIEF = [
    pytest.param(*mask, marks=[] if i % 4 == 0 or mask[1:] == ("mixed", "arl") else pytest.mark.slow)
    for i, mask in enumerate(MASKS)
]  # fmt: skip


@dataclass(frozen=True)
class FarArithmetic(Arithmetic):
    """Arithmetic with autocast on the meta device."""

    @contextlib.contextmanager
    def on(self, device):
        with AutocastToBf16() if self.precision == "bf16" else contextlib.nullcontext():
            yield


PRECISIONS = ["float32", "bf16"]


@pytest.fixture
def fused_sgd(monkeypatch):
    """The optimizer's check of devices lets the meta device through."""
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])


def far(name, batch=4, clean=False, precision="float32", **options):
    """Returns the step and the scoring of a run on the meta device."""
    with torch.device(FAR):
        network = create_model(name, num_classes=10, width=0.25, **options).train()
    side = max(16, network.smallest_input)
    pixels = torch.zeros(3 * batch, 3, side, side, dtype=torch.uint8)
    normalization = (imagenet_normalization() if "imagenet" in name else cifar_normalization(pixels)).to(FAR)
    images = Images(pixels.to(FAR), torch.zeros(len(pixels), dtype=torch.int64, device=FAR))
    labels = torch.stack((images.labels, images.labels), 1) if clean else images.labels
    data = TrainingData(
        splits={"train": images, "val": images, "test": images},
        normalization=normalization,
        batches=train_batches(images.images, labels, normalization, batch_size=batch, seed=0),
        true_labels=images.labels if clean else None,
    )
    with FarAway():
        optimizer = sgd(network.parameters(), lr=torch.tensor(0.1, device=FAR), momentum=0.9, weight_decay=1e-4)
    arithmetic = FarArithmetic(precision)
    step = TrainStep(
        config=RunConfig(ModelConfig(name), train=TrainConfig(batch_size=batch)), data=data, forward=network,
        optimizer=optimizer, window=LogWindow(FAR, clean=clean), arithmetic=arithmetic, size=batch,
    )  # fmt: skip
    scoring = Scoring(network=network, data=data, arithmetic=arithmetic, stop=lambda: False, processes=ALONE)
    return step, scoring


def take(step, count=1):
    """Returns how much `count` steps send and fetch."""
    with FarAway() as seen:
        for i in range(count):
            step.optimizer.param_groups[0]["lr"].fill_(0.1 / (1 + i))
            step(*step.data.fetch(i, None))
    return seen.sent, seen.fetched


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_network_takes_a_step(name, precision, fused_sgd):
    step, _ = far(name, precision=precision)
    assert take(step) == (1, 0), "the draws are sent, nothing is fetched"
    assert {p.dtype for p in step.forward.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("structure", "activation", "learning"), IN_BRIEF)
def test_every_mask_takes_a_step(structure, activation, learning, precision, fused_sgd):
    options = {"mask_structure": structure, "mask_activation": activation, "learning": learning}
    assert take(far("attention32c", precision=precision, **options)[0]) == (1, 0)


@pytest.mark.parametrize("options", [{}, {"clean": True}], ids=["", "noisy labels"])
def test_many_steps_are_sent_at_once(options, fused_sgd):
    step, _ = far("wrn16_8", **options)
    assert take(step, 3) == (1, 0)
    with FarAway() as seen:
        for i in range(3, 2 * STEPS_AT_ONCE + 1):
            step.data.fetch(i, None)
    assert seen.sent == 2


def test_a_left_behind_tensor_is_noticed(fused_sgd):
    """These tests can fail: as when one buffer of a network, or the index of a batch, stays on the CPU."""
    step, _ = far("attention32c")
    step.forward.norm.running_mean = torch.zeros(step.forward.num_features)
    with pytest.raises((AssertionError, RuntimeError)):
        take(step)
    step, _ = far("attention32c")
    with FarAway(), pytest.raises(AssertionError):
        step.data.splits["train"].images[torch.arange(3)]


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_network_is_evaluated_and_probed(name, fused_sgd):
    evaluate_and_probe(far(name)[1])


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_networks_of_each_kind_are_evaluated_and_probed_in_bf16(name, fused_sgd):
    evaluate_and_probe(far(name, precision="bf16")[1])


def evaluate_and_probe(scoring):
    with FarAway() as seen:
        score = scoring.score("test")
        few = seen.fetched
        scoring.curve_point(score)
    assert few <= 8, "an evaluation waits a few times, however many batches it has"
    images = scoring.data.splits["test"].images[:2]
    with FarAway():
        soft_masks(scoring.network, images, scoring.data.normalization)
        for module in attention_names(scoring.network)[:1]:
            receptive_field(scoring.network, images, scoring.data.normalization, f"{module}.trunk")
        assert not_finite(1.0, scoring.network) is None


def test_memorisation_needs_no_shape_from_the_device():
    labels = torch.zeros(6, dtype=torch.int64, device=FAR)
    with FarAway() as seen:
        memorisation(torch.zeros(6, 3, device=FAR), labels, labels)
    assert seen.fetched == 4


def made(name, **options):
    """Returns a network on the current device and images for it."""
    network = create_model(name, num_classes=10, width=0.25, **options)
    side = max(16, network.smallest_input)
    return network, torch.zeros(2, 3, side, side).contiguous(memory_format=torch.channels_last)


def on_faked_cuda(name, precision="float32", **options):
    """Returns the logits in training mode and in evaluation, and the types of all modules' outputs."""
    # A mask that matches another's operations builds that one on the meta device, which is not faked.
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, torch.device("cuda"), as_on_cuda() if precision == "bf16" else contextlib.nullcontext():
        network, images = made(name, **options)
        fake.allow_non_fake_inputs = False
        return passes(network, images)


def passes(network, images):
    types = types_of_outputs(network)
    return [network.train(mode)(images) for mode in (True, False)], types


def types_of_outputs(network):
    """Returns a dictionary that the network's forward passes fill: module -> type of its output."""
    types = {}
    for name, module in network.named_modules():
        if name:
            module.register_forward_hook(lambda m, i, y, name=name: types.update({name: getattr(y, "dtype", None)}))
    return types


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_every_network_runs_forward_on_cuda_as_far_as_it_can_be_faked(name):
    """Without a CUDA context `backward` does not run."""
    logits, _ = on_faked_cuda(name)
    for found in logits:
        assert (found.shape, found.device.type, found.dtype) == ((2, 10), "cuda", torch.float32)


def same_types_on_both(name, **options):
    """autocast switches itself off without a CUDA context, so it is switched on by hand."""
    with torch.device(FAR), AutocastToBf16():
        _, far_away = passes(*made(name, **options))
    logits, on_cuda = on_faked_cuda(name, "bf16", **options)
    assert {found.dtype for found in logits} == {torch.bfloat16}
    assert far_away == on_cuda


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_networks_of_each_kind_are_cast_on_the_meta_device_as_on_cuda(name):
    same_types_on_both(name)


@pytest.mark.parametrize(("structure", "activation", "learning"), IN_BRIEF)
def test_every_mask_is_cast_on_the_meta_device_as_on_cuda(structure, activation, learning):
    options = {"mask_structure": structure, "mask_activation": activation, "learning": learning}
    same_types_on_both("attention32c", **options)
