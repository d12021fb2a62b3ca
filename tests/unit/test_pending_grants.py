"""An ID between a grant and its answer: who waits, what is shown, and what is undone."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from rqdisco.core.errors import StoreUnavailable
from tests.support.daemon import Daemon, answer_of, create_id, give_up, register, result, shown

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"


def test_a_lookup_never_shows_a_decision_made_before_a_grant_is_durable() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.threads.hold = True
    removing = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    granting = register(daemon, discovery_id, B)
    assert shown(daemon, discovery_id) == [A], "the removal is not on the disk"
    daemon.threads.release_all()
    assert result(removing).removed
    assert answer_of(granting) == [B]


def test_a_removal_removes_what_was_listed_when_it_arrived_and_nothing_newer() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    granting = register(daemon, discovery_id, A)
    removing = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    daemon.threads.release_all()
    assert answer_of(granting) == [A]
    assert not result(removing).removed
    daemon.threads.hold = False
    assert answer_of(register(daemon, discovery_id, B)) == [A, B], "nobody else is granted"


def test_a_removal_does_not_remove_a_node_that_is_just_being_granted_anew() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.clock.advance(31)
    daemon.threads.hold = True
    granting = register(daemon, discovery_id, A)
    removing = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    daemon.threads.release_all()
    assert answer_of(granting) == [A]
    assert not result(removing).removed


def test_a_removal_that_waited_for_a_revoked_grant_finds_its_target() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.clock.advance(31)
    daemon.threads.hold = True
    gone = register(daemon, discovery_id, A)
    removing = Deferred.fromCoroutine(daemon.directory.remove(discovery_id, A))
    give_up(gone)
    daemon.threads.release_all()
    assert result(removing).removed
    assert shown(daemon, discovery_id) == []


def test_a_grant_that_the_full_disk_will_not_revoke_keeps_everybody_waiting_until_it_does() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    gone = register(daemon, discovery_id, A)
    waiting = register(daemon, discovery_id, B)
    give_up(gone)
    daemon.threads.release()
    daemon.disk.room = 0
    daemon.threads.release_all()
    daemon.threads.hold = False
    with pytest.raises(StoreUnavailable):
        result(waiting)
    with pytest.raises(StoreUnavailable):
        result(register(daemon, discovery_id, C))
    with pytest.raises(StoreUnavailable):
        result(register(daemon, discovery_id, A))
    assert shown(daemon, discovery_id) == []
    daemon.disk.room = None
    assert answer_of(register(daemon, discovery_id, C)) == [C]
    assert answer_of(register(daemon, discovery_id, B)) == [C, B]


def test_an_unanswered_grant_after_a_failed_sync_keeps_nobody_waiting_for_ever() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    gone = register(daemon, discovery_id, A)
    give_up(gone)
    daemon.threads.release()
    daemon.disk.broken_syncs = {daemon.disk.syncs + 1}
    daemon.threads.release_all()
    daemon.threads.hold = False
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            result(register(daemon, discovery_id, B))


def test_requests_behind_a_revoked_grant_are_decided_one_at_a_time() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    gone, second, third = (register(daemon, discovery_id, addr) for addr in (A, B, C))
    give_up(gone)
    daemon.threads.release()
    daemon.threads.release()
    assert len(daemon.threads.held) == 1, "only the second one's grant is being written"
    give_up(second)
    daemon.threads.release_all()
    assert answer_of(third) == [C]


def test_an_error_while_a_grant_is_written_reaches_its_caller_and_blocks_nobody() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    put = daemon.store.put
    daemon.store.put = None  # type: ignore[assignment,method-assign]
    with pytest.raises(TypeError):
        result(register(daemon, discovery_id, A))
    daemon.store.put = put  # type: ignore[method-assign]
    assert answer_of(register(daemon, discovery_id, B)) == [B]
