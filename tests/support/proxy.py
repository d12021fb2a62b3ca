"""A TCP proxy that spoils its traffic on demand."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, TypeAlias, TypeVar

Way: TypeAlias = Literal["requests", "replies"]
"""Towards the server, or back."""

_T = TypeVar("_T")
_OPPOSITE: dict[Way, Way] = {"requests": "replies", "replies": "requests"}
_PATIENCE = 30.0
_STEP = 1e-6


@dataclass(frozen=True)
class Fault:
    """A fault of a proxy.

    `refuses`: connections are cut, and new ones refused. `swallows`: everything in that direction
    disappears, including the end of a connection, so that neither side notices. `delay`: the delay
    of everything in seconds. `reply_bytes`: a connection ends after this many bytes of its replies.
    """

    refuses: bool = False
    swallows: frozenset[Way] = frozenset()
    delay: float = 0.0
    reply_bytes: int | None = None


HEALTHY = Fault()
CUT = Fault(refuses=True)
DEAF = Fault(swallows=frozenset(("requests",)))
MUTE = Fault(swallows=frozenset(("replies",)))
HALF_OPEN = Fault(swallows=frozenset(("requests", "replies")))


def slow(seconds: float) -> Fault:
    """Delay everything in both directions."""
    return Fault(delay=seconds)


def truncating(reply_bytes: int) -> Fault:
    """End replies early."""
    return Fault(reply_bytes=reply_bytes)


@dataclass(eq=False)
class _Strike:
    """A fault that happens when something with `marker` passes in that direction."""

    action: Callable[[], None]
    marker: bytes
    way: Way
    struck: threading.Event


class Proxy:
    """Forwards from a port on 127.0.0.1, in a separate thread, to the port `target` of a host, once
    there is one.
    """

    def __init__(self, host: str = "127.0.0.1", target: int | None = None) -> None:
        self.host = host
        self.target = target
        self.fault = HEALTHY
        self.links: set[_Link] = set()
        # Holds the port while connections are refused: bound, but not listened on.
        self._bound = _bind(0)
        self.port: int = self._bound.getsockname()[1]
        self._strikes: list[_Strike] = []
        self._server: asyncio.Server | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._set, HEALTHY, False)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spoil(self, fault: Fault) -> None:
        """Switch to a fault. Connections that lost something are cut when swallowing ends."""
        self._run(self._set, fault, False)

    def heal(self, *, late: bool = False) -> None:
        """Forward everything again. What was swallowed is lost, and its connection cut; or it
        arrives now, `late`.
        """
        self._run(self._set, HEALTHY, late)

    def strike(self, action: Fault | Callable[[], None], marker: bytes, way: Way = "requests") -> threading.Event:
        """Switch to a fault, or do something, once: just before something with `marker` is
        forwarded in that direction.

        The event is set when that has happened.
        """
        does = (lambda: self.spoil(action)) if isinstance(action, Fault) else action
        strike = _Strike(does, marker, way, threading.Event())
        self._run(self._strikes.append, strike)
        return strike.struck

    def close(self) -> None:
        """Cut everything, for good."""
        self._run(self._set, CUT, False)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_PATIENCE)
        self.loop.close()
        self._bound.close()

    def _run(self, call: Callable[..., object], *arguments: object) -> None:
        """Call in the proxy's thread, and wait for it; a strike is already there."""
        if threading.current_thread() is self._thread:
            call(*arguments)
            return

        async def run() -> None:
            call(*arguments)
            # Connections cut or opened by the call need a turn of the loop.
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(_PATIENCE)

    def _set(self, fault: Fault, late: bool) -> None:
        before, self.fault = self.fault, fault
        for link in list(self.links):
            link.replied = 0
            if fault.refuses:
                link.cut()
            elif before.swallows - fault.swallows:
                link.resume(late)
        if fault.refuses and self._server is not None:
            self._server.close()
            self._server = None
        elif not fault.refuses and self._server is None:
            listening = _bind(self.port)
            listening.listen(100)
            listening.setblocking(False)
            self.loop.create_task(self._listen(listening))

    async def _listen(self, listening: socket.socket) -> None:
        self._server = await self.loop.create_server(self._accept, sock=listening)

    def _accept(self) -> _End:
        return _Link(self).ends["requests"]

    def pass_by(self, way: Way, data: bytes) -> None:
        """Run the strikes that are due before something is forwarded, each once."""
        # The list stays the same object: another thread may just be about to add to it.
        for strike in [each for each in self._strikes if each.way == way and each.marker in data]:
            self._strikes.remove(strike)
            strike.action()
            strike.struck.set()


class _End(asyncio.Protocol):
    """One of the two connections of a link; what it receives is forwarded in one direction."""

    def __init__(self, link: _Link, way: Way) -> None:
        self._link = link
        self._way = way
        self._has_ended = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._link.made(self._way)

    def data_received(self, data: bytes) -> None:
        self._link.received(self._way, data)

    def eof_received(self) -> bool:
        self._end()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._link.received(self._way, None)


class _Link:
    """A client's connection and the connection to the server that belongs to it. None stands for
    the end of the stream.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._loop = proxy.loop
        self.ends: dict[Way, _End] = {way: _End(self, way) for way in _OPPOSITE}
        self.replied = 0
        self._swallowed: list[tuple[Way, bytes | None]] = []
        # What arrives before the server's connection exists: pausing the client does not prevent
        # it before Python 3.11.4.
        self._early: list[bytes | None] = []
        self._due: dict[Way, float] = {"requests": 0.0, "replies": 0.0}
        proxy.links.add(self)

    def made(self, way: Way) -> None:
        client = self.ends["requests"].transport
        assert client is not None
        if way == "replies":
            early, self._early = self._early, []
            for data in early:
                self._deliver("requests", data)
            client.resume_reading()
        else:
            client.pause_reading()
            self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        if self._proxy.target is None:
            self.cut()
            return
        try:
            await self._loop.create_connection(lambda: self.ends["replies"], self._proxy.host, self._proxy.target)
        except OSError:
            self.cut()

    def received(self, way: Way, data: bytes | None) -> None:
        if self not in self._proxy.links:
            return
        if data is not None:
            self._proxy.pass_by(way, data)
        fault = self._proxy.fault
        if way in fault.swallows:
            self._swallowed.append((way, data))
            return
        now = self._loop.time()
        # A step more each time, because timers of one moment fire in any order.
        due = max(now + fault.delay, self._due[way] + _STEP)
        if due > now:
            self._due[way] = due
            self._loop.call_at(due, self._deliver, way, data)
        else:
            self._deliver(way, data)

    def resume(self, late: bool) -> None:
        """End the swallowing, for now."""
        swallowed, self._swallowed = self._swallowed, []
        if swallowed and not late:
            self.cut()
        for way, data in swallowed:
            self.received(way, data)

    def cut(self) -> None:
        self._proxy.links.discard(self)
        for end in self.ends.values():
            if end.transport is not None:
                end.transport.abort()

    def _deliver(self, way: Way, data: bytes | None) -> None:
        to = self.ends[_OPPOSITE[way]].transport
        if self not in self._proxy.links:
            return
        if to is None:
            self._early.append(data)
            return
        most = self._proxy.fault.reply_bytes if way == "replies" else None
        if data is not None and most is not None:
            data, self.replied = data[: most - self.replied], self.replied + len(data)
        if data:
            to.write(data)
        if data is None or (most is not None and self.replied >= most):
            self._close()

    def _close(self) -> None:
        """End both connections, once everything written is sent."""
        self._proxy.links.discard(self)
        for end in self.ends.values():
            if end.transport is not None:
                end.transport.close()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound
