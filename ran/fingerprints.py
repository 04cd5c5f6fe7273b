"""The fingerprint of a run: the SHA-256 of everything that decides its result."""

import hashlib
import json

from ran.config import ConfigError, RunConfig, identity

SCHEMA_VERSION = 1
"""raised by any change that alters the bits of a run with an unchanged config; docs/reproducibility.md lists them"""


def fingerprint(config: RunConfig, data_digest: str) -> str:
    """Returns the SHA-256, in hex, of everything that decides the result of a run.

    `config.train.precision` and `.kernels` must be resolved: raises ConfigError for "auto".
    """
    for name in ("precision", "kernels"):
        if getattr(config.train, name) == "auto":
            raise ConfigError(f"train.{name}: resolve 'auto' for the device before taking a fingerprint")
    content = {"schema": SCHEMA_VERSION, "data_digest": data_digest, **identity(config)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
