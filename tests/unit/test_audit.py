"""The audit log: every line complete and in order, whatever happens to the file and the disk under
it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from rqdisco.telemetry.audit import MOST_BYTES, AuditLog
from rqdisco.telemetry.audit_file import AuditFile
from rqdisco.telemetry.events import Event, Events
from tests.support.any_daemon import WALL_US
from tests.support.daemon import Threads, result


class FullDisk:
    """The system's write, on a disk that has `room` for this many bytes, any number if that is
    None.
    """

    def __init__(self) -> None:
        self.room: int | None = None

    def __call__(self, fd: int, data: bytes | memoryview) -> int:
        if self.room is None:
            return os.write(fd, data)
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = os.write(fd, data[: self.room])
        self.room -= written
        return written


class Audited:
    """A running audit log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock, self.disk, self.threads = Clock(), FullDisk(), Threads()
        self.log = AuditLog(
            self.clock,
            AuditFile(path, self.disk),
            self.threads,
            lambda: WALL_US + int(self.clock.seconds() * 1_000_000),
            {"version": "1"},
        )
        self.events = Events(self.log)
        self.log.startService()

    def report(self, *ids: str) -> None:
        for each in ids:
            self.events.publish(Event(kind="mint", outcome="minted", id=each))

    def soon(self) -> None:
        self.clock.advance(0.05)

    def lines(self, path: Path | None = None) -> list[dict[str, Any]]:
        """Return all complete lines; anything else in the file is an error."""
        text = (path or self.path).read_bytes()
        assert text.endswith(b"\n") or not text
        return [msgspec.json.decode(line) for line in text.splitlines()]

    def ids(self, path: Path | None = None) -> list[str]:
        return [line["discovery_id"] for line in self.lines(path) if "discovery_id" in line]


@pytest.fixture
def audited(tmp_path: Path) -> Audited:
    return Audited(tmp_path / "audit")


def errors_of(log: list[dict[str, Any]]) -> list[str]:
    return [event["log_format"] for event in log if event["log_level"].name == "error"]


def test_a_line_has_the_event_and_its_time(audited: Audited) -> None:
    event = Event(
        kind="registration",
        outcome="refused",
        api="discovery",
        id="x",
        addr="a:1",
        client="10.0.0.1",
        token="ops",
        request="r-1",
        why="too many nodes",
        more={"more": 1},
    )
    audited.events.publish(event)
    audited.soon()
    assert audited.lines() == [
        {"time": "2026-11-18T11:06:40.000000Z", "event": "start", "outcome": "started", "version": "1"},
        {
            "time": "2026-11-18T11:06:40.000000Z",
            "event": "registration",
            "outcome": "refused",
            "api": "discovery",
            "discovery_id": "x",
            "addr": "a:1",
            "client": "10.0.0.1",
            "token": "ops",
            "request": "r-1",
            "why": "too many nodes",
            "more": 1,
        },
    ]


def test_a_request_that_changed_nothing_has_no_line(audited: Audited) -> None:
    audited.events.publish(Event(kind="leader report", outcome="reported", audited=False))
    audited.soon()
    assert [line["event"] for line in audited.lines()] == ["start"]


def test_nobody_waits_for_a_slow_disk_and_the_order_stays(audited: Audited) -> None:
    audited.threads.hold = True
    audited.report("a")
    audited.soon()
    audited.report("b", "c")
    audited.soon()
    assert len(audited.threads.held) == 1
    audited.threads.release()
    audited.report("d")
    audited.threads.hold = False
    audited.threads.release_all()
    audited.soon()
    assert audited.ids() == ["a", "b", "c", "d"]
    assert audited.log.written == 5


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_file_that_was_moved_or_removed_is_created_again(audited: Audited, tmp_path: Path, is_moved: bool) -> None:
    audited.report("a")
    audited.soon()
    if is_moved:
        audited.path.rename(tmp_path / "audit.1")
    else:
        audited.path.unlink()
    audited.report("b")
    audited.soon()
    assert audited.ids() == ["b"]
    assert not is_moved or audited.ids(tmp_path / "audit.1") == ["a"]


def test_a_hangup_closes_an_idle_file(audited: Audited, tmp_path: Path) -> None:
    audited.soon()
    audited.path.rename(tmp_path / "audit.1")
    audited.log.reopen()
    assert audited.path.read_bytes() == b""
    audited.report("a")
    audited.soon()
    assert audited.ids() == ["a"]


def test_lines_that_arrive_during_a_write_wait_for_the_next(audited: Audited) -> None:
    audited.threads.hold = True
    audited.soon()
    audited.report("a")
    audited.threads.release()
    assert not audited.threads.held
    audited.report("b")
    audited.soon()
    audited.threads.release_all()
    assert audited.ids() == ["a", "b"]


def test_a_hangup_during_a_write_loses_no_line(audited: Audited, tmp_path: Path) -> None:
    audited.threads.hold = True
    audited.report("a")
    audited.soon()
    audited.path.touch()
    audited.path.rename(tmp_path / "audit.1")
    audited.log.reopen()
    audited.report("b")
    audited.threads.hold = False
    audited.threads.release_all()
    audited.soon()
    assert audited.ids() == ["a", "b"]


def test_lines_that_others_appended_stay(audited: Audited) -> None:
    audited.path.write_bytes(b'{"event":"theirs"}\n')
    audited.soon()
    assert [line["event"] for line in audited.lines()] == ["theirs", "start"]


def test_a_full_disk_is_reported_once_and_no_line_is_lost_or_torn(
    audited: Audited, log: list[dict[str, Any]], logged_errors: list[dict[str, Any]]
) -> None:
    audited.soon()
    audited.disk.room = 30
    audited.report("a", "b")
    audited.soon()
    for each in "cde":
        audited.report(each)
        audited.clock.advance(1)
    assert errors_of(log) == ["audit log cannot be written: {why}"]
    assert audited.log.is_failing
    audited.disk.room = None
    audited.clock.advance(1)
    audited.soon()
    assert audited.ids() == ["a", "b", "c", "d", "e"]
    assert not audited.log.is_failing
    assert (audited.log.written, audited.log.lost) == (6, 0)
    logged_errors.clear()


def test_a_line_torn_by_a_full_disk_is_complete_in_the_next_file(
    audited: Audited, tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    audited.soon()
    size = audited.path.stat().st_size
    audited.report("a", "b")
    audited.disk.room = size + 20
    audited.soon()
    audited.path.rename(tmp_path / "audit.1")
    audited.disk.room = None
    audited.clock.advance(1)
    assert audited.ids()[-1] == "b"
    old = (tmp_path / "audit.1").read_bytes().splitlines(keepends=True)
    whole = [msgspec.json.decode(line) for line in old if line.endswith(b"\n")]
    assert [line["discovery_id"] for line in whole[1:]] + audited.ids() == ["a", "b"]
    logged_errors.clear()


def test_a_hangup_on_a_full_disk_begins_the_new_file_with_a_complete_line(
    audited: Audited, tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    audited.soon()
    audited.report("a", "b")
    audited.disk.room = 20
    audited.soon()
    audited.path.rename(tmp_path / "audit.1")
    audited.log.reopen()
    audited.disk.room = None
    audited.clock.advance(1)
    assert audited.ids() == ["a", "b"]
    logged_errors.clear()


def test_lines_over_the_limit_are_dropped_counted_and_mentioned_in_the_file(
    audited: Audited, logged_errors: list[dict[str, Any]]
) -> None:
    audited.disk.room = 0
    large = "x" * 100_000
    count = MOST_BYTES // 100_000 + 5
    audited.report(*(large for _ in range(count)))
    lost = audited.log.lost
    assert 0 < lost < 10
    audited.soon()
    audited.disk.room = None
    audited.clock.advance(1)
    audited.report("a")
    audited.soon()
    assert [line["event"] for line in audited.lines()] == ["start", *["mint"] * (count - lost), "audit", "mint"]
    assert audited.lines()[-2] == {**audited.lines()[-2], "outcome": "lost", "lines": lost}
    logged_errors.clear()


def test_a_file_that_cannot_be_created_stops_nobody(tmp_path: Path, logged_errors: list[dict[str, Any]]) -> None:
    audited = Audited(tmp_path / "missing" / "audit")
    audited.report("a")
    audited.soon()
    audited.clock.advance(1)
    (event,) = logged_errors
    assert event["why"] == "No such file or directory"
    (tmp_path / "missing").mkdir()
    audited.clock.advance(1)
    assert audited.ids() == ["a"]
    logged_errors.clear()


def test_everything_is_written_at_the_end(audited: Audited) -> None:
    audited.report("a")
    result(audited.log.stopService())
    assert [line["event"] for line in audited.lines()] == ["start", "mint", "stop"]
    assert not audited.clock.getDelayedCalls()


def test_closing_waits_for_a_write_under_way(audited: Audited) -> None:
    audited.threads.hold = True
    audited.report("a")
    audited.soon()
    stopping = audited.log.stopService()
    assert not stopping.called
    audited.threads.hold = False
    audited.threads.release_all()
    result(stopping)
    assert [line["event"] for line in audited.lines()] == ["start", "mint", "stop"]


def test_closing_on_a_full_disk_reports_what_is_lost(audited: Audited, logged_errors: list[dict[str, Any]]) -> None:
    audited.disk.room = 0
    audited.report("a")
    audited.soon()
    result(audited.log.stopService())
    assert [event.get("lines") for event in logged_errors] == [None, 3]
    assert audited.log.lost == 3
    assert not audited.clock.getDelayedCalls()
    logged_errors.clear()


def test_an_internal_error_is_logged_and_retried(
    audited: Audited, monkeypatch: pytest.MonkeyPatch, logged_errors: list[dict[str, Any]]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(AuditFile, "write", lambda *_: 1 / 0)
        audited.report("a")
        audited.soon()
    assert isinstance(logged_errors[0]["log_failure"].value, ZeroDivisionError)
    audited.clock.advance(1)
    assert audited.ids() == ["a"]
    logged_errors.clear()
