"""Faults of single requests of a backend to the model etcd."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.support.etcd.memory import DELIVER, Fate, Sent


def is_write(sent: Sent) -> bool:
    """Report whether a request writes a record."""
    return b'"request_put"' in sent.body


def writes(*fates: Fate, then: Fate = DELIVER) -> Callable[[Sent], Fate]:
    """Return a plan that gives these fates to the next writes, and `then` to all later ones."""
    return _planned(is_write, fates, then)


def requests_to(path: str, *fates: Fate, then: Fate = DELIVER) -> Callable[[Sent], Fate]:
    """Return a plan that gives these fates to the next requests to a path."""
    return _planned(lambda sent: sent.path == path, fates, then)


def _planned(concerns: Callable[[Sent], bool], fates: Iterable[Fate], then: Fate) -> Callable[[Sent], Fate]:
    left = iter(fates)
    return lambda sent: next(left, then) if concerns(sent) else DELIVER
