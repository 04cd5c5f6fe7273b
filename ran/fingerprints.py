"""The fingerprint of a run: the SHA-256 of everything that decides its result."""

import hashlib
import json
from typing import Any

from ran.config import ConfigError, RunConfig, flatten, is_float, leaves

SCHEMA_VERSION = 1
"""raised by any change that alters the bits of a run with an unchanged config; docs/reproducibility.md lists them"""


def identity(config: RunConfig) -> dict[str, Any]:
    """Returns the flattened fields that decide the result; equal configs give equal values of equal types."""
    return {
        # 1 and 1.0, 0.0 and -0.0 are equal and must serialize alike.
        key: float(value) + 0.0 if value is not None and is_float(hint) else value
        for key, f, hint, value in leaves(config)
        if f.metadata.get("identity", True) and not (f.metadata.get("added") and value == f.default)
    }


def fingerprint(config: RunConfig, data_digest: str) -> str:
    """Returns the SHA-256, in hex, of everything that decides the result of a run.

    `config.train.precision` and `.kernels` must be resolved: raises ConfigError for "auto".
    """
    for name in ("precision", "kernels"):
        if getattr(config.train, name) == "auto":
            raise ConfigError(f"train.{name}: resolve 'auto' for the device before taking a fingerprint")
    content = {"schema": SCHEMA_VERSION, "data_digest": data_digest, **identity(config)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def difference(config: RunConfig, base: RunConfig) -> dict[str, Any]:
    """Returns the identity fields of `config` that differ from `base`'s, flattened."""
    reference, values = flatten(base), flatten(config)
    keys = identity(base).keys() | identity(config).keys()
    return {key: value for key, value in values.items() if key in keys and value != reference[key]}
