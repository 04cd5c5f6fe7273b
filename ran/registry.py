"""Registries: decorating one function or class adds a mask, unit, data set, schedule or executor."""

import contextlib
import difflib
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from records.errors import UserError

T = TypeVar("T")

PACKAGE = Path(__file__).parent


class UnknownNameError(UserError):
    """A name that is not registered; the message lists the valid names and the closest one."""

    def __init__(self, kind: str, name: object, valid: list[str]):
        self.kind = kind
        near = difflib.get_close_matches(str(name), valid, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {str(name)!r}.{hint} Valid: {', '.join(valid) or 'none'}.")


class Registry(Mapping[str, T]):
    """Maps names to objects of one kind. Duplicates raise ValueError, unknown names UnknownNameError."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._origins: dict[str, Path] = {}
        """file whose code registered each entry"""

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that stores the decorated object as `name`. Raises ValueError if the name is taken."""
        origin = Path(sys._getframe(1).f_code.co_filename)
        if not origin.is_relative_to(PACKAGE):  # a user's code: its text is kept as it is now, if it is changed later
            linecache.checkcache(str(origin))
            linecache.getlines(str(origin))

        def store(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already")
            self._entries[name] = entry
            self._origins[name] = origin
            return entry

        return store

    @contextlib.contextmanager
    def holding(self, name: str, entry: T) -> Iterator[None]:
        """In the block `name` is `entry`, as if the `with` statement's file had registered it; for tests."""
        before = dict(self._entries), dict(self._origins)
        self._entries[name], self._origins[name] = entry, Path(sys._getframe(2).f_code.co_filename)
        try:
            yield
        finally:
            self._entries, self._origins = before

    def origin(self, name: str) -> Path:
        """Returns the file whose code registered `name`."""
        self[name]
        return self._origins[name]

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, list(self._entries)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
