"""Finds studies and searches: those of the package by name, a user's own by the path of its file."""

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from experiments import searches, studies
from experiments.profiles import PROFILES
from experiments.search_spec import Search
from experiments.study import Study
from ran.registry import UnknownNameError
from records.errors import UserError, one_line

IMPORTED = ("network", "residual unit", "mask structure", "mask activation", "learning", "schedule", "data set")
"""kinds of parts that a user's own module can register and a config can name"""


class StudyError(UserError):
    """A study or search file that cannot be used; one line that names it."""


def study_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def search_names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(searches.__path__))


def listing() -> str:
    """Returns the studies, searches and profiles, one per line."""
    lines = ["Studies (--study NAME)"]
    for study in map(load_study, study_names()):
        table = f"Table {study.table}; " if study.table else ""
        seeds = "" if study.seeds is None else f" x {len(study.seeds)} seed{'' if len(study.seeds) == 1 else 's'}"
        size = f"{len(study.cells)} cells{seeds}"
        lines.append(f"  {study.name:<14} {study.title} ({table}{size})")
    lines.append("Searches (--search NAME --trials TOTAL)")
    for search in map(load_search, search_names()):
        lines.append(f"  {search.name:<14} {search.title} ({len(search.space)} parameters, pruned by {search.pruner})")
    lines.append("Profiles (--profile NAME)")
    for profile in PROFILES.values():
        lines.append(f"  {profile.name:<14} {profile.summary} ({profile.tag}; {len(profile.seeds)} seeds)")
    return "\n".join(lines)


def load_search(name: str) -> Search:
    """Returns a search by its name, or by a path that ends in .py. Raises UnknownNameError or StudyError."""
    if name.endswith(".py"):
        return replace(_search_of(load_file(Path(name), "search"), name), path=name)
    if name not in search_names():
        raise UnknownNameError("search", name, search_names())
    return _search_of(importlib.import_module(f"{searches.__name__}.{name}"), name)


def _search_of(module: ModuleType, name: str) -> Search:
    search = getattr(module, "SEARCH", None)
    if not isinstance(search, Search):
        raise StudyError(f"search file {name} has no global SEARCH = Search(...)")
    return replace(search, doc=(module.__doc__ or "").strip())


def load_study(name: str) -> Study:
    """Returns a study by its name, or by a path that ends in .py. Raises UnknownNameError or StudyError."""
    if name.endswith(".py"):
        study = _study_of(load_file(Path(name)), name)
        if study.name in study_names():  # in a store they would be one study
            raise StudyError(f"study file {name}: the package has a study {study.name!r}; give yours another name")
        return replace(study, path=name)
    if name not in study_names():
        raise UnknownNameError("study", name, study_names())
    return _study_of(importlib.import_module(f"{studies.__name__}.{name}"), name)


def load_file(path: Path, kind: str = "study") -> ModuleType:
    """Returns the module of a user's file. Raises StudyError."""
    if not path.is_file():
        raise StudyError(f"there is no {kind} file {path}")
    spec = importlib.util.spec_from_file_location(f"user_{kind}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StudyError(f"{path} cannot be read as a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise StudyError(f"{kind} file {path}: {one_line(error)}") from None
    return module


def _study_of(module: ModuleType, name: str) -> Study:
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise StudyError(f"study file {name} has no global STUDY = Study(...)")
    return replace(study, doc=(module.__doc__ or "").strip())


def with_import_hint(error: UserError) -> str:
    """Returns the message of an error; for the name of a part that may be the user's own, with a hint at --import."""
    if isinstance(error, UnknownNameError) and error.kind in IMPORTED:
        return f"{error} If it is your own, give --import MODULE with the module that registers it"
    return str(error)


def import_modules(names: Sequence[str]) -> None:
    """Imports a user's modules in this order. Raises StudyError."""
    for name in names:
        import_module(name)


def import_module(name: str) -> None:
    """Imports a user's module, which registers its masks, data sets and so on. Raises StudyError.

    The module may lie in the current folder, where Python looks for modules only with `python -m`.
    """
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        raise StudyError(
            f"--import {name}: takes the name of a module, not of a file: --import {path.stem}, in the folder "
            f"{path.parent} or with it on PYTHONPATH"
        )
    if name.startswith("."):
        raise StudyError(f"--import {name}: a relative name has no meaning here; --import {name.lstrip('.')}")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise StudyError(f"--import {name}: {one_line(error)}") from None
