"""The trained weights that the package contains.

Each is a file weights/NAME.safetensors, which `ran.trained.save` wrote, beside a model card NAME.md. NAME is that of
the network and its data, as in attention56-cifar10. A new one needs these two files and no code: its header says what
it is.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from ran.config import ConfigError
from ran.tensor_file import DamagedError, read_metadata, read_tensors

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class PretrainedWeights:
    """A file of trained weights, and what its header says of it."""

    name: str
    path: Path
    model: dict[str, Any]
    """fields of ModelConfig, which make the network's specification"""
    interface: dict[str, Any]
    """classes and normalisation: the content of a run's model.json"""

    @property
    def network(self) -> str:
        """Its name in the registry of networks."""
        return self.model["name"]

    @property
    def num_classes(self) -> int:
        return len(self.interface["classes"])

    @property
    def data(self) -> str:
        """The part of the name that says what it was trained on: "cifar10" of "attention56-cifar10"."""
        return self.name.removeprefix(f"{self.network}-")

    def tensors(self) -> dict[str, Tensor]:
        """Returns the state dict of the network. Raises ConfigError for a damaged file."""
        try:
            return read_tensors(self.path)
        except DamagedError as error:
            raise _damaged(self.path, error) from None


def pretrained_files() -> dict[str, Path]:
    """Returns the files of weights by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def pretrained_weights() -> list[PretrainedWeights]:
    """Returns all weights, sorted by name. Raises ConfigError for a damaged file."""
    return [_read(name, path) for name, path in pretrained_files().items()]


@functools.cache
def _read(name: str, path: Path) -> PretrainedWeights:
    try:
        header = read_metadata(path)
        config = json.loads(header["config"])
        model = {key.removeprefix("model."): value for key, value in config.items() if key.startswith("model.")}
        return PretrainedWeights(name=name, path=path, model=model, interface=json.loads(header["model"]))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path} is no file of weights, or damaged ({type(error).__name__}); install the package anew")
