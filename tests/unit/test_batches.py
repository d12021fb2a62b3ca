"""Batches of changes that the journal writes together."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from rqdisco.core.records import Record
from rqdisco.storage.wal.writer import Journal
from tests.support.daemon import Daemon, Threads


class Turns:
    """The turns of a reactor that the test takes."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self._calls.append(call)

    def take(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


def test_a_client_that_asks_again_as_soon_as_it_is_answered_shares_the_batch_of_those_that_asked_meanwhile() -> None:
    daemon, turns, threads = Daemon(), Turns(), Threads()
    journal = Journal(daemon.store, daemon.segments, threads, turns.call_soon, daemon.failures.append)
    threads.hold = True

    def change(number: int) -> Deferred[None]:
        return journal.append(daemon.store.put(Record(id=f"id-{number}", owner="0" * 16, version=number, created_at=0)))

    first = change(1)
    turns.take()
    meanwhile = change(2)
    threads.release()
    assert first.called
    turns.take()
    again = change(3)
    turns.take()
    threads.release()
    assert meanwhile.called
    assert again.called
    assert journal.batches_written == 2
