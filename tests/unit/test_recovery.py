"""Recovery after a crash: complete, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.errors import CopiedState, DamagedState, StateInUse, StateUnusable, StoreUnavailable, UnknownFormat
from rqdisco.storage.compaction import compact
from rqdisco.storage.identity import NAME as IDENTITY
from rqdisco.storage.snapshot import NAME, PREVIOUS_NAME
from rqdisco.storage.state_directory import open_state
from rqdisco.storage.wal.frames import encode_frame
from rqdisco.storage.wal.segments import DIRECTORY, segment_path
from tests.support.daemon import STATE, Daemon, create_id, register, result, shown
from tests.support.disk import ModelDisk


class PowerCut(OSError):
    """The machine is off, and no operation on the disk succeeds any more."""


def power_cut_after(number: int) -> Callable[[str], None]:
    """Return a function to be called before each operation of a disk: the power fails after this
    many.
    """
    left = iter(range(number))

    def before(operation: str) -> None:
        if next(left, None) is None:
            raise PowerCut

    return before


def seal_and_compact(daemon: Daemon) -> None:
    compact(daemon.disk, STATE, result(daemon.journal.seal()))


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 60), small=st.booleans())
def test_every_acknowledged_registration_survives_any_crash(seed: int, cut: int, small: bool) -> None:
    random = Random(seed)
    daemon = Daemon(seed=seed, segment_bytes=600 if small else 1 << 20)
    ids = [create_id(daemon) for _ in range(3)]
    daemon.disk.before = power_cut_after(cut)
    acknowledged: dict[str, list[str]] = {discovery_id: [] for discovery_id in ids}
    try:
        for number in range(40):
            batch = [(random.choice(ids), f"10.{number}.0.{n}:4001") for n in range(random.randint(1, 5))]
            daemon.threads.hold = True
            asked = [(register(daemon, discovery_id, addr), discovery_id, addr) for discovery_id, addr in batch]
            daemon.threads.release_all()
            for deferred, discovery_id, addr in asked:
                if daemon.failures:
                    deferred.addErrback(lambda _: None)
                    continue
                result(deferred)
                acknowledged[discovery_id].append(addr)
            if daemon.failures:
                break
            if number % 7 == 6:
                seal_and_compact(daemon)
    except PowerCut:
        pass
    crashed = daemon.disk.crash(random)
    for _ in range(2):
        found = daemon.restart(crashed, boot_id="boot-b")
        for discovery_id in ids:
            there = shown(found, discovery_id)
            assert [addr for addr in there if addr in acknowledged[discovery_id]] == acknowledged[discovery_id]
        crashed = crashed.kill()
        result(register(found, ids[0], f"after-{_}:1"))
        acknowledged[ids[0]].append(f"after-{_}:1")


@pytest.fixture
def daemon() -> Daemon:
    """A daemon with a snapshot of two segments, one before it and two segments after it."""
    daemon = Daemon(segment_bytes=1)
    discovery_id = create_id(daemon)
    for number in range(2):
        register(daemon, discovery_id, f"10.0.0.{number}:4001")
        seal_and_compact(daemon)
    for number in range(2, 5):
        register(daemon, discovery_id, f"10.0.0.{number}:4001")
    return daemon


def last_segment(daemon: Daemon) -> Path:
    return segment_path(STATE, daemon.segments.sealed + 1)


def test_a_torn_end_is_cut_off_and_reported(daemon: Daemon) -> None:
    path = last_segment(daemon)
    whole = daemon.disk.read(path)
    daemon.disk.replace(path, whole[:-1])
    found = daemon.restart()
    assert found.found.cut is not None
    assert found.found.cut.path == str(path)
    assert found.disk.read(path) == whole[: found.found.cut.offset]
    assert found.restart().found.cut is None


def test_a_segment_without_a_complete_header_is_rewritten(daemon: Daemon) -> None:
    path = last_segment(daemon)
    daemon.disk.replace(path, b"")
    found = daemon.restart()
    (discovery_id,) = (key.decode() for key in found.found.records)
    result(register(found, discovery_id, "z:1"))
    assert shown(found.restart(), discovery_id)[-1] == "z:1"


@pytest.mark.parametrize("where", range(0, 700, 37))
def test_a_flipped_byte_in_an_acknowledged_frame_is_always_detected(daemon: Daemon, where: int) -> None:
    path = segment_path(STATE, daemon.segments.sealed)
    content = bytearray(daemon.disk.read(path))
    content[where % len(content)] ^= 0x20
    daemon.disk.replace(path, bytes(content))
    with pytest.raises(DamagedState, match=path.name):
        daemon.restart()


@pytest.mark.parametrize("where", range(0, 500, 23))
def test_a_flipped_byte_in_the_snapshot_is_always_detected(daemon: Daemon, where: int) -> None:
    content = bytearray(daemon.disk.read(STATE / NAME))
    content[where % len(content)] ^= 0x20
    daemon.disk.replace(STATE / NAME, bytes(content))
    with pytest.raises((DamagedState, UnknownFormat), match=r"snapshot\.json: "):
        daemon.restart()


@pytest.mark.parametrize("size", [0, 1, 50, 200, -2])
def test_a_truncated_snapshot_is_refused(daemon: Daemon, size: int) -> None:
    daemon.disk.replace(STATE / NAME, daemon.disk.read(STATE / NAME)[:size])
    with pytest.raises(DamagedState, match=PREVIOUS_NAME):
        daemon.restart()


def test_the_previous_snapshot_in_place_of_a_damaged_one_loses_nothing(daemon: Daemon) -> None:
    before = daemon.restart().found.records
    daemon.disk.replace(STATE / NAME, daemon.disk.read(STATE / PREVIOUS_NAME))
    assert daemon.restart().found.records == before


def test_a_missing_snapshot_is_detected(daemon: Daemon) -> None:
    daemon.disk.remove(STATE / NAME)
    with pytest.raises(DamagedState, match=r"snapshot\.json: missing"):
        daemon.restart()


def test_a_missing_segment_is_detected(daemon: Daemon) -> None:
    path = segment_path(STATE, daemon.segments.sealed)
    daemon.disk.remove(path)
    with pytest.raises(DamagedState, match=f"{path.name}: missing"):
        daemon.restart()


def test_a_segment_of_another_journal_is_detected(daemon: Daemon) -> None:
    other = Daemon(seed=99, segment_bytes=1)
    discovery_id = create_id(other)
    for number in range(9):
        register(other, discovery_id, f"10.9.9.{number}:4001")
    path = segment_path(STATE, daemon.segments.sealed)
    daemon.disk.replace(path, other.disk.read(path))
    with pytest.raises(DamagedState, match=path.name):
        daemon.restart()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (NAME, b'"version":5', b'"version":6'),
        (f"{DIRECTORY}/0000000003.journal", b'"version":5', b'"version":6'),
        (IDENTITY, b'"version":2', b'"version":3'),
    ],
)
def test_a_newer_format_is_refused_and_not_mistaken_for_damage(name: str, old: bytes, new: bytes) -> None:
    daemon = Daemon(segment_bytes=1)
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, "a:1")
    if name == NAME:
        seal_and_compact(daemon)
    register(daemon, discovery_id, "b:1")
    content = daemon.disk.read(STATE / name).replace(old, new, 1)
    if DIRECTORY in name:
        content = _reframed(content)
    daemon.disk.replace(STATE / name, content)
    with pytest.raises(UnknownFormat, match="newer than this release reads"):
        daemon.restart()


def _reframed(content: bytes) -> bytes:
    """Return the segment with the CRCs that its writer would have given it."""
    head, *rest = content.split(b"\n#")
    first, payload = head.split(b"\n", 1)
    frame, _ = encode_frame([payload], int(first.split(b" ")[1], 16))
    return frame + b"".join(b"#" + part for part in rest)


def test_two_daemons_do_not_share_a_directory() -> None:
    daemon = Daemon()
    with pytest.raises(StateInUse, match="another rqdisco"):
        open_state(daemon.disk, STATE, Random(1).randbytes)


def test_a_copied_directory_is_refused_until_its_identity_is_removed(daemon: Daemon) -> None:
    copy = ModelDisk()
    copy._numbers = 1000
    for path, inode in daemon.disk._seen.items():
        if inode is None:
            copy.make_directory(path)
        else:
            copy.replace(path, inode.seen)
    with pytest.raises(CopiedState, match=r"identity\.json: this state directory is a copy"):
        daemon.restart(copy)
    copy.remove(STATE / IDENTITY)
    assert daemon.restart(copy.kill()).found.records == daemon.restart().found.records


@pytest.mark.parametrize("digit", range(16))
def test_an_identity_with_one_digit_changed_is_refused(daemon: Daemon, digit: int) -> None:
    content = daemon.disk.read(STATE / IDENTITY)
    at = content.index(b'"incarnation":"') + 15 + digit
    other = b"0" if content[at : at + 1] != b"0" else b"1"
    daemon.disk.replace(STATE / IDENTITY, content[:at] + other + content[at + 1 :])
    with pytest.raises(DamagedState, match="CRC"):
        daemon.restart()


def test_a_missing_journal_is_detected(daemon: Daemon) -> None:
    for path in [path for path in daemon.disk._seen if DIRECTORY in str(path)]:
        del daemon.disk._seen[path]
    with pytest.raises(DamagedState, match="journal: missing"):
        daemon.restart()


def test_missing_segments_after_a_snapshot_are_detected_when_all_are_gone(daemon: Daemon) -> None:
    for path in [path for path in daemon.disk._seen if path.suffix == ".journal"]:
        del daemon.disk._seen[path]
    with pytest.raises(DamagedState, match="missing"):
        daemon.restart()
    daemon.disk.remove(STATE / IDENTITY)
    assert len(daemon.restart().found.records) == 1, "a backup of the snapshot alone"


@pytest.mark.parametrize("content", [b"", b"{}", b"x", b'{"format":"rqdisco identity","version":1}'])
def test_an_unreadable_identity_is_refused(daemon: Daemon, content: bytes) -> None:
    daemon.disk.replace(STATE / IDENTITY, content)
    with pytest.raises(DamagedState, match=r"identity\.json"):
        daemon.restart()


def test_an_unwritable_directory_is_refused_with_a_reason() -> None:
    disk = ModelDisk()
    disk.room = 0
    with pytest.raises(StateUnusable, match="No space left on device"):
        open_state(disk, STATE, Random(1).randbytes)


def test_a_daemon_starts_and_shows_its_records_on_a_full_disk(daemon: Daemon) -> None:
    before = daemon.restart().found.records
    daemon.disk.replace(last_segment(daemon), daemon.disk.read(last_segment(daemon)) + b"#torn")
    daemon.disk.room = 0
    assert daemon.restart().found.records == before


def test_a_compaction_that_does_not_fit_leaves_everything_in_place(daemon: Daemon) -> None:
    before = daemon.restart().found.records
    through = result(daemon.journal.seal())
    daemon.disk.room = 100
    with pytest.raises(OSError, match="No space left"):
        compact(daemon.disk, STATE, through)
    assert not daemon.disk.exists(STATE / f"{NAME}.new")
    daemon.disk.room = None
    assert daemon.restart().found.records == before


@pytest.mark.parametrize("seed", range(20))
def test_no_power_cut_loses_what_is_shown_after_a_kill(seed: int) -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    syncs: list[str] = []

    def killed_before_the_sync(operation: str) -> None:
        if operation.startswith("sync "):
            raise PowerCut

    daemon.disk.before = killed_before_the_sync
    register(daemon, discovery_id, "a:1").addErrback(lambda _: syncs.append("failed"))
    found = daemon.restart()
    assert shown(found, discovery_id) == ["a:1"]
    assert shown(found.restart(found.disk.crash(Random(seed))), discovery_id) == ["a:1"]


@given(seed=st.integers(0, 2**32), cut=st.integers(0, 30))
def test_a_crash_at_any_moment_of_a_compaction_loses_nothing(seed: int, cut: int) -> None:
    daemon = Daemon(segment_bytes=1)
    ids = [create_id(daemon) for _ in range(3)]
    for number, discovery_id in enumerate(ids * 2):
        register(daemon, discovery_id, f"10.0.0.{number}:4001")
        if number == 3:
            seal_and_compact(daemon)
    before = {discovery_id: shown(daemon, discovery_id) for discovery_id in ids}
    through = result(daemon.journal.seal())
    daemon.disk.before = power_cut_after(cut)
    try:
        compact(daemon.disk, STATE, through)
        result(register(daemon, ids[0], "between:1"))
        before[ids[0]].append("between:1")
        compact(daemon.disk, STATE, result(daemon.journal.seal()))
    except (PowerCut, StoreUnavailable):
        pass
    found = daemon.restart(daemon.disk.crash(Random(seed)))
    there = {discovery_id: shown(found, discovery_id) for discovery_id in ids}
    assert all(there[discovery_id][: len(before[discovery_id])] == before[discovery_id] for discovery_id in ids)
    result(register(found, ids[0], "z:1"))
    seal_and_compact(found)
    assert shown(found.restart(), ids[0])[-1] == "z:1"


def test_segments_are_kept_until_the_snapshot_after_next(daemon: Daemon) -> None:
    assert sorted(daemon.disk.names(STATE / DIRECTORY))[0] == "0000000002.journal"
    seal_and_compact(daemon)
    seal_and_compact_again = result(daemon.journal.seal())
    register(daemon, next(iter(daemon.restart().found.records)).decode(), "z:1")
    compact(daemon.disk, STATE, result(daemon.journal.seal()))
    assert int(min(daemon.disk.names(STATE / DIRECTORY))[:10]) == seal_and_compact_again
