"""Three daemons in separate processes, between which the network fails: the answers to nodes, and
what is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from random import Random
from threading import Event
from time import monotonic
from typing import Any, NamedTuple

import pytest

from tests.support.history import Answer
from tests.support.process import PATIENCE, DaemonProcess, Environment
from tests.support.proxied_peers import NAMES, ProxiedPeers, at_last
from tests.support.proxy import CUT, DEAF, HALF_OPEN, MUTE, Fault, Way, slow, truncating
from tests.support.recorder import ANSWER_SECONDS, RecordedNode, Recorder
from tests.support.reference import Reference
from tests.support.rqlited import VERSIONS, Outcome, RqliteNetwork

pytestmark = pytest.mark.process

CHAOS_SECONDS = 10.0
NODES = ("n1:4001", "n2:4001", "n3:4001")


@pytest.fixture(scope="module")
def shared(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedPeers]:
    """The same daemons for all tests here; each test has separate IDs."""
    directory = tmp_path_factory.mktemp("peers")
    with ProxiedPeers(lambda state, *options: installed.start(*installed.twistd(state, *options)), directory) as peers:
        yield peers


@pytest.fixture
def peers(shared: ProxiedPeers) -> Iterator[ProxiedPeers]:
    """All daemons are up, and have noticed it; after the test too, which ends its own faults."""
    yield shared
    shared.restore()
    assert all(daemon.complaints == [] for daemon in shared.all)


@pytest.fixture
def recorder(peers: ProxiedPeers) -> Iterator[Recorder]:
    """Records the answers of clients, which must be in time, and could all have come from one list
    (P1, P2, P4).
    """
    recorder = Recorder()
    with Reference() as reference:
        yield recorder
        limit = reference.limit(ANSWER_SECONDS)
    print(recorder.summary(peers.all))
    assert recorder.late(limit) == []
    for discovery_id, verdict in recorder.verdicts(peers.all).items():
        assert verdict, f"{discovery_id}: {verdict.text}"


def final_answer(peers: ProxiedPeers, recorder: Recorder, name: str, discovery_id: str, addr: str) -> Answer:
    """Return the final answer to a node that retries as often as its supervisor restarts it."""

    def ask_again() -> Answer | None:
        answer = recorder.register(peers.daemons[name], discovery_id, addr)
        return None if answer == 503 else answer

    return at_last(ask_again)


def assert_all_are_listed(peers: ProxiedPeers, recorder: Recorder, discovery_id: str, owner: str = "a") -> None:
    """Assert that every acknowledged node is on every list, once hints have reached the owner."""
    acknowledged = recorder.acknowledged(discovery_id)
    daemon, seen = peers.daemons[owner], 0
    while not acknowledged <= set(daemon.nodes(discovery_id)):
        event = daemon.wait_for("registrations from elsewhere added", since=seen)
        seen = daemon.events.index(event, seen) + 1
    for each in peers.daemons.values():
        assert acknowledged <= set(at_last(partial(list_at_owner, recorder, each, discovery_id)))


def has_copy(daemon: DaemonProcess, discovery_id: str, nodes: Sequence[str]) -> bool:
    return daemon.nodes(discovery_id) == list(nodes)


def list_at_owner(recorder: Recorder, api: DaemonProcess, discovery_id: str) -> tuple[str, ...] | None:
    answer = recorder.read(api, discovery_id)
    return answer if isinstance(answer, tuple) else None


class Hit(NamedTuple):
    """A fault just before a first node reaches the owner, or just before its grant is
    acknowledged.
    """

    action: Fault | Callable[[], None]
    at: Way = "requests"

    @property
    def marker(self) -> bytes:
        return NODES[0].encode() if self.at == "requests" else b'"granted"'


class Struck:
    """An ID of a, and its first node, which registers at b and meets a fault while it is
    forwarded.
    """

    def __init__(self, peers: ProxiedPeers, recorder: Recorder, hit: Hit) -> None:
        self.discovery_id = peers.daemons["a"].create_id()
        self.event = peers.proxies["a"].strike(hit.action, hit.marker, hit.at)
        self._peers = peers
        self._recorder = recorder

    def first(self) -> Any:
        """Return the answer to the first node when it meets the fault; on a slow machine it may be
        refused before.
        """
        answers = []

        def is_struck() -> bool:
            answers.append(self.ask("b", NODES[0]))
            return self.event.is_set()

        at_last(is_struck)
        assert set(answers[:-1]) <= {503}
        return answers[-1]

    def ask(self, name: str, addr: str) -> Any:
        """Return the answer to a node."""
        return self._recorder.register(self._peers.daemons[name], self.discovery_id, addr)


def assert_one_cluster_in_the_end(peers: ProxiedPeers, recorder: Recorder, discovery_id: str) -> None:
    """Assert that all three nodes get a list, and stay on it; the recorder judges whether one of
    them was alone.
    """
    for name, addr in zip("bca", NODES, strict=True):
        final_answer(peers, recorder, name, discovery_id, addr)
    assert_all_are_listed(peers, recorder, discovery_id)


MIDWAY = {
    "its owner is cut off before it receives it": Hit(CUT),
    "its owner is cut off before the answer": Hit(CUT, "replies"),
    "its owner is half-open before it receives it": Hit(HALF_OPEN),
    "its owner is half-open before the answer": Hit(HALF_OPEN, "replies"),
    "its owner receives nothing any more": Hit(DEAF),
    "its owner sends nothing any more": Hit(MUTE),
    "its owner is too slow": Hit(slow(2.5)),
    "its owner is slow": Hit(slow(0.7)),
    "its owner's answers end at once": Hit(truncating(40), "replies"),
    "its owner's answers lack their last bytes": Hit(truncating(300), "replies"),
}


@pytest.mark.parametrize("hit", MIDWAY.values(), ids=MIDWAY)
def test_a_first_node_is_answered_in_time_and_one_cluster_forms_despite_faults(
    peers: ProxiedPeers, recorder: Recorder, hit: Hit
) -> None:
    struck = Struck(peers, recorder, hit)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(struck.first)
        assert struck.event.wait(PATIENCE)
        others = [pool.submit(struck.ask, name, addr) for name, addr in zip("ca", NODES[1:], strict=True)]
        answers = [each.result() for each in (first, *others)]
    assert None not in answers
    if hit.at == "replies":
        assert answers[0] == 503, "decided, and not received"
        assert all(answer == 503 or NODES[0] in answer for answer in answers[1:]), answers
    peers.proxies["a"].heal()
    assert_one_cluster_in_the_end(peers, recorder, struck.discovery_id)


def test_a_registration_that_arrives_after_its_node_was_refused_bootstraps_no_second_cluster(
    peers: ProxiedPeers, recorder: Recorder
) -> None:
    struck = Struck(peers, recorder, Hit(DEAF))
    assert struck.first() == 503
    assert final_answer(peers, recorder, "a", struck.discovery_id, NODES[1]) == (NODES[1],)
    peers.proxies["a"].heal(late=True)
    assert_one_cluster_in_the_end(peers, recorder, struck.discovery_id)


def test_an_owner_stopped_while_a_first_node_is_forwarded_to_it_decides_once_when_it_resumes(
    peers: ProxiedPeers, recorder: Recorder
) -> None:
    struck = Struck(peers, recorder, Hit(lambda: peers.stop("a")))
    assert struck.first() == 503
    assert struck.ask("c", NODES[1]) == 503
    peers.resume("a")
    assert_one_cluster_in_the_end(peers, recorder, struck.discovery_id)


def test_an_owner_stopped_while_it_answers_a_grant_grants_nobody_else(peers: ProxiedPeers, recorder: Recorder) -> None:
    struck = Struck(peers, recorder, Hit(lambda: peers.stop("a"), "replies"))
    assert struck.first() == (NODES[0],)
    assert struck.ask("c", NODES[1]) in (503, NODES[:2])
    peers.resume("a")
    assert_one_cluster_in_the_end(peers, recorder, struck.discovery_id)


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("at", ["requests", "replies"])
def test_an_owner_killed_while_a_first_node_is_forwarded_to_it_bootstraps_one_cluster_after_its_restart(
    peers: ProxiedPeers, recorder: Recorder, at: Way, is_read: bool
) -> None:
    def kill() -> None:
        peers.daemons["a"].process.kill()
        if not is_read:
            peers.proxies["a"].spoil(CUT)

    struck = Struck(peers, recorder, Hit(kill, at))
    assert struck.first() == ((NODES[0],) if at == "replies" and is_read else 503)
    assert struck.ask("c", NODES[1]) in (503, NODES[:2])
    peers.daemons["a"].kill()
    peers.proxies["a"].heal()
    peers.start("a")
    assert_one_cluster_in_the_end(peers, recorder, struck.discovery_id)


def test_nodes_join_a_cluster_through_any_daemon_during_a_full_partition_and_all_are_kept(
    peers: ProxiedPeers, recorder: Recorder
) -> None:
    discovery_id = peers.daemons["a"].create_id()
    assert final_answer(peers, recorder, "b", discovery_id, NODES[0]) == (NODES[0],)
    assert final_answer(peers, recorder, "c", discovery_id, NODES[1]) == NODES[:2]
    for daemon in peers.daemons.values():
        at_last(partial(has_copy, daemon, discovery_id, NODES[:2]))
    for proxy in peers.proxies.values():
        proxy.spoil(HALF_OPEN)
    with ThreadPoolExecutor(4) as pool:
        joining = [
            pool.submit(recorder.register, peers.daemons[name], discovery_id, f"joined-{name}:4001") for name in NAMES
        ]
        seed = pool.submit(recorder.register, peers.daemons["b"], discovery_id, NODES[0])
        for name, each in zip(NAMES, joining, strict=True):
            assert each.result() == (*NODES[:2], f"joined-{name}:4001")
        assert seed.result() == 503, "the answer that granted it may still be on its way"
    for proxy in peers.proxies.values():
        proxy.heal()
    assert_all_are_listed(peers, recorder, discovery_id)


CHAOS: tuple[Fault | None, ...] = (CUT, HALF_OPEN, DEAF, MUTE, slow(0.3), slow(3), truncating(100), None, None, None)


def spoil_at_random(peers: ProxiedPeers, random: Random, over: Event) -> None:
    """Apply and end one fault after the other."""
    while not over.wait(random.uniform(0.1, 0.8)):
        proxy, fault = random.choice(list(peers.proxies.values())), random.choice(CHAOS)
        if fault is None:
            proxy.heal(late=random.random() < 0.5)
        else:
            proxy.spoil(fault)


def ask_at_random(peers: ProxiedPeers, recorder: Recorder, random: Random, ids: Sequence[str], over: Event) -> None:
    """Send six requests for each of some IDs; nothing is ever removed from the first of them."""
    addr = NODES[random.randrange(3)]
    for number, discovery_id in enumerate(ids):
        for _ in range(6):
            if over.wait(random.uniform(0, 0.2)):
                return
            daemon, what = peers.daemons[random.choice(NAMES)], random.random()
            if what < 0.7:
                recorder.register(daemon, discovery_id, addr)
            elif what < 0.85 or number == 0:
                recorder.read(daemon, discovery_id)
            else:
                recorder.remove(daemon, discovery_id, random.choice(NODES))


@pytest.mark.parametrize("seed", [1])
def test_all_answers_during_faults_could_have_come_from_one_list(
    peers: ProxiedPeers, recorder: Recorder, seed: int
) -> None:
    print(f"seed {seed}")
    random, over = Random(seed), Event()
    with ThreadPoolExecutor(13) as pool:
        groups = [[daemon.create_id() for _ in range(20)] for daemon in peers.daemons.values()]
        asking = [pool.submit(ask_at_random, peers, recorder, Random(random.random()), ids, over) for ids in groups * 4]
        spoiling = pool.submit(spoil_at_random, peers, Random(random.random()), over)
        over.wait(CHAOS_SECONDS)
        over.set()
        for each in (*asking, spoiling):
            each.result()
    peers.restore()
    for owner, ids in zip(NAMES, groups, strict=True):
        assert_all_are_listed(peers, recorder, ids[0], owner)


def new_nodes(peers: ProxiedPeers, recorder: Recorder, network: RqliteNetwork, random: Random) -> list[RecordedNode]:
    """Return three nodes of one ID, of mixed releases, that register at random daemons."""
    running = [daemon for daemon in peers.daemons.values() if daemon.process.poll() is None]
    discovery_id, apis = random.choice(running).create_id(), Random(random.random())
    return [
        RecordedNode(
            recorder,
            random.choice(VERSIONS),
            addr,
            discovery_id,
            lambda: peers.daemons[apis.choice(NAMES)].port,
            network,
        )
        for addr in NODES
    ]


def started_until_in_a_cluster(node: RecordedNode, calm: Event) -> Outcome:
    """Return the outcome of a node that its supervisor restarts whenever it exits. It must be in a
    cluster soon after `calm` is set.
    """

    def in_a_cluster() -> Outcome | None:
        outcome = node.run()
        return None if outcome.kind == "exit 1" else outcome

    return at_last(in_a_cluster, calm)


@pytest.mark.parametrize("seed", [1])
def test_fifty_clusters_form_while_daemons_are_killed_one_after_another(
    peers: ProxiedPeers, recorder: Recorder, seed: int
) -> None:
    print(f"seed {seed}")
    random, networks = Random(seed), [RqliteNetwork() for _ in range(50)]
    fresh = iter(networks)
    calm = Event()
    with ThreadPoolExecutor(3 * len(networks)) as pool:
        running: list[Future[Outcome]] = []

        def begin(count: int) -> None:
            for network in islice(fresh, count):
                nodes = new_nodes(peers, recorder, network, random)
                running.extend(pool.submit(started_until_in_a_cluster, node, calm) for node in nodes)

        try:
            for name in cycle(NAMES):
                began = monotonic()
                begin(2)
                peers.daemons[name].kill()
                begin(2)
                peers.start(name)
                if len(running) == 3 * len(networks):
                    break
                calm.wait(max(0.0, began + 1 - monotonic()))
        finally:
            calm.set()
        outcomes = [each.result() for each in running]
    assert sorted(outcome.kind for outcome in outcomes) == ["joined"] * 100 + ["leader"] * 50
    assert [sorted(map(len, network.clusters.values())) for network in networks] == [[3]] * 50
