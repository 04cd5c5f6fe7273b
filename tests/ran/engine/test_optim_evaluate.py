"""Learning rates against their definitions, and evaluation against a count by hand."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ran.data.augment import cifar_normalization
from ran.engine import evaluate as evaluate_module
from ran.engine.device import Arithmetic
from ran.engine.evaluate import BATCH, evaluate
from ran.engine.optim import SCHEDULES, sgd
from ran.models.network import initialize
from ran.models.zoo import create_model

steps_of = st.integers(1, 2000)


# Learning rates
def test_step_is_the_papers():
    """0.1, divided by 10 at 64,000 and 96,000 of 160,000."""
    schedule = SCHEDULES["step"]
    for first, last, factor in ((0, 63_999, 1.0), (64_000, 95_999, 0.1), (96_000, 159_999, 0.01)):
        for step in (first, first + 1, (first + last) // 2, last):
            assert schedule(step, 160_000) == pytest.approx(factor, rel=1e-15), step


def test_step_imagenet_is_the_papers():
    """0.1, divided by 10 at 200,000, 400,000 and 500,000 of 530,000 (section 4.2)."""
    schedule, ends = SCHEDULES["step_imagenet"], (0, 200_000, 400_000, 500_000, 530_000)
    for part in range(4):
        for step in (ends[part], ends[part] + 1, ends[part + 1] - 1):
            assert schedule(step, 530_000) == pytest.approx(10.0**-part, rel=1e-15), step


@given(steps_of)
def test_step_of_any_length(steps):
    for step in range(steps):
        drops = (step >= 0.4 * steps - 1e-9) + (step >= 0.6 * steps - 1e-9)
        assert SCHEDULES["step"](step, steps) == pytest.approx(10.0**-drops)


@given(steps_of)
def test_one_cycle_is_two_lines(steps):
    factors = [SCHEDULES["one_cycle"](step, steps) for step in range(steps)]
    for step, factor in enumerate(factors):
        middle = (step + 0.5) / steps
        expected = 4 * middle if middle < 0.25 else 4 / 3 * (1 - middle)
        assert factor == pytest.approx(expected)
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert abs((peak + 0.5) / steps - 0.25) < 1 / steps
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


@given(steps_of)
def test_cosine_is_half_a_period(steps):
    for step in range(steps):
        assert SCHEDULES["cosine"](step, steps) == pytest.approx((1 + math.cos(math.pi * step / steps)) / 2)
    assert SCHEDULES["cosine"](0, steps) == 1


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 997])
def test_every_schedule_stays_above_zero_and_at_most_one(name, steps):
    factors = [SCHEDULES[name](step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert (name == "constant") <= (set(factors) == {1.0})


# The optimizer
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 1e-2), (0.0, 1e-2), (0.5, 0.0)])
def test_sgd_is_nesterov_with_decay_on_everything(momentum, weight_decay):
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).double()
    generator = torch.Generator().manual_seed(0)
    optimizer = sgd(network.parameters(), lr=0.1, momentum=momentum, weight_decay=weight_decay)
    weights = [p.detach().clone() for p in network.parameters()]
    velocities = [torch.zeros_like(w) for w in weights]
    assert len(weights) == 4
    for _ in range(3):
        for i, p in enumerate(network.parameters()):
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            g = p.grad + weight_decay * weights[i]
            velocities[i] = momentum * velocities[i] + g
            weights[i] = weights[i] - 0.1 * (g + momentum * velocities[i])
        optimizer.step()
    for p, expected in zip(network.parameters(), weights, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-14)


# Evaluation
def pictures(n):
    return torch.randint(0, 256, (n, 3, 8, 8), generator=torch.Generator().manual_seed(n)).to(torch.uint8)


def by_hand(network, images, normalization):
    """Logits image by image, in evaluation mode."""
    was = network.training
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network((image[None].float() - normalization.mean) / 255) for image in images])
    network.train(was)
    return logits.double()


def labels_with(logits, wrong):
    """The predicted classes, but for the first `wrong` images the next class."""
    labels = logits.argmax(1)
    labels[:wrong] = (labels[:wrong] + 1) % logits.shape[1]
    return labels


def score(network, images, labels, normalization, channels_last=True):
    return evaluate(network, images, labels, normalization, Arithmetic(channels_last=channels_last))


@pytest.fixture
def network():
    network = create_model("attention56", width=1 / 8, learning="nal")
    initialize(network, 0)
    network.train()(torch.randn(8, 3, 16, 16))  # statistics that are not the neutral ones
    return network


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("batch", [1, 5, 6, 17, 18, 500])
def test_counts_every_image_once(network, batch, channels_last, monkeypatch):
    monkeypatch.setattr(evaluate_module, "BATCH", batch)
    network = nn.Sequential(network.stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(2), nn.Linear(2, 10))
    images = torch.nn.functional.interpolate(pictures(18).float(), 16).to(torch.uint8)
    normalization = cifar_normalization(images)
    logits = by_hand(network, images, normalization)
    for wrong in (0, 1, 7, 18):
        labels = labels_with(logits, wrong)
        found = score(network, images, labels, normalization, channels_last)
        assert found.err == 100 * wrong / 18
        loss = -logits.log_softmax(1)[range(18), labels].mean().item()
        assert found.loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("n", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 3])
def test_counts_every_image_once_at_the_real_batch(n):
    generator = torch.Generator().manual_seed(n)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    nn.init.normal_(network[1].weight, generator=generator)
    images, normalization = pictures(n), cifar_normalization(pictures(7))
    logits = by_hand(network, images, normalization)
    wrong = n // 3
    found = score(network, images, labels_with(logits, wrong), normalization)
    assert found.err == 100 * wrong / n
    assert found.loss == pytest.approx(-logits.log_softmax(1)[range(n), labels_with(logits, wrong)].mean().item())


def test_attention_network_is_evaluated_as_by_hand(network):
    images, normalization = pictures(7), cifar_normalization(pictures(9))
    logits = by_hand(network, images, normalization)
    labels = labels_with(logits, 2)
    found = score(network, images, labels, normalization)
    assert found.err == 100 * 2 / 7
    assert found.loss == pytest.approx(-logits.log_softmax(1)[range(7), labels].mean().item(), rel=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_leaves_mode_statistics_weights_and_randomness_alone(network, training):
    network.train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    images = pictures(5)
    first = score(network, images, torch.arange(5), cifar_normalization(images))
    assert [m.training for m in network.modules()] == [training] * len(list(network.modules()))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())
    assert score(network, images, torch.arange(5), cifar_normalization(images)) == first


def test_the_score_does_not_depend_on_the_mode_before(network):
    images = pictures(5)
    found = [score(network.train(mode), images, torch.arange(5), cifar_normalization(images)) for mode in (True, False)]
    assert found[0] == found[1]


def steps_with(make, parameters, gradients):
    """The weights and the state after some steps of an optimizer, which is saved and loaded between them."""
    weights = [nn.Parameter(parameter.clone()) for parameter in parameters]
    optimizer = make(weights)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        optimizer.zero_grad()
        assert all(weight.grad is None for weight in weights)
        optimizer.load_state_dict(optimizer.state_dict())
    return weights, optimizer.state_dict()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs(momentum):
    """The same bits and the same state as torch.optim.SGD, whose methods it calls without their decorators."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((3, 4), (4,))
    draws = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(5)]
    options = {"lr": 0.1, "momentum": momentum, "weight_decay": 0.01}
    ours, state = steps_with(lambda weights: sgd(weights, **options), draws[0], draws[1:])
    theirs, expected = steps_with(
        lambda weights: torch.optim.SGD(weights, **options, nesterov=momentum > 0, fused=True), draws[0], draws[1:]
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert state["param_groups"] == expected["param_groups"]
    assert state["state"].keys() == expected["state"].keys()
    assert str(state["state"]) == str(expected["state"])


def test_sgd_does_without_the_compiler():
    """Importing torch's compiler takes two seconds, before the first step of every process that trains."""
    code = """
import sys, torch
from ran.engine.optim import sgd
weight = torch.nn.Parameter(torch.ones(2))
optimizer = sgd([weight], lr=0.1, momentum=0.9, weight_decay=0.0)
weight.grad = torch.ones(2)
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
