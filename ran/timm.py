"""Integration with timm and torchvision. Importing this module registers every network with timm:

    import ran.timm, timm
    network = timm.create_model("attention56_imagenet", num_classes=100)

`python -m ran.timm SCRIPT ARGS...` runs an unmodified training script with the networks known to timm and torchvision.
"""

import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ran.data.image_folder.dataset import MEAN, STD
from ran.models.network import initialize
from ran.models.pretrained import PretrainedWeights, pretrained_files, pretrained_weights
from ran.models.zoo import NETWORKS, OPTIONS, create_model, find_weights, list_models, network_spec
from ran.trained import Interface
from records.command import entry
from records.errors import UserError

INSTALL = "pip install -e '.[timm]'"
HELP = f"""usage: python -m ran.timm SCRIPT ARGS...

Runs a training script as `python SCRIPT ARGS...` does, with every network of ran.list_models() known to
timm.create_model and torchvision.models.get_model. Needs the extra timm: {INSTALL}

  python -m ran.timm train.py DIR --model attention56_imagenet ...            timm's script
  python -m ran.timm train.py --data-path DIR --model attention56_imagenet    torchvision's
  torchrun --nproc-per-node 2 -m ran.timm train.py ...                        either, in several processes
"""


def _register() -> None:
    """Registers every network with timm. Raises UserError without timm, and for a name that timm already uses."""
    try:
        from timm.models import generate_default_cfgs, is_model, register_model
    except ModuleNotFoundError as error:
        raise UserError(f"ran.timm needs timm ({error.name} is not installed): {INSTALL}") from None
    taken = [name for name in NETWORKS if is_model(name)]
    if taken:
        raise UserError(f"timm has networks of its own by the names {', '.join(taken)}")
    # timm's decorator looks it up in the function's module.
    globals()["default_cfgs"] = generate_default_cfgs(_default_cfgs())
    for name in NETWORKS:
        globals()[name] = register_model(_entrypoint(name))


def _default_cfgs() -> dict[str, Any]:
    """Returns timm's default_cfg by name; that of a network with weights is called after their data, too."""
    configs = {name: _default_cfg(name) for name in NETWORKS}
    for weights in pretrained_weights():
        name = weights.network
        if name in NETWORKS and network_spec(**weights.model) == NETWORKS[name]:
            configs[f"{name}.{weights.data}"] = _default_cfg(name) | _pretrained_cfg(weights)
            configs.pop(name, None)
    return configs


def _default_cfg(name: str) -> dict[str, Any]:
    """Returns timm's default_cfg: the intended images, and the names of the first and last layer."""
    imagenet = name.endswith("_imagenet")
    side = 224 if imagenet else 32
    return {
        "input_size": (3, side, side),
        "pool_size": (side // 32, side // 32) if imagenet else (side // 4, side // 4),
        "num_classes": 1000 if imagenet else 10,
        "crop_pct": 0.875 if imagenet else 1.0,
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
        "first_conv": "stem" if NETWORKS[name].stem == "conv3" else "stem.conv",
        "classifier": "head",
        "paper_name": "Residual Attention Network for Image Classification",
        "paper_ids": "arXiv:1704.06904",
    }


def _pretrained_cfg(weights: PretrainedWeights) -> dict[str, Any]:
    """Returns what timm's default_cfg says of weights: the file, its classes and the normalisation of its images.

    timm's has one mean per channel, ours may have one per pixel.
    """
    interface = Interface.from_json(weights.interface)
    mean, scale = interface.normalization.mean.mean((1, 2)), torch.as_tensor(interface.normalization.scale).flatten()
    return {
        "file": str(weights.path),
        "num_classes": len(interface.classes),
        "label_names": interface.classes,
        "mean": tuple((mean / 255).tolist()),
        "std": tuple((scale / 255).expand(3).tolist()),
    }


def _entrypoint(name: str) -> Callable[..., Any]:
    def create(pretrained: bool = False, **options: Any) -> Any:
        from timm.models import build_model_with_cfg

        if pretrained:
            _check_weights(name, options)
        return build_model_with_cfg(
            lambda **options: _build(name, **options),
            name,
            pretrained,
            # With flattened parts timm finds the stages in the network.
            feature_cfg={"out_indices": tuple(range(len(NETWORKS[name].stages))), "flatten_sequential": True},
            **options,
        )

    create.__name__ = name
    create.__doc__ = f"Returns {name}; options are timm's and those of `ran.create_model`."
    return create


def _check_weights(name: str, options: Mapping[str, Any]) -> None:
    """Raises ConfigError if weights of the package are asked for that are damaged, or of another network than this."""
    from timm.models import resolve_pretrained_cfg

    given = {key: options.get(key) for key in ("pretrained_cfg", "pretrained_cfg_overlay")}
    file = resolve_pretrained_cfg(name, **given).file
    ours = [weights for weights, path in pretrained_files().items() if str(path) == file]
    if ours:  # else the user's own
        fitting = {key: value for key, value in options.items() if key in OPTIONS}
        find_weights(name, fitting, pretrained=ours[0]).tensors()  # timm reads the file without looking at its hash


def _build(
    name: str,
    *,
    in_chans: int = 3,
    num_classes: int | None = None,
    drop_rate: float = 0.0,
    global_pool: str = "avg",
    device: Any = None,
    dtype: Any = None,
    **options: Any,
) -> Any:
    """Returns a network with timm's options; initial weights as in the paper, drawn from torch's generator."""
    for absent in ("drop_path_rate", "drop_block_rate"):
        rate = options.pop(absent, 0)
        if rate:
            raise UserError(f"{name} has no {absent}, got {rate}; drop_rate is the dropout before the classifier")
    if not 0 <= drop_rate < 1:
        raise UserError(f"drop_rate must be at least 0 and below 1, got {drop_rate}")
    network: Any = create_model(name, num_classes=num_classes, in_channels=in_chans, **options)
    network.reset_classifier(network.num_classes, global_pool)
    network.drop_rate = drop_rate
    network.in_chans, network.head_hidden_size = in_chans, network.num_features
    if not next(network.parameters()).is_meta:
        initialize(network, int(torch.randint(2**62, (), device="cpu")))
    return network.to(device=device, dtype=dtype)


def run(script: str, arguments: Sequence[str]) -> None:
    """Runs a script as `python script arguments...` does, with the networks known to timm and torchvision."""
    _register_with_torchvision()
    sys.argv = [script, *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(script).resolve().parent)
    try:
        runpy.run_path(os.path.abspath(script), run_name="__main__")
    except OSError:  # from the script's own files, which `entry` would treat as ours
        traceback.print_exc()
        sys.exit(1)


def _register_with_torchvision() -> None:
    from torchvision import models
    from torchvision.models._api import register_model  # has no public name

    for name in NETWORKS:
        builder = _torchvision_builder(name)
        register_model(name)(builder)
        setattr(models, name, builder)  # used by scripts that predate `get_model`


def _torchvision_builder(name: str) -> Callable[..., Any]:
    def build(*, weights: Any = None, pretrained: bool = False, progress: bool = True, **options: Any) -> Any:
        import timm

        if weights not in (None, "DEFAULT"):
            raise UserError(f"{name}: weights must be None or 'DEFAULT', got {weights!r}")
        pretrained = pretrained or weights is not None
        if pretrained and name not in list_models(pretrained=True):
            find_weights(name, {})  # raises, and says what there is
        return timm.create_model(name, pretrained=pretrained, **options)

    return build


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, 0; a script has its own. Raises UserError."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    if not argv:
        raise UserError("which script? python -m ran.timm SCRIPT ARGS...")
    if not os.path.isfile(argv[0]):
        raise UserError(f"the script {argv[0]} is not a file")
    from ran.timm import run  # imported by its own name, this module registers the networks

    run(argv[0], argv[1:])
    return 0


if __name__ == "__main__":
    entry("ran.timm", main)
else:
    _register()
