"""Residual Attention Networks (Wang et al., CVPR 2017): networks, data and training.

Attributes are loaded lazily, so `import ran` is fast.
"""

from typing import Any

_LAZY = {
    "create_model": "ran.models.zoo",
    "list_models": "ran.models.zoo",
    "load": "ran.trained",
    "save": "ran.trained",
    "RunConfig": "ran.config",
    "fingerprint": "ran.fingerprints",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ran' has no attribute {name!r}")
