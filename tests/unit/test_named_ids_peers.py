"""IDs that an operator names, in a set of peers: one owner for each name, found while all agree."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rqdisco.backends.gossip.core.messages import NAMED_IDS
from rqdisco.backends.limits import Limits
from rqdisco.core.errors import IDExists, NoSuchID, StoreUnavailable, TooManyIDs, Undecided
from rqdisco.core.records import Node, Put, Record
from tests.support.daemon import result
from tests.support.disk import ModelDisk
from tests.support.gossip import (
    DirectLink,
    DirectNetwork,
    GossipDaemon,
    Three,
    go,
    listed,
    register,
    settle,
    trio,
    wait,
)
from tests.support.prepared_daemons import over_peers

NAMES = [f"orders-{number}" for number in range(12)]


def create(daemon: GossipDaemon, name: str) -> str:
    """Create a named ID; return its owner."""
    owner: str = go(daemon.directory.create_named(name)).owner
    return owner


def claim(daemon: GossipDaemon, name: str, addr: str) -> bool:
    won: bool = go(daemon.directory.claim(name, Put(node=Node(addr=addr), value=addr), None)).won
    return won


def owned_by(daemon: GossipDaemon) -> str:
    """Return a name whose ID this daemon would own."""
    members = daemon.members
    return next(name for name in NAMES if members.owner_of_name(name) == daemon.owner)


def test_a_name_created_at_any_daemon_is_seen_at_all_and_has_the_owner_that_all_agree_on(
    three: Three, clock: Clock
) -> None:
    _, daemons = three
    for number, name in enumerate(NAMES):
        creator = daemons[number % 3]
        assert create(creator, name) == creator.members.owner_of_name(name)
    settle(clock, 0.2)
    assert [[listed(daemon, name) for name in NAMES] for daemon in daemons] == [[[]] * len(NAMES)] * 3
    assert {go(daemons[0].directory.inspect(name)).owner for name in NAMES} == {daemon.owner for daemon in daemons}


def test_a_name_that_exists_is_refused_at_every_daemon_also_while_one_is_down(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    create(a, "orders")
    settle(clock, 0.2)
    for daemon in (a, b, c):
        with pytest.raises(IDExists, match="orders exists already"):
            create(daemon, "orders")
    network.split("c")
    settle(clock, 3)
    with pytest.raises(IDExists):
        create(a, "orders")


def test_two_daemons_asked_at_the_same_moment_create_a_name_once(three: Three, clock: Clock) -> None:
    _, daemons = three
    for name in NAMES:
        outcomes: list[Any] = []
        for daemon in daemons:
            # No disk is done before all were asked.
            daemon.threads.hold = True
        for daemon in daemons[:2]:
            Deferred.fromCoroutine(daemon.directory.create_named(name)).addBoth(outcomes.append)
        assert outcomes == []
        for daemon in daemons:
            daemon.threads.hold = False
            daemon.threads.release_all()
        settle(clock, 2)
        failures = [each.value for each in outcomes if isinstance(each, Failure)]
        assert (len(outcomes), len(failures)) == (2, 1)
        assert isinstance(failures[0], IDExists)


def test_no_name_is_created_while_a_daemon_does_not_answer_and_the_answer_names_it(three: Three, clock: Clock) -> None:
    network, daemons = three
    network.split("c")
    settle(clock, 3)
    for daemon, why in zip(daemons, ("c does not", "c does not", "a and b do not"), strict=True):
        with pytest.raises(Undecided, match=rf"^cannot create a name while {why} answer$"):
            wait(clock, daemon.directory.create_named("orders"), 1.5)
    network.heal()
    settle(clock, 3)
    create(daemons[0], "orders")


def test_the_answer_to_a_client_gives_the_reason(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    prepared = over_peers(a)
    created = prepared.ask("PUT", "/orders")
    assert (created.status, b'"disco_id": "orders", "nodes": []' in created.body) == (201, True)
    refused = prepared.ask("PUT", "/orders")
    assert (refused.status, refused.body) == (409, b'{"error": "orders exists already"}')
    network.split("c")
    settle(clock, 3)
    refused = prepared.ask("PUT", "/invoices")
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert refused.body == b'{"error": "cannot create a name while c does not answer"}'


def test_a_created_name_can_be_claimed_with_one_daemon_down_where_a_new_one_cannot(three: Three, clock: Clock) -> None:
    network, (a, b, c) = three
    names = [owned_by(daemon) for daemon in (a, b, c)]
    for name in names:
        create(a, name)
    settle(clock, 3)
    network.split("c")
    settle(clock, 3)
    with pytest.raises(Undecided):
        wait(clock, a.directory.claim("invoices", Put(node=Node(addr="n1:1"), value="n1:1"), None), 1.5)
    # Each at the daemon that owns the other one.
    for daemon, name in zip((b, a), names, strict=False):
        assert claim(daemon, name, "n1:1")
        assert not claim(a, name, "n2:1")
    with pytest.raises(Undecided):
        claim(a, names[2], "n1:1")


def test_the_first_node_under_a_created_name_bootstraps_and_the_others_join_it(three: Three, clock: Clock) -> None:
    _, (a, b, c) = three
    create(b, "orders")
    settle(clock, 0.2)
    assert register(c, "orders", "n1:1") == ["n1:1"]
    settle(clock, 0.2)
    assert register(a, "orders", "n2:1") == ["n1:1", "n2:1"]
    assert not claim(a, "orders", "n3:1")


class EarlierLink(DirectLink):
    """A link between daemons of which the one named b runs an earlier release."""

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        return super().greet(_earlier(hello), seconds).addCallback(_earlier)

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        return super().request(verb, _earlier(body), seconds).addCallback(_earlier)


class EarlierNetwork(DirectNetwork):
    def link(self, sender: str) -> Callable[[str], DirectLink]:
        return lambda url: EarlierLink(self, sender, url)


def _earlier(message: bytes) -> bytes:
    return message.replace(b',"%b"' % NAMED_IDS.encode(), b"")


def test_a_name_is_created_through_peers_of_this_release_only_and_the_answer_names_the_older_one(clock: Clock) -> None:
    network = EarlierNetwork(clock)
    a, b = GossipDaemon(network, "a"), GossipDaemon(network, "b", ["a"])
    settle(clock, 5)
    with pytest.raises(Undecided, match=r"^b must be upgraded first$"):
        create(a, owned_by(b))
    assert create(a, owned_by(a)) == a.owner
    a.stop()
    b.stop()


def test_the_limit_of_the_owner_counts_whichever_daemon_is_asked(clock: Clock) -> None:
    network, (a, b) = trio(clock, "ab", limits=Limits(max_ids=1))
    name, other = [name for name in NAMES if b.members.owner_of_name(name) == b.owner][:2]
    create(a, name)
    settle(clock, 0.2)
    with pytest.raises(TooManyIDs):
        create(a, other)
    for daemon in network.daemons.values():
        daemon.stop()


class SlowLink(DirectLink):
    """A link on which forwarded requests stay until they are released."""

    _network: SlowNetwork

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        if verb != "call":
            return super().request(verb, body, seconds)
        held: Deferred[bytes] = Deferred()
        deliver = super().request

        def release() -> None:
            deliver(verb, body, seconds).chainDeferred(held)

        self._network.held.append(release)
        return held


class SlowNetwork(DirectNetwork):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.held: list[Callable[[], None]] = []

    def link(self, sender: str) -> Callable[[str], DirectLink]:
        return lambda url: SlowLink(self, sender, url)


def test_a_name_asked_for_before_a_new_member_joined_is_not_created_by_its_former_owner(clock: Clock) -> None:
    network = SlowNetwork(clock)
    a, b = GossipDaemon(network, "a"), GossipDaemon(network, "b", ["a"])
    settle(clock, 5)
    names = [name for name in NAMES if a.members.owner_of_name(name) == b.owner]
    asking = {name: Deferred.fromCoroutine(a.directory.create_named(name)) for name in names}
    c = GossipDaemon(network, "c", ["a"])
    settle(clock, 3)
    taken = [name for name in names if c.members.owner_of_name(name) == c.owner]
    assert taken, "c is the owner of some of these names now"
    # c has not created them yet when the requests arrive at b.
    for release in network.held:
        release()
    creating = [Deferred.fromCoroutine(c.directory.create_named(name)) for name in taken]
    for name in names:
        if name in taken:
            with pytest.raises(Undecided):
                result(asking[name])
        else:
            assert result(asking[name]).owner == b.owner
    settle(clock, 2)
    assert {result(each).owner for each in creating} == {c.owner}
    for daemon in (a, b, c):
        assert {go(daemon.directory.inspect(name)).owner for name in taken} == {c.owner}
        daemon.stop()


def test_a_name_without_nodes_stays_where_unused_ids_expire(clock: Clock) -> None:
    network, (a, b) = trio(clock, "ab", unused_days=1)
    create(a, "orders")
    unnamed = go(a.directory.create()).id
    for _ in range(40):
        clock.advance(3600)
        settle(clock, 2)
    for daemon in (a, b):
        assert listed(daemon, "orders") == []
        with pytest.raises(NoSuchID):
            listed(daemon, unnamed)
    for daemon in network.daemons.values():
        daemon.stop()


def test_a_name_survives_the_restart_of_all_daemons(three: Three, clock: Clock) -> None:
    network, (a, _, _) = three
    create(a, "orders")
    settle(clock, 1)
    daemons = [daemon.restart() for daemon in list(network.daemons.values())]
    settle(clock, 5)
    for daemon in daemons:
        with pytest.raises(IDExists):
            result(Deferred.fromCoroutine(daemon.directory.create_named("orders")))
    assert register(daemons[1], "orders", "n1:1") == ["n1:1"]


@pytest.mark.parametrize("seed", range(20))
def test_a_name_is_never_created_twice_whatever_is_lost_while_daemons_ask_and_restart(clock: Clock, seed: int) -> None:
    random = Random(seed)
    network, daemons = trio(clock, seed=seed)
    created: dict[str, int] = dict.fromkeys(NAMES, 0)

    def count(record: Record) -> None:
        created[record.id] += 1

    for _ in range(60):
        fault = random.randrange(8)
        if fault == 0:
            network.split(random.choice("abc"))
        elif fault == 1:
            network.dropped = {(random.choice("abc"), random.choice(["push", "call", "digest"]))}
        elif fault == 2:
            network.swallowed = {(random.choice("abc"), random.choice(["push", "call", "digest"]))}
        elif fault == 3:
            daemons[random.randrange(3)].threads.hold = True
        elif fault == 4:
            at = random.randrange(3)
            daemons[at] = daemons[at].restart()
        else:
            network.heal()
            network.dropped, network.swallowed = set(), set()
        for daemon in random.sample(daemons, 2):
            asking = Deferred.fromCoroutine(daemon.directory.create_named(random.choice(NAMES)))
            asking.addCallbacks(count, lambda failure: failure.trap(IDExists, StoreUnavailable))
        settle(clock, random.choice([0.1, 0.5, 2]))
        for daemon in daemons:
            daemon.threads.hold = False
            daemon.threads.release_all()
    network.heal()
    network.dropped, network.swallowed = set(), set()
    settle(clock, 20)
    records = [{name: daemon.store.settled(name) for name in NAMES} for daemon in daemons]
    assert records[0] == records[1] == records[2]
    assert set(created.values()) <= {0, 1}
    assert any(created.values())
    assert all(records[0][name] is not None for name, times in created.items() if times)
    for daemon in daemons:
        daemon.stop()


def test_new_daemons_create_no_name_while_one_of_them_has_not_met_a_peer_that_may_know_it(clock: Clock) -> None:
    network = DirectNetwork(clock)
    a, b, c = (GossipDaemon(network, name, [seed]) for name, seed in ("ab", "bc", "ca"))
    settle(clock, 5)
    for name in NAMES:
        assert wait(clock, a.directory.claim(name, Put(node=Node(addr="n1:1"), value="n1:1"), None), 1).won
    # Both come back without their disks. Only a has b among its seeds.
    network.split("b")
    a, c = a.restart(ModelDisk()), c.restart(ModelDisk())
    settle(clock, 5)
    assert {a.members.owner_of_name(name) for name in NAMES} == {a.owner, c.owner}
    for name in NAMES:
        for daemon in (a, c):
            with pytest.raises(Undecided, match="peers disagree or are unreachable"):
                wait(clock, daemon.directory.claim(name, Put(node=Node(addr="n2:1"), value="n2:1"), None), 2)
    with pytest.raises(Undecided, match="cannot create a name while a has not met all its peers"):
        wait(clock, c.directory.create_named("other"), 2)
    assert [daemon.report.as_object()["agreed"] for daemon in (a, c)] == [False, False]
    assert c.report.notes() == ["a has not met all its peers"]
    network.heal()
    settle(clock, 5)
    for name in NAMES:
        assert listed(c, name) == listed(b, name)
    assert "has not met" not in " ".join(c.report.notes())
