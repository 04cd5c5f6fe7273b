"""What our own parts compute stands in golden_outputs.json: a change there needs another SCHEMA_VERSION.

A fingerprint covers our parts by that version alone, so a part that computes something else under the same version
would let old results stand for new code. `python tests/ran/test_golden_outputs.py` writes the file anew.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ran.config import RunConfig, override
from ran.data.augment import cifar_normalization
from ran.data.datasets import DATASETS, load_splits, open_source
from ran.data.loader import train_batches
from ran.data.noise import flip_labels
from ran.engine.optim import SCHEDULES, sgd
from ran.fingerprints import SCHEMA_VERSION
from ran.models.attention import LEARNING
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.network import NetworkSpec, StageSpec, build, initialize
from ran.models.stems import STEMS
from ran.models.units import UNITS
from ran.models.zoo import NETWORKS, network_spec
from ran.registry import PACKAGE, Registry
from ran.rng import stream

FILE = Path(__file__).with_name("golden_outputs.json")
STAGES = (StageSpec(32, 16, stride=1, units=1, modules=1, poolings=2), StageSpec(32, 16, stride=2, units=1, modules=1,
                                                                               poolings=1))  # fmt: skip
SPEC = NetworkSpec(stem_channels=8, stages=STAGES)


def logits(spec: NetworkSpec, side: int = 16) -> list[float]:
    """Of a training-mode forward pass in float64, the gradient's norm after them."""
    network = build(spec, num_classes=3)
    initialize(network, 0)
    network.double()
    images = torch.from_numpy(stream(0, "golden", "images").standard_normal((2, 3, side, side)))
    out = network(images)
    F.cross_entropy(out, torch.tensor([0, 2])).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
    return [*out.flatten().tolist(), float(norm)]


def specification(name: str) -> list[float]:
    """A hash of the specification, from which the parts make the network."""
    return [float(byte) for byte in hashlib.sha256(repr(network_spec(name)).encode()).digest()[:8]]


def rates(name: str) -> list[float]:
    return [SCHEDULES[name](step, 100) for step in range(0, 100, 7)]


def of_data(name: str) -> list[float]:
    """Of a data set that is drawn, a batch; the others are known by the digest of their files."""
    config = override(RunConfig(), {"data.name": name, "data.train_images": 20, "data.val_images": 10}).data
    with tempfile.TemporaryDirectory() as root:
        splits = load_splits(replace(config, root=root), 3)
    images, labels = train_batches(
        splits.train.images, splits.train.labels, splits.normalization, batch_size=8, seed=3
    )(5)  # fmt: skip
    return [*images.double().sum((1, 2, 3)).tolist(), *labels.double().tolist(), float(splits.val.images.sum())]


def of_training() -> list[float]:
    """Losses of six steps: initial weights, order, augmentation and optimizer together."""
    pixels = stream(0, "golden", "pixels").integers(0, 256, (40, 3, 16, 16), np.uint8)
    images, labels = torch.from_numpy(pixels), torch.arange(40) % 3
    batches = train_batches(images, labels, cifar_normalization(images), batch_size=16, seed=1)
    network = build(SPEC, num_classes=3)
    initialize(network, 1)
    network.double()
    optimizer = sgd(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(6):
        x, y = batches(step)
        loss = F.cross_entropy(network(x.double()), y, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def ours(registry: Registry[Any]) -> list[str]:
    """Names of the package's own parts; benchmarks and tests register others."""
    return [name for name in registry if registry.origin(name).is_relative_to(PACKAGE)]


def parts() -> Iterator[tuple[str, Callable[[], list[float]]]]:
    for name in ours(MASK_ACTIVATIONS):
        yield f"mask activation {name}", lambda name=name: logits(replace(SPEC, mask_activation=name))
    for name in ours(MASK_STRUCTURES):
        yield f"mask structure {name}", lambda name=name: logits(replace(SPEC, mask_structure=name))
    for name in ours(LEARNING):
        yield f"learning {name}", lambda name=name: logits(replace(SPEC, learning=name))
    for name in ours(UNITS):
        yield f"residual unit {name}", lambda name=name: logits(replace(SPEC, unit=name))
    for name in ours(STEMS):
        yield f"stem {name}", lambda name=name: logits(replace(SPEC, stem=name), side=96)
    for name in ours(NETWORKS):
        yield f"network {name}", lambda name=name: specification(name)
    for name in ours(SCHEDULES):
        yield f"schedule {name}", lambda name=name: rates(name)
    yield "data set cluttershapes", lambda: of_data("cluttershapes")
    yield "label noise", lambda: flip_labels(np.arange(60) % 10, 0.3, num_classes=10, seed=2).astype(float).tolist()
    yield "training", of_training


PARTS = dict(parts())


@pytest.mark.parametrize("part", PARTS)
def test_a_part_computes_what_its_schema_version_says(part):
    golden = json.loads(FILE.read_text())
    assert golden["schema"] == SCHEMA_VERSION, "write the file anew"
    assert PARTS[part]() == pytest.approx(golden["parts"][part], rel=1e-5, abs=1e-7), "raise SCHEMA_VERSION"


def test_nothing_is_kept_that_is_no_longer_there():
    assert set(json.loads(FILE.read_text())["parts"]) == set(PARTS)


def test_data_sets_from_files_are_known_by_their_digests(tmp_path):
    assert set(ours(DATASETS)) == {"cluttershapes", "cifar10", "cifar100", "imagenet"}
    assert open_source(replace(RunConfig().data, name="cluttershapes", root=str(tmp_path))).digest


if __name__ == "__main__":
    values = {part: [float(f"{x:.8g}") for x in compute()] for part, compute in PARTS.items()}
    lines = ",\n".join(f"{json.dumps(part)}: {json.dumps(found)}" for part, found in values.items())
    FILE.write_text(f'{{"schema": {SCHEMA_VERSION}, "parts": {{\n{lines}\n}}}}\n')
