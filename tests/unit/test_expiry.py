"""IDs that never had a node are forgotten after a configured number of days, and nothing else ever
is.
"""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.errors import NoSuchID, StoreUnavailable
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Moment, Node, Put
from rqdisco.storage.compaction import compact
from tests.support.daemon import DAY, STATE, Daemon, answer_of, create_id, register, result, shown


@pytest.fixture
def daemon() -> Daemon:
    daemon = Daemon(unused_days=10)
    daemon.sweep.startService()
    return daemon


def live(clock: Clock, days: float) -> None:
    """Let this many days pass."""
    clock.pump([3600.0] * int(days * 24))


def live_until_it_is_marked(daemon: Daemon) -> None:
    """Advance until the expiry watermark is on its way to the disk, and not there yet."""
    daemon.threads.hold = True
    live(daemon.clock, 1 / 24)
    while not any(b"!expired/" in line for write in daemon.threads.held_writes() for line in write):
        if daemon.threads.held:
            daemon.threads.release()
        else:
            live(daemon.clock, 1 / 24)


def is_there(daemon: Daemon, discovery_id: str) -> bool:
    try:
        shown(daemon, discovery_id)
    except NoSuchID:
        return False
    return True


def seal_and_compact(daemon: Daemon) -> bytes:
    compact(daemon.disk, STATE, result(daemon.journal.seal()))
    return daemon.disk.read(STATE / "snapshot.json")


def test_an_id_that_never_had_a_node_is_forgotten_when_its_days_are_over(daemon: Daemon) -> None:
    unused, used = create_id(daemon), create_id(daemon)
    answer_of(register(daemon, used, "10.0.0.1:4001"))
    live(daemon.clock, 9.5)
    assert is_there(daemon, unused)
    live(daemon.clock, 1)
    assert not is_there(daemon, unused)
    assert shown(daemon, used) == ["10.0.0.1:4001"]
    assert daemon.size == 1


def test_a_daemon_forgets_nothing_by_default() -> None:
    daemon = Daemon()
    daemon.sweep.startService()
    unused = create_id(daemon)
    live(daemon.clock, 400)
    assert is_there(daemon, unused)


def test_an_id_whose_last_node_was_removed_is_kept_for_ever(daemon: Daemon) -> None:
    emptied = create_id(daemon)
    answer_of(register(daemon, emptied, "10.0.0.1:4001"))
    assert result(Deferred.fromCoroutine(daemon.directory.remove(emptied, "10.0.0.1:4001"))).removed
    live(daemon.clock, 40)
    assert shown(daemon, emptied) == []


def test_a_key_with_a_reported_leader_is_kept_for_ever(daemon: Daemon) -> None:
    put = Put(node=Node(addr="10.0.0.1:4001"), value="{}")
    assert result(Deferred.fromCoroutine(daemon.directory.report("rqlite/leader", put, None)))
    live(daemon.clock, 40)
    assert is_there(daemon, "rqlite/leader")


def test_an_imported_id_is_kept_for_ever(daemon: Daemon) -> None:
    brought = TransferredRecord(id="brought", created_at=1)
    assert result(Deferred.fromCoroutine(daemon.directory.adopt(brought, as_own=True)))
    live(daemon.clock, 40)
    assert is_there(daemon, "brought")


def test_a_jump_of_the_wall_clock_neither_forgets_nor_delays_anything(daemon: Daemon) -> None:
    unused = create_id(daemon)
    daemon.set_by = 400 * DAY
    live(daemon.clock, 9.5)
    assert is_there(daemon, unused)
    daemon.set_by = -400 * DAY
    younger = create_id(daemon)
    live(daemon.clock, 1)
    assert not is_there(daemon, unused)
    assert is_there(daemon, younger)


def test_days_continue_through_restarts_of_the_daemon(daemon: Daemon) -> None:
    unused = create_id(daemon)
    for _ in range(9):
        live(daemon.clock, 1)
        daemon = daemon.restart()
        daemon.sweep.startService()
        assert is_there(daemon, unused)
    live(daemon.clock, 2)
    assert not is_there(daemon, unused)


def test_the_time_while_the_host_was_off_does_not_count(daemon: Daemon) -> None:
    unused = create_id(daemon)
    live(daemon.clock, 5)
    daemon = daemon.restart(boot_id="boot-b")
    daemon.sweep.startService()
    live(daemon.clock, 4)
    assert is_there(daemon, unused)
    live(daemon.clock, 2)
    assert not is_there(daemon, unused)


def test_ids_from_before_expiry_was_enabled_have_all_their_days_from_then() -> None:
    daemon = Daemon()
    unused = create_id(daemon)
    live(daemon.clock, 50)
    daemon = daemon.restart(unused_days=10)
    daemon.sweep.startService()
    live(daemon.clock, 9)
    assert is_there(daemon, unused)
    live(daemon.clock, 2)
    assert not is_there(daemon, unused)


def test_a_forgotten_id_does_not_return_with_a_restart(daemon: Daemon) -> None:
    unused, used = create_id(daemon), create_id(daemon)
    answer_of(register(daemon, used, "10.0.0.1:4001"))
    live(daemon.clock, 12)
    again = daemon.restart(unused_days=None)
    assert not is_there(again, unused)
    assert shown(again, used) == ["10.0.0.1:4001"]


def test_a_snapshot_has_no_forgotten_ids(daemon: Daemon) -> None:
    unused = create_id(daemon)
    assert unused.encode() in seal_and_compact(daemon)
    live(daemon.clock, 12)
    create_id(daemon)
    assert unused.encode() not in seal_and_compact(daemon)
    assert not is_there(daemon.restart(), unused)


def test_a_new_id_is_younger_than_one_forgotten_before_it_whatever_the_wall_clock(daemon: Daemon) -> None:
    create_id(daemon)
    live(daemon.clock, 12)
    daemon.set_by = -100 * DAY
    again = daemon.restart()
    again.set_by = -100 * DAY
    again.sweep.startService()
    younger = create_id(again)
    live(again.clock, 1)
    assert is_there(again, younger)
    assert is_there(again.restart(), younger)


def test_a_node_that_registers_while_its_id_is_being_forgotten_keeps_it(daemon: Daemon) -> None:
    discovery_id = create_id(daemon)
    live_until_it_is_marked(daemon)
    asked = register(daemon, discovery_id, "10.0.0.1:4001")
    daemon.threads.hold = False
    daemon.threads.release_all()
    live(daemon.clock, 5)
    assert answer_of(asked) == shown(daemon, discovery_id) == ["10.0.0.1:4001"]
    assert shown(daemon.restart(), discovery_id) == ["10.0.0.1:4001"]


def test_a_registration_refused_by_the_disk_while_its_id_is_forgotten_finds_it_gone(daemon: Daemon) -> None:
    discovery_id = create_id(daemon)
    live_until_it_is_marked(daemon)
    asked = register(daemon, discovery_id, "10.0.0.1:4001")
    daemon.threads.release()
    live(daemon.clock, 1)
    daemon.disk.room = 0
    daemon.threads.hold = False
    daemon.threads.release_all()
    with pytest.raises(StoreUnavailable):
        answer_of(asked)
    live(daemon.clock, 1)
    assert not is_there(daemon, discovery_id)
    assert daemon.size == 0
    assert daemon.store.count_all() == 0


def test_nothing_is_forgotten_on_a_full_disk_until_there_is_room(daemon: Daemon) -> None:
    unused = create_id(daemon)
    live(daemon.clock, 9.9)
    daemon.disk.room = 0
    live(daemon.clock, 3)
    assert is_there(daemon, unused)
    daemon.disk.room = None
    live(daemon.clock, 1)
    assert not is_there(daemon, unused)


def test_forgotten_ids_make_room_for_others() -> None:
    daemon = Daemon(unused_days=10)
    daemon.sweep.startService()
    create_id(daemon)
    live(daemon.clock, 12)
    assert daemon.store.count_all() == 0
    assert daemon.store.node_counter is not None
    assert list(daemon.store.node_counter.owners()) == []


def test_a_subscriber_is_called_when_its_id_is_forgotten(daemon: Daemon) -> None:
    changed: list[bool] = []
    unused = create_id(daemon)
    daemon.directory.watch(unused, lambda: changed.append(is_there(daemon, unused)))
    live(daemon.clock, 12)
    assert changed == [False]


def test_many_ids_are_forgotten_a_few_at_a_time(daemon: Daemon) -> None:
    for _ in range(2500):
        create_id(daemon)
    live(daemon.clock, 9.9)
    sizes = set()
    for _ in range(10_000):
        daemon.clock.advance(10.0)
        sizes.add(daemon.size)
    assert sizes == {2500, 2000, 1500, 1000, 500, 0}


def test_ids_are_not_scanned_repeatedly_where_none_is_unused(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_of(register(daemon, create_id(daemon), "10.0.0.1:4001"))
    live(daemon.clock, 12)
    keys_after = Mock(wraps=daemon.store.keys_after)
    monkeypatch.setattr(daemon.store, "keys_after", keys_after)
    daemon.clock.pump([60.0] * 24 * 60)
    keys_after.assert_not_called()


def test_a_monotonic_clock_that_steps_back_ages_nothing_and_stops_no_day() -> None:
    version_ages = VersionAges("home", 1000_000)

    def old_after(seconds: range) -> int:
        for second in seconds:
            note = version_ages.advance(Moment(1, second * 1000), 7)
            if note is not None:
                version_ages.learn(note)
        return version_ages.newest_aged(Moment(1, seconds[-1] * 1000))

    assert old_after(range(5000, 5900)) == 0
    assert old_after(range(90)) == 0
    assert old_after(range(90, 120)) == 7


def test_the_recorded_version_ages_stay_small() -> None:
    version_ages = VersionAges("home", 1000_000)
    lengths = set()
    for second in range(5000):
        note = version_ages.advance(Moment(1, second * 1000), second)
        if note is not None:
            version_ages.learn(note)
            lengths.add(len(note.content))
        assert second - 1011 <= version_ages.newest_aged(Moment(1, second * 1000)) <= max(0, second - 1000)
    assert max(lengths) < 2500
