"""The named networks: a specification for each, and `create_model`, which builds it."""

import dataclasses
import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ran.config import ConfigError, ModelConfig
from ran.models.network import NetworkSpec, ResidualAttentionNetwork, StageSpec, build
from ran.models.pretrained import PretrainedWeights, pretrained_files, pretrained_weights
from ran.registry import Registry

NETWORKS: Registry[NetworkSpec] = Registry("network")
OPTIONS = ("width", *(field.name for field in dataclasses.fields(NetworkSpec)))
"""of `create_model`, what changes the function of a network"""


def _cifar(modules: Sequence[int], *, units: int = 2, **options: Any) -> NetworkSpec:
    """Returns the CIFAR network with these numbers of attention modules per stage; trunk depth 36m+20 (section 4.1)."""
    # Deviation: section 4.1 states neither widths nor the depth of the masks. ResNet-164's widths and 3/2/1 poolings,
    # as in the authors' ImageNet files, fit the paper's 1.9M and 5.1M parameters.
    # Deviation: section 4.1 does not say where the two units of a stage stand; both before its attention modules.
    widths = ((64, 16), (128, 32), (256, 64))
    return NetworkSpec(
        stem_channels=16,
        stages=tuple(
            StageSpec(
                channels=channels, bottleneck=bottleneck, stride=stride, units=units, modules=m, poolings=poolings
            )
            for (channels, bottleneck), stride, m, poolings in zip(widths, (1, 2, 2), modules, (3, 2, 1), strict=True)
        ),
        **options,
    )


for _depth, _modules in ((56, 1), (92, 2), (128, 3), (164, 4), (236, 6)):
    NETWORKS.register(f"attention{_depth}")(_cifar([_modules] * 3))

# Deviation: Attention-452 has 10.2M parameters by Figure 2's rule and the stated p, t, r = 2, 4, 3, not the 8.6M of
# Table 6. attention452_r2 comes nearest, with 8.7M.
NETWORKS.register("attention452")(_cifar([6] * 3, p=2, t=4, r=3))
NETWORKS.register("attention452_r2")(_cifar([6] * 3, p=2, t=4, r=2))

# A single module, in the first, second or third stage: small networks for experiments.
for _stage, _letter in enumerate("abc"):
    NETWORKS.register(f"attention32{_letter}")(_cifar([int(i == _stage) for i in range(3)]))

# Without attention modules, 9n+2 layers (arXiv 1603.05027).
for _depth in (164, 1001):
    NETWORKS.register(f"resnet{_depth}")(_cifar([0] * 3, units=(_depth - 2) // 9))


# Is it the attention or the compute? The trunk of Attention-56 alone (2 + 4 units a stage), deeper by as many units as
# the masks' multiply-adds pay for: 7, at 4.46M each of 35.6M at full width (a test says that 8 would be too many).
_plain = _cifar([0] * 3)
NETWORKS.register("attention56_trunk")(
    dataclasses.replace(
        _plain, stages=tuple(dataclasses.replace(s, units=n) for s, n in zip(_plain.stages, (9, 8, 8), strict=True))
    )
)


def _wide_resnet(depth: int, factor: int) -> NetworkSpec:
    """Returns a Wide ResNet of 6n+4 layers, the three projections counted (arXiv 1605.07146, Table 1)."""
    return NetworkSpec(
        stem_channels=16,
        stages=tuple(
            StageSpec(
                channels=c * factor, bottleneck=c * factor, stride=stride, units=(depth - 4) // 6, modules=0, poolings=1
            )
            for c, stride in ((16, 1), (32, 2), (64, 2))
        ),
        unit="preact_basic",
    )


for _depth, _factor in ((16, 8), (28, 10)):
    NETWORKS.register(f"wrn{_depth}_{_factor}")(_wide_resnet(_depth, _factor))


def _imagenet(
    bottlenecks: Sequence[int],
    *,
    modules: Sequence[int] = (0, 0, 0, 0),
    units: Sequence[int] = (1, 1, 1, 3),
    stem: str = "conv7_pool",
    unit_names: Sequence[str | None] = (None,) * 4,
    **options: Any,
) -> NetworkSpec:
    """Returns an ImageNet network of four stages; the attention networks as in Table 2 and the files of the authors."""
    return NetworkSpec(
        stem_channels=64,
        stages=tuple(
            StageSpec(
                channels=channels,
                bottleneck=bottleneck,
                stride=stride,
                units=n,
                modules=m,
                poolings=poolings,
                unit=unit,
            )
            for channels, bottleneck, stride, n, m, poolings, unit in zip(
                (256, 512, 1024, 2048), bottlenecks, (1, 2, 2, 2), units, modules, (3, 2, 1, 1), unit_names, strict=True
            )
        ),
        stem=stem,
        **options,
    )


# Deviation: Attention-92 on ImageNet has 52.5M parameters and 10.5G multiply-adds in the authors' files, which this
# follows; section 4.2 says 51.3M and 10.4G.
_BOTTLENECKS = (64, 128, 256, 512)
_BOTTLENECKS_32X4D = (128, 256, 512, 1024)
for _name, _by_stage in (("56", (1, 1, 1, 0)), ("92", (1, 2, 3, 0))):
    NETWORKS.register(f"attention{_name}_imagenet")(_imagenet(_BOTTLENECKS, modules=_by_stage))
    NETWORKS.register(f"attentionnext{_name}_imagenet")(
        _imagenet(_BOTTLENECKS_32X4D, modules=_by_stage, unit="postact_bottleneck", groups=32)
    )

# Deviation: AttentionInception-56 has its units where Attention-56 has them, A in the first two stages, B in the third
# and C in the last; at 299x299 these see maps of 75, 38, 19 and 10 pixels, in Inception-ResNet A, B and C 35, 17 and 8.
# Deviation: the widths of AttentionInception-56's branches, 28, 56, 160 and 448, are chosen for the paper's 31.9M
# parameters and 6.3G multiply-adds; they give 31.6M and 6.2G.
# Deviation: AttentionInception-56 has the mask, stem and tail of Attention-56.
NETWORKS.register("attentioninception56_imagenet")(
    _imagenet(
        (28, 56, 160, 448),
        modules=(1, 1, 1, 0),
        unit_names=("inception_a", "inception_a", "inception_b", "inception_c"),
    )
)

# The functions of torchvision's ResNets (a test compares), with the options and stage outputs of the others.
NETWORKS.register("resnet152_imagenet")(
    _imagenet(_BOTTLENECKS, units=(3, 8, 36, 3), stem="conv7_padded_pool", unit="postact_bottleneck")
)
NETWORKS.register("resnext101_32x4d_imagenet")(
    _imagenet(_BOTTLENECKS_32X4D, units=(3, 4, 23, 3), stem="conv7_padded_pool", unit="postact_bottleneck", groups=32)
)


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Returns the names of all networks that match a shell pattern; with `pretrained`, of those that have weights."""
    trained = {weights.network for weights in pretrained_weights()} if pretrained else set(NETWORKS)
    return [name for name in fnmatch.filter(NETWORKS, pattern) if name in trained]


def _scaled(spec: NetworkSpec, width: float) -> NetworkSpec:
    def scale(channels: int) -> int:
        return max(1, round(channels * width))

    stages = tuple(
        dataclasses.replace(s, channels=scale(s.channels), bottleneck=scale(s.bottleneck)) for s in spec.stages
    )
    return dataclasses.replace(spec, stem_channels=scale(spec.stem_channels), stages=stages)


def _check_width(name: str, base: NetworkSpec, scaled: NetworkSpec, width: float) -> None:
    """Raises ConfigError if the groups do not divide the scaled bottlenecks; the message lists valid widths."""
    if all(s.bottleneck % scaled.groups == 0 for s in scaled.stages):
        return
    common = math.gcd(*(s.bottleneck for s in base.stages))
    step = scaled.groups / common
    below = math.floor(width / step)
    near = " or ".join(f"{n * step:g}" for n in (below, below + 1) if n > 0)
    raise ConfigError(
        f"width={width} gives {name} bottlenecks of {[s.bottleneck for s in scaled.stages]} channels, which "
        f"groups={scaled.groups} does not divide. Multiples of {step:g} work, e.g. {near}."
    )


def network_spec(name: str, *, width: float = 1.0, **overrides: Any) -> NetworkSpec:
    """Returns the specification of a named network with scaled widths and other fields replaced; None keeps a field.

    Raises UnknownNameError for an unknown name, ConfigError for an unknown field of NetworkSpec or an invalid width.
    """
    base = NETWORKS[name]
    if not 0 < width < math.inf:
        raise ConfigError(f"width must be above 0 and finite, got {width}")
    changes = {key: value for key, value in overrides.items() if value is not None}
    for key in changes:
        if key not in OPTIONS:
            raise ConfigError(f"{name} has no option {key!r}. Valid: {', '.join(OPTIONS)}.")
    spec = dataclasses.replace(_scaled(base, width), **changes)
    if width != 1.0 and spec.groups >= 1 and "stages" not in changes:
        _check_width(name, base, spec, width)
    return spec


def config_spec(model: ModelConfig) -> NetworkSpec:
    """Returns the specification of the network that a config describes.

    Raises UnknownNameError for an unknown name, and ConfigError also for a registered network with a learning or mask
    of its own, which the config's would silently replace.
    """
    own, usual = NETWORKS[model.name], ModelConfig()
    for key in ("learning", "mask_activation", "mask_structure"):
        registered, given = getattr(own, key), getattr(model, key)
        if registered != given == getattr(usual, key):
            raise ConfigError(
                f"{model.name} is registered with {key}={registered}, and the run has model.{key}={given}: give "
                f"--model.{key} {registered}, or register it without"
            )
    return network_spec(**dataclasses.asdict(model))


def find_weights(
    name: str,
    overrides: Mapping[str, Any],
    *,
    pretrained: bool | str = True,
    num_classes: int | None = None,
    in_channels: int = 3,
) -> PretrainedWeights:
    """Returns the trained weights of a named network with these overrides: those called `pretrained`, or the only ones.

    `num_classes` None: of any number of classes. Raises ConfigError if none fit, or several.
    """
    of_name = [w for w in pretrained_weights() if w.network == name and pretrained in (True, w.name)]
    if not of_name:
        wanted = "" if pretrained is True else f" {pretrained!r}"
        there = ", ".join(pretrained_files()) or "none"
        raise ConfigError(
            f"{name} has no pretrained weights{wanted} (the package contains: {there}; the paper's authors published "
            "none); ran.load(path) returns a network that you trained"
        )
    spec = network_spec(name, **overrides)
    fitting = [w for w in of_name if network_spec(**w.model) == spec]
    if not fitting:
        made = "; ".join(f"{w.name} has {_difference(w.model, overrides)}" for w in of_name)
        raise ConfigError(
            f"{name} has no pretrained weights with these options: {made}; leave the options out, or `pretrained`"
        )
    if in_channels != 3:
        raise ConfigError(
            f"the pretrained weights of {name} are for 3 input channels, got {in_channels}; repeat the channel of grey "
            "images, or let timm adapt the weights (import ran.timm)"
        )
    chosen = [w for w in fitting if num_classes in (None, w.num_classes)]
    if not chosen:
        classes = " or ".join(f"{w.num_classes} ({w.name})" for w in fitting)
        raise ConfigError(
            f"the pretrained weights of {name} are for {classes} classes; create it with these, then "
            f"network.reset_classifier({num_classes}) gives it a new classifier"
        )
    if len(chosen) > 1:
        names = ", ".join(w.name for w in chosen)
        raise ConfigError(
            f"{name} has several pretrained weights: {names}; say which, as pretrained={chosen[0].name!r}"
        )
    return chosen[0]


def _difference(model: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """What weights of a `model` have where the overrides say something else."""
    defaults = dataclasses.asdict(ModelConfig())
    differ = {key: value for key, value in model.items() if overrides.get(key, defaults.get(key)) not in (value, None)}
    differ.pop("name", None)
    return ", ".join(f"{key}={value}" for key, value in differ.items()) or "none of them"


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    image_size: int | None = None,
    pretrained: bool | str = False,
    **overrides: Any,
) -> ResidualAttentionNetwork:
    """Returns a named network; overrides are `width` and fields of NetworkSpec, e.g. `learning="nal"`.

    `num_classes` defaults to 1000 for the *_imagenet networks and 10 for the others, or to that of pretrained weights.
    Images of any size that is large enough for the masks are valid; `image_size`, if given, checks that at once.

    Weights are PyTorch's default; `ran.models.network.initialize(network, seed)` sets the paper's. With `pretrained`
    they are those of the package (`ran.models.pretrained`), which may be named: `pretrained="<network>-<data>"`.
    `list_models(pretrained=True)` lists the networks that have some, and `ran.load("<network>-<data>")` returns one
    with its classes and the normalisation of its images, in eval mode; this one is in training mode, as every new
    network, and takes normalised images. Raises ConfigError if no weights fit, or several.
    """
    if name in pretrained_files() and name not in NETWORKS:
        of = next(weights.network for weights in pretrained_weights() if weights.name == name)
        raise ConfigError(f"{name} are weights, not a network: create_model({of!r}, pretrained={name!r})")
    spec = network_spec(name, **overrides)
    weights = None
    if pretrained:
        weights = find_weights(name, overrides, pretrained=pretrained, num_classes=num_classes, in_channels=in_channels)
        num_classes = weights.num_classes
    if num_classes is None:
        num_classes = 1000 if name.endswith("_imagenet") else 10
    network = build(spec, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    if weights is not None and not next(network.parameters()).is_meta:
        network.load_state_dict(weights.tensors())
    return network
