"""IDs that never had a node are forgotten after as many days as somebody asked for, and nothing
else ever is.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core.errors import NoSuchID, StoreUnavailable
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Moment, Node, Put
from rqdisco.storage.compaction import compact
from rqdisco.storage.memory import Change
from tests.support.daemon import DAY, STATE, Daemon, mint, register, result, shown, told


@pytest.fixture
def daemon() -> Daemon:
    daemon = Daemon(unused_days=10)
    daemon.sweep.startService()
    return daemon


def live(clock: Clock, days: float) -> None:
    """So many days pass."""
    clock.pump([3600.0] * int(days * 24))


def live_until_it_is_marked(daemon: Daemon) -> None:
    """What says that IDs are gone is on its way to the disk, and not there yet."""

    def noticed(changes: Sequence[Change], _: bool) -> tuple[Change, ...]:
        daemon.threads.hold = daemon.threads.hold or any(each.key.startswith(b"!expired/") for each in changes)
        return ()

    daemon.journal.on_writing = noticed
    while not daemon.threads.hold:
        live(daemon.clock, 1 / 24)


def is_there(daemon: Daemon, discovery_id: str) -> bool:
    try:
        shown(daemon, discovery_id)
    except NoSuchID:
        return False
    return True


def seal_and_fold(daemon: Daemon) -> bytes:
    compact(daemon.disk, STATE, result(daemon.journal.seal()))
    return daemon.disk.read(STATE / "snapshot.json")


def test_an_id_that_never_had_a_node_is_forgotten_when_its_days_are_over(daemon: Daemon) -> None:
    unused, used = mint(daemon), mint(daemon)
    told(register(daemon, used, "10.0.0.1:4001"))
    live(daemon.clock, 9.5)
    assert is_there(daemon, unused)
    live(daemon.clock, 1)
    assert not is_there(daemon, unused)
    assert shown(daemon, used) == ["10.0.0.1:4001"]
    assert daemon.directory.size == 1


def test_without_being_asked_to_a_daemon_forgets_nothing() -> None:
    daemon = Daemon()
    daemon.sweep.startService()
    unused = mint(daemon)
    live(daemon.clock, 400)
    assert is_there(daemon, unused)


def test_an_id_whose_last_node_was_removed_is_kept_for_ever(daemon: Daemon) -> None:
    emptied = mint(daemon)
    told(register(daemon, emptied, "10.0.0.1:4001"))
    assert result(Deferred.fromCoroutine(daemon.directory.remove(emptied, "10.0.0.1:4001"))).removed
    live(daemon.clock, 40)
    assert shown(daemon, emptied) == []


def test_a_key_that_a_leader_was_reported_under_is_kept_for_ever(daemon: Daemon) -> None:
    put = Put(node=Node(addr="10.0.0.1:4001"), value="{}")
    assert result(Deferred.fromCoroutine(daemon.directory.report("rqlite/leader", put, None)))
    live(daemon.clock, 40)
    assert is_there(daemon, "rqlite/leader")


def test_an_id_that_was_imported_is_kept_for_ever(daemon: Daemon) -> None:
    brought = TransferredRecord(id="brought", created_at=1)
    assert result(Deferred.fromCoroutine(daemon.directory.adopt(brought, as_own=True)))
    live(daemon.clock, 40)
    assert is_there(daemon, "brought")


def test_a_wall_clock_that_jumps_forgets_nothing_and_keeps_nothing_back(daemon: Daemon) -> None:
    unused = mint(daemon)
    daemon.set_by = 400 * DAY
    live(daemon.clock, 9.5)
    assert is_there(daemon, unused)
    daemon.set_by = -400 * DAY
    younger = mint(daemon)
    live(daemon.clock, 1)
    assert not is_there(daemon, unused)
    assert is_there(daemon, younger)


def test_days_go_on_through_restarts_of_the_daemon(daemon: Daemon) -> None:
    unused = mint(daemon)
    for _ in range(9):
        live(daemon.clock, 1)
        daemon = daemon.restart()
        daemon.sweep.startService()
        assert is_there(daemon, unused)
    live(daemon.clock, 2)
    assert not is_there(daemon, unused)


def test_the_time_for_which_the_machine_was_off_does_not_count(daemon: Daemon) -> None:
    unused = mint(daemon)
    live(daemon.clock, 5)
    daemon = daemon.restart(boot_id="boot-b")
    daemon.sweep.startService()
    live(daemon.clock, 4)
    assert is_there(daemon, unused)
    live(daemon.clock, 2)
    assert not is_there(daemon, unused)


def test_ids_from_before_it_was_switched_on_have_all_their_days_from_then() -> None:
    daemon = Daemon()
    unused = mint(daemon)
    live(daemon.clock, 50)
    daemon = daemon.restart(unused_days=10)
    daemon.sweep.startService()
    live(daemon.clock, 9)
    assert is_there(daemon, unused)
    live(daemon.clock, 2)
    assert not is_there(daemon, unused)


def test_what_was_forgotten_does_not_come_back_with_a_restart(daemon: Daemon) -> None:
    unused, used = mint(daemon), mint(daemon)
    told(register(daemon, used, "10.0.0.1:4001"))
    live(daemon.clock, 12)
    again = daemon.restart(unused_days=None)
    assert not is_there(again, unused)
    assert shown(again, used) == ["10.0.0.1:4001"]


def test_a_snapshot_has_nothing_of_what_was_forgotten(daemon: Daemon) -> None:
    unused = mint(daemon)
    assert unused.encode() in seal_and_fold(daemon)
    live(daemon.clock, 12)
    mint(daemon)
    assert unused.encode() not in seal_and_fold(daemon)
    assert not is_there(daemon.restart(), unused)


def test_an_id_is_younger_than_what_was_forgotten_before_it_whatever_the_wall_clock_says(daemon: Daemon) -> None:
    mint(daemon)
    live(daemon.clock, 12)
    daemon.set_by = -100 * DAY
    again = daemon.restart()
    again.set_by = -100 * DAY
    again.sweep.startService()
    younger = mint(again)
    live(again.clock, 1)
    assert is_there(again, younger)
    assert is_there(again.restart(), younger)


def test_a_node_that_registers_while_its_id_is_being_forgotten_keeps_it(daemon: Daemon) -> None:
    discovery_id = mint(daemon)
    live_until_it_is_marked(daemon)
    asked = register(daemon, discovery_id, "10.0.0.1:4001")
    daemon.threads.hold = False
    daemon.threads.release_all()
    live(daemon.clock, 5)
    assert told(asked) == shown(daemon, discovery_id) == ["10.0.0.1:4001"]
    assert shown(daemon.restart(), discovery_id) == ["10.0.0.1:4001"]


def test_a_node_whose_registration_the_disk_refuses_as_its_id_goes_finds_it_gone(daemon: Daemon) -> None:
    discovery_id = mint(daemon)
    live_until_it_is_marked(daemon)
    asked = register(daemon, discovery_id, "10.0.0.1:4001")
    daemon.threads.release()
    live(daemon.clock, 1)
    daemon.disk.room = 0
    daemon.threads.hold = False
    daemon.threads.release_all()
    with pytest.raises(StoreUnavailable):
        told(asked)
    live(daemon.clock, 1)
    assert not is_there(daemon, discovery_id)
    assert daemon.directory.size == 0
    assert daemon.store.count_all() == 0


def test_on_a_full_disk_nothing_is_forgotten_until_there_is_room(daemon: Daemon) -> None:
    unused = mint(daemon)
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
    mint(daemon)
    live(daemon.clock, 12)
    assert daemon.store.count_all() == 0
    assert daemon.store.node_counter is not None
    assert list(daemon.store.node_counter.owners()) == []


def test_who_watches_an_id_is_told_when_it_is_gone(daemon: Daemon) -> None:
    changed: list[bool] = []
    unused = mint(daemon)
    daemon.directory.watch(unused, lambda: changed.append(is_there(daemon, unused)))
    live(daemon.clock, 12)
    assert changed == [False]


def test_many_ids_are_forgotten_some_at_a_time(daemon: Daemon) -> None:
    for _ in range(2500):
        mint(daemon)
    live(daemon.clock, 9.9)
    sizes = set()
    for _ in range(10_000):
        daemon.clock.advance(10.0)
        sizes.add(daemon.directory.size)
    assert sizes == {2500, 2000, 1500, 1000, 500, 0}


def test_where_nothing_is_unused_ids_are_not_looked_through_over_and_over(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(register(daemon, mint(daemon), "10.0.0.1:4001"))
    live(daemon.clock, 12)
    looks: list[bool] = []
    keys_after = daemon.store.keys_after
    monkeypatch.setattr(daemon.store, "keys_after", lambda count: looks.append(True) or keys_after(count))
    daemon.clock.pump([60.0] * 24 * 60)
    assert looks == []


def test_a_monotonic_clock_that_is_put_back_makes_nothing_older_and_stops_no_day() -> None:
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


def test_the_calendar_stays_small() -> None:
    version_ages = VersionAges("home", 1000_000)
    lengths = set()
    for second in range(5000):
        note = version_ages.advance(Moment(1, second * 1000), second)
        if note is not None:
            version_ages.learn(note)
            lengths.add(len(note.content))
        assert second - 1011 <= version_ages.newest_aged(Moment(1, second * 1000)) <= max(0, second - 1000)
    assert max(lengths) < 2500
