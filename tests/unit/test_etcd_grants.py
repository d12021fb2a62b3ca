"""Grants over etcd: one answer for each, whatever gets lost, and none that nobody heard of."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from rqdisco.backends.limits import Limits
from rqdisco.core.errors import Ownerless, StoreUnavailable, Undecided
from rqdisco.core.records import Node
from tests.support.daemon import give_up, result
from tests.support.etcd.asking import A, B, C, create, go, is_alone, listed, put_by, register, remove
from tests.support.etcd.daemon import Cluster, opened
from tests.support.etcd.faults import writes
from tests.support.etcd.memory import LOSE_ANSWER, LOSE_REQUEST, REFUSE, Fate

WINDOW = Limits().retry_window_ms / 1000


class Daemons:
    """Three daemons over one etcd, and an ID."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.cluster = Cluster()
        self.clock = self.cluster.clock
        self.first, self.second, self.third = (opened(self.cluster, seed=seed, limits=limits) for seed in (1, 2, 3))
        self.id = create(self.first)

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)

    def keys(self, kind: str) -> list[bytes]:
        """Return the keys of a kind, such as `windows`."""
        prefix = f"/rqdisco/v1/{kind}/".encode()
        return [key for key in self.cluster.model.keyspace.current if key.startswith(prefix)]


@pytest.fixture
def daemons() -> Daemons:
    return Daemons()


@pytest.mark.parametrize("lost", [LOSE_ANSWER, LOSE_REQUEST, Fate(arrives=(0.0, 3.0), answered=None, breaks=0.0)])
def test_a_node_is_granted_once_although_an_answer_of_etcd_was_lost(daemons: Daemons, lost: Fate) -> None:
    daemons.first.transport.plan = writes(lost)
    registering = register(daemons.first, daemons.id, A)
    daemons.wait(4)
    assert is_alone(registering)
    assert not is_alone(register(daemons.second, daemons.id, B))
    assert listed(daemons.third, daemons.id) == [A, B]


def test_a_claim_is_won_once_although_an_answer_of_etcd_was_lost(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(LOSE_ANSWER, LOSE_ANSWER)
    claiming = daemons.first.directory.claim("orders", put_by(A), "10.0.0.1")
    asking = Deferred.fromCoroutine(claiming)
    daemons.wait(1)
    assert result(asking).won
    assert not go(daemons.second.directory.claim("orders", put_by(B), "10.0.0.2")).won


def test_a_copy_that_arrives_after_the_lease_of_its_grant_changes_nothing(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(arrives=(20.0,), answered=None, breaks=0.0), then=REFUSE)
    registering = register(daemons.first, daemons.id, A)
    daemons.wait(5)
    with pytest.raises(StoreUnavailable):
        result(registering)
    assert is_alone(register(daemons.second, daemons.id, B))
    result(remove(daemons.second, daemons.id, B))
    daemons.wait(40)
    assert listed(daemons.third, daemons.id) == []
    daemons.first.transport.plan = writes()
    daemons.wait(1)
    assert is_alone(register(daemons.third, daemons.id, C)), "and nobody else was granted"


def test_a_grant_is_revoked_if_its_client_hung_up_before_it_was_answered(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(arrives=(0.5,)))
    give_up(register(daemons.first, daemons.id, A))
    daemons.wait(1)
    assert listed(daemons.second, daemons.id) == []
    assert daemons.keys("windows") == daemons.keys("answers") == []
    assert is_alone(register(daemons.second, daemons.id, B))


def test_the_next_node_at_the_same_daemon_is_granted_and_not_sent_to_one_that_hung_up(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(arrives=(0.5,)), Fate(arrives=(0.5,)))
    gone, waiting = register(daemons.first, daemons.id, A), register(daemons.first, daemons.id, B)
    give_up(gone)
    daemons.wait(2)
    assert is_alone(waiting)
    assert listed(daemons.second, daemons.id) == [B]


def test_a_node_waits_no_longer_than_it_can_for_a_grant_that_cannot_be_revoked(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(arrives=(0.5,)), then=LOSE_REQUEST)
    gone, waiting = register(daemons.first, daemons.id, A), register(daemons.first, daemons.id, B)
    give_up(gone)
    daemons.wait(7)
    with pytest.raises(Undecided, match="is being revoked"):
        result(waiting)


def test_a_claim_is_revoked_if_its_client_hung_up_before_it_was_answered(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(arrives=(0.5,)))
    give_up(Deferred.fromCoroutine(daemons.first.directory.claim("orders", put_by(A), "10.0.0.1")))
    daemons.wait(1)
    assert go(daemons.second.directory.claim("orders", put_by(B), "10.0.0.2")).won


def test_a_grant_that_others_saw_stands_and_its_node_is_told_again_at_any_time(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(answered=0.5))
    asking = register(daemons.first, daemons.id, A)
    assert not is_alone(register(daemons.second, daemons.id, B))
    give_up(asking)
    daemons.wait(1)
    assert listed(daemons.third, daemons.id) == [A, B]
    daemons.wait(3600)
    assert is_alone(register(daemons.third, daemons.id, A)), "it has not heard yet that it leads"
    assert not is_alone(register(daemons.third, daemons.id, B))
    daemons.wait(WINDOW + 2)
    assert not is_alone(register(daemons.second, daemons.id, A))


def test_a_grant_that_its_node_never_heard_of_passes_to_the_next_node_that_asks(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(answered=0.5))
    asking = register(daemons.first, daemons.id, A)
    assert not is_alone(register(daemons.second, daemons.id, B)), "it is sent to a node that will never come"
    give_up(asking)
    daemons.wait(1)
    assert is_alone(register(daemons.third, daemons.id, B))
    assert not is_alone(register(daemons.second, daemons.id, A)), "one is told and no other"
    assert is_alone(register(daemons.second, daemons.id, B)), "within the window, as after any grant"
    daemons.wait(WINDOW + 2)
    assert not is_alone(register(daemons.second, daemons.id, B))


def test_a_grant_passes_on_although_its_node_was_sent_to_the_list_meanwhile() -> None:
    daemons = Daemons(Limits(retry_window_ms=0))
    daemons.first.transport.plan = writes(Fate(answered=0.5))
    asking = register(daemons.first, daemons.id, A)
    assert not is_alone(register(daemons.second, daemons.id, B))
    assert not is_alone(register(daemons.second, daemons.id, A)), "without a window it is told once"
    give_up(asking)
    daemons.wait(1)
    assert is_alone(register(daemons.third, daemons.id, B))
    assert not is_alone(register(daemons.third, daemons.id, A))


def test_a_node_is_told_again_within_the_window_by_any_daemon(daemons: Daemons) -> None:
    assert is_alone(register(daemons.first, daemons.id, A))
    register(daemons.third, daemons.id, B)
    daemons.wait(WINDOW - 2)
    assert is_alone(register(daemons.second, daemons.id, A))
    daemons.wait(2)
    assert not is_alone(register(daemons.third, daemons.id, A)), "a repeated answer does not renew the window"


def test_the_window_starts_again_when_etcd_elects_a_leader(daemons: Daemons) -> None:
    register(daemons.first, daemons.id, A)
    register(daemons.third, daemons.id, B)
    daemons.wait(WINDOW - 5)
    daemons.cluster.model.elect()
    daemons.wait(WINDOW - 5)
    assert is_alone(register(daemons.second, daemons.id, A))
    daemons.wait(6)
    assert not is_alone(register(daemons.second, daemons.id, A))


def test_the_window_is_etcds_and_no_wall_clock_matters(daemons: Daemons) -> None:
    register(daemons.first, daemons.id, A)
    register(daemons.third, daemons.id, B)
    daemons.second.set_by = 10 * WINDOW
    assert is_alone(register(daemons.second, daemons.id, A))
    daemons.second.set_by = -10 * WINDOW
    daemons.wait(WINDOW + 1)
    assert not is_alone(register(daemons.second, daemons.id, A))


def test_without_a_window_a_node_is_told_once() -> None:
    cluster = Cluster()
    daemon = opened(cluster, limits=Limits(retry_window_ms=0))
    discovery_id = create(daemon)
    assert is_alone(register(daemon, discovery_id, A))
    assert not is_alone(register(daemon, discovery_id, B))
    assert not is_alone(register(daemon, discovery_id, A))


def test_a_removal_at_the_daemon_that_answered_is_immediate(daemons: Daemons) -> None:
    register(daemons.first, daemons.id, A)
    assert go(daemons.first.directory.remove(daemons.id, A)).removed
    assert is_alone(register(daemons.second, daemons.id, B))


def test_a_removal_elsewhere_waits_until_no_answer_can_be_on_its_way(daemons: Daemons) -> None:
    register(daemons.first, daemons.id, A)
    early = remove(daemons.second, daemons.id, A)
    daemons.wait(7)
    with pytest.raises(Undecided, match="may still be on its way"):
        result(early)
    later = remove(daemons.second, daemons.id, A)
    daemons.wait(6)
    assert result(later).removed
    assert listed(daemons.first, daemons.id) == []


def test_a_removal_waits_for_an_answer_that_is_under_way_and_then_that_grant_is_gone(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(answered=0.9))
    asking = register(daemons.first, daemons.id, A)
    removing = remove(daemons.second, daemons.id, A)
    give_up(asking)
    daemons.wait(2)
    assert result(removing).removed is False, "it was revoked meanwhile"
    assert listed(daemons.third, daemons.id) == []
    assert is_alone(register(daemons.third, daemons.id, B))


@pytest.mark.parametrize("again_at", ["first", "third"])
def test_a_removal_never_removes_a_registration_that_came_later(daemons: Daemons, again_at: str) -> None:
    register(daemons.first, daemons.id, B)
    register(daemons.first, daemons.id, A)
    daemons.second.transport.plan = writes(Fate(arrives=(0.8,)))
    removing = remove(daemons.second, daemons.id, A)
    register(getattr(daemons, again_at), daemons.id, A)
    daemons.wait(2)
    assert not result(removing).removed
    assert listed(daemons.third, daemons.id) == [B, A]


@pytest.mark.parametrize("lost", [LOSE_ANSWER, Fate(arrives=(0.0, 0.2), answered=None, breaks=0.0)])
def test_a_removal_whose_answer_was_lost_is_reported_as_done(daemons: Daemons, lost: Fate) -> None:
    register(daemons.first, daemons.id, B)
    register(daemons.first, daemons.id, A)
    daemons.second.transport.plan = writes(lost)
    removing = remove(daemons.second, daemons.id, A)
    daemons.wait(1)
    assert result(removing).removed
    assert listed(daemons.third, daemons.id) == [B]


def test_a_daemon_that_stood_still_while_a_grant_was_written_revokes_it(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(answered=0.5))
    registering = register(daemons.first, daemons.id, A)
    daemons.clock.advance(20)
    with pytest.raises(Undecided, match="etcd took too long"):
        result(registering)
    assert listed(daemons.second, daemons.id) == []
    assert is_alone(register(daemons.second, daemons.id, B))


def test_a_daemon_that_stops_revokes_what_it_has_not_answered(daemons: Daemons) -> None:
    daemons.first.transport.plan = writes(Fate(arrives=(0.5,)))
    give_up(register(daemons.first, daemons.id, A))
    stopping = daemons.first.stop()
    assert not stopping.called
    daemons.wait(1)
    assert stopping.called
    assert listed(daemons.second, daemons.id) == []


def test_a_grant_takes_another_lease_where_etcd_lost_the_first_one(daemons: Daemons) -> None:
    register(daemons.first, create(daemons.first), A)
    for lease in tuple(daemons.cluster.model.leases):
        daemons.cluster.model.revoke(lease, None)
    assert is_alone(register(daemons.first, daemons.id, A))
    assert listed(daemons.second, daemons.id) == [A]


def test_records_of_an_older_epoch_list_and_never_grant(daemons: Daemons) -> None:
    granted = create(daemons.first)
    register(daemons.first, granted, A)
    go(daemons.first.state.raise_epoch(0))
    later = opened(daemons.cluster, seed=9)
    for daemon in (daemons.first, daemons.second, later):
        with pytest.raises(Ownerless):
            result(register(daemon, daemons.id, B))
        assert listed(daemon, granted) == [A]
    assert not is_alone(register(later, granted, B))
    assert is_alone(register(later, create(later), C))


def test_nothing_is_granted_once_etcd_went_back_and_lists_are_still_answered(daemons: Daemons) -> None:
    register(daemons.first, daemons.id, A)
    saved = daemons.cluster.model.save()
    other = create(daemons.first)
    register(daemons.first, other, B)
    daemons.cluster.model.restore(saved)
    assert listed(daemons.first, daemons.id) == [A]
    (reason,) = daemons.first.went_back
    assert "went back from revision" in reason
    fresh = create(daemons.second)
    with pytest.raises(Undecided, match="rqdisco etcd restored"):
        result(register(daemons.first, fresh, C))
    assert not is_alone(register(daemons.first, daemons.id, C))
    assert listed(daemons.first, daemons.id) == [A, C]


def test_a_frozen_store_refuses_every_change_at_every_daemon_with_the_reason(daemons: Daemons) -> None:
    register(daemons.first, daemons.id, A)
    go(daemons.first.state.freeze("moved to http://elsewhere"))
    for daemon in (daemons.first, daemons.second):
        for change in (
            daemon.directory.create(),
            daemon.directory.register(daemons.id, Node(addr=B), None),
            daemon.directory.remove(daemons.id, A),
            daemon.directory.claim("orders", put_by(B), None),
            daemon.directory.report("orders", put_by(B), None),
        ):
            with pytest.raises(StoreUnavailable, match="moved to http://elsewhere"):
                go(change)
        assert listed(daemon, daemons.id) == [A]
    go(daemons.first.state.thaw())
    assert not is_alone(register(daemons.third, daemons.id, B))


def test_a_grant_is_not_answered_by_a_machine_that_was_suspended_meanwhile() -> None:
    cluster = Cluster()
    daemon = opened(cluster, seed=1)
    discovery_id = create(daemon)
    daemon.transport.plan = writes(Fate(answered=0.5))
    asking = register(daemon, discovery_id, A)
    # Its timers do not notice.
    daemon.suspended = 60.0
    cluster.clock.advance(0.5)
    with pytest.raises(StoreUnavailable, match="etcd took too long"):
        result(asking)
    assert listed(daemon, discovery_id) == []
