"""Bounds how many connections are accepted in one turn of the reactor.

Twisted accepts more and more as long as connections arrive, and delays everything else meanwhile;
after a quiet time it accepts one.
"""

from __future__ import annotations

from twisted.internet.interfaces import IListeningPort

from rqdisco.twisted_compat import accept_pending, set_accept_limit

# Some 3 ms.
_AT_ONCE = 25
_ALL = 1 << 16


def accept_few(port: IListeningPort) -> None:
    """From now on, accept no more than a few connections in a turn of the reactor."""
    set_accept_limit(port, _AT_ONCE)


def accept_waiting(port: IListeningPort) -> None:
    """Accept all connections that the kernel has accepted already."""
    accept_pending(port, _ALL)
