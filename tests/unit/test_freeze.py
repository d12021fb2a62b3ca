"""A daemon that an operator froze: it answers lookups, changes nothing, and grants nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.calls import outcome_of_refusal
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import AlreadyFrozen, Frozen, StoreUnavailable, Undecided
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Node, RegistrationOutcome
from rqdisco.storage.compaction import compact
from tests.support.daemon import STATE, Daemon, answer_of, create_id, give_up, register, result, shown
from tests.support.etcd.daemon import Cluster, opened
from tests.support.gossip import DirectNetwork, GossipDaemon, settle, trio, wait
from tests.support.gossip import create_id as create_among_peers
from tests.support.gossip import register as register_among_peers
from tests.support.prepared_daemons import daemon_for

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
WHY = "frozen for a migration to http://new:4000"
PUT = decode_put(b'{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}')
# Every way to change a record.
CHANGES: dict[str, Callable[[Any, str], Coroutine[Any, Any, Any]]] = {
    "create": lambda directory, _: directory.create(),
    "register": lambda directory, name: directory.register(name, Node(addr=B), None),
    "repeat": lambda directory, name: directory.register(name, Node(addr=A), None),
    "remove": lambda directory, name: directory.remove(name, A),
    "claim": lambda directory, _: directory.claim("orders", PUT, None),
    "report": lambda directory, _: directory.report("orders", PUT, None),
    "clear": lambda directory, name: directory.clear_leader(name),
    "import": lambda directory, _: directory.adopt(TransferredRecord(id="brought", created_at=1), as_own=True),
}


def go(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a call."""
    return result(Deferred.fromCoroutine(coroutine))


@pytest.mark.parametrize("change", CHANGES)
def test_a_frozen_daemon_refuses_every_change_with_the_reason_and_after_a_crash_too(change: str) -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    assert answer_of(register(daemon, discovery_id, A)) == [A]
    go(daemon.directory.freeze(WHY))
    for each in (daemon, daemon.restart()):
        assert each.directory.frozen == WHY
        with pytest.raises(Frozen, match=WHY):
            go(CHANGES[change](each.directory, discovery_id))
        assert shown(each, discovery_id) == [A]
        daemon = each
    go(daemon.directory.thaw())
    assert daemon.restart().directory.frozen is None
    go(CHANGES[change](daemon.directory, discovery_id))


def test_a_daemon_stays_frozen_when_its_log_is_compacted() -> None:
    daemon = Daemon()
    go(daemon.directory.freeze(WHY))
    compact(daemon.disk, STATE, result(daemon.journal.seal()))
    assert daemon.restart().directory.frozen == WHY


def test_a_frozen_daemon_grants_a_claim_to_nobody_not_even_again() -> None:
    daemon = Daemon()
    assert go(daemon.directory.claim("orders", PUT, "192.0.2.1")).won
    go(daemon.directory.freeze(WHY))
    with pytest.raises(Frozen):
        go(daemon.directory.claim("orders", PUT, "192.0.2.1"))
    go(daemon.directory.thaw())
    assert go(daemon.directory.claim("orders", PUT, "192.0.2.1")).again


def test_a_freeze_is_answered_once_every_pending_grant_is_answered_or_revoked() -> None:
    daemon = Daemon()
    first, second, third = (create_id(daemon) for _ in range(3))
    daemon.threads.hold = True
    granting, gone = register(daemon, first, A), register(daemon, second, A)
    waiting = register(daemon, first, B)
    freezing = Deferred.fromCoroutine(daemon.directory.freeze(WHY))
    late = register(daemon, third, A)
    give_up(gone)
    order: list[str] = []

    def granted(outcome: RegistrationOutcome) -> RegistrationOutcome:
        order.append("granted")
        return outcome

    granting.addCallback(granted)
    freezing.addCallback(lambda _: order.append("frozen"))
    with pytest.raises(Frozen):
        result(late)
    daemon.threads.release()
    assert "frozen" not in order
    daemon.threads.release_all()
    assert order == ["granted", "frozen"]
    assert answer_of(granting) == [A]
    with pytest.raises(Frozen):
        result(waiting)
    daemon.threads.hold = False
    # The revocation is on the disk as well.
    after = daemon.restart()
    assert (shown(after, first), shown(after, second), shown(after, third)) == ([A], [], [])


def test_a_freeze_that_the_disk_refuses_freezes_nothing() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.disk.room = 0
    with pytest.raises(StoreUnavailable):
        go(daemon.directory.freeze(WHY))
    daemon.disk.room = 1 << 20
    daemon.clock.advance(60)
    assert daemon.directory.frozen is None
    assert answer_of(register(daemon, discovery_id, A)) == [A]
    assert daemon.restart().directory.frozen is None


@pytest.fixture(params=["alone", "with peers"])
def either(request: pytest.FixtureRequest) -> Daemon | GossipDaemon:
    return Daemon() if request.param == "alone" else trio(Clock())[1][0]


def write_held(daemon: Daemon | GossipDaemon, *, room: int | None = None) -> None:
    """Let the disk continue, with this room."""
    daemon.disk.room = room
    daemon.threads.hold = False
    daemon.threads.release_all()
    daemon.clock.advance(0.1)
    daemon.disk.room = None


def test_a_thaw_takes_effect_although_its_client_has_gone(either: Daemon | GossipDaemon) -> None:
    go(either.directory.freeze(WHY))
    either.threads.hold = True
    give_up(Deferred.fromCoroutine(either.directory.thaw()))
    write_held(either)
    assert either.directory.frozen is None
    assert either.restart().directory.frozen is None


def test_a_freeze_takes_effect_although_its_client_has_gone(either: Daemon | GossipDaemon) -> None:
    either.threads.hold = True
    give_up(Deferred.fromCoroutine(either.directory.freeze(WHY)))
    assert either.directory.frozen == WHY
    write_held(either)
    assert either.directory.frozen == WHY
    assert either.restart().directory.frozen == WHY


def test_a_freeze_that_the_disk_refuses_freezes_nothing_although_its_client_has_gone(
    either: Daemon | GossipDaemon,
) -> None:
    either.threads.hold = True
    give_up(Deferred.fromCoroutine(either.directory.freeze(WHY)))
    write_held(either, room=0)
    assert either.directory.frozen is None


def test_two_freezes_that_the_disk_refuses_together_freeze_nothing(either: Daemon | GossipDaemon) -> None:
    either.threads.hold = True
    creating: Deferred[Any] = Deferred.fromCoroutine(either.directory.create())
    freezing: list[Deferred[Any]] = [Deferred.fromCoroutine(either.directory.freeze(WHY)) for _ in range(2)]
    write_held(either, room=0)
    for refused in (creating, *freezing):
        with pytest.raises(StoreUnavailable):
            result(refused)
    assert either.directory.frozen is None


def test_a_freeze_holds_while_the_thaw_before_it_is_written(either: Daemon | GossipDaemon) -> None:
    go(either.directory.freeze(WHY))
    either.threads.hold = True
    thawing = Deferred.fromCoroutine(either.directory.thaw())
    freezing = Deferred.fromCoroutine(either.directory.freeze(WHY))
    either.threads.release()
    assert (thawing.called, freezing.called) == (True, False)
    assert either.directory.frozen == WHY
    write_held(either)
    result(freezing)
    assert either.directory.frozen == WHY
    assert either.restart().directory.frozen == WHY


def test_a_freeze_for_another_reason_is_refused_and_the_same_one_may_be_repeated() -> None:
    daemon = Daemon()
    for _ in range(2):
        go(daemon.directory.freeze(WHY))
    with pytest.raises(AlreadyFrozen, match=WHY):
        go(daemon.directory.freeze("frozen for something else"))
    assert daemon.directory.frozen == WHY


def test_a_migration_may_import_only_while_the_daemon_is_frozen_for_it() -> None:
    daemon = Daemon()
    brought = TransferredRecord(id="brought", created_at=1)
    with pytest.raises(Undecided, match="not frozen for the import"):
        go(daemon.directory.adopt(brought, as_own=True, during=WHY))
    go(daemon.directory.freeze(WHY))
    with pytest.raises(Frozen):
        go(daemon.directory.adopt(brought, as_own=True, during="another migration"))
    assert go(daemon.directory.adopt(brought, as_own=True, during=WHY))
    assert shown(daemon, "brought") == []


def test_unused_ids_of_a_frozen_daemon_do_not_expire() -> None:
    daemon = Daemon(unused_days=1)
    discovery_id = create_id(daemon)
    daemon.sweep.startService()
    daemon.clock.pump([60.0] * 10)
    go(daemon.directory.freeze(WHY))
    daemon.clock.pump([600.0] * 300)
    assert shown(daemon, discovery_id) == []


def test_nodes_and_operators_see_that_and_why_a_daemon_is_frozen() -> None:
    prepared = daemon_for("operator")
    about = {"store": prepared.daemon.owner, "exports": 2}
    assert json.loads(prepared.ask("GET", "/operator/freeze").body) == {"frozen": None, **about}
    assert prepared.ask("POST", "/operator/freeze", {"reason": WHY}).status == 200
    refused = prepared.ask("POST", "/{id}", {"addr": A})
    assert (refused.status, WHY.encode() in refused.body) == (503, True)
    assert prepared.ask("PUT", "/v1/kv/{id}/leader?cas=0", {"addr": A}).status == 503
    for path in ("/{id}", "/v1/kv/{id}/leader", "/operator/export", "/readyz"):
        assert prepared.ask("GET", path).status == 200
    assert prepared.ask("GET", "/readyz?grant=1").status == 503
    page = prepared.ask("GET", "/status", Accept="text/html").body.decode()
    assert f"changes here: {WHY}" in page
    assert "rqdisco_frozen 1.0" in prepared.ask("GET", "/metrics").body.decode()
    assert json.loads(prepared.ask("GET", "/operator/freeze").body) == {"frozen": WHY, **about}
    assert json.loads(prepared.ask("POST", "/operator/thaw").body) == {"frozen": None, **about}
    assert prepared.ask("POST", "/{id}", {"addr": A}).status == 200


@pytest.fixture
def peers() -> tuple[DirectNetwork, list[GossipDaemon]]:
    return trio(Clock())


def test_a_change_forwarded_to_a_frozen_owner_is_refused_with_its_reason_and_answered_by_nobody_else(
    peers: tuple[DirectNetwork, list[GossipDaemon]],
) -> None:
    network, (owner, other, _) = peers
    discovery_id = create_among_peers(owner)
    for addr in (A, B):
        register_among_peers(owner, discovery_id, addr)
    settle(network.clock, 2)
    go(owner.directory.freeze(WHY))
    for restarted in (False, True):
        if restarted:
            # It has not heard its peers yet, so other daemons would list on its behalf (R4, R8).
            network.split("c")
            owner = owner.restart()
            settle(network.clock, 3)
            assert not owner.is_ready
        for daemon in (owner, other):
            with pytest.raises(Frozen, match=WHY):
                wait(network.clock, daemon.directory.register(discovery_id, Node(addr=C), None))
        assert other.hints == 0


def test_a_frozen_daemon_answers_nothing_on_behalf_of_an_owner_that_is_away(
    peers: tuple[DirectNetwork, list[GossipDaemon]],
) -> None:
    network, (owner, other, third) = peers
    discovery_id = create_among_peers(owner)
    for addr in (A, B):
        register_among_peers(owner, discovery_id, addr)
    settle(network.clock, 2)
    network.split("a")
    settle(network.clock, 5)
    registered = wait(network.clock, third.directory.register(discovery_id, Node(addr=C), None))
    assert registered.on_behalf
    go(other.directory.freeze(WHY))
    with pytest.raises(Frozen, match=WHY):
        go(other.directory.register(discovery_id, Node(addr=C), None))


def test_what_was_answered_on_behalf_of_a_frozen_owner_still_reaches_it(
    peers: tuple[DirectNetwork, list[GossipDaemon]],
) -> None:
    network, (owner, other, _) = peers
    discovery_id = create_among_peers(owner)
    for addr in (A, B):
        register_among_peers(owner, discovery_id, addr)
    settle(network.clock, 2)
    network.split("a")
    settle(network.clock, 5)
    assert wait(network.clock, other.directory.register(discovery_id, Node(addr=C), None)).on_behalf
    go(owner.directory.freeze(WHY))
    network.heal()
    settle(network.clock, 10)
    assert other.hints == 0
    assert [node.addr for node in go(owner.directory.inspect(discovery_id)).nodes] == [A, B, C]
    assert owner.report.as_object()["frozen"] == WHY
    assert f"no changes here: {WHY}" in owner.report.notes()


def test_a_grant_that_waits_for_peers_is_refused_by_a_freeze_in_the_meantime(
    peers: tuple[DirectNetwork, list[GossipDaemon]],
) -> None:
    network, (owner, *_) = peers
    discovery_id = create_among_peers(owner)
    register_among_peers(owner, discovery_id, A)
    go(owner.directory.remove(discovery_id, A))
    network.swallowed.add(("a", "barrier"))
    asking = Deferred.fromCoroutine(owner.directory.register(discovery_id, Node(addr=B), None))
    settle(network.clock, 0.5)
    freezing = Deferred.fromCoroutine(owner.directory.freeze(WHY))
    assert not freezing.called
    settle(network.clock, 8)
    with pytest.raises(Undecided):
        result(asking)
    result(freezing)
    assert go(owner.directory.inspect(discovery_id)).nodes == ()


def test_a_frozen_daemon_takes_over_and_hands_over_no_ids(peers: tuple[DirectNetwork, list[GossipDaemon]]) -> None:
    network, (first, _, third) = peers
    go(first.directory.freeze(WHY))
    with pytest.raises(Frozen):
        go(first.drain("b"))
    third.stop()
    settle(network.clock, 10)
    with pytest.raises(Frozen):
        go(first.forget("c"))


def test_releases_that_do_not_know_frozen_daemons_take_the_outcome_for_a_refusal() -> None:
    outcome = outcome_of_refusal(Frozen(WHY))
    # They list on the owner's behalf for this name only.
    assert outcome.refusal not in (None, "NotReady")
    assert outcome.reason == WHY


@pytest.mark.parametrize("change", CHANGES)
def test_every_daemon_of_a_frozen_store_refuses_every_change_also_one_that_has_not_read_of_it(change: str) -> None:
    cluster = Cluster()
    first, second = opened(cluster, seed=1), opened(cluster, seed=2)
    discovery_id = go(first.directory.create()).id
    assert go(second.directory.register(discovery_id, Node(addr=A), None)).bootstrap == "granted"
    if change == "clear":
        assert go(second.directory.report(discovery_id, PUT, None))
    # The answer may be on its way for some seconds.
    freezing = Deferred.fromCoroutine(first.directory.freeze(WHY))
    assert not freezing.called
    cluster.clock.pump([0.25] * 60)
    with pytest.raises(StoreUnavailable, match="still being answered"):
        result(freezing)
    go(first.directory.freeze(WHY))
    for daemon in (second, first, opened(cluster, seed=3)):
        with pytest.raises(Frozen, match=WHY):
            go(CHANGES[change](daemon.directory, discovery_id))
        assert daemon.directory.frozen == WHY
        assert [node.addr for node in go(daemon.directory.look_up(discovery_id)).nodes] == [A]
    with pytest.raises(AlreadyFrozen):
        go(second.directory.freeze("frozen for something else"))
    brought = TransferredRecord(id="brought", created_at=1)
    assert go(second.directory.adopt(brought, as_own=True, during=WHY))
    go(second.directory.thaw())
    with pytest.raises(Undecided, match="not frozen for the import"):
        go(first.directory.adopt(TransferredRecord(id="late", created_at=1), as_own=True, during=WHY))
    if change != "import":
        go(CHANGES[change](first.directory, discovery_id))
