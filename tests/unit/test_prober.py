"""One probe: what is sent, what counts as an answer, and how long it is waited for."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.records import Node
from rqdisco.probes.probe_state import Outcome
from rqdisco.probes.prober import MAX_BYTES, TIMEOUT, Prober
from rqdisco.probes.targets import target_of
from tests.support.daemon import result
from tests.support.network import NOT_READY, READY, ProbedNetwork

A = "10.0.0.1:4001"


class ProbedNode:
    """Probes one node, and records the outcome."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.network = ProbedNetwork()
        self._probe = Prober(self.network, self.clock)

    def __call__(self, addr: str = A, raft_addr: str | None = None) -> Deferred[Outcome]:
        target = target_of(Node(addr=addr, raft_addr=raft_addr))
        assert target is not None
        return Deferred.fromCoroutine(self._probe(target, target.host))

    def met(self, addr: str = A) -> Outcome:
        """Return the result, which needs no time; every connection is closed."""
        outcome: Outcome = result(self(addr))
        assert self.network.open == 0
        return outcome


@pytest.fixture
def probe() -> ProbedNode:
    return ProbedNode()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (READY, "ready"),
        (NOT_READY, "not_ready"),
        # rqlite 8 to 10 that have no leader.
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\nleader address: leader not found\n", "not_ready"),
        (b"HTTP/1.0 200 OK\n", "ready"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n404 page not found\n", "answered"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", "answered"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.2:4001/\r\n\r\n", "answered"),
        (b"HTTP/1.1 2000 OK\r\n", "answered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answered"),
        (b"x" * 5000, "answered"),
    ],
)
def test_any_answer_counts_and_readyz_shows_whether_the_node_is_ready(
    probe: ProbedNode, answer: bytes, outcome: Outcome
) -> None:
    probe.network.listens("10.0.0.1", answer)
    assert probe.met() == outcome
    assert probe.network.attempted == [("10.0.0.1", 4001)], "no redirect is followed"
    assert probe.network.asked == [
        b"GET /readyz HTTP/1.1\r\nHost: 10.0.0.1:4001\r\nUser-Agent: rqdisco\r\nConnection: close\r\n\r\n"
    ]


def test_refused_closed_and_unreachable_connections_are_distinguished(probe: ProbedNode) -> None:
    assert probe.met() == "refused"
    probe.network.hangs_up("10.0.0.1")
    assert probe.met() == "closed"
    probe.network.is_cut_off("10.0.0.1")
    assert probe.met() == "unreachable"


@pytest.mark.parametrize("behaviour", ["takes no connection", "says nothing", "says half a line"])
def test_a_node_that_never_answers_is_waited_for_two_seconds(probe: ProbedNode, behaviour: str) -> None:
    if behaviour == "takes no connection":
        probe.network.hangs("10.0.0.1")
    else:
        probe.network.listens("10.0.0.1", b"" if behaviour == "says nothing" else b"HTTP/1.1 200")
    running = probe()
    probe.clock.advance(TIMEOUT - 0.1)
    assert not running.called
    probe.clock.advance(0.1)
    assert result(running) == "no_answer"
    assert probe.network.open == 0


def test_only_the_first_few_kib_of_an_answer_are_read(probe: ProbedNode) -> None:
    probe.network.listens("10.0.0.1", b"x" * (MAX_BYTES - 1))
    waiting = probe()
    assert not waiting.called
    waiting.cancel()
    waiting.addErrback(lambda _: None)
    assert probe.network.open == 0
    probe.network.listens("10.0.0.1", b"x" * MAX_BYTES)
    assert probe.met() == "answered"


def test_a_raft_address_is_only_connected_to(probe: ProbedNode) -> None:
    probe.network.listens("10.0.0.1", port=4002)
    assert result(probe("10.0.0.1:4002", "10.0.0.1:4002")) == "connected"
    assert probe.network.asked == []
    assert probe.network.open == 0
