"""How many connections are accepted at once. Twisted accepts ever more, as long as more come, and
nobody else has a turn meanwhile; and after a quiet time it accepts one.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import Port

# Some 3 ms.
_AT_ONCE = 25
_ALL = 1 << 16


def accept_few(port: IListeningPort) -> None:
    """Accept no more than a few connections in a turn of the reactor, from now on."""
    if isinstance(port, Port):
        bounded: Any = port
        bounded.doRead = lambda: _accept(port, min(bounded.numberAccepts, _AT_ONCE))


def accept_waiting(port: IListeningPort) -> None:
    """Accept all that the kernel has taken already."""
    if isinstance(port, Port):
        _accept(port, _ALL)


def _accept(port: Port, count: int) -> None:
    port.numberAccepts = count
    Port.doRead(port)
