"""Three real etcd members and three daemons that are killed and stopped: nodes form one cluster each,
and nothing that was answered is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from time import monotonic

import dns.message
import dns.query
import pytest
from dns.message import Message

from tests.integration.test_consul_clusters import Scene
from tests.support.dns import ZONE, answers, rcode
from tests.support.etcd.processes import NAMES, EtcdTrio, Events
from tests.support.etcd.real import ETCD
from tests.support.process import PATIENCE, DaemonProcess, Environment, Reply
from tests.support.proxied_peers import at_last
from tests.support.recorder import ANSWER_SECONDS, RecordedNode, Recorder
from tests.support.reference import Reference
from tests.support.rqlited import VERSIONS, Outcome, RqliteNetwork

pytestmark = [pytest.mark.process, pytest.mark.skipif(ETCD is None, reason="etcd is not installed")]

NODES = ("n1:4001", "n2:4001", "n3:4001")
OF_EACH_KIND = 25
CLIENTS = 6
FORMS_SECONDS = 240.0
# What the loss of a member may add, and what the work of a few requests is at most.
LOSS_SECONDS, WORK_SECONDS = 1.0, 3.0


@pytest.fixture
def trio(installed: Environment, tmp_path: Path) -> Iterator[EtcdTrio]:
    """Three members and three daemons, which must have no complaint after the test."""
    with EtcdTrio(installed, tmp_path, "--dns=127.0.0.1:0", f"--dns-zone={ZONE}", "--dns-serve-stale=60") as trio:
        yield trio
        assert trio.complaints == []


@pytest.fixture
def reference() -> Iterator[Reference]:
    """Tells limits of time from now on."""
    with Reference() as reference:
        yield reference


@pytest.fixture
def recorder(trio: EtcdTrio) -> Iterator[Recorder]:
    """Records the answers of clients, which must be in time, and could all have come from one list
    (P1, P2, P4).
    """
    recorder = Recorder(forwards=False)
    with Reference() as reference:
        yield recorder
        limit = reference.limit(ANSWER_SECONDS)
    print(recorder.summary(trio.all))
    assert recorder.late(limit) == []
    for discovery_id, verdict in recorder.verdicts(trio.all).items():
        assert verdict, f"{discovery_id}: {verdict.text}"


def some_daemon(trio: EtcdTrio, random: Random) -> DaemonProcess:
    return trio.daemons[random.choice(NAMES)]


def new_id(trio: EtcdTrio, random: Random) -> str:
    """Create an ID at any daemon that can."""

    def create() -> str | None:
        try:
            reply = some_daemon(trio, random).request("POST", "/")
        except OSError:
            return None
        return None if reply.status == 503 else str(reply.document["disco_id"])

    return at_last(create)


class LegacyCluster:
    """Three nodes of rqlite 3-6 that are restarted until they are in a cluster."""

    def __init__(self, trio: EtcdTrio, recorder: Recorder, seed: int) -> None:
        self._random = Random(seed)
        self._trio = trio
        self._recorder = recorder
        self.network = RqliteNetwork()
        self.id = ""

    def form(self) -> None:
        """Return once all nodes are in one cluster, and there never was another."""
        self.id = new_id(self._trio, self._random)
        with ThreadPoolExecutor(len(NODES)) as pool:
            outcomes = list(pool.map(self._run, NODES))
        assert sorted(outcome.kind for outcome in outcomes) == ["joined", "joined", "leader"], (self.id, outcomes)
        assert [len(members) for members in self.network.clusters.values()] == [3], self.id

    def _run(self, addr: str) -> Outcome:
        version, random = self._random.choice(VERSIONS), Random(self._random.random())
        node = RecordedNode(
            self._recorder, version, addr, self.id, lambda: some_daemon(self._trio, random).port, self.network
        )

        def run() -> Outcome | None:
            outcome = node.run()
            return None if outcome.kind == "exit 1" else outcome

        Event().wait(random.random())
        return at_last(run)


class ConsulCluster:
    """Three nodes of rqlite 7-10 whose requests go to a daemon at random."""

    def __init__(self, trio: EtcdTrio, seed: int) -> None:
        self._random = Random(seed)
        self._trio = trio
        self._seed = seed
        self.scene: Scene | None = None

    def form(self) -> None:
        """Return once all nodes are in one cluster, and there never was another."""
        key = f"cluster-{self._seed}" if self._seed % 2 else new_id(self._trio, self._random)
        self.scene = scene = Scene(self._trio.daemons["a"], self._seed, key=key)
        scene.start_all()
        end = monotonic() + FORMS_SECONDS
        while not scene.network.is_formed():
            assert monotonic() < end, (key, scene.logs)
            scene.service.http = some_daemon(self._trio, self._random).port
            scene.world.step()
        scene.assert_one_cluster()


def ask_at_random(trio: EtcdTrio, recorder: Recorder, random: Random, over: Event) -> set[str]:
    """Register, remove and read nodes under one new ID after another; return the IDs of which
    nothing was removed.
    """
    kept = set()
    while not over.is_set():
        discovery_id, removes = new_id(trio, random), random.random() < 0.5
        if not removes:
            kept.add(discovery_id)
        for _ in range(8):
            if over.wait(random.uniform(0, 0.1)):
                break
            daemon, addr, what = some_daemon(trio, random), random.choice(NODES), random.random()
            if what < 0.7:
                recorder.register(daemon, discovery_id, addr)
            elif what < 0.85 or not removes:
                recorder.read(daemon, discovery_id)
            else:
                recorder.remove(daemon, discovery_id, addr)
    return kept


@pytest.mark.parametrize("seed", [1])
def test_fifty_clusters_form_while_a_member_or_a_daemon_is_killed_or_stopped_every_second(
    trio: EtcdTrio, recorder: Recorder, seed: int
) -> None:
    print(f"seed {seed}")
    random, over = Random(seed), Event()
    legacy = [LegacyCluster(trio, recorder, number) for number in range(OF_EACH_KIND)]
    consul = [ConsulCluster(trio, number) for number in range(OF_EACH_KIND)]
    fresh = [each for pair in zip(legacy, consul, strict=True) for each in pair]
    with ThreadPoolExecutor(len(fresh) + CLIENTS) as pool:
        forming: list[Future[None]] = []
        asking = [pool.submit(ask_at_random, trio, recorder, Random(random.random()), over) for _ in range(CLIENTS)]
        while fresh or not all(each.done() for each in forming):
            began = monotonic()
            forming += [pool.submit(each.form) for each in fresh[:4]]
            del fresh[:4]
            print(f"{sum(each.done() for each in forming)} formed; {trio.strike(random, over.wait)}")
            over.wait(max(0.0, began + 1 - monotonic()))
        over.set()
        for each in forming:
            each.result()
        kept = set().union(*(each.result() for each in asking))
    for member in trio.etcd.members.values():
        member.wait_until_ready()
    for discovery_id in (*kept, *(cluster.id for cluster in legacy)):
        for daemon in trio.daemons.values():
            assert at_last(partial(lists_all, recorder, daemon, discovery_id))
    for cluster in consul:
        assert cluster.scene is not None
        cluster.scene.daemon = trio.daemons["b"]
        assert cluster.scene.recorded() is not None


def lists_all(recorder: Recorder, daemon: DaemonProcess, discovery_id: str) -> bool:
    """Report whether a daemon lists every acknowledged node; False while it cannot tell."""
    found = recorder.read(daemon, discovery_id)
    if not isinstance(found, tuple):
        return False
    assert recorder.acknowledged(discovery_id) <= set(found)
    return True


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_loss_of_a_member_is_not_noticed_for_longer_than_a_second(trio: EtcdTrio, how: str) -> None:
    leader = trio.etcd.leader()
    name, daemon = next(
        (member, daemon)
        for member, daemon in zip(trio.etcd.members, trio.daemons.values(), strict=True)
        if member != leader
    )
    discovery_id = daemon.create_id()
    trio.etcd.members[name].hang() if how == "stopped" else trio.etcd.members[name].kill()
    took = []
    with Reference() as reference:
        for number in range(50):
            began = monotonic()
            reply = daemon.request("POST", f"/{discovery_id}", {"addr": f"n{number}:4001"})
            assert reply.status == 200, reply
            assert len(daemon.nodes(discovery_id)) == number + 1
            took.append(monotonic() - began)
        limit = reference.limit(LOSS_SECONDS + WORK_SECONDS, WORK_SECONDS)
    print(f"longest {max(took):.2f} s, then {sorted(took)[-2]:.3f} s, limit {limit:.2f} s")
    assert max(took) < limit
    trio.etcd.members[name].resume() if how == "stopped" else trio.etcd.start(name)


def test_while_etcd_has_no_quorum_dns_is_answered_and_the_rest_gets_503_and_all_is_well_at_once_after_it(
    trio: EtcdTrio, reference: Reference
) -> None:
    daemon = trio.daemons["a"]
    discovery_id = daemon.create_id()
    node = {"addr": "10.0.0.1:4001", "raft_addr": "10.0.0.1:4002"}
    assert daemon.request("POST", f"/{discovery_id}", node).status == 200
    assert answers(look_up(daemon, discovery_id)) == ["10.0.0.1"]

    for name in ("e2", "e3"):
        trio.etcd.members[name].kill()
    with ThreadPoolExecutor() as pool:
        listing, registering, creating, reading = (
            pool.submit(timed, daemon, *each)
            for each in (
                ("GET", f"/{discovery_id}"),
                ("POST", f"/{discovery_id}", {"addr": "10.0.0.2:4001"}),
                ("POST", "/"),
                ("GET", f"/v1/kv/{discovery_id}/leader"),
            )
        )
        stale = pool.submit(look_up, daemon, discovery_id)
        absent = pool.submit(look_up, daemon, "unknown")
    for asking in (listing, registering, creating, reading):
        reply, seconds = asking.result()
        assert (reply.status, seconds < reference.limit(ANSWER_SECONDS)) == (503, True)
        if asking is not reading:
            assert reply.document["error"] == "store unavailable"
            assert "no etcd endpoint answers" in reply.document["reason"]
    assert answers(stale.result()) == ["10.0.0.1"]
    assert rcode(absent.result()) == "SERVFAIL"
    assert daemon.request("GET", "/readyz").status == 503
    assert daemon.request("GET", "/healthz").status == 200

    for name in ("e2", "e3"):
        trio.etcd.start(name, wait=False)
    for member in trio.etcd.members.values():
        member.wait_until_ready()
    at_last(lambda: trio.etcd.leader() is not None)
    began = monotonic()
    at_last(lambda: daemon.request("POST", f"/{discovery_id}", node).status == 200)
    print(f"a registration succeeds {monotonic() - began:.2f} s after there is a leader")
    assert monotonic() - began < reference.limit(LOSS_SECONDS + WORK_SECONDS, WORK_SECONDS)
    daemon.wait_for("etcd can be used again")
    assert daemon.request("GET", "/readyz?grant=1").status == 200


def timed(daemon: DaemonProcess, method: str, path: str, document: object = None) -> tuple[Reply, float]:
    """Return an answer, and how long it took."""
    began = monotonic()
    reply = daemon.request(method, path, document)
    return reply, monotonic() - began


def look_up(daemon: DaemonProcess, discovery_id: str) -> Message:
    """Return the answer to a query for addresses."""
    (address,) = daemon.wait_for("listening")["dns"]
    port = int(address.rpartition(":")[2])
    return dns.query.udp(dns.message.make_query(f"{discovery_id}.{ZONE}", "A"), "127.0.0.1", PATIENCE, port)


def test_an_event_stream_goes_on_while_its_member_hangs_and_after_a_lost_quorum(trio: EtcdTrio) -> None:
    watching, other = trio.daemons["a"], trio.daemons["b"]
    discovery_id = other.create_id()

    def register(addr: str) -> bool:
        return other.request("POST", f"/{discovery_id}", {"addr": addr}).status == 200

    with Events(watching, discovery_id) as events:
        assert register(NODES[0])
        events.wait_for(NODES[:1])
        trio.etcd.members["e1"].hang()
        began = monotonic()
        at_last(lambda: register(NODES[1]))
        events.wait_for(NODES[:2])
        print(f"an event arrives {monotonic() - began:.2f} s after its member hangs")
        trio.etcd.members["e1"].resume()
        for name in ("e2", "e3"):
            trio.etcd.members[name].kill()
        assert not register(NODES[2])
        for name in ("e2", "e3"):
            trio.etcd.start(name, wait=False)
        at_last(lambda: register(NODES[2]))
        began = monotonic()
        events.wait_for(NODES)
        print(f"an event arrives {monotonic() - began:.2f} s after a registration succeeds again")
