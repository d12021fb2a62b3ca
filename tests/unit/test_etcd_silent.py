"""Faults that etcd itself does not report: hanging members, and alarms that
nested transactions do not meet.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from rqdisco.backends.etcd.failures import AuthFailed, NoSpace, NotApplied, OutcomeUnknown, unavailable
from rqdisco.core.errors import EtcdFull, StoreUnavailable
from rqdisco.core.records import Node
from rqdisco.http.requests.responses import label_of, refusal_of
from tests.support.daemon import result
from tests.support.dns import ZONE, Names, answers, checked, question, rcode
from tests.support.dns_sockets import Reactor
from tests.support.etcd.daemon import Cluster, EtcdDaemon, opened

A = Node(addr="10.0.0.1:4001")


def test_an_event_stream_goes_on_at_another_member_when_its_own_hangs() -> None:
    cluster = Cluster(members=3)
    watching, other = opened(cluster, seed=1), opened(cluster, seed=2)
    discovery_id = result(Deferred.fromCoroutine(other.directory.create())).id
    changes: list[float] = []
    watching.directory.watch(discovery_id, lambda: changes.append(cluster.clock.seconds()))
    cluster.clock.advance(1)
    assert watching.watches.streams == 1
    cluster.model.hang("m1")
    cluster.clock.pump([0.5] * 40)
    seen = len(changes)
    registering = Deferred.fromCoroutine(other.directory.register(discovery_id, A, None))
    cluster.clock.pump([0.5] * 10)
    assert result(registering).bootstrap == "granted"
    assert len(changes) > seen
    watching.stop()
    cluster.clock.advance(1)


def test_nothing_is_changed_while_etcd_has_an_alarm_and_lookups_go_on() -> None:
    backend = opened(Cluster())
    directory = backend.directory
    discovery_id = result(Deferred.fromCoroutine(directory.create())).id
    backend.objection = EtcdFull("etcd is full")
    for change in (directory.create(), directory.register(discovery_id, A, None), directory.remove(discovery_id, "x")):
        with pytest.raises(StoreUnavailable) as refused:
            result(Deferred.fromCoroutine(change))
        assert refused.value.reason == "etcd is full"
    assert result(Deferred.fromCoroutine(directory.look_up(discovery_id))).nodes == ()
    backend.objection = None
    assert result(Deferred.fromCoroutine(directory.register(discovery_id, A, None))).bootstrap == "granted"


def test_a_resolver_is_told_to_ask_elsewhere_while_etcd_is_away_and_the_log_blames_nobody(
    log: list[dict[str, Any]],
) -> None:
    daemon = EtcdDaemon(clock=Reactor())
    names = Names(daemon=daemon)
    names.add("id", "10.0.0.1:4001")
    daemon.cluster.model.stop("m1")
    query = question(f"id.{ZONE}")
    names.exchange(query)
    names.reactor.pump([0.5] * 20)
    ((packet, _),) = names.udp.sent
    assert rcode(checked(query, packet, 512)) == "SERVFAIL"
    assert [event for event in log if event["log_level"] not in (LogLevel.info, LogLevel.warn)] == []
    daemon.cluster.model.start("m1")
    assert answers(names.ask(f"id.{ZONE}")) == ["10.0.0.1"]


def test_what_etcd_refuses_is_told_apart_in_the_metrics() -> None:
    kinds = [unavailable(kind("why")) for kind in (NotApplied, OutcomeUnknown, NoSpace, AuthFailed)]
    assert [label_of(Failure(each)) for each in kinds] == ["etcd", "etcd", "etcd_full", "etcd_denied"]
    assert {refusal_of(Failure(each)).status for each in kinds} == {503}
    assert {each.reason for each in kinds} == {"why"}
