"""Clients that do anything at any moment: whatever happens, each request is answered once, in order,
and nothing is left behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.http.requests.request import Request
from rqdisco.http.requests.responses import Response
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.limits.connection_limiter import ConnectionLimiter

EXAMPLES = 60
MOST_EACH = 3
MOST = 5
# What one read of a socket returns at most.
MOST_READ = 1 << 16


class Kernel:
    """A socket between a client and a connection of the server, as Twisted's transports show it."""

    def __init__(self, site: Site, clock: Clock, host: str) -> None:
        self._clock = clock
        self._peer = IPv4Address("TCP", host, 40000)
        # Sent by the client and not read; a client that has closed its end sends nothing more.
        self.unread = b""
        self.is_ended = self._is_end_read = False
        # Read by the client, and what it has not read.
        self.received = self._unsent = b""
        self.is_slow = self._is_producer_paused = False
        self.is_reading = True
        self.disconnecting = self.is_lost = self.is_aborted = False
        self._producer: Any = None
        self._reads = False
        self.protocol: Any = site.buildProtocol(self._peer)
        if self.protocol is None:
            self.is_lost = True
        else:
            self.protocol.makeConnection(self)

    # What the connection calls.

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "192.168.1.1", 4000)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        if self.is_lost or self.is_aborted:
            return
        if not self.is_slow:
            self.received += data
            return
        self._unsent += data
        if self._producer is not None and not self._is_producer_paused:
            self._is_producer_paused = True
            self._producer.pauseProducing()

    def loseConnection(self) -> None:  # noqa: N802, Twisted's
        self.disconnecting = True
        self._close_if_sent()

    def abortConnection(self) -> None:
        if not (self.is_lost or self.is_aborted):
            self.disconnecting = self.is_aborted = True
            self._clock.callLater(0, self.lose, ConnectionLost())

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        assert not self.disconnecting
        self.is_reading = True
        self.read_soon()

    # What the client does.

    def send(self, data: bytes) -> None:
        self.unread += data
        self.read_soon()

    def end(self) -> None:
        self.is_ended = True
        self.read_soon()

    def lose(self, why: Exception) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connectionLost(Failure(why))

    def read_all(self) -> None:
        """The client reads again."""
        self.is_slow = False
        self.received, self._unsent = self.received + self._unsent, b""
        if self._is_producer_paused and not (self.is_lost or self.is_aborted):
            self._is_producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()
        if self.disconnecting:
            self._close_if_sent()

    def read_soon(self) -> None:
        if not self._reads:
            self._reads = True
            self._clock.callLater(0, self._read)

    def _read(self) -> None:
        self._reads = False
        if self.is_lost or self.is_aborted or not self.is_reading:
            return
        if self.unread:
            data, self.unread = self.unread[:MOST_READ], self.unread[MOST_READ:]
            self.protocol.dataReceived(data)
            self.read_soon()
        elif self.is_ended and not self._is_end_read:
            self._is_end_read = True
            self.protocol.readConnectionLost()

    def _close_if_sent(self) -> None:
        if not self._unsent and not self.is_aborted:
            self._clock.callLater(0, self.lose, ConnectionDone())


class Asked(Exception):
    """The error that the application raises at some requests."""


class Script:
    """An application whose answers are given when the test says so."""

    def __init__(self) -> None:
        self.open: list[Request] = []
        self.handled: list[bytes] = []
        self.finished: list[bytes] = []
        self.abandoned: list[bytes] = []

    def max_body(self, request: Request) -> int:
        return 8

    def handle(self, request: Request) -> None:
        name = request.path
        self.handled.append(name)
        request.on_abandoned(lambda: self.abandoned.append(name))
        if name.startswith(b"/now"):
            self.answer(request)
        elif name.startswith(b"/raise"):
            self.finished.append(name)
            raise Asked
        else:
            self.open.append(request)
            if name.startswith(b"/stream"):
                request.stream = Ended(lambda: self.answer(request))
            if not name.startswith(b"/later"):
                request.start(Response(200, name))

    def answer(self, request: Request) -> None:
        """Answer a request, or finish its response."""
        if request in self.open:
            self.open.remove(request)
        if request.is_gone:
            return
        self.finished.append(request.path)
        if request.status:
            request.finish()
        else:
            request.respond(Response(200, request.path))


class Ended:
    """A stream of events."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.end = end


def responses_in(data: bytes) -> tuple[list[tuple[int, bytes, bool]], bool]:
    """Return the status, the body and whether the server closes, of each response to anything but
    HEAD; and whether the last one is whole. What follows a response that says so is an error.
    """
    found: list[tuple[int, bytes, bool]] = []
    while data:
        assert not (found and found[-1][2]), "nothing follows Connection: close"
        head, is_whole, data = data.partition(b"\r\n\r\n")
        if not is_whole:
            assert b"HTTP/1.1 ".startswith(head[:9]) or head.startswith(b"HTTP/1.1 ")
            return found, False
        status = int(head.removeprefix(b"HTTP/1.1 ")[:3])
        if status == 100:
            continue
        closes = b"\r\nConnection: close" in head
        if b"\r\nTransfer-Encoding: chunked" in head:
            body = b""
            while True:
                size, is_whole, rest = data.partition(b"\r\n")
                length = int(size, 16) if is_whole else 0
                if not is_whole or len(rest) < length + 2:
                    return found, False
                body, data = body + rest[:length], rest[length + 2 :]
                if not length:
                    break
        else:
            length = int(head.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0])
            body, data = data[:length], data[length:]
            if len(body) < length:
                return found, False
        found.append((status, body, closes))
    return found, True


class Client:
    """A client, and what it may expect."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        # The names of the whole requests that it has sent.
        self.sent: list[bytes] = []
        # The rest of a request of which it has sent a part.
        self.rest = b""
        # Whether it has broken a rule, or was too slow: then the server may close without answers.
        self.is_excused = kernel.is_lost
        self.has_erred = False


REQUESTS = {
    "plain": b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n",
    "length": b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    "chunked": b"POST %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1\r\nx\r\n2\r\n\r\n\r\n0\r\nA: b\r\n\r\n",
    "too large": b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n" + b"a" * 30,
    "expecting": b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    "upgrade": b"POST %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    "empty lines": b"\r\n\r\n\r\nGET %b HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
}
clients = st.integers(0, 20)


class Connections(RuleBasedStateMachine):
    """Clients of a site with room for few."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.script = Script()
        limiter = ConnectionLimiter(MOST, MOST_EACH, self.clock.seconds)
        self.site = Site(self.script, self.clock, SiteConfig(), lambda: 0.0, limiter=limiter)
        self.site.doStart()
        self.clients: list[Client] = []
        self.numbers = itertools.count()
        self.is_drained = False

    def run_turns(self, most: int = 1000) -> None:
        """Run the calls that are due."""
        for _ in range(most):
            if not any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
                return
            self.clock.advance(0)
        assert most < 1000, "calls that never end"

    def client(self, number: int) -> Client:
        return self.clients[number % len(self.clients)]

    @rule(host=st.sampled_from(["198.51.100.7", "198.51.100.8", "127.0.0.1"]))
    def connect(self, host: str) -> None:
        for client in self.clients:
            # Any of them may be displaced.
            client.is_excused = client.is_excused or len(self.site.connections) >= MOST_EACH
        client = Client(Kernel(self.site, self.clock, host))
        client.is_excused = client.is_excused or len(self.site.connections) > MOST_EACH
        self.clients.append(client)

    @precondition(lambda self: self.clients)
    @rule(
        number=clients,
        kind=st.sampled_from(sorted(REQUESTS)),
        how=st.sampled_from(["now", "later", "later", "raise", "stream", "export"]),
        cut=st.floats(0, 1),
        is_last=st.booleans(),
    )
    def send(self, number: int, kind: str, how: str, cut: float, is_last: bool) -> None:
        """Send a request, which may be the rest of one, and its beginning."""
        client = self.client(number)
        if client.kernel.is_ended or client.has_erred:
            return
        name = b"/%b%d" % (how.encode(), next(self.numbers))
        data = REQUESTS[kind] % name
        client.sent.append(name)
        if how == "stream" or kind == "too large":
            client.is_excused = client.is_excused or how == "stream"
        size = len(data) if is_last else int(len(data) * cut)
        client.kernel.send(client.rest + data[:size])
        # The line behind a request need not follow.
        client.rest = b"" if kind == "empty lines" and size >= len(data) - 2 else data[size:]

    @precondition(lambda self: self.clients)
    @rule(number=clients, data=st.sampled_from([b"\x16\x03", b"GET\r\n\r\n", b"x" * 20000, b"GET / HTTP/1.1\r\n\r\n"]))
    def send_nonsense(self, number: int, data: bytes) -> None:
        client = self.client(number)
        if not (client.kernel.is_ended or client.rest):
            client.kernel.send(data)
            client.has_erred = True

    @precondition(lambda self: self.clients)
    @rule(number=clients)
    def send_rest(self, number: int) -> None:
        client = self.client(number)
        if not client.kernel.is_ended:
            client.kernel.send(client.rest)
            client.rest = b""

    @precondition(lambda self: self.clients)
    @rule(number=clients)
    def end(self, number: int) -> None:
        """The client closes its end, and may wait for answers."""
        client = self.client(number)
        if client.rest:
            client.sent.pop()
            client.rest = b""
        client.kernel.end()

    @precondition(lambda self: self.clients)
    @rule(number=clients)
    def reset(self, number: int) -> None:
        client = self.client(number)
        client.is_excused = True
        client.kernel.lose(ConnectionLost())

    @precondition(lambda self: self.clients)
    @rule(number=clients)
    def stop_reading(self, number: int) -> None:
        client = self.client(number)
        client.kernel.is_slow = client.is_excused = True

    @precondition(lambda self: self.clients)
    @rule(number=clients)
    def read_again(self, number: int) -> None:
        self.client(number).kernel.read_all()

    @precondition(lambda self: self.script.open)
    @rule(number=clients)
    def answer(self, number: int) -> None:
        self.script.answer(self.script.open[number % len(self.script.open)])

    @precondition(lambda self: self.script.open)
    @rule(number=clients)
    def write(self, number: int) -> None:
        request = self.script.open[number % len(self.script.open)]
        if request.status:
            request.write(b"more")

    @rule(turns=st.integers(1, 5))
    def turn(self, turns: int) -> None:
        self.run_turns(turns)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 11.0, 40.0, 80.0]))
    def wait(self, seconds: float) -> None:
        self.run_turns()
        for client in self.clients:
            client.is_excused = client.is_excused or seconds > 5 or bool(client.rest)
        self.clock.pump([min(1.0, seconds)] * max(1, int(seconds)))

    @precondition(lambda self: self.clients and not self.is_drained)
    @rule()
    def drain(self) -> None:
        self.is_drained = True
        self.site.drain()
        for client in self.clients:
            client.is_excused = True

    @invariant()
    def answers_are_in_order(self) -> None:
        for client in self.clients:
            self.check_answers(client)

    def check_answers(self, client: Client) -> list[bytes]:
        """Check what a client has read; return the names of the requests that were answered."""
        found, _ = responses_in(client.kernel.received)
        names: list[bytes] = []
        for (status, body, _), name in itertools.zip_longest(found, client.sent[: len(found)], fillvalue=b""):
            if status in (200, 500):
                assert name in self.script.handled, "it was sent, and handled"
                assert isinstance(body, bytes)
                assert body.startswith(name) if status == 200 else name.startswith(b"/raise")
                names.append(name)
            else:
                assert status == 503 or client.has_erred, (status, body)
        assert len(found) - len(names) <= 1, "one refusal, and the last answer"
        assert all(status in (200, 500) for status, _, _ in found[:-1])
        return names

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        for client in self.clients:
            if client.kernel.protocol is not None:
                assert client.kernel.protocol.buffered <= 2 * MOST_READ

    @invariant()
    def no_connection_waits_forever(self) -> None:
        connections: set[Any] = set(self.site.connections)
        for connection in connections:
            kernel = connection.transport
            assert connection.is_busy or kernel.is_aborted or connection.deadline < self.clock.seconds() + 80

    @invariant()
    def what_is_closed_is_forgotten(self) -> None:
        for client in self.clients:
            if client.kernel.is_lost:
                assert client.kernel.protocol not in self.site.connections
        assert len(self.site.limiter) <= len(self.site.connections)

    def teardown(self) -> None:
        """In the end all requests are answered, and all connections are closed."""
        self.run_turns()
        for client in self.clients:
            client.kernel.read_all()
        self.run_turns()
        while self.script.open:
            self.script.answer(self.script.open[0])
            self.run_turns()
        self.clock.pump([0.5] * 4)
        for client in self.clients:
            names = self.check_answers(client)
            whole = client.sent[:-1] if client.rest else client.sent
            if not (client.is_excused or self.is_drained):
                assert names == whole, "every request is answered"
                assert not (client.kernel.is_ended and not client.kernel.is_lost), "a half-closed connection ends"
        self.clock.pump([1.0] * 200)
        assert not self.site.connections
        assert not len(self.site.limiter)
        self.site.doStop()
        assert not self.clock.getDelayedCalls(), "no call is left"
        handled = self.script.handled
        assert len(set(handled)) == len(handled), "no request is handled twice"
        ends = self.script.abandoned + self.script.finished
        assert sorted(ends) == sorted(handled), "each request ends once"


def test_whatever_clients_do_each_request_is_answered_once_and_nothing_is_left(
    logged_errors: list[dict[str, Any]],
) -> None:
    run_state_machine_as_test(Connections, settings=settings(max_examples=EXAMPLES, stateful_step_count=30))
    assert all(event["log_failure"].check(Asked) for event in logged_errors)
    logged_errors.clear()


def test_a_client_that_closes_its_end_during_a_long_answer_is_closed_behind_it() -> None:
    clock, script = Clock(), Script()
    kernel = Kernel(Site(script, clock, SiteConfig(), lambda: 0.0), clock, "198.51.100.7")
    kernel.send(REQUESTS["plain"] % b"/export")
    clock.advance(0)
    kernel.end()
    clock.advance(0)
    script.answer(script.open[0])
    clock.advance(1)
    assert responses_in(kernel.received) == ([(200, b"/export", False)], True)
    assert kernel.is_lost


def test_a_peer_that_reads_nothing_and_wants_to_close_is_cut_off() -> None:
    clock, script = Clock(), Script()
    site = Site(script, clock, SiteConfig(trusts_clients=True), lambda: 0.0)
    site.doStart()
    kernel = Kernel(site, clock, "198.51.100.7")
    kernel.is_slow = True
    kernel.send(REQUESTS["plain"] % b"/now1" + b"GET /now2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    clock.pump([1] * 40)
    assert kernel.is_lost
    site.doStop()
