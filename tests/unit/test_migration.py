"""`rqdisco migrate`: all IDs move to another service, and at no moment do both grant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from rqdisco.cli.app import App, Command, run
from rqdisco.cli.main import run_command_line
from rqdisco.cli.output import CommandOutput
from rqdisco.client import DiscoveryClient
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import Frozen, RequestRefused, StoreUnavailable
from rqdisco.core.records import Node
from tests.support.command import Stream
from tests.support.daemon import Daemon, result
from tests.support.etcd.daemon import Cluster, opened
from tests.support.gossip import DirectNetwork, trio
from tests.support.in_memory_http import InMemoryClient
from tests.support.prepared_daemons import over_etcd, over_peers

X = "10.0.0.9:4001"
CLAIMANT = decode_put(b'{"id":"n9","api_addr":"http://10.0.0.9:4001","addr":"10.0.0.9:4002"}')


class World:
    """Two services on one clock, and the command that moves the IDs of `sources` to `targets`.

    The command is killed once its request `dies_at` was processed and before it has the answer.
    `granted` are the addresses that each ID was granted to since its list was last empty.
    """

    def __init__(self, source: str, target: str) -> None:
        self.clock = Clock()
        self.networks: list[DirectNetwork] = []
        self.clusters: list[Cluster] = []
        self.daemons: dict[str, Any] = {}
        self._https: dict[str, InMemoryClient] = {}
        self.sources = self._service(source, "old", 0)
        self.targets = self._service(target, "new", 1)
        self.granted: dict[str, set[str]] = defaultdict(set)
        self.asked = 0
        self.dies_at: int | None = None
        self._next_addr = 0
        self._fill()

    def _service(self, kind: str, name: str, seed: int) -> list[str]:
        if kind == "single":
            daemon = Daemon(clock=self.clock, seed=seed)
            self.daemons[name] = daemon
            self._https[name] = InMemoryClient(daemon.apis.operators())
            return [name]
        if kind == "etcd":
            # Two daemons over one store; the command is told of one of them.
            cluster = Cluster(self.clock)
            self.clusters.append(cluster)
            for number, each in enumerate((name, f"{name}2")):
                self.daemons[each] = backend = opened(cluster, seed=10 * seed + number)
                self._https[each] = InMemoryClient(over_etcd(backend).router)
            return [name]
        network, daemons = trio(self.clock, f"{name[0]}{name[1]}", seed=seed)
        self.networks.append(network)
        for peer in daemons:
            self.daemons[peer.name] = peer
            self._https[peer.name] = InMemoryClient(over_peers(peer).router)
        return [peer.name for peer in daemons]

    def _fill(self) -> None:
        """Prepare an ID in each state."""
        old = self.directory(self.sources[0])
        self.ids = {state: self.get(old.create()).id for state in ("unused", "seeded", "emptied", "grown")}
        for state, addr in (("seeded", X), ("emptied", X), ("grown", X), ("grown", "10.0.0.8:4001")):
            if self.get(old.register(self.ids[state], Node(addr=addr), "192.0.2.9")).bootstrap:
                self.granted[self.ids[state]] = {addr}
        self.get(old.remove(self.ids["emptied"], X))
        self.granted[self.ids["emptied"]] = set()
        self.get(old.claim("claimed", CLAIMANT, "192.0.2.9"))
        self.get(old.report("led", CLAIMANT, "192.0.2.9"))
        self.granted["claimed"] = self.granted["led"] = {CLAIMANT.node.addr}
        self.ids |= {"claimed": "claimed", "led": "led"}
        self.pass_time(40)

    def directory(self, name: str) -> Any:
        return self.daemons[name].directory

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and deliver everything."""
        for _ in range(max(1, int(seconds * 10))):
            for http in self._https.values():
                http.flush()
            self.clock.advance(0.1 if seconds else 0)

    def get(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a call."""
        calling = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            if calling.called:
                break
            self.pass_time(0.1)
        return result(calling)

    def ask_for_grants(self, names: list[str]) -> set[str]:
        """Have a new node ask each daemon for a grant of each ID; return the daemons that granted."""
        names = [each for name in names for each in (name, f"{name}2") if each in self.daemons]
        asked = [(name, discovery_id) for name in names for discovery_id in self.ids.values()]
        return {name.rstrip("2") for name, discovery_id in asked if self._ask_for_grant(name, discovery_id)}

    def _ask_for_grant(self, name: str, discovery_id: str) -> bool:
        self._next_addr += 1
        ip = f"10.1.{self._next_addr // 256}.{self._next_addr % 256}"
        value = b'{"id":"%s","api_addr":"http://%s:4001","addr":"%s:4002"}' % ((ip.encode(),) * 3)
        put, directory, is_granted = decode_put(value), self.directory(name), False
        for asking in (
            directory.claim(discovery_id, put, "192.0.2.1"),
            directory.register(discovery_id, put.node, "192.0.2.1"),
        ):
            try:
                outcome = self.get(asking)
            except (RequestRefused, StoreUnavailable):
                continue
            is_granted = is_granted or getattr(outcome, "won", False) or getattr(outcome, "bootstrap", None) is not None
        if is_granted:
            self.granted[discovery_id].add(put.node.addr)
        return is_granted

    def check(self) -> None:
        """Assert that no ID has two nodes that were told to bootstrap."""
        assert {name: addrs for name, addrs in self.granted.items() if len(addrs) > 1} == {}

    def request(self, method: str, url: Any, **options: Any) -> Deferred[Any]:
        """Stand in for treq's client, as far as the client library uses it."""
        self.asked += 1
        host = url.host
        if self.dies_at is not None and self.asked > self.dies_at:
            return fail(error.ConnectionRefusedError())
        response = self._https[host].request(method, url, **options)
        if self.asked != self.dies_at:
            return response
        for _ in range(10):
            self.pass_time(0.1)
        response.addErrback(lambda failure: None)
        return fail(error.ConnectionLost())

    def migrate(self, *more: str, sources: list[str] | None = None, targets: list[str] | None = None) -> int:
        """Run the command; return its exit status."""
        arguments = ["migrate", *more]
        for option, names in (("--from", sources or self.sources), ("--to", targets or self.targets)):
            arguments += [part for name in names for part in (option, f"http://{name}:4000")]
        return self.command(*arguments)

    def command(self, *arguments: str) -> int:
        """Run a command; return its exit status."""
        self.asked = 0
        self.err, out = Stream(terminal=False), Stream(terminal=False)
        ended: list[int] = []
        http: Any = self

        def connect(url: str, token: str | None) -> DiscoveryClient:
            return DiscoveryClient(http, url, clock=self.clock, token=token)

        def run_command(command: Command, url: str) -> int:
            app = App(
                connect(url, None),
                url,
                self.clock,
                lambda: 0.5,
                bytes,
                CommandOutput(out, self.err),
                lambda: 0.0,
                connect,
            )
            Deferred.fromCoroutine(run(app, command)).addCallback(ended.append)
            for _ in range(1000):
                if ended:
                    break
                self.pass_time(0.1)
            return ended[0]

        return run_command_line(arguments, run_command)

    def frozen(self, names: list[str]) -> list[bool]:
        return [self.directory(name).frozen is not None for name in names]


KINDS = [("single", "single"), ("peers", "single"), ("single", "peers"), ("single", "etcd"), ("etcd", "single")]


def steps(kind: tuple[str, str], *before: Callable[[World], object], more: tuple[str, ...] = ()) -> int:
    """Return how many requests the command sends."""
    world = World(*kind)
    for each in before:
        each(world)
    assert world.migrate(*more) == 0, world.err.text
    return world.asked


@pytest.mark.parametrize("kind", KINDS, ids=" to ".join)
def test_all_ids_move_and_only_the_new_service_grants_from_then_on(kind: tuple[str, str]) -> None:
    world = World(*kind)
    assert world.migrate() == 0, world.err.text
    assert "moved 6 IDs" in world.err.text
    assert world.frozen(world.sources) == [True] * len(world.sources)
    assert world.frozen(world.targets) == [False] * len(world.targets)
    assert world.ask_for_grants(world.sources) == set()
    granting = world.ask_for_grants(world.targets)
    assert granting
    assert granting <= set(world.targets)
    world.check()
    assert world.granted[world.ids["unused"]]
    with pytest.raises(Frozen, match="frozen for a migration to http://n"):
        world.get(world.directory(world.sources[0]).create())


@pytest.mark.parametrize("kind", KINDS, ids=" to ".join)
def test_at_no_step_do_both_services_grant_and_a_repeated_command_finishes(
    kind: tuple[str, str],
) -> None:
    for step in range(1, steps(kind) + 1):
        world = World(*kind)
        world.dies_at = step
        world.migrate()
        world.dies_at = None
        if all(world.frozen(world.targets)):
            # In the meantime nodes ask both.
            old, new = world.ask_for_grants(world.sources), world.ask_for_grants(world.targets)
            assert not (old and new), f"step {step}"
        elif any(world.frozen(world.sources)):
            assert world.ask_for_grants(world.sources) == set()
            world.ask_for_grants(world.targets)
        world.check()
        assert world.migrate() == 0, (step, world.err.text)
        assert world.ask_for_grants(world.sources) == set()
        world.ask_for_grants(world.targets)
        world.check()


@pytest.mark.parametrize("kind", KINDS, ids=" to ".join)
def test_an_interrupted_migration_can_be_aborted_and_only_the_old_service_grants_then(
    kind: tuple[str, str],
) -> None:
    for step in range(1, steps(kind) + 1):
        world = World(*kind)
        world.dies_at = step
        world.migrate()
        world.dies_at = None
        if not any(world.frozen(world.sources + world.targets)):
            assert world.migrate("--abort") == 1
            assert "none of the old daemons is frozen" in world.err.text
            continue
        assert world.migrate("--abort") == 0, (step, world.err.text)
        assert world.frozen(world.sources) == [False] * len(world.sources)
        world.ask_for_grants(world.sources)
        if any(world.frozen(world.targets)):
            assert world.ask_for_grants(world.targets) == set()
        else:
            assert world.get(world.directory(world.targets[0]).count()) == 0
        world.check()


def test_an_interrupted_abort_of_a_finished_migration_leaves_one_service_that_grants() -> None:
    kind = ("peers", "peers")
    for step in range(1, steps(kind, World.migrate, more=("--abort",)) + 1):
        world = World(*kind)
        assert world.migrate() == 0
        world.dies_at = step
        world.migrate("--abort")
        world.dies_at = None
        old, new = world.ask_for_grants(world.sources), world.ask_for_grants(world.targets)
        assert not (old and new), f"step {step}"
        world.migrate("--abort")
        old, new = world.ask_for_grants(world.sources), world.ask_for_grants(world.targets)
        assert not (old and new), f"step {step}"
        world.check()


def test_a_migration_whose_target_has_decided_since_is_not_aborted() -> None:
    world = World("single", "single")
    assert world.migrate() == 0
    world.ask_for_grants(world.targets)
    assert world.migrate("--abort") == 1
    assert "used since" in world.err.text
    assert (world.frozen(world.sources), world.frozen(world.targets)) == ([True], [False])


def test_ids_move_back_into_a_fresh_daemon() -> None:
    world = World("single", "single")
    assert world.migrate() == 0
    world.ask_for_grants(world.targets)
    world._https["back"] = InMemoryClient(
        world.daemons.setdefault("back", Daemon(clock=world.clock, seed=2)).apis.operators()
    )
    assert world.migrate(sources=["new"], targets=["back"]) == 0, world.err.text
    assert world.ask_for_grants(["old", "new"]) == set()
    world.ask_for_grants(["back"])
    world.check()


def test_a_peer_that_is_not_named_or_not_reachable_stops_a_migration_before_anything_is_frozen() -> None:
    world = World("peers", "single")
    assert world.migrate(sources=world.sources[:1]) == 1
    assert f"has the peer {world.sources[1]}: name it too" in world.err.text
    world.daemons[world.sources[1]].stop()
    world.pass_time(20)
    assert world.migrate() == 1
    assert "cannot reach its peer" in world.err.text
    assert not any(world.frozen(world.sources + world.targets))


def test_a_daemon_cannot_be_moved_to_itself() -> None:
    world = World("single", "single")
    assert world.migrate(targets=["old"]) == 1
    assert "same records" in world.err.text


def test_a_source_is_moved_to_one_target_only() -> None:
    world = World("single", "single")
    world._https["third"] = InMemoryClient(
        world.daemons.setdefault("third", Daemon(clock=world.clock, seed=2)).apis.operators()
    )
    assert world.migrate() == 0
    assert world.migrate(targets=["third"]) == 1
    assert "frozen for a migration to http://new:4000" in world.err.text
    assert world.ask_for_grants(["third"]) == set()


def test_an_id_that_the_target_has_with_other_content_stops_the_migration() -> None:
    world = World("single", "single")
    world.get(world.directory("new").claim("led", decode_put(b'{"id":"m","addr":"10.0.0.7:4002"}'), None))
    assert world.migrate() == 1
    assert "refused led: led already exists with other content" in world.err.text
    assert (world.frozen(world.sources), world.frozen(world.targets)) == ([True], [True])
    assert world.migrate("--abort") == 0
    assert (world.frozen(world.sources), world.frozen(world.targets)) == ([False], [True])


def test_a_moved_service_is_not_touched_again_by_a_repeated_command() -> None:
    world = World("single", "single")
    assert world.migrate() == 0
    world.ask_for_grants(world.targets)
    assert world.migrate() == 0
    assert "moved before" in world.err.text
    assert world.frozen(world.targets) == [False]


def test_a_target_thawed_by_hand_before_it_had_all_ids_is_named() -> None:
    world = World("single", "single")
    world.get(world.directory("new").freeze("x"))
    world.get(world.directory("new").thaw())
    for step in range(1, 20):
        world.dies_at = step
        world.migrate()
        if world.frozen(["old"])[0]:
            break
    world.dies_at = None
    world.get(world.directory("new").thaw())
    assert world.migrate() == 1
    assert "was thawed before it had" in world.err.text


def test_freeze_and_thaw_are_commands_too() -> None:
    world = World("single", "single")
    url = ("--url", "http://old:4000")
    assert world.command("freeze", "the disk is replaced", *url) == 0
    assert world.directory("old").frozen == "the disk is replaced"
    assert world.command("freeze", "another", *url) == 1
    assert world.command("thaw", *url) == 2
    assert "two clusters" in world.err.text
    assert world.command("thaw", "--yes", *url) == 0
    assert world.directory("old").frozen is None


def test_a_retry_names_the_service_that_is_asked_again() -> None:
    world = World("single", "etcd")
    world.clusters[0].model.alarms["NOSPACE"] = 1
    assert world.migrate() == 1
    assert "http://new:4000: store unavailable: etcd's database is full" in world.err.text
    assert "; retrying for 30 s" in world.err.text
