"""The resolver of the operating system, including its hosts file and search list."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

if TYPE_CHECKING:
    from twisted.internet.base import ReactorBase

# The name does not exist or has no address. Not every system defines all of these.
_ABSENT = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")} - {None}


class SystemResolver:
    """Resolves names in its own daemon threads, so that a hanging lookup blocks nothing else, not
    even the end of the process.
    """

    def __init__(self, reactor: ReactorBase, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, threads, "resolver")
        self._pool.threadFactory = _DaemonThread
        reactor.callWhenRunning(self._pool.start)

    def __call__(self, host: str) -> Deferred[Sequence[str]]:
        """Fire with the addresses of `host`, none if the name does not exist; fail if the lookup
        fails.
        """
        return deferToThreadPool(self._reactor, self._pool, _getaddrinfo, host)


class _DaemonThread(Thread):
    # ThreadPool passes some of Thread's own arguments.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


def _getaddrinfo(host: str) -> Sequence[str]:
    """Raises OSError."""
    try:
        results = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError:
        # Not a valid name.
        return []
    except socket.gaierror as error:
        if error.errno in _ABSENT:
            return []
        raise
    return [ip for ip in (str(sockaddr[0]) for *_, sockaddr in results) if "%" not in ip]
