"""Files of tensors: safetensors, so that reading one can never run code, with the SHA-256 of what they hold.

Checkpoints, a run's final weights and the weights of the package are such files.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import Tensor

from records.errors import UserError
from records.files import write_whole
from records.reading import check_regular, parse_object

METADATA = "ran"
"""the only metadata entry of a file: safetensors writes several in random order, so equal files would differ"""
SHA256 = "sha256"


class DamagedError(UserError):
    """A file of tensors whose contents are not those that were written; the message is one line and names the file."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with `metadata` and the SHA-256 of its contents; equal contents are equal bytes.

    Raises WriteError; an older file of that name is then unchanged.
    """
    held = _on_cpu(tensors)
    entry = json.dumps({**metadata, SHA256: _digest(held, metadata)}, sort_keys=True)
    write_whole(path, serialized(held, {METADATA: entry}))


def read_tensors(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Returns the tensors that `write_tensors` wrote. Raises DamagedError if the file was changed since."""
    try:
        metadata = read_metadata(path)
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, error) from None
    if metadata.pop(SHA256, None) != _digest(tensors, metadata):
        raise damaged(path, "its SHA-256 is not that of its contents")
    return {key: value.to(device) for key, value in tensors.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Returns the metadata that `write_tensors` wrote, with the SHA-256; that of other safetensors files as it is.

    Raises SafetensorError, OSError or ValueError.
    """
    check_regular(path)  # a pipe would be waited for
    with safe_open(path, framework="pt") as file:
        entries = dict(file.metadata() or {})
    if METADATA not in entries:  # written by an earlier version, or by another program
        return entries
    content = parse_object(entries[METADATA])
    return {key: str(value) for key, value in content.items()}


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256, in hex, of tensors by name, e.g. a state dict.

    In the order of the names, it covers of each tensor "name dtype shape", as in "head.bias torch.float32 (10,)", and
    its bytes in C order. It depends on neither device nor memory layout.
    """
    digest = hashlib.sha256()
    _update(digest, _on_cpu(tensors))
    return digest.hexdigest()


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().contiguous().cpu() for key, value in tensors.items()}


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Returns the SHA-256 of names, types, shapes and bytes of tensors on the CPU, and of the metadata."""
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    _update(digest, tensors)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", tensors: Mapping[str, Tensor]) -> None:
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)


def damaged(path: Path, reason: object) -> DamagedError:
    """Returns the error for a damaged file."""
    return DamagedError(f"{path} is damaged ({str(reason).splitlines()[0]})")
