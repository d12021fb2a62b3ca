"""A daemon that is killed, or cut off from etcd, between its transaction and its answer: the node asks
again, and exactly one node bootstraps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import NamedTuple

import pytest

from tests.support.consul_nodes import leader_value
from tests.support.etcd.processes import arguments
from tests.support.etcd.real import ETCD, RealEtcd
from tests.support.history import Answer
from tests.support.process import DaemonProcess, Environment
from tests.support.proxied_peers import at_last
from tests.support.proxy import CUT, DEAF, HALF_OPEN, MUTE, Fault, Proxy, Way, slow
from tests.support.recorder import ANSWER_SECONDS, Recorder
from tests.support.reference import Reference
from tests.support.virtual import Peer

pytestmark = [pytest.mark.process, pytest.mark.skipif(ETCD is None, reason="etcd is not installed")]

NODES = ("n1:4001", "n2:4001", "n3:4001")
MARKERS: dict[Way, bytes] = {"requests": b"request_put", "replies": b"response_put"}


class Pair:
    """Two daemons of one etcd; the first one reaches it through a proxy."""

    def __init__(self, installed: Environment, etcd: RealEtcd, stack: ExitStack) -> None:
        self._installed = installed
        self._etcd = etcd
        self._stack = stack
        (member,) = etcd.members.values()
        host, _, port = member.address.partition(":")
        self.proxy = stack.enter_context(Proxy(host, int(port)))
        self.all: list[DaemonProcess] = []
        self.other = self._start(*etcd.endpoints)
        self.first = self._start(self.proxy.url)

    def _start(self, endpoint: str) -> DaemonProcess:
        daemon = self._installed.start(*arguments([endpoint]))
        self._stack.callback(daemon.kill)
        daemon.wait_for("etcd is in use")
        self.all.append(daemon)
        return daemon

    def restore(self) -> None:
        """End all faults; return when both daemons can change something."""
        self.proxy.heal()
        if self.first.process.poll() is not None:
            self.first = self._start(self.proxy.url)
        at_last(lambda: self.first.request("POST", "/").status == 200)


@pytest.fixture(scope="module")
def shared(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The same daemons for all tests here; each test has separate IDs."""
    with ExitStack() as stack:
        etcd = stack.enter_context(closing(RealEtcd(tmp_path_factory.mktemp("etcd"))))
        yield Pair(installed, etcd, stack)


@pytest.fixture
def pair(shared: Pair) -> Iterator[Pair]:
    shared.restore()
    yield shared
    shared.restore()
    assert [each for daemon in shared.all for each in daemon.complaints] == []


@pytest.fixture
def recorder(pair: Pair) -> Iterator[Recorder]:
    """Records the answers of clients, which must be in time, and could all have come from one list
    (P1, P2, P4).
    """
    recorder = Recorder(forwards=False)
    with Reference() as reference:
        yield recorder
        limit = reference.limit(ANSWER_SECONDS)
    assert recorder.late(limit) == []
    for discovery_id, verdict in recorder.verdicts(pair.all).items():
        assert verdict, f"{discovery_id}: {verdict.text}"


class Hit(NamedTuple):
    """A fault just before a transaction that changes something reaches etcd, or just before its
    answer reaches the daemon. None kills the daemon. What was swallowed is lost when the fault
    ends, or arrives `late`.
    """

    fault: Fault | None
    at: Way
    late: bool = False

    def strike(self, pair: Pair) -> None:
        action: Fault | Callable[[], None] = self.fault or pair.first.process.kill
        pair.proxy.strike(action, MARKERS[self.at], self.at)


HITS = {
    "killed before etcd decides": Hit(None, "requests"),
    "killed before the answer": Hit(None, "replies"),
    "cut off before etcd decides": Hit(CUT, "requests"),
    "cut off before the answer": Hit(CUT, "replies"),
    "etcd hears all of it later": Hit(DEAF, "requests", late=True),
    "etcd's answers are lost": Hit(MUTE, "replies"),
    "all passes later": Hit(HALF_OPEN, "requests", late=True),
    "slow": Hit(slow(0.4), "requests"),
}
OF_CLAIMS = ("killed before etcd decides", "killed before the answer", "etcd hears all of it later")


def final_answer(daemon: DaemonProcess, recorder: Recorder, discovery_id: str, addr: str) -> Answer:
    """Return the final answer to a node that retries as often as its supervisor restarts it."""

    def ask_again() -> Answer | None:
        answer = recorder.register(daemon, discovery_id, addr)
        return None if answer == 503 else answer

    return at_last(ask_again)


@pytest.mark.parametrize("hit", HITS.values(), ids=HITS)
def test_exactly_one_node_bootstraps_although_the_first_one_lost_its_answer(
    pair: Pair, recorder: Recorder, hit: Hit
) -> None:
    discovery_id = pair.first.create_id()
    hit.strike(pair)
    answer = recorder.register(pair.first, discovery_id, NODES[0])
    assert answer in (None, 503, (NODES[0],))
    pair.proxy.heal(late=hit.late)
    with ThreadPoolExecutor(len(NODES)) as pool:
        asking = [pool.submit(final_answer, pair.other, recorder, discovery_id, addr) for addr in NODES]
        answers = [each.result() for each in asking]
    granted = [addr for addr, found in zip(NODES, answers, strict=True) if found == (addr,)]
    if answer == (NODES[0],):
        assert granted in ([NODES[0]], [])
    assert len(granted) == 1, (answer, answers)
    assert set(NODES) == set(pair.other.nodes(discovery_id))


@pytest.mark.parametrize("name", OF_CLAIMS)
def test_exactly_one_claim_wins_although_the_first_one_lost_its_answer(pair: Pair, name: str) -> None:
    key, hit = name.replace(" ", "-"), HITS[name]
    peers = [Peer(f"n{number}", f"10.0.0.{number}:4001", f"10.0.0.{number}:4002", frozenset()) for number in (1, 2)]
    first, second = map(leader_value, peers)

    hit.strike(pair)
    answer = claim(pair.first, key, first)
    pair.proxy.heal(late=hit.late)
    others = at_last(partial(claim, pair.other, key, second))
    again = at_last(partial(claim, pair.other, key, first))
    assert {others, again} == {b"true", b"false"}, (answer, others, again)
    if answer == b"true":
        assert again == b"true"


def claim(daemon: DaemonProcess, key: str, value: bytes) -> bytes | None:
    """Return the answer to a claim, None if there was none but 503."""
    connection = daemon.connect()
    try:
        connection.request("PUT", f"/v1/kv/{key}/leader?cas=0", value)
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status in (200, 500, 503), (reply.status, content)
        return content.strip() if reply.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()
