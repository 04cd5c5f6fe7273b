"""The named networks: each is a specification, and `create_model` builds it."""

import dataclasses
import fnmatch
from typing import Any

from torch import nn

from ran.config import ConfigError, ModelConfig
from ran.models.network import NetworkSpec, StageSpec, build
from ran.registry import Registry

NETWORKS: Registry[NetworkSpec] = Registry("network")


def _cifar(modules: int, **options: Any) -> NetworkSpec:
    """Returns the CIFAR network with `modules` attention modules a stage; trunk depth 36m+20 (section 4.1)."""
    # Deviation: section 4.1 states neither widths nor the depth of the masks. ResNet-164's widths and 3/2/1 poolings,
    # as in the authors' ImageNet files, fit the paper's 1.9M and 5.1M parameters.
    # Deviation: section 4.1 does not say where the two units of a stage stand; both before its attention modules.
    return NetworkSpec(
        stem_channels=16,
        stages=(
            StageSpec(64, 16, stride=1, units=2, modules=modules, poolings=3),
            StageSpec(128, 32, stride=2, units=2, modules=modules, poolings=2),
            StageSpec(256, 64, stride=2, units=2, modules=modules, poolings=1),
        ),
        **options,
    )


for _depth, _modules in ((56, 1), (92, 2), (128, 3), (164, 4)):
    NETWORKS.register(f"attention{_depth}")(_cifar(_modules))


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names of all networks that match a shell pattern."""
    return fnmatch.filter(NETWORKS, pattern)


def _scaled(spec: NetworkSpec, width: float) -> NetworkSpec:
    def scale(channels: int) -> int:
        return max(1, round(channels * width))

    stages = tuple(
        dataclasses.replace(s, channels=scale(s.channels), bottleneck=scale(s.bottleneck)) for s in spec.stages
    )
    return dataclasses.replace(spec, stem_channels=scale(spec.stem_channels), stages=stages)


def network_spec(name: str, *, width: float = 1.0, **overrides: Any) -> NetworkSpec:
    """Returns the specification of a named network, its widths scaled, other fields replaced where not None.

    Raises UnknownNameError for a name and ConfigError for a field of NetworkSpec that does not exist.
    """
    spec = _scaled(NETWORKS[name], width)
    changes = {key: value for key, value in overrides.items() if value is not None}
    valid = [f.name for f in dataclasses.fields(NetworkSpec)]
    for key in changes:
        if key not in valid:
            raise ConfigError(f"{name} has no option {key!r}. Valid: width, {', '.join(valid)}.")
    return dataclasses.replace(spec, **changes)


def config_spec(model: ModelConfig) -> NetworkSpec:
    """Returns the specification of the network that a config describes."""
    return network_spec(**dataclasses.asdict(model))


def create_model(name: str, *, num_classes: int = 10, in_channels: int = 3, **overrides: Any) -> nn.Module:
    """Returns a named network; overrides are `width` and fields of NetworkSpec, e.g. `learning="nal"`.

    Weights are PyTorch's default; `ran.models.network.initialize(network, seed)` sets the paper's.
    """
    return build(network_spec(name, **overrides), num_classes=num_classes, in_channels=in_channels)
