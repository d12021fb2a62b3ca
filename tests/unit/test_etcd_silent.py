"""What a daemon does about etcd where etcd itself says nothing: hanging members, and alarms that
nested transactions do not meet.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rqdisco.backends.etcd.failures import AuthFailed, NoSpace, NotApplied, OutcomeUnknown, unavailable
from rqdisco.core.errors import StoreUnavailable
from rqdisco.core.records import Node
from rqdisco.http.requests.responses import label_of, refusal_of
from tests.support.daemon import result
from tests.support.etcd.daemon import Cluster, opened

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
    backend.refusal = "etcd is full"
    for change in (directory.create(), directory.register(discovery_id, A, None), directory.remove(discovery_id, "x")):
        with pytest.raises(StoreUnavailable) as refused:
            result(Deferred.fromCoroutine(change))
        assert refused.value.reason == "etcd is full"
    assert result(Deferred.fromCoroutine(directory.look_up(discovery_id))).nodes == ()
    backend.refusal = None
    assert result(Deferred.fromCoroutine(directory.register(discovery_id, A, None))).bootstrap == "granted"


def test_what_etcd_refuses_is_told_apart_in_the_metrics() -> None:
    kinds = [unavailable(kind("why")) for kind in (NotApplied, OutcomeUnknown, NoSpace, AuthFailed)]
    assert [label_of(Failure(each)) for each in kinds] == ["etcd", "etcd", "etcd_full", "etcd_denied"]
    assert {refusal_of(Failure(each)).status for each in kinds} == {503}
    assert {each.reason for each in kinds} == {"why"}
