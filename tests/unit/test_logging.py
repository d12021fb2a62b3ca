"""The log of a daemon: a line for each event, kept while nobody reads it."""

from __future__ import annotations

import json
import os

from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher

from rqdisco.service.logging import Descriptor, LineObserver
from tests.support.written_log import Log, Paper


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
