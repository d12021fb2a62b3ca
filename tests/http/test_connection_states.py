"""Clients that do anything at any moment: whatever happens, each request is answered once, in order,
and nothing is left behind.
"""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.limits.connection_limiter import ConnectionLimiter
from tests.support.kernel import MOST_READ, Kernel
from tests.support.scripted_answers import Asked, Script, responses_in

EXAMPLES = 60
MOST_EACH = 3
MOST = 5


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
