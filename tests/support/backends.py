"""Daemons in memory over the backend that the running test is for.

A test that takes the fixture `each_backend`, itself or by another fixture, runs once for each
backend; what it builds by `new_daemon` is then a daemon of that backend. Elsewhere that is a single
daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.any_daemon import AnyDaemon
from tests.support.daemon import Daemon
from tests.support.etcd.daemon import EtcdDaemon

BACKENDS: dict[str, Callable[..., AnyDaemon]] = {"single": Daemon, "etcd": EtcdDaemon}
_current = ["single"]


@contextmanager
def over(backend: str) -> Iterator[None]:
    """Let `new_daemon` build daemons of this backend."""
    _current.append(backend)
    yield
    _current.pop()


def new_daemon(**options: Any) -> Any:
    """Return a daemon of the backend that the running test is for."""
    return BACKENDS[_current[-1]](**options)
