"""Copies of a state directory, file by file and by hard links: which of two is the original, and
what each may do.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import zlib
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from rqdisco.core.errors import CopiedState, DamagedState, StateInUse
from rqdisco.storage.compaction import compact
from rqdisco.storage.files import Disk
from rqdisco.storage.identity import NAME
from rqdisco.storage.state_directory import LOCK, open_state
from rqdisco.storage.wal.recovery import Recovered, recover
from rqdisco.storage.wal.segments import SegmentWriter, segment_path

OWNERLESS_WARNING = "its IDs are then ownerless"


class Unlocked(Disk):
    """The disk of a process that ended before the next one began: both are this process."""

    def lock(self, path: Path) -> bool:
        path.touch()
        return True


class Run:
    """One run of a daemon on a directory, as far as its files are concerned."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.directory = directory
        self.owner, self.found = open_state(Unlocked(), directory, Random(seed).randbytes)
        self.segments = SegmentWriter(Unlocked(), directory, self.found.position, 1, "boot")
        self._version = self.found.last_version

    def put(self, *names: str, size: int = 0) -> None:
        """Put records of these names on the disk."""
        for name in names:
            self._version += 1
            self.segments.commit([line(name, self._version, "x" * size)])

    def compact(self) -> None:
        compact(Unlocked(), self.directory, self.segments.seal())


def line(name: str, version: int, value: str = "") -> bytes:
    return b'{"id":"%b","home":"%b","version":%d,"created_at":1,"nodes":[{"addr":"%b:1"}]}' % (
        name.encode(),
        b"0" * 16,
        version,
        value.encode() or b"h",
    )


def hard_linked(original: Path, to: Path) -> Path:
    """Return a copy as `cp -al` makes it."""
    shutil.copytree(original, to, copy_function=os.link)
    return to


def names(found: Recovered) -> list[str]:
    return sorted(key.decode() for key in found.records)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refusal(directory: Path) -> str:
    with pytest.raises(CopiedState) as refused:
        Run(directory)
    text = str(refused.value)
    assert "\n" not in text
    assert text.startswith(f"{directory / NAME}: ")
    return text


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A directory with two snapshots and a segment that is being written."""
    run = Run(tmp_path / "original")
    for name in ("a", "b", "c"):
        run.put(name)
        if name != "c":
            run.compact()
    return run.directory


def test_an_original_starts_beside_its_hard_linked_backup_and_names_the_linked_files(
    original: Path, tmp_path: Path, log: list[dict[str, Any]]
) -> None:
    owner = Run(original).owner
    assert not [event for event in log if "hard links" in str(event.get("log_format"))]
    hard_linked(original, tmp_path / "backup")
    run = Run(original)
    assert (run.owner, names(run.found)) == (owner, ["a", "b", "c"])
    (logged,) = [event for event in log if "several hard links" in str(event.get("log_format"))]
    assert logged["log_level"].name == "warn"
    assert "identity.json (2 names)" in logged["files"]
    assert "journal/0000000003.journal (2 names)" in logged["files"]
    hard_linked(original, tmp_path / "second")
    assert Run(original).owner == owner


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_hard_linked_backup_is_refused_and_distinguished_from_its_original(
    original: Path, tmp_path: Path, is_restarted: bool
) -> None:
    backup = hard_linked(original, tmp_path / "backup")
    if is_restarted:
        Run(original)
    text = refusal(backup)
    assert "this state directory is a hard-linked copy" in text
    assert "2 names" in text
    assert f"(inode {original.stat().st_ino})" in text
    assert OWNERLESS_WARNING in text


def test_a_hard_linked_backup_without_its_original_is_refused(original: Path, tmp_path: Path) -> None:
    """It is older than the last answers to nodes."""
    backup = hard_linked(original, tmp_path / "backup")
    shutil.rmtree(original)
    text = refusal(backup)
    assert "in another directory" in text
    assert OWNERLESS_WARNING in text
    backup.rename(original)
    refusal(original)


def test_files_that_were_moved_start_again_in_their_original_directory(original: Path, tmp_path: Path) -> None:
    owner, elsewhere = Run(original).owner, tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in original.iterdir():
        path.rename(elsewhere / path.name)
    assert "back" in refusal(elsewhere)
    for path in elsewhere.iterdir():
        path.rename(original / path.name)
    assert Run(original).owner == owner


def test_a_directory_moved_as_a_whole_is_no_copy(original: Path, tmp_path: Path) -> None:
    owner = Run(original).owner
    original.rename(tmp_path / "renamed")
    assert Run(tmp_path / "renamed").owner == owner


def test_a_copy_file_by_file_is_refused_with_the_consequence_for_its_ids(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "copy")
    text = refusal(tmp_path / "copy")
    assert "this state directory is a copy" in text
    assert OWNERLESS_WARNING in text


def test_an_identity_restored_from_a_copy_is_refused_unless_the_file_stayed_the_same(original: Path) -> None:
    owner, path = Run(original).owner, original / NAME
    content = path.read_bytes()
    path.write_bytes(content)
    assert Run(original).owner == owner
    kept = path.rename(original / "kept")
    path.write_bytes(content)
    assert "this file was put back from a copy" in refusal(original)
    kept.rename(path)
    assert Run(original).owner == owner


def first_version(directory: Path) -> None:
    """Write the directory's identity as releases before the check for hard links did."""
    path = directory / NAME
    known = msgspec.json.decode(path.read_bytes())
    del known["directory"]
    crc = zlib.crc32(f"{known['incarnation']} {known['inode']}".encode())
    path.write_bytes(msgspec.json.encode({**known, "version": 1, "crc": f"{crc:08x}"}))


def test_an_identity_of_the_first_version_is_read_and_a_hard_linked_backup_does_not_advise_removing_it(
    original: Path, tmp_path: Path
) -> None:
    first_version(original)
    owner, content = Run(original).owner, (original / NAME).read_bytes()
    backup = hard_linked(original, tmp_path / "backup")
    for each in (original, backup):
        text = refusal(each)
        assert "2 names" in text
        assert re.search(r"from the backup\b", text)
        assert "never from the original" in text
    (backup / NAME).unlink()
    assert Run(original).owner == owner
    assert (original / NAME).read_bytes() == content
    assert Run(backup, seed=2).owner != owner


@pytest.mark.parametrize("change", [{"directory": "1"}, {"directory": ""}, {"version": 1}])
def test_an_identity_with_an_altered_directory_is_damaged(original: Path, change: dict[str, Any]) -> None:
    path = original / NAME
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **change}))
    with pytest.raises(DamagedState, match=r"identity\.json: the CRC does not match"):
        Run(original)


def test_replacing_a_snapshot_leaves_a_hard_linked_backup_unchanged(tmp_path: Path) -> None:
    run = Run(tmp_path / "original")
    for name in ("a", "b"):
        run.put(name, size=9 << 20)
        run.compact()
    backup = hard_linked(run.directory, tmp_path / "backup")
    before = contents(backup)
    assert max(map(len, before.values())) > 8 << 20
    for name in ("c", "d"):
        run.put(name)
        run.compact()
    assert contents(backup) == before
    assert names(recover(Unlocked(), backup, is_backup=True)) == ["a", "b"]


def test_a_daemon_on_a_restored_hard_linked_backup_and_the_original_do_not_affect_each_other(
    tmp_path: Path,
) -> None:
    writing = Run(tmp_path / "original")
    writing.put("a", size=9 << 20)
    writing.compact()
    writing.put("b")
    backup = hard_linked(writing.directory, tmp_path / "backup")
    (backup / NAME).unlink()
    with segment_path(writing.directory, 2).open("ab") as being_written:
        being_written.write(b"#000000ff 01234567 ")
        being_written.flush()
        whole = contents(writing.directory)
        restored = Run(backup, seed=2)
        assert restored.found.cut is not None, "what the original was about to write is not in the backup"
        assert contents(writing.directory) == whole
        being_written.truncate(being_written.tell() - 19)
    restored.put("r")
    writing.put("c", "d")
    for name in ("s", "t"):
        restored.compact()
        restored.put(name)
    assert names(Run(backup, seed=2).found) == ["a", "b", "r", "s", "t"]
    assert names(Run(writing.directory).found) == ["a", "b", "c", "d"]


def test_a_lock_shared_with_a_hard_linked_copy_is_reported_as_such(original: Path, tmp_path: Path) -> None:
    backup = hard_linked(original, tmp_path / "backup")
    (backup / NAME).unlink()
    lock = os.open(original / LOCK, os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for each in (original, backup):
        with pytest.raises(StateInUse, match=r"hard-linked copy.*2 names"):
            open_state(Disk(), each, Random(1).randbytes)
    os.close(lock)
