"""The state of etcd, as operators see it: health checks, notes, metrics, log lines and the status page."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.template import flattenString

from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.ui.assets import read_assets
from rqdisco.http.ui.daemon_status import StatusCollector
from rqdisco.http.ui.status import StatusPage
from rqdisco.telemetry.recent import RecentActivity
from tests.support.any_daemon import WALL_US
from tests.support.daemon import result
from tests.support.etcd.daemon import PREFIX, Cluster, opened
from tests.support.etcd.memory import DELIVER, HANG, Fate, Sent
from tests.support.etcd.wire import PutRequest
from tests.support.etcd.wired import Wired, create, logged, pass_time, started

FULL = "etcd's database is full (NOSPACE alarm)"


def test_one_member_less_of_three_is_only_a_note(log: list[dict[str, Any]]) -> None:
    cluster = Cluster(members=3)
    wired = started(cluster)
    assert wired.lists().notes == ()
    cluster.model.stop("m1")
    pass_time(wired, 10)
    assert (wired.lists().wrong, wired.grants().wrong) == ((), ())
    assert wired.lists().notes == (
        "the etcd member at http://m1:2379 does not answer: http://m1:2379: connection refused",
    )
    assert logged(log) == []
    assert wired.metric("rqdisco_etcd_member_up", "http://m1:2379") == 0
    assert wired.metric("rqdisco_etcd_member_up", "http://m2:2379") == 1
    assert wired.metric("rqdisco_etcd_switches_total") == 1


def test_without_a_quorum_the_daemon_is_not_ready_and_says_so_once(log: list[dict[str, Any]]) -> None:
    cluster = Cluster(members=3)
    wired = started(cluster)
    cluster.model.stop("m2")
    cluster.model.stop("m3")
    cluster.model.notice()
    pass_time(wired, 15)
    (reason,) = wired.lists().wrong
    assert reason.startswith("no etcd endpoint answers (http://m2:2379: ")
    assert "the etcd member at http://m1:2379 knows no leader" in wired.lists().notes
    assert wired.metric("rqdisco_etcd_up") == 0
    assert logged(log) == ["etcd cannot be used"]
    cluster.model.start("m2")
    pass_time(wired, 3)
    assert (wired.lists().wrong, wired.metric("rqdisco_etcd_up")) == ((), 1)
    assert logged(log)[1:] == ["etcd can be used again"]


def test_a_full_etcd_serves_lists_and_is_noticed_with_the_first_refused_write(log: list[dict[str, Any]]) -> None:
    cluster = Cluster()
    wired = started(cluster)
    discovery_id = create(wired)
    cluster.model.alarms["NOSPACE"] = 1
    pass_time(wired, 0.1)
    with pytest.raises(StoreUnavailable):
        create(wired)
    pass_time(wired, 1.2)
    assert wired.lists().wrong == ()
    assert wired.grants().wrong[0].startswith(FULL)
    assert wired.metric("rqdisco_etcd_full") == 1
    result(Deferred.fromCoroutine(wired.backend.directory.look_up(discovery_id)))
    del cluster.model.alarms["NOSPACE"]
    pass_time(wired, 6)
    assert (wired.grants().wrong, wired.metric("rqdisco_etcd_full")) == ((), 0)
    assert logged(log) == ["etcd is full", "etcd can be written again"]


def test_a_store_frozen_by_another_daemon_serves_lists(log: list[dict[str, Any]]) -> None:
    cluster = Cluster()
    wired, other = started(cluster), opened(cluster, seed=1)
    result(Deferred.fromCoroutine(other.state.freeze("the IDs move elsewhere")))
    pass_time(wired, 2)
    assert (wired.lists().wrong, wired.grants().wrong) == ((), ("the IDs move elsewhere",))
    assert wired.metric("rqdisco_frozen") == 1
    result(Deferred.fromCoroutine(other.state.thaw()))
    pass_time(wired, 2)
    assert wired.grants().wrong == ()
    assert logged(log) == ["the store in etcd is frozen", "the store in etcd can be changed again"]


def test_a_running_daemon_changes_nothing_in_a_store_that_a_newer_release_has_taken_over() -> None:
    cluster = Cluster()
    wired = started(cluster)
    cluster.model.put(PutRequest(key=f"{PREFIX}v1/meta".encode(), value=b'{"format":2}'), None)

    refused = Deferred.fromCoroutine(wired.backend.directory.create())

    reason = "/rqdisco/v1/meta: format 2 is newer than this release reads, run a newer one"
    with pytest.raises(Undecided, match=reason):
        result(refused)
    pass_time(wired, 2)
    assert reason in wired.lists().wrong


def test_a_member_of_an_unusable_version_that_joins_later_is_a_note() -> None:
    cluster = Cluster()
    wired = started(cluster)
    cluster.model.version = "3.5.5"
    pass_time(wired, 6)
    (note,) = wired.lists().notes
    assert note.startswith("the etcd member at http://m1:2379: etcd 3.5.5 has a bug")


def test_ids_are_counted_about_once_a_minute() -> None:
    cluster = Cluster()
    wired = started(cluster)
    create(wired)
    wired = started(cluster)
    assert (wired.backend.count_ids(), wired.metric("rqdisco_ids")) == (1, 1)
    create(wired)
    pass_time(wired, 30)
    assert wired.backend.count_ids() == 1
    pass_time(wired, 35)
    assert (wired.backend.count_ids(), wired.metric("rqdisco_ids")) == (2, 2)
    assert result(Deferred.fromCoroutine(wired.backend.directory.count())) == 2


def test_the_first_id_of_a_store_is_counted_within_seconds() -> None:
    wired = started(Cluster())
    assert (wired.backend.count_ids(), wired.metric("rqdisco_ids")) == (0, 0)
    create(wired)
    pass_time(wired, 7)
    assert (wired.backend.count_ids(), wired.metric("rqdisco_ids")) == (1, 1)


def test_requests_are_counted_by_kind_and_outcome() -> None:
    wired = started(Cluster())
    create(wired)
    assert wired.metric("rqdisco_etcd_requests_total", "txn", "ok") == 2
    assert wired.metric("rqdisco_etcd_request_duration_seconds_count") is not None


def status_page(wired: Wired, *, is_operator: bool) -> str:
    backend = wired.backend
    collector = StatusCollector(
        lambda: ServiceDocument(version="1"),
        backend.count_nodes,
        backend.health,
        RecentActivity(wired.clock.seconds, lambda: WALL_US),
        etcd=backend.etcd,
    )
    page = StatusPage(read_assets(), collector.collect(0), is_operator=is_operator)
    return bytes(result(flattenString(None, page))).decode()


def test_the_status_page_shows_the_members_and_what_is_wrong() -> None:
    cluster = Cluster(members=3)
    wired = started(cluster)
    cluster.model.stop("m3")
    cluster.model.alarms["NOSPACE"] = 1
    pass_time(wired, 6)
    page = status_page(wired, is_operator=True)
    state = '<td><strong>http://{}:2379</strong></td><td><span class="state" data-state="{}">{}</span></td>'
    for member, color, words in (("m1", "up", "leader"), ("m2", "up", "up"), ("m3", "down", "does not answer")):
        assert state.format(member, color, words) in page
    assert '<td data-what="version">3.4.23</td><td data-what="database">32.0 KiB</td>' in page
    assert "Something is wrong" in page
    assert "etcd's database is full (NOSPACE alarm)" in page
    assert "<dt>Nodes</dt>" not in page


def test_the_status_page_names_members_to_operators_only() -> None:
    wired = started(Cluster(members=3))
    page = status_page(wired, is_operator=False)
    assert "<strong>member 1</strong>" in page
    assert "m1:2379" not in page


def test_a_daemon_that_stops_while_it_asks_the_members_reports_no_fault() -> None:
    cluster = Cluster(members=3)
    wired = started(cluster)
    asked: list[Sent] = []

    def hang(sent: Sent) -> Fate:
        if sent.path != "/v3/maintenance/status":
            return DELIVER
        asked.append(sent)
        return HANG

    wired.transport.plan = hang
    while not asked:
        pass_time(wired, 0.05)
    wired.stop()
    assert cluster.clock.getDelayedCalls() == []
