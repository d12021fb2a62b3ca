"""The services beside the requests: group commit, compaction, deadlines, systemd's socket, the
log.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.records import Node
from rqdisco.service.logging import Descriptor, LineObserver
from rqdisco.service.systemd import Notifier
from rqdisco.storage.compaction import compact
from rqdisco.storage.compactor import Compactor
from rqdisco.storage.snapshot import NAME
from tests.support.daemon import STATE, Daemon, result


def register(daemon: Daemon, addr: str) -> str:
    record = result(Deferred.fromCoroutine(daemon.directory.create()))
    result(Deferred.fromCoroutine(daemon.directory.register(record.id, Node(addr=addr), None)))
    return str(record.id)


class Compactions:
    """Stands for the child process: compacts at once, or does what the test sets."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.calls: list[int] = []
        self.answer: Deferred[tuple[int, bytes]] | None = None

    def __call__(self, through: int) -> Deferred[tuple[int, bytes]]:
        self.calls.append(through)
        if self.answer is not None:
            return self.answer
        return succeed((0, b"%d\n" % compact(self.daemon.disk, STATE, through)))


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


def stop(service: Compactor) -> None:
    stopping = service.stopService()
    assert stopping is not None
    result(stopping)


def compactor(daemon: Daemon, compactions: Compactions, *, changed: bool = False) -> Compactor:
    service = Compactor(daemon.clock, daemon.journal, compactions, 300, changed=changed)
    service.startService()
    return service


def test_a_snapshot_is_made_every_interval_in_which_something_changed(daemon: Daemon) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    daemon.clock.advance(300)
    assert compactions.calls == []
    register(daemon, "a:1")
    daemon.clock.advance(300)
    daemon.clock.advance(300)
    assert compactions.calls == [1]
    assert daemon.disk.exists(STATE / NAME)
    register(daemon, "b:1")
    daemon.clock.advance(300)
    assert compactions.calls == [1, 2]
    stop(service)
    assert daemon.clock.getDelayedCalls() == []


def test_uncompacted_segments_found_at_the_start_are_compacted_without_a_change(daemon: Daemon) -> None:
    register(daemon, "a:1")
    restarted = daemon.restart()
    compactions = Compactions(restarted)
    service = compactor(restarted, compactions, changed=restarted.found.changed)
    restarted.clock.advance(300)
    assert compactions.calls == [1]
    stop(service)
    assert not restarted.restart().found.changed


def test_a_failed_compaction_is_retried_and_the_daemon_continues(daemon: Daemon) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    compactions.answer = succeed((1, b"no space left"))
    daemon.clock.advance(300)
    compactions.answer = None
    daemon.clock.advance(300)
    assert compactions.calls == [1, 1]
    assert daemon.disk.exists(STATE / NAME)
    stop(service)


def test_a_compaction_that_raises_does_not_end_the_loop(daemon: Daemon, logged_errors: list[dict[str, Any]]) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    compactions.answer = Deferred()
    daemon.clock.advance(300)
    compactions.answer.errback(Failure(OSError("no processes left")))
    compactions.answer = None
    daemon.clock.advance(300)
    assert compactions.calls == [1, 1]
    stop(service)
    assert len(logged_errors) == 1
    logged_errors.clear()


def test_a_snapshot_for_a_backup_is_made_at_once_and_has_everything_before_it(daemon: Daemon) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    result(service.compact_now())
    assert compactions.calls == [1]
    assert not daemon.restart().found.changed
    result(service.compact_now())
    assert compactions.calls == [1], "nothing changed since"
    stop(service)


def test_a_backup_that_is_requested_during_a_compaction_waits_for_the_next_one(daemon: Daemon) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    compactions.answer = Deferred()
    first = service.compact_now()
    register(daemon, "b:1")
    second, gone = service.compact_now(), service.compact_now()
    gone.addErrback(lambda _: None).cancel()
    answer, compactions.answer = compactions.answer, None
    answer.callback((0, b"1"))
    result(first)
    result(second)
    assert compactions.calls == [1, 2]
    stop(service)


def test_a_backup_whose_snapshot_fails_is_refused(daemon: Daemon) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    compactions.answer = succeed((1, b"no space left"))
    with pytest.raises(StoreUnavailable, match="store unavailable"):
        result(service.compact_now())
    compactions.answer = None
    result(service.compact_now())
    stop(service)


def test_a_backup_is_refused_while_the_daemon_stops(daemon: Daemon) -> None:
    compactions = Compactions(daemon)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    compactions.answer = Deferred(lambda _: None)
    first, second = service.compact_now(), service.compact_now()
    stop(service)
    for each in (first, second):
        with pytest.raises(StoreUnavailable):
            result(each)
    with pytest.raises(StoreUnavailable):
        service.compact_now()


def test_stopping_ends_a_compaction_under_way(daemon: Daemon) -> None:
    ended: list[object] = []
    compactions = Compactions(daemon)
    compactions.answer = Deferred(ended.append)
    service = compactor(daemon, compactions)
    register(daemon, "a:1")
    daemon.clock.advance(300)
    stop(service)
    assert len(ended) == 1


def test_sealing_waits_for_the_batch_under_way(daemon: Daemon) -> None:
    daemon.threads.hold = True
    creating = Deferred.fromCoroutine(daemon.directory.create())
    sealing = daemon.journal.seal()
    later = Deferred.fromCoroutine(daemon.directory.create())
    assert not sealing.called
    daemon.threads.release_all()
    assert result(sealing) == 1
    result(creating)
    result(later)
    assert len(daemon.restart().found.records) == 2


def test_continuous_writes_do_not_delay_sealing(daemon: Daemon) -> None:
    daemon.threads.hold = True
    creating = [Deferred.fromCoroutine(daemon.directory.create())]
    sealing = daemon.journal.seal()
    creating.append(Deferred.fromCoroutine(daemon.directory.create()))
    daemon.threads.release()
    assert result(sealing) == 1
    assert len(daemon.threads.held) == 1
    daemon.threads.release_all()
    for deferred in creating:
        result(deferred)
    assert len(daemon.restart().found.records) == 2


def test_closing_waits_for_all_pending_writes(daemon: Daemon) -> None:
    daemon.threads.hold = True
    creating = [Deferred.fromCoroutine(daemon.directory.create()) for _ in range(3)]
    closing = Deferred.fromCoroutine(daemon.journal.close())
    daemon.threads.release()
    assert not closing.called
    daemon.threads.release_all()
    result(closing)
    for deferred in creating:
        result(deferred)


def test_the_journal_continues_in_a_new_segment_when_one_is_full() -> None:
    daemon = Daemon(segment_bytes=100)
    for number in range(3):
        register(daemon, f"10.0.0.{number}:1")
    assert len(daemon.disk.names(STATE / "journal")) == 6
    assert len(daemon.restart().found.records) == 3


def test_a_bug_in_the_writer_is_logged_and_ends_the_daemon(daemon: Daemon, logged_errors: list[dict[str, Any]]) -> None:
    def fault(lines: object) -> None:
        raise ZeroDivisionError

    daemon.segments.commit = fault  # type: ignore[method-assign]
    with pytest.raises(Exception, match="store unavailable"):
        register(daemon, "a:1")
    assert len(daemon.failures) == len(logged_errors) == 1
    logged_errors.clear()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified_of_ready_watchdog_and_stopping(tmp_path: Path, abstract: bool) -> None:
    address = f"@rqdisco-{tmp_path.name}" if abstract else str(tmp_path / "not@ify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if abstract else address)
        clock = Clock()
        notifier = Notifier(clock, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000"}, 7)
        notifier.startService()
        clock.advance(10)
        notifier.stopService()
        received = [listener.recv(100) for _ in range(4)]
    assert received == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]
    assert clock.getDelayedCalls() == []


def test_nothing_is_notified_without_systemd_or_for_another_process(tmp_path: Path) -> None:
    clock = Clock()
    for environment in (
        {},
        {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"},
    ):
        notifier = Notifier(clock, environment, 7)
        notifier.startService()
        assert clock.getDelayedCalls() == []
        notifier.stopService()


class Paper:
    """Accepts what is written, as much at a time as the test allows."""

    def __init__(self) -> None:
        self.written = b""
        self.room: int | None = None
        self.broken = False

    def write(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        taken = data if self.room is None else data[: self.room]
        self.room = None if self.room is None else self.room - len(taken)
        self.written += taken
        return len(taken)


class Log:
    """A log written by our observer, and its events."""

    def __init__(self, *, as_json: bool) -> None:
        self.paper = Paper()
        self.clock = Clock()
        observer = LineObserver(self.paper, self.clock.callLater, as_json=as_json)
        self.logger = Logger("rqdisco.test", observer=LogPublisher(observer))
        self.foreign = Logger("somebody.else", observer=LogPublisher(observer))

    @property
    def lines(self) -> list[str]:
        return self.paper.written.decode().splitlines()


def test_what_is_logged_behind_the_end_of_the_reactor_is_written_too() -> None:
    paper, never = Paper(), Clock()
    observer = LineObserver(paper, never.callLater, as_json=False)
    logger = Logger("rqdisco.test", observer=LogPublisher(observer))
    logger.info("stopping")
    observer.end()
    logger.info("stopped")
    assert [line.split()[-1] for line in paper.written.decode().splitlines()] == ["stopping", "stopped"]


def test_each_event_is_one_json_object_off_a_terminal() -> None:
    log = Log(as_json=True)
    log.logger.info("registration", addr="a:1\n", peer=None, result="listed")
    log.foreign.info("{who} said", who="x", password="secret")
    assert log.lines == []
    log.clock.advance(0)
    first, second = map(json.loads, log.lines)
    assert (first["event"], first["level"], first["addr"]) == ("registration", "info", "a:1\n")
    assert "peer" not in first
    assert second["event"] == "x said"
    assert "password" not in second


def test_each_event_is_one_readable_line_on_a_terminal() -> None:
    log = Log(as_json=False)
    log.logger.info("registration", addr="a:1", result="granted")
    log.clock.advance(0)
    (line,) = log.lines
    assert line.endswith(" info  registration addr=a:1 result=granted")


def test_warnings_and_worse_are_written_at_once_with_their_traceback() -> None:
    log = Log(as_json=True)
    try:
        raise ValueError("broken")
    except ValueError:
        log.logger.failure("it failed")
    (line,) = log.lines
    assert "ValueError: broken" in json.loads(line)["event"]


def test_a_value_that_cannot_be_shown_hides_no_other_line() -> None:
    log = Log(as_json=True)
    for addr in ("a:1", "\ud800", "b:1"):
        log.logger.info("registration", addr=addr)
    log.clock.advance(0)
    first, substitute, second = map(json.loads, log.lines)
    assert (first["addr"], second["addr"]) == ("a:1", "b:1")
    assert substitute["level"] == "warn"
    assert substitute["event"].endswith("cannot be shown: UnicodeEncodeError")


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    log = Log(as_json=True)
    log.paper.broken = True
    log.logger.error("lost")
    log.paper.broken = False
    log.logger.error("found")
    assert "found" in log.lines[-1]


def test_lines_that_nobody_reads_are_kept_and_written_later() -> None:
    log = Log(as_json=True)
    log.paper.room = 10
    for number in range(3):
        log.logger.info("event {n}", n=number)
        log.clock.advance(0)
    assert len(log.paper.written) == 10
    log.paper.room = None
    log.clock.advance(0.1)
    assert [json.loads(line)["event"] for line in log.lines] == ["event 0", "event 1", "event 2"]
    assert log.clock.getDelayedCalls() == []


def test_a_reader_that_never_reads_costs_a_bounded_number_of_lines_which_are_counted() -> None:
    log = Log(as_json=True)
    log.paper.room = 0
    for _ in range(100):
        log.logger.info("x" * 50_000)
        log.clock.advance(0)
    log.paper.room = None
    log.clock.advance(0.2)
    log.clock.advance(0.2)
    assert 20 < len(log.lines) < 24
    last = json.loads(log.lines[-1])
    assert (last["level"], last["event"]) == ("warn", f"{100 - len(log.lines) + 1} log lines dropped")


def test_a_full_pipe_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    try:
        pipe, total = Descriptor(writer), 0
        while taken := pipe.write(b"x" * 10_000):
            total += taken
        assert total >= 4096
        os.read(reader, 8192)
        assert pipe.write(b"y") == 1
    finally:
        os.close(reader)
        os.close(writer)
