"""Coroutines that wait for values of the simulation, without Deferreds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Promise:
    """A value that comes later; the first one counts."""

    __slots__ = ("_waiting", "is_kept", "value")

    def __init__(self) -> None:
        self.is_kept = False
        self.value: Any = None
        self._waiting: list[Callable[[], None]] = []

    def keep(self, value: Any = None) -> None:
        """Set the value, and go on with whatever waits for it."""
        if self.is_kept:
            return
        self.is_kept, self.value = True, value
        waiting, self._waiting = self._waiting, []
        for on_done in waiting:
            on_done()

    def then(self, on_done: Callable[[], None]) -> None:
        """Call once there is a value."""
        if self.is_kept:
            on_done()
        else:
            self._waiting.append(on_done)

    def __await__(self) -> Generator[Promise, None, Any]:
        if not self.is_kept:
            yield self
        return self.value


def spawn(coroutine: Coroutine[Any, Any, Any], failed: Callable[[Exception], None]) -> None:
    """Run a coroutine that awaits promises, now and whenever one of them is kept."""

    def step() -> None:
        try:
            promise = coroutine.send(None)
        except StopIteration:
            return
        except Exception as error:
            failed(error)
            return
        promise.then(step)

    step()
