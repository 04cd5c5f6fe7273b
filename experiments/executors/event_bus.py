"""How a launch and its workers talk. Importing this is quick, so that the process of the actor starts at once."""

from collections import deque
from collections.abc import Mapping
from typing import Any


class EventBus:
    """An actor on the launch's node, through which workers report events and receive orders."""

    def __init__(self) -> None:
        self.events: deque[tuple[str, tuple[Any, ...]]] = deque()
        self.orders: tuple[bool, Mapping[str, str]] = (False, {})

    def report(self, events: list[tuple[str, tuple[Any, ...]]]) -> tuple[bool, Mapping[str, str]]:
        """Takes the events of a worker; returns whether all stop, and the runs to end with their reasons."""
        self.events.extend(events)
        return self.orders

    def exchange(self, stop: bool, cut: Mapping[str, str]) -> list[tuple[str, tuple[Any, ...]]]:
        """Sets the orders; returns the events since the last call."""
        self.orders = (stop, cut)
        events = list(self.events)
        self.events.clear()
        return events
