"""Claims that wait and leaders that report themselves, as seen by one of several stateless daemons."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from twisted.internet.defer import Deferred

from rqdisco.core.codec import decode_put
from tests.support.daemon import result
from tests.support.etcd.daemon import Cluster
from tests.support.etcd.memory import DELIVER, REFUSE, Fate, Sent
from tests.support.etcd.wired import pass_time, started

CLAIM = decode_put(b'{"id":"a","addr":"10.0.0.1:4002"}')


def test_a_waiting_claim_that_another_daemon_saw_end_is_forgotten(log: list[dict[str, Any]]) -> None:
    cluster = Cluster()
    wired, other = started(cluster), started(cluster, seed=1)
    put = decode_put(b'{"id":"a","addr":"10.0.0.1:4002"}')
    result(Deferred.fromCoroutine(wired.backend.directory.claim("orders", put, "10.0.0.1")))
    pass_time(wired, 61)
    (note,) = wired.lists().notes
    assert note.startswith("1 claim waits for a leader's first report")
    assert [event["discovery_id"] for event in log if event["log_format"].startswith("a claim waits")] == ["orders"]
    result(Deferred.fromCoroutine(other.backend.directory.report("orders", put, "10.0.0.1")))
    pass_time(wired, 61)
    assert wired.lists().notes == ()


def logged_claims(log: list[dict[str, Any]]) -> list[str]:
    return [event["discovery_id"] for event in log if event["log_format"].startswith("a claim waits")]


def test_a_claim_that_waits_is_logged_although_etcd_was_away_when_it_had_waited_long(
    log: list[dict[str, Any]],
) -> None:
    wired = started(Cluster())
    result(Deferred.fromCoroutine(wired.backend.directory.claim("orders", CLAIM, "10.0.0.1")))
    pass_time(wired, 55)
    wired.transport.plan = lambda _: REFUSE
    pass_time(wired, 10)
    wired.transport.plan = lambda _: DELIVER
    assert logged_claims(log) == []
    pass_time(wired, 180)
    assert logged_claims(log) == ["orders"]


def test_a_leader_that_reports_itself_while_its_claim_is_checked_is_not_blamed(log: list[dict[str, Any]]) -> None:
    wired = started(Cluster())
    result(Deferred.fromCoroutine(wired.backend.directory.claim("orders", CLAIM, "10.0.0.1")))
    pass_time(wired, 58)
    key, looked_up = b64encode(b"/rqdisco/v1/ids/orders"), list[Sent]()

    def late(sent: Sent) -> Fate:
        if key not in sent.body:
            return DELIVER
        looked_up.append(sent)
        return Fate(answered=0.9)

    wired.transport.plan = late
    while not looked_up:
        pass_time(wired, 0.05)
    wired.transport.plan = lambda _: DELIVER
    # Only then is another read sent before the first one is answered.
    pass_time(wired, 0.2)
    assert result(Deferred.fromCoroutine(wired.backend.directory.report("orders", CLAIM, "10.0.0.1")))
    pass_time(wired, 5)
    assert logged_claims(log) == []


def test_two_leaders_that_report_through_one_daemon_are_noticed(logged_errors: list[dict[str, Any]]) -> None:
    wired = started(Cluster())
    for turn in range(6):
        name = "ab"[turn % 2]
        put = decode_put(json.dumps({"id": name, "addr": f"10.0.0.{turn % 2}:4002"}).encode())
        result(Deferred.fromCoroutine(wired.backend.directory.report("orders", put, f"10.0.0.{turn % 2}")))
        pass_time(wired, 5)
    assert len(wired.backend.leaders) == 1
    logged_errors.clear()


def test_a_leader_whose_last_report_is_answered_after_those_of_the_next_one_is_no_second_leader() -> None:
    wired = started(Cluster())
    puts = [decode_put(b'{"id":"%d","addr":"10.0.0.%d:4002"}' % (number, number)) for number in (1, 2)]

    def report(number: int) -> Deferred[bool]:
        directory = wired.backend.directory
        return Deferred.fromCoroutine(directory.report("orders", puts[number - 1], f"10.0.0.{number}"))

    assert result(report(1))
    pass_time(wired, 10)
    wired.transport.plan = lambda _: Fate(answered=0.9)
    last = report(1)
    wired.transport.plan = lambda _: DELIVER
    for _ in range(2):
        # Only then is another read sent before the first one is answered.
        pass_time(wired, 0.2)
        assert result(report(2))
    assert not last.called
    pass_time(wired, 2)
    assert result(last)
    assert len(wired.backend.leaders) == 0
