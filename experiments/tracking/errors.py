"""Errors of a tracking store: the exceptions of MLflow and its libraries as two types with a one-line message."""

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from records.errors import TrackingError as TrackingError
from records.errors import first_line
from records.errors import unusable as unusable

F = TypeVar("F", bound=Callable[..., Any])

REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
"""error codes of MLflow that are permanent; do not retry. PERMISSION_DENIED and an expired token are not among them:
access can be granted and a token renewed, so the data is kept and sent again later."""


class StoreUnavailable(TrackingError):
    """A store that does not answer or cannot be written now; a later attempt may succeed."""


class NotPermitted(StoreUnavailable):
    """A write that the store does not permit this user; the right may be granted, or a token renewed."""


class Superseded(TrackingError):
    """A run for which another launch has already delivered a result."""


class LeaseLost(Superseded):
    """A run that another launch has taken over, e.g. while this process was stopped or its machine was suspended."""


_VERBS: dict[type[TrackingError], str] = {
    StoreUnavailable: "does not answer",
    NotPermitted: "does not permit this",
}
_ADVICE: dict[type[TrackingError], str] = {
    NotPermitted: "; ask its administrator for the permission EDIT, or name another store with --tracking-uri",
}


@contextlib.contextmanager
def asking(uri: str) -> Iterator[None]:
    """Turns exceptions of MLflow and its libraries into TrackingError, or StoreUnavailable if a retry may succeed."""
    try:
        yield
    except Exception as error:
        kind = _kind(error)
        if kind is None:
            raise
        verb = _VERBS.get(kind, "refuses")
        raise kind(f"the tracking store {uri} {verb}: {first_line(error)}{_ADVICE.get(kind, '')}") from error


def asks(method: F) -> F:
    """Returns a method of an object with a `uri` that runs under `asking`."""

    @functools.wraps(method)
    def ask(self: Any, *args: Any, **options: Any) -> Any:
        with asking(self.uri):
            return method(self, *args, **options)

    return ask  # type: ignore[return-value]


def _kind(error: Exception) -> type[TrackingError] | None:
    """The type to raise instead; None for an exception that does not come from a store."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        if error.error_code == "PERMISSION_DENIED":
            return NotPermitted
        return TrackingError if error.error_code in REFUSALS else StoreUnavailable
    unavailable = (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, requests.RequestException, OSError)
    return StoreUnavailable if isinstance(error, unavailable) else None
