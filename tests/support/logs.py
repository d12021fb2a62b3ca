"""Observe Twisted's global log for the duration of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from twisted.logger import ILogObserver, globalLogPublisher

Observer = Callable[[dict[str, Any]], None]


@contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Pass every log event to `observer` inside the context."""
    added = cast("ILogObserver", observer)
    globalLogPublisher.addObserver(added)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(added)
