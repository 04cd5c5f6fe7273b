"""A trained network with its classes and the preprocessing of its images.

A finished run stores it as three files: config.json, model.json and weights.safetensors. `save` writes them into one
safetensors file with a header; `load` reads either form. The package contains such files (`ran.models.pretrained`).
"""

import copy
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ran.config import LARGEST_IMAGE, DataConfig, RunConfig, check, flatten, unflatten
from ran.data.augment import Normalization
from ran.data.datasets import open_source
from ran.data.image_folder import decode
from ran.data.image_folder.dataset import test_share
from ran.data.image_folder.reader import Files, Stack
from ran.data.source import Source
from ran.engine import checkpoint
from ran.engine.device import Arithmetic, has_bf16
from ran.engine.evaluate import predict
from ran.models.network import ResidualAttentionNetwork, build
from ran.models.pretrained import pretrained_files
from ran.models.zoo import config_spec
from ran.tensor_file import DamagedError, read_metadata, read_tensors, write_tensors
from records import names
from records.errors import DataError, UserError
from records.reading import UnreadableError, parse_object, read_bytes
from records.secrets import mask_values

SCHEMA = 1
MOST_CLASSES, LONGEST_NAME = 100_000, 200
"""limits of an interface: number of classes, characters of a name"""
FORMAT = "ran-model-1"


class ModelError(UserError):
    """A trained network that cannot be used; the message is one line and names the file."""


@dataclass(frozen=True, eq=False)
class Interface:
    """A network's input and output, stored as model.json: data set, classes, preprocessing."""

    dataset: str
    classes: tuple[str, ...]
    size: int
    """side of a test image in pixels"""
    share: float
    """share of an image file's shorter side that the central crop keeps"""
    normalization: Normalization
    data_digest: str = ""
    """digest of the data set; "" in runs of schema 1"""

    @classmethod
    def of(cls, source: Source, normalization: Normalization) -> "Interface":
        """Returns the interface of a network trained on a data set."""
        one_size = source.test_size is None  # its images are taken whole
        size = source.image_size if source.test_size is None else source.test_size
        share = 1.0 if one_size else test_share(size)
        return cls(
            dataset=source.name, classes=source.classes, size=size, share=share, normalization=normalization,
            data_digest=source.digest,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON object that `from_json` reads."""
        scale = self.normalization.scale
        return {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "data_digest": self.data_digest,
            "classes": list(self.classes),
            "size": self.size,
            "share": self.share,
            "mean": self.normalization.mean.tolist(),
            "scale": scale.tolist() if isinstance(scale, Tensor) else scale,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Interface":
        """Returns the interface of a `to_json` object, without the padding of training images. Raises ModelError."""
        if content.get("schema") != SCHEMA:
            raise ModelError(f"{names.MODEL_JSON} of another version of this program")
        try:
            mean, scale = torch.tensor(content["mean"]), content["scale"]
            _check_interface(content, mean, torch.as_tensor(scale))
            return cls(
                dataset=content["dataset"], classes=tuple(content["classes"]), size=content["size"],
                share=content["share"], data_digest=content.get("data_digest", ""),
                normalization=Normalization(mean, torch.tensor(scale) if isinstance(scale, list) else scale, pad=0),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise ModelError(f"{names.MODEL_JSON} is damaged ({type(error).__name__}: {error})") from None

    def read(self, path: str) -> Tensor:
        """Returns an image file as uint8 (3, size, size), scaled and cropped as test images are. Raises DataError."""
        return torch.tensor(decode.centre(path, self.size, self.share, as_shown=True)).permute(2, 0, 1)


def _check_interface(content: Mapping[str, Any], mean: Tensor, scale: Tensor) -> None:
    """Raises ValueError for an interface that no run of ours writes."""
    classes, size, share = content["classes"], content["size"], content["share"]
    texts = [content["dataset"], content.get("data_digest", ""), *classes]
    sizes = ((3, size, size), (3, 1, 1))
    problems = {
        "classes": isinstance(classes, list) and 0 < len(classes) <= MOST_CLASSES and len(set(classes)) == len(classes),
        "a name": all(isinstance(t, str) and len(t) <= LONGEST_NAME and t.isprintable() for t in texts),
        "size": type(size) is int and 1 <= size <= LARGEST_IMAGE,
        "share": type(share) in (int, float) and 0 < share <= 1,
        "mean": mean.dtype == torch.float32 and mean.shape in sizes and bool(mean.isfinite().all()),
        "scale": scale.shape in ((), (3, 1, 1)) and bool(scale.isfinite().all()) and bool((scale > 0).all()),
    }
    if wrong := [what for what, holds in problems.items() if not holds]:
        raise ValueError(f"{wrong[0]} cannot be used")


@dataclass(frozen=True, eq=False)
class Trained:
    """A network in eval mode, its run's configuration and its interface, on one device."""

    network: ResidualAttentionNetwork
    config: RunConfig
    interface: Interface
    fingerprint: str

    def __str__(self) -> str:
        model, config = self.config.model, self.config
        wide = "" if model.width == 1 else f" width={model.width:g}"
        return f"{model.name} {model.learning}{wide} {config.data.name} steps={config.train.steps} seed={config.seed}"

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device) -> "Trained":
        """Moves the network, and returns a copy of this object on that device."""
        interface = dataclasses.replace(self.interface, normalization=self.interface.normalization.to(device))
        return dataclasses.replace(self, network=self.network.to(device), interface=interface)

    def with_data(self, root: str | None = None, *, download: bool = False) -> "Trained":
        """Returns a copy whose data sets lie in the folder `root` (None: the run's); `download` fetches absent ones."""
        data = self.config.data
        data = dataclasses.replace(data, root=root or data.root, download=download or data.download)
        return dataclasses.replace(self, config=dataclasses.replace(self.config, data=data))

    def test_data(self) -> DataConfig:
        """Returns the configuration of the run's test set, without noise."""
        return dataclasses.replace(self.config.data, noise=0.0, noise_labels=None)

    def matches_data_in(self, root: str) -> bool:
        """Returns whether the data set in the folder `root` is the one that the run was trained and tested on.

        True where that is unknown: if a part is missing, such as labels that only training needs, and for older runs.
        """
        try:
            digest = open_source(dataclasses.replace(self.config.data, root=root)).digest
        except DataError:
            return True
        return self.interface.data_digest in ("", digest)

    def with_test_size(self, size: int) -> "Trained":
        """Returns a copy that takes test images of another side, in pixels.

        Raises ModelError if the normalisation is for one size only, and for a size below the network's smallest.
        """
        if size == self.interface.size:
            return self
        if self.interface.normalization.mean.shape[1:] != (1, 1):
            raise ModelError(f"{self.config.model.name} was trained on images of one size, {self.interface.size}")
        if size < self.network.smallest_input:
            raise ModelError(f"size={size}: the smallest image for this network is {self.network.smallest_input}")
        return dataclasses.replace(
            self, interface=dataclasses.replace(self.interface, size=size, share=test_share(size))
        )

    def with_classes(self, classes: Sequence[str], dataset: str = "other") -> "Trained":
        """Returns a copy whose network has a new classifier for these classes, to be trained on them.

        The copy is of no run: its fingerprint is "". `dataset` names the images. Raises ModelError for equal names.
        """
        if len(set(classes)) < max(len(classes), 2):
            raise ModelError(f"at least two different classes are needed, got {', '.join(classes) or 'none'}")
        network = copy.deepcopy(self.network)
        network.reset_classifier(len(classes))
        interface = dataclasses.replace(self.interface, classes=tuple(classes), dataset=dataset, data_digest="")
        return dataclasses.replace(self, network=network, interface=interface, fingerprint="")

    def with_native_precision(self) -> "Trained":
        """Returns a copy that computes in float32 if its run did in bfloat16 and its device would only emulate that."""
        train = self.config.train
        if train.precision != "bf16" or has_bf16(self.device):
            return self
        train = dataclasses.replace(train, precision="float32")
        return dataclasses.replace(self, config=dataclasses.replace(self.config, train=train))

    @property
    def arithmetic(self) -> Arithmetic:
        """The run's precision and layout, with our kernels unless the run was trained without or they do not work."""
        kernels = "eager" if self.config.train.kernels == "eager" else "auto"
        return Arithmetic.of(dataclasses.replace(self.config.train, kernels=kernels), self.device)

    def logits(self, images: Stack) -> Tensor:
        """Returns logits, float32 (N, K), of uint8 (N, 3, H, W), computed as in the run's own evaluation.

        Raises ModelError for images of another type or shape, such as normalised ones.
        """
        if not self._fits(images):
            size, got = self.interface.size, type(images).__name__
            if isinstance(images, Tensor):
                got = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise ModelError(f"images must be a uint8 tensor (N, 3, {size}, {size}) of values from 0 to 255, got {got}")
        return predict(self.network, images, self.interface.normalization, self.arithmetic)

    def _fits(self, images: Stack) -> bool:
        if not isinstance(images, Tensor):
            return isinstance(images, Files)
        stack = images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] == 3 and len(images) > 0
        return stack and self.interface.normalization.mean.shape[1:] in ((1, 1), images.shape[2:])


def load(path: Path | str) -> Trained:
    """Returns the network of a folder with a run's artifacts, or of a file that `save` wrote, on the CPU.

    `path` may also name weights of the package, "<network>-<data>" (`ran.models.pretrained`); a file or folder that is
    called like them is ./<network>-<data>. Raises ModelError.
    """
    packaged = pretrained_files()
    if not os.path.exists(path) and str(path) not in packaged:
        raise ModelError(
            f"no file or folder {path}: networks are loaded from the folder of a run's artifacts, from a file that "
            "`python -m experiments.export RUN --format safetensors` wrote, or by the name of weights of the package "
            f"({', '.join(packaged) or 'none'})"
        )
    path = packaged.get(str(path), Path(path))
    if path.is_dir():
        files = (path / names.CONFIG_JSON, path / names.MODEL_JSON)
        config, model = map(read_json, files)
        return from_run(config, model, path / names.WEIGHTS)
    header = metadata(path)
    if checkpoint.is_checkpoint(header):
        raise ModelError(
            f"{path} is a checkpoint, which does not say of what network; python -m experiments.evaluate finds that in "
            "the tracking store"
        )
    if header.get("format") != FORMAT:
        raise ModelError(f"{path} is not a network saved by this program")
    try:
        config, model = parse_object(header["config"]), parse_object(header["model"])
    except (KeyError, UnreadableError):
        raise ModelError(f"{path} is damaged: its header cannot be read") from None
    return _trained(path, config, model)


def from_run(config: Mapping[str, Any], model: Mapping[str, Any], weights: Path) -> Trained:
    """Returns the network of a run's config.json and model.json, with its final weights or those of a checkpoint.

    Raises ModelError, also if the weights say that they belong to other files.
    """
    return _trained(weights, config, model)


def companions(config: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the header of a run's weights says of its config.json and model.json: the hash of what they hold."""
    return {names.CONFIG_JSON: _content_sha256(config), names.MODEL_JSON: _content_sha256(model)}


def _content_sha256(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a JSON object, however its text is laid out, as it is stored: without secrets."""
    return hashlib.sha256(json.dumps(mask_values(content), sort_keys=True).encode()).hexdigest()


def save(trained: Trained, path: Path | str) -> None:
    """Writes a network into one safetensors file, with configuration and interface in its header.

    Raises WriteError, and ModelError for a network whose classifier was replaced alone.
    """
    made, named = trained.network.num_classes, len(trained.interface.classes)
    if made != named:
        raise ModelError(f"the network has {made} classes, its interface {named}: name them by Trained.with_classes")
    write_tensors(Path(path), trained.network.state_dict(), {
        "format": FORMAT, "fingerprint": trained.fingerprint, "config": json.dumps(flatten(trained.config)),
        "model": json.dumps(trained.interface.to_json()),
    })  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file of a run. Raises ModelError."""
    try:
        return parse_object(read_bytes(path))
    except (OSError, UnreadableError) as error:
        raise ModelError(
            f"{path.parent} is not the folder of a finished run's artifacts: {path.name}: {error}"
        ) from None


def _config(path: Path, values: Mapping[str, Any]) -> RunConfig:
    """Returns a run's configuration, checked by the rules of a launch. Raises ModelError."""
    try:
        config = unflatten(values)
        check(config)
        return config
    except UserError as error:
        raise ModelError(f"{path}: a configuration that this program cannot use ({error})") from None


def metadata(path: Path) -> dict[str, str]:
    """Returns the metadata in the header of a safetensors file. Raises ModelError."""
    try:
        return read_metadata(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a safetensors file ({str(error).splitlines()[0]})") from None


def _weights(path: Path) -> dict[str, Tensor]:
    """The network's tensors in a file of weights or a checkpoint. Raises ModelError."""
    try:
        tensors = read_tensors(path)
    except DamagedError as error:
        raise ModelError(str(error)) from None
    if not checkpoint.is_checkpoint(metadata(path)):
        return tensors
    return {key.removeprefix("network."): t for key, t in tensors.items() if key.startswith("network.")}


def _trained(path: Path, config: Mapping[str, Any], model: Mapping[str, Any]) -> Trained:
    run, interface, header = _config(path, config), Interface.from_json(model), metadata(path)
    for name, sha256 in companions(config, model).items():
        if header.get(name, sha256) != sha256:  # absent in the weights of earlier versions
            raise ModelError(f"{path} belongs to another {name}: that file was changed")
    weights, classes = _weights(path), len(interface.classes)
    network = build(config_spec(run.model), num_classes=classes)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).replace("\n\t", " ").splitlines()[0]
        raise ModelError(f"{path} does not fit {run.model.name} with {classes} classes: {first}") from None
    if not all(t.isfinite().all() for t in weights.values()):
        raise ModelError(f"{path}: weights that are not finite; the run diverged")
    network.eval().to(memory_format=Arithmetic(channels_last=run.train.channels_last).memory_format)
    return Trained(network=network, config=run, interface=interface, fingerprint=header.get("fingerprint", ""))
