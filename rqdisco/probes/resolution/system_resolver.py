"""The machine's own resolver: hosts file, search list and all."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

# That there is no such name, or none with an address; not every system has all of these.
_ABSENT = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")} - {None}


class SystemResolver:
    """Resolves in threads of its own, which end with the process: where it hangs it holds nobody up
    but them.
    """

    def __init__(self, reactor: Any, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "resolver")
        self._pool.threadFactory = _DaemonThread
        reactor.callWhenRunning(self._pool.start)

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        """Fire with the addresses of `host`, none if there is no such name; fail if that cannot be
        known.
        """
        return deferToThreadPool(self._reactor, self._pool, _getaddrinfo, host)


class _DaemonThread(Thread):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options, daemon=True)


def _getaddrinfo(host: str) -> Sequence[str]:
    """Raises OSError."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        # No name that anybody could have.
        return []
    except socket.gaierror as error:
        if error.errno in _ABSENT:
            return []
        raise
    return [address for address in (str(where[0]) for *_, where in found) if "%" not in address]
