"""A user's own code in a run: masks, units, data sets and the like that are registered outside this package.

It decides the result as the package's own parts do, so its text is part of the run's fingerprint and is kept with the
run. The version of the package's own parts is `SCHEMA_VERSION`.
"""

import ast
import functools
import hashlib
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ran.config import RunConfig
from ran.data.datasets import DATASETS
from ran.engine.optim import SCHEDULES
from ran.models.attention import LEARNING
from ran.models.masks import MASK_ACTIVATIONS, MASK_STRUCTURES
from ran.models.stems import STEMS
from ran.models.units import UNITS
from ran.models.zoo import NETWORKS
from ran.registry import PACKAGE, Registry
from records.errors import UserError

GRIDS = {"STUDY", "SEARCH"}
"""what a study file says besides its parts: which runs there are, not what one of them computes"""


@dataclass(frozen=True)
class UserModule:
    """A file that registers parts of a run, as it was when it was imported."""

    path: Path
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of what the file does: without its docstring, STUDY or SEARCH, and what stands between statements."""
        return _digest(self.text)


@functools.cache
def _digest(text: str) -> str:
    kept = [ast.get_source_segment(text, node) or "" for node in ast.parse(text).body if _counts(node)]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _counts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return False
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return not any(isinstance(target, ast.Name) and target.id in GRIDS for target in targets)


def user_modules(config: RunConfig) -> dict[str, UserModule]:
    """Returns the modules of a user's own parts in a run, by part ("mask activation mine").

    Raises UnknownNameError for a name that is not registered, UserError for a part whose module is not in a file.
    """
    found = {}
    for registry, name in _parts(config):
        path = registry.origin(name)
        if not path.is_relative_to(PACKAGE):
            part = f"{registry.kind} {name}"
            found[part] = _read(part, path)
    return found


def _read(part: str, path: Path) -> UserModule:
    # As the registry has kept it, even if the file was changed since.
    if text := "".join(linecache.getlines(str(path))):
        return UserModule(path, text)
    raise UserError(f"{part} is registered by code without a file: put it into a module and name that with --import")


def _parts(config: RunConfig) -> Iterator[tuple[Registry, str]]:
    model, spec = config.model, NETWORKS[config.model.name]
    yield NETWORKS, model.name
    yield LEARNING, model.learning
    yield MASK_ACTIVATIONS, model.mask_activation
    yield MASK_STRUCTURES, model.mask_structure
    yield STEMS, spec.stem
    for unit in sorted({spec.unit_of(stage) for stage in spec.stages}):
        yield UNITS, unit
    yield SCHEDULES, config.optim.schedule
    yield DATASETS, config.data.name
