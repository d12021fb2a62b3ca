"""The journal of a daemon: group commit, segments, and their compaction."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.records import Node
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
