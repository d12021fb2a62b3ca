"""Everything rqdisco relies on in Twisted beyond its documented API.

Each helper says what is relied on; tests/unit/test_twisted_compat.py fails when a new Twisted
changes it. No other module touches a private name of Twisted or replaces a method of its objects.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.tcp import Connection, Port
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import HTTPConnectionPool

_log = Logger()
P = TypeVar("P")


def use_clock(reactor: Any, seconds: Callable[[], float]) -> None:
    """Make the reactor's timers follow `seconds`.

    ReactorBase takes the time for callLater from its attribute `seconds`, which is the wall clock.
    """
    reactor.seconds = seconds


def poll_without_context(reactor: Any) -> None:
    """Have an epoll reactor call sockets without a log context, which takes a third of its time for
    each of them; nothing here logs by it.

    The main loop calls the reactor's attribute `doIteration`, which is `EPollReactor.doPoll`. What
    that calls within the context, `_doReadOrWrite`, logs what sockets raise.
    """
    if not isinstance(reactor, EPollReactor):
        return
    untyped: Any = reactor
    selectables, call = untyped._selectables, untyped._doReadOrWrite

    def poll(timeout: float | None) -> None:
        for fd, event in untyped._poller.poll(timeout, len(selectables)):
            selectable = selectables.get(fd)
            if selectable is None:
                continue
            try:
                call(selectable, fd, event)
            except Exception:
                _log.failure("a socket failed", Failure())

    untyped.doIteration = poll


def use_timer(protocol: P, clock: IReactorTime) -> P:
    """Make a protocol's timeouts use `clock`.

    TimeoutMixin sets timers with its attribute `callLater`.
    """
    untyped: Any = protocol
    untyped.callLater = clock.callLater
    return protocol


def set_accept_limit(port: IListeningPort, limit: int) -> None:
    """Accept at most `limit` connections whenever the port becomes readable; other kinds of ports
    than TCP and UNIX stay as they are.

    `Port.doRead` accepts `numberAccepts` connections, and doubles or lowers that number itself.
    """
    if isinstance(port, Port):
        bounded: Any = port
        bounded.doRead = lambda: _accept(port, min(bounded.numberAccepts, limit))


def accept_pending(port: IListeningPort, limit: int) -> None:
    """Accept up to `limit` connections now, without waiting for any."""
    if isinstance(port, Port):
        _accept(port, limit)


def _accept(port: Port, count: int) -> None:
    port.numberAccepts = count
    Port.doRead(port)


def silence_client_connections(pool: HTTPConnectionPool) -> None:
    """Stop the pool from logging a line for each connection.

    The factory of a pool's connections is its private attribute `_factory`.
    """
    pool._factory.noisy = False


def write_at_once(transport: Any, data: bytes) -> None:
    """Write to a transport, and at once if it is a socket that has nothing else to write.

    `FileDescriptor.write` only buffers: for each write it asks epoll for the socket to become
    writable, writes in the next turn, and takes the question back. A socket with nothing to write
    has an empty `dataBuffer` and `_tempDataBuffer`. If it takes nothing now, or the connection is
    lost, the buffered write finds out again.
    """
    if (
        isinstance(transport, Connection)
        and transport.connected
        and not (transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting)
    ):
        try:
            written = transport.socket.send(data)
        except OSError:
            written = 0
        if written == len(data):
            return
        data = data[written:]
    transport.write(data)


def is_reset(transport: object) -> bool:
    """Report whether the other machine has reset a connection whose input is over.

    After the end of the input the reactor watches a socket only while there is something to write,
    and does not notice. `Connection.getHandle` returns the socket of a TCP or UNIX transport.
    """
    if not isinstance(transport, Connection) or not transport.connected:
        return False
    poll = select.poll()
    poll.register(transport.getHandle(), 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def is_disconnecting(transport: object) -> bool:
    """Report whether a transport closes as soon as everything written is sent.

    All transports have the attribute `disconnecting`; no interface declares it.
    """
    return bool(getattr(transport, "disconnecting"))  # noqa: B009
