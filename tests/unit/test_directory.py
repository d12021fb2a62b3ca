"""The directory's promises to its APIs: one decision at a time, nothing shown before it is
durable.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from rqdisco.backends.limits import Limits
from rqdisco.core.errors import NoSuchID, Ownerless, StoreUnavailable, TooManyIDs
from rqdisco.core.records import Node
from rqdisco.storage.compaction import compact
from rqdisco.storage.identity import NAME
from tests.support.any_daemon import WALL_US
from tests.support.daemon import STATE, Daemon, answer_of, create_id, give_up, register, result, shown

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"


def call(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def test_nothing_is_answered_or_shown_before_it_is_durable() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    first = register(daemon, discovery_id, A)
    assert not first.called
    assert shown(daemon, discovery_id) == []
    daemon.threads.release()
    assert answer_of(first) == [A]
    assert shown(daemon, discovery_id) == [A]


def test_a_repeat_that_shows_something_not_yet_durable_waits_too() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    assert answer_of(register(daemon, discovery_id, A)) == [A]
    daemon.threads.hold = True
    joining = register(daemon, discovery_id, B)
    repeated = register(daemon, discovery_id, B)
    removed = call(daemon.directory.remove(discovery_id, C))
    assert not any(waiting.called for waiting in (joining, repeated, removed))
    daemon.threads.release_all()
    assert answer_of(joining) == answer_of(repeated) == [A, B]
    removal = result(removed)
    assert (len(removal.record.nodes), removal.removed) == (2, False)


def test_exactly_one_of_two_hundred_concurrent_nodes_is_alone() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    addresses = [f"10.0.{n // 100}.{n % 100}:4001" for n in range(200)]
    asked = [register(daemon, discovery_id, addr) for addr in addresses]
    daemon.threads.release_all()
    answers = [answer_of(deferred) for deferred in asked]
    assert [answer for answer in answers if len(answer) == 1] == [[addresses[0]]]
    assert all(addr in answer for addr, answer in zip(addresses, answers, strict=True))
    assert shown(daemon, discovery_id) == addresses


def test_requests_that_arrive_during_a_write_share_the_next() -> None:
    daemon = Daemon()
    ids = [create_id(daemon) for _ in range(10)]
    daemon.threads.hold = True
    for discovery_id in ids:
        register(daemon, discovery_id, A)
    daemon.threads.release()
    assert len(daemon.threads.held) == 1
    daemon.threads.release()
    assert not daemon.threads.held
    assert all(shown(daemon, discovery_id) == [A] for discovery_id in ids)


def test_a_grant_whose_client_is_gone_is_revoked_and_the_next_node_is_granted() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    gone, waiting = register(daemon, discovery_id, A), register(daemon, discovery_id, B)
    give_up(gone)
    daemon.threads.release()
    assert shown(daemon, discovery_id) == [], "nobody is sent to a node that may never come"
    daemon.threads.release_all()
    assert answer_of(waiting) == [B]
    assert shown(daemon.restart(), discovery_id) == [B]


def test_a_revoked_grant_restores_the_previous_list() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.clock.advance(31)
    before = daemon.store.newest(discovery_id)
    assert before is not None
    daemon.threads.hold = True
    gone = register(daemon, discovery_id, A)
    give_up(gone)
    daemon.threads.release_all()
    after = daemon.store.newest(discovery_id)
    assert after is not None
    assert (after.nodes, after.grant) == (before.nodes, before.grant)
    assert after.version > before.version


def test_a_node_that_hangs_up_while_it_joins_is_listed_all_the_same() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.threads.hold = True
    gone = register(daemon, discovery_id, B)
    give_up(gone)
    daemon.threads.release_all()
    assert shown(daemon, discovery_id) == [A, B]


def test_a_client_that_hangs_up_cancels_no_other() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.threads.hold = True
    gone, staying = register(daemon, discovery_id, B), register(daemon, discovery_id, C)
    give_up(gone)
    daemon.threads.release_all()
    assert answer_of(staying) == [A, B, C]


def test_a_client_that_waits_for_a_grant_and_hangs_up_changes_nothing() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.threads.hold = True
    seed, gone = register(daemon, discovery_id, A), register(daemon, discovery_id, B)
    give_up(gone)
    daemon.threads.release_all()
    assert answer_of(seed) == [A]
    assert shown(daemon, discovery_id) == [A]


def test_a_full_disk_refuses_and_leaves_everything_unchanged() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.disk.room = 100
    with pytest.raises(StoreUnavailable) as refusal:
        result(register(daemon, discovery_id, B))
    assert refusal.value.reason == "no space left on device"
    with pytest.raises(StoreUnavailable):
        result(call(daemon.directory.create()))
    assert shown(daemon, discovery_id) == [A]
    assert daemon.size == 1
    daemon.disk.room = None
    assert answer_of(register(daemon, discovery_id, C)) == [A, C]
    assert shown(daemon.restart(), discovery_id) == [A, C]
    assert daemon.failures == []


def test_a_grant_refused_by_a_full_disk_is_still_available() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.disk.room = 0
    with pytest.raises(StoreUnavailable):
        result(register(daemon, discovery_id, A))
    daemon.disk.room = None
    assert answer_of(register(daemon, discovery_id, B)) == [B]


def test_a_change_that_builds_on_a_refused_change_is_refused_with_it() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon.threads.hold = True
    daemon.disk.room = 10
    first, second = register(daemon, discovery_id, B), register(daemon, discovery_id, C)
    daemon.threads.release()
    for refused in (first, second):
        with pytest.raises(StoreUnavailable):
            result(refused)
    assert shown(daemon, discovery_id) == [A]


def test_nothing_is_acknowledged_after_a_failed_sync_and_the_process_must_end() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    daemon.disk.broken_syncs = {daemon.disk.syncs + 1}
    with pytest.raises(StoreUnavailable):
        result(register(daemon, discovery_id, A))
    assert len(daemon.failures) == 1
    with pytest.raises(StoreUnavailable):
        result(register(daemon, discovery_id, A))
    assert len(daemon.failures) == 1
    assert shown(daemon, discovery_id) == []
    assert shown(daemon.restart(), discovery_id) == [], "what the failed sync left in memory was never on the disk"


def test_a_seed_is_granted_again_after_the_daemon_was_killed_and_restarted() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon = daemon.restart()
    register(daemon, discovery_id, B)
    assert answer_of(register(daemon, discovery_id, A)) == [A]
    daemon.clock.advance(30)
    assert answer_of(register(daemon, discovery_id, A)) == [A, B]


def test_a_grant_does_not_outlive_a_reboot_of_the_machine() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    daemon = daemon.restart(boot_id="boot-b")
    register(daemon, discovery_id, B)
    assert answer_of(register(daemon, discovery_id, A)) == [A, B]


def test_versions_rise_even_when_the_wall_clock_steps_back() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    versions = []
    for addr in (A, B, C):
        register(daemon, discovery_id, addr)
        record = daemon.store.newest(discovery_id)
        assert record is not None
        versions.append(record.version)
        daemon.clock.rightNow -= 1000
    assert versions == sorted(set(versions))


def test_an_id_that_was_never_created_does_not_exist() -> None:
    daemon = Daemon()
    for coroutine in (
        daemon.directory.look_up("x"),
        daemon.directory.register("x", Node(addr=A), None),
        daemon.directory.remove("x", A),
    ):
        with pytest.raises(NoSuchID, match="x does not exist"):
            result(call(coroutine))


def test_no_more_ids_are_created_than_the_operator_allows() -> None:
    daemon = Daemon(limits=Limits(max_ids=2))
    create_id(daemon)
    create_id(daemon)
    with pytest.raises(TooManyIDs):
        create_id(daemon)


def test_a_restored_backup_lists_adds_and_removes_but_bootstraps_no_cluster() -> None:
    daemon = Daemon()
    empty, full = create_id(daemon), create_id(daemon)
    register(daemon, full, A)
    daemon.disk.remove(STATE / NAME)
    restored = daemon.restart()
    assert restored.owner != daemon.owner
    assert answer_of(register(restored, full, B)) == [A, B]
    with pytest.raises(Ownerless):
        result(register(restored, empty, A))
    result(call(restored.directory.remove(full, A)))
    with pytest.raises(Ownerless):
        result(register(restored, full, B))
    assert shown(restored.restart(), full) == [B]
    assert answer_of(register(restored, create_id(restored), A)) == [A]


def test_versions_rise_across_restarts_and_compactions_whatever_the_clock() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    versions = []
    for number in range(4):
        register(daemon, discovery_id, f"10.0.0.{number}:1")
        record = daemon.store.newest(discovery_id)
        assert record is not None
        versions.append(record.version)
        if number % 2:
            compact(daemon.disk, STATE, result(daemon.journal.seal()))
        daemon.clock.rightNow -= 1000
        daemon = daemon.restart()
        assert daemon.store.last_version == versions[-1]
    assert versions == sorted(set(versions))
    assert versions[0] >= WALL_US // 1000


@pytest.mark.parametrize("compacted", [False, True])
def test_each_boot_of_the_host_has_its_own_number_whatever_the_disk_holds(compacted: bool) -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    boots = []
    for boot_id in ("boot-a", "boot-b", "boot-b", "boot-c", "boot-a"):
        daemon = daemon.restart(boot_id=boot_id)
        daemon.clock.advance(60)
        register(daemon, discovery_id, A)
        record = daemon.store.newest(discovery_id)
        assert record is not None
        assert record.grant is not None
        boots.append(record.grant.boot)
        if compacted:
            compact(daemon.disk, STATE, result(daemon.journal.seal()))
    first, second, third = dict.fromkeys(boots)
    assert boots == [first, second, second, third, first]
    anew = Daemon(boot_id="boot-c")
    register(anew, discovery_id := create_id(anew), A)
    record = anew.store.newest(discovery_id)
    assert record is not None
    assert record.grant is not None
    assert record.grant.boot == third


def test_a_restored_id_grants_nobody_again_even_within_the_retry_window() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    register(daemon, discovery_id, B)
    daemon.disk.remove(STATE / NAME)
    with pytest.raises(Ownerless):
        result(register(daemon.restart(), discovery_id, A))


def test_a_subscriber_is_called_once_a_grant_is_shown_and_no_more_after_it_ends() -> None:
    daemon = Daemon()
    discovery_id, other = create_id(daemon), create_id(daemon)
    seen: list[list[str]] = []
    end = daemon.directory.watch(discovery_id, lambda: seen.append(shown(daemon, discovery_id)))
    register(daemon, discovery_id, A)
    assert seen[-1] == [A]
    count = len(seen)
    register(daemon, other, A)
    end()
    end()
    register(daemon, discovery_id, B)
    assert len(seen) == count
