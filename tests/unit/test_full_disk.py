"""A disk that has no room at byte k, for every k, and one that fails in other ways."""

from __future__ import annotations

import errno
from random import Random

import pytest

from rqdisco.core.errors import DamagedState, StoreUnavailable
from rqdisco.storage.compaction import compact
from rqdisco.storage.snapshot import NAME, SnapshotHeader, encode_snapshot
from rqdisco.storage.wal.frames import encode_frame
from rqdisco.storage.wal.segments import segment_path
from tests.support.daemon import STATE, Daemon, create_id, register, result, shown


@pytest.mark.parametrize("fresh_segment", [False, True])
@pytest.mark.parametrize("room", range(0, 700, 13))
def test_a_refusal_changes_nothing_wherever_the_room_ends_and_later_writes_succeed(
    room: int, fresh_segment: bool
) -> None:
    daemon = Daemon(seed=room)
    discovery_id = create_id(daemon)
    result(register(daemon, discovery_id, "a:1"))
    if fresh_segment:
        daemon = daemon.restart()
    daemon.disk.room = room
    expected = ["a:1"]
    for addr in ("b:1", "c:1", "d:1"):
        try:
            result(register(daemon, discovery_id, addr))
            expected.append(addr)
        except StoreUnavailable:
            assert shown(daemon, discovery_id) == expected
    assert shown(daemon.restart(daemon.disk.crash(Random(room)), boot_id="boot-b"), discovery_id) == expected
    daemon.disk.room = None
    result(register(daemon, discovery_id, "z:1"))
    assert shown(daemon.restart(), discovery_id) == [*expected, "z:1"]
    assert daemon.failures == []


@pytest.mark.parametrize("operation", ["create 0000000001", "write 0000000001", "sync 0000000001", "sync_directory"])
def test_a_failing_disk_is_never_mistaken_for_a_full_one(operation: str) -> None:
    daemon = Daemon()

    def fail(name: str) -> None:
        if name.startswith(operation):
            raise OSError(errno.EIO, "Input/output error")

    daemon.disk.before = fail
    with pytest.raises(StoreUnavailable):
        create_id(daemon)
    assert len(daemon.failures) == 1
    assert "Input/output error" in daemon.failures[0]


@pytest.mark.parametrize("operation", ["truncate", "remove"])
def test_a_refusal_that_cannot_be_undone_ends_the_daemon(operation: str) -> None:
    daemon = Daemon()

    def fail(name: str) -> None:
        if name.startswith(operation):
            raise OSError(errno.EIO, "Input/output error")

    daemon.disk.before = fail
    daemon.disk.room = 60
    with pytest.raises(StoreUnavailable):
        create_id(daemon)
    assert len(daemon.failures) == 1


def test_a_renamed_segment_is_refused() -> None:
    daemon = Daemon(segment_bytes=1)
    create_id(daemon)
    first = daemon.disk.read(segment_path(STATE, 1))
    daemon.disk.replace(segment_path(STATE, 2), first)
    daemon.disk.remove(segment_path(STATE, 1))
    daemon.disk.replace(
        segment_path(STATE, 1), encode_frame([first.split(b"\n")[1].replace(b'"segment":1', b'"segment":9')], 0)[0]
    )
    with pytest.raises(DamagedState, match="this is segment 9"):
        daemon.restart()


def test_a_frame_without_a_record_is_refused_although_its_crc_is_right() -> None:
    daemon = Daemon()
    create_id(daemon)
    path = segment_path(STATE, 1)
    content = daemon.disk.read(path)
    previous = int(content[content.rindex(b"\n#") + 1 :].split(b" ")[2][:8], 16)
    daemon.disk.replace(path, content + encode_frame([b'{"id":"x","home":1}'], previous)[0])
    with pytest.raises(DamagedState, match=r"byte \d+: "):
        daemon.restart()


@pytest.mark.parametrize(
    "records",
    [
        [b'{"id":"b","home":"h","version":1}', b'{"id":"a","home":"h","version":1}'],
        [b'{"id":"a","home":"h","version":1}', b'{"id":"a","home":"h","version":2}'],
        [b'{"home":"h"}'],
    ],
)
def test_a_snapshot_out_of_order_or_without_ids_is_refused_although_its_crc_is_right(records: list[bytes]) -> None:
    daemon = Daemon()
    header = SnapshotHeader(segment=0, crc=0, boot=1, boot_id="b", last_version=7)
    daemon.disk.replace(STATE / NAME, b"".join(encode_snapshot(header, records)))
    with pytest.raises(DamagedState, match=r"snapshot\.json: line [23]: "):
        daemon.restart()


def test_a_large_old_snapshot_is_removed_and_the_one_before_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rqdisco.storage.compaction.SYNC_EVERY", 100)
    daemon = Daemon()
    padding = "x" * 250
    for number in range(4):
        discovery_id = create_id(daemon)
        result(register(daemon, discovery_id, f"{padding}{number}:1"))
        before = daemon.disk.read(STATE / NAME) if number else b""
        compact(daemon.disk, STATE, result(daemon.journal.seal()))
        if number:
            assert daemon.disk.read(STATE / "snapshot.previous.json") == before
    assert sorted(daemon.disk.names(STATE)) == ["identity.json", "journal", NAME, "snapshot.previous.json"]


@pytest.mark.parametrize("operation", ["create 0000000001", "sync_directory"])
def test_too_many_open_files_is_a_temporary_refusal(operation: str) -> None:
    daemon = Daemon()

    def fail(name: str) -> None:
        if name.startswith(operation):
            raise OSError(errno.EMFILE, "Too many open files")

    daemon.disk.before = fail
    with pytest.raises(StoreUnavailable) as refused:
        create_id(daemon)
    assert refused.value.reason == "too many open files"
    daemon.disk.before = lambda name: None
    discovery_id = create_id(daemon)
    assert daemon.failures == []
    assert shown(daemon.restart(), discovery_id) == []


def test_a_write_that_did_not_fit_leaves_no_torn_end_in_a_sealed_segment() -> None:
    for seed in range(30):
        daemon = Daemon()
        discovery_id = create_id(daemon)
        daemon.disk.room = 50
        with pytest.raises(StoreUnavailable):
            create_id(daemon)
        daemon.disk.room = None
        result(daemon.journal.seal())
        result(register(daemon, discovery_id, "a:1"))
        assert shown(daemon.restart(daemon.disk.crash(Random(seed))), discovery_id) == ["a:1"]


def test_a_late_compaction_changes_nothing() -> None:
    daemon = Daemon(segment_bytes=1)
    for _ in range(3):
        create_id(daemon)
    compact(daemon.disk, STATE, result(daemon.journal.seal()))
    before = daemon.disk.read(STATE / NAME)
    assert compact(daemon.disk, STATE, 1) == 0
    assert daemon.disk.read(STATE / NAME) == before
    assert len(daemon.restart().found.records) == 3


def test_writes_below_the_reserve_are_refused_with_a_reason_while_reads_continue_until_it_recovers() -> None:
    daemon = Daemon(reserve=10_000)
    discovery_id = create_id(daemon)
    result(register(daemon, discovery_id, "a:1"))
    daemon.disk.room = 9_999
    daemon.clock.advance(1)
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as refusal:
            result(register(daemon, discovery_id, "b:1"))
        assert "reserve" in refusal.value.reason
    assert daemon.journal.refused == refusal.value.reason
    assert shown(daemon, discovery_id) == ["a:1"]
    daemon.disk.room = 20_000
    result(register(daemon, discovery_id, "b:1"))
    assert daemon.journal.refused is None, "without a second's delay"
    assert shown(daemon.restart(), discovery_id) == ["a:1", "b:1"]
    assert daemon.failures == []


@pytest.mark.parametrize(("capacity", "reserve"), [(1 << 20, (1 << 20) // 100), (1 << 40, 64 << 20)])
def test_the_default_reserve_is_a_hundredth_of_a_small_disk_and_64_mib_of_a_large_one(
    capacity: int, reserve: int
) -> None:
    daemon = Daemon(reserve=None)
    daemon.disk.capacity, daemon.disk.room = capacity, reserve
    create_id(daemon)
    daemon.disk.room = reserve - 1
    daemon.clock.advance(1)
    with pytest.raises(StoreUnavailable):
        create_id(daemon)


def test_free_space_is_checked_once_a_second_at_most_and_never_without_a_reserve() -> None:
    daemon, other = Daemon(reserve=None), Daemon(reserve=0)
    for _ in range(10):
        create_id(daemon)
        create_id(other)
    assert (daemon.disk.looked, other.disk.looked) == (1, 0)
    daemon.clock.advance(1)
    create_id(daemon)
    assert daemon.disk.looked == 2


def test_the_write_itself_decides_where_free_space_is_unknown() -> None:
    daemon = Daemon(reserve=None)

    def fail(name: str) -> None:
        if name.startswith("space"):
            raise OSError(errno.ENOSYS, "Function not implemented")

    daemon.disk.before = fail
    create_id(daemon)
