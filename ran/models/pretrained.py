"""The trained weights that the package contains.

Each is a file weights/<network>-<data>.safetensors, which `ran.trained.save` wrote, beside a model card of its name
(.md). A new one needs these two files and no code.
"""

from pathlib import Path

from ran.config import ConfigError
from ran.models.network import ResidualAttentionNetwork

WEIGHTS = Path(__file__).parent / "weights"


def pretrained_files() -> dict[str, Path]:
    """Returns the files of weights by name, e.g. "attention56-cifar10"."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def network_of(name: str) -> str:
    """Returns the network of weights: "attention56" of "attention56-cifar10"."""
    return name.rpartition("-")[0]


def load_pretrained(network: ResidualAttentionNetwork, name: str) -> None:
    """Loads the weights of the network `name` into `network`, which has its specification.

    Raises ConfigError if there are none, or none for its numbers of classes and input channels.
    """
    from safetensors.torch import load_file

    files = {weights: path for weights, path in pretrained_files().items() if network_of(weights) == name}
    if not files:
        others = ", ".join(pretrained_files()) or "none"
        raise ConfigError(
            f"{name} has no pretrained weights (the package contains: {others}; the paper's authors published none); "
            "ran.load(path) returns a network that you trained"
        )
    if network.in_channels != 3:
        raise ConfigError(f"the pretrained weights of {name} are for 3 input channels, got {network.in_channels}")
    found = {weights: load_file(path) for weights, path in files.items()}
    classes = {weights: len(tensors["head.bias"]) for weights, tensors in found.items()}
    for weights, tensors in found.items():
        if classes[weights] == network.num_classes:
            network.load_state_dict(tensors)
            return
    raise ConfigError(
        f"the pretrained weights of {name} are for {' or '.join(map(str, classes.values()))} classes "
        f"({', '.join(classes)}); create it with these, then network.reset_classifier({network.num_classes}) gives it "
        "a new classifier"
    )
