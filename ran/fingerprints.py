"""The fingerprint of a run: the SHA-256 of everything that decides its result."""

import hashlib
import json

import records.schema
from ran.config import ConfigError, RunConfig, identity
from ran.user_code import user_modules

SCHEMA_VERSION = records.schema.CURRENT
"""raised by any change that alters what a run with an unchanged config computes; docs/reproducibility.md lists them"""


def fingerprint(config: RunConfig, data_digest: str, *, user_code: bool = True) -> str:
    """Returns the SHA-256, in hex, of everything that decides the result of a run.

    `user_code` False leaves out the text of a user's own parts, so that runs of its versions can be found.
    `config.train.precision` must be resolved: raises ConfigError for "auto".
    """
    if config.train.precision == "auto":
        raise ConfigError("train.precision: resolve 'auto' for the device before taking a fingerprint")
    content = {"schema": SCHEMA_VERSION, "data_digest": data_digest, **identity(config)}
    if user_code and (modules := user_modules(config)):
        content["user_code"] = {part: module.digest for part, module in modules.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
