"""The state of etcd, as operators see it: health checks, notes, metrics, log lines and the status page."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.web.template import flattenString

from rqdisco.backends.etcd.last_seen import LastSeen, LastSeenFile
from rqdisco.backends.etcd.service import SAVE_SECONDS, LastSeenSaver
from rqdisco.core.codec import decode_put
from rqdisco.core.errors import StoreUnavailable, Undecided
from rqdisco.core.records import Node
from rqdisco.http.requests.documents import ServiceDocument
from rqdisco.http.ui.assets import read_assets
from rqdisco.http.ui.daemon_status import StatusCollector
from rqdisco.http.ui.status import StatusPage
from rqdisco.telemetry.recent import RecentActivity
from tests.support.any_daemon import WALL_US
from tests.support.daemon import result
from tests.support.etcd.daemon import PREFIX, Cluster, opened
from tests.support.etcd.memory import DELIVER, HANG, REFUSE, Fate, Sent
from tests.support.etcd.wire import PutRequest
from tests.support.etcd.wired import Wired, data_dir, started

WENT_BACK = "etcd seems to be restored from a backup"
FULL = "etcd's database is full (NOSPACE alarm)"


def pass_time(wired: Wired, seconds: float) -> None:
    wired.clock.pump([0.05] * int(seconds * 20))


def create(wired: Wired) -> str:
    record = result(Deferred.fromCoroutine(wired.backend.directory.create()))
    return str(record.id)


def register(wired: Wired, discovery_id: str, addr: str = "10.0.0.1:4001") -> Deferred[Any]:
    return Deferred.fromCoroutine(wired.backend.directory.register(discovery_id, Node(addr=addr), None))


def logged(log: list[dict[str, Any]]) -> list[str]:
    """Return what the monitor logged."""
    return [event["log_format"] for event in log if event["log_namespace"].endswith("EtcdMonitor")]


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


def test_a_restored_etcd_stops_grants_until_the_daemon_restarts(logged_errors: list[dict[str, Any]]) -> None:
    cluster = Cluster()
    wired = started(cluster)
    discovery_id = create(wired)
    backup = cluster.model.save()
    create(wired)
    cluster.model.restore(backup)
    pass_time(wired, 2)
    assert wired.lists().wrong == ()
    assert any(WENT_BACK in each for each in wired.grants().wrong)
    assert wired.metric("rqdisco_etcd_went_back") == 1
    assert [(event.kind, event.outcome) for event in wired.events] == [("fence", "fenced")]
    with pytest.raises(StoreUnavailable):
        result(register(wired, discovery_id))
    assert len(logged_errors) == 1
    logged_errors.clear()


def restored_while_stopped(tmp_path: Path, said: Callable[[Cluster], None]) -> Wired:
    """Restore a backup while no daemon runs, and start one that remembers what was there before."""
    cluster = Cluster()
    wired = started(cluster, data_dir(tmp_path))
    backup = cluster.model.save()
    create(wired)
    wired.stop()
    cluster.model.restore(backup)
    said(cluster)
    return started(cluster, data_dir(tmp_path), seed=1)


def test_a_daemon_with_a_state_directory_notices_a_restore_that_happened_while_it_was_down(
    tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    for _ in range(2):
        wired = restored_while_stopped(tmp_path, lambda _: None)
        assert any(WENT_BACK in each for each in wired.grants().wrong)
        wired.stop()
        # It is noticed again and again: what was remembered is not replaced.
        again = started(wired.cluster, data_dir(tmp_path), seed=2)
        assert any(WENT_BACK in each for each in again.grants().wrong)
        again.stop()
        (tmp_path / "etcd.json").unlink()
    logged_errors.clear()


def test_a_restore_noticed_while_a_daemon_ran_is_noticed_again_after_its_restart(
    tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    """Even if nothing had been saved before, and etcd has gone on since."""
    cluster = Cluster()
    wired = started(cluster, data_dir(tmp_path))
    backup = cluster.model.save()
    create(wired)
    cluster.model.restore(backup)
    pass_time(wired, 2)
    assert any(WENT_BACK in each for each in wired.grants().wrong)
    wired.stop()
    logged_errors.clear()
    for _ in range(3):
        create(started(cluster, seed=3))
    again = started(cluster, data_dir(tmp_path), seed=1)
    assert any(WENT_BACK in each for each in again.grants().wrong)
    again.stop()
    logged_errors.clear()
    result(Deferred.fromCoroutine(opened(cluster, seed=9).state.raise_epoch(2)))
    assert started(cluster, data_dir(tmp_path), seed=2).grants().wrong == ()


def test_another_store_is_accepted_once_an_operator_has_said_so(
    tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    started(Cluster(), data_dir(tmp_path)).stop()
    cluster = Cluster()
    opened(cluster, seed=1)
    result(Deferred.fromCoroutine(opened(cluster, seed=9).state.raise_epoch(2)))
    assert started(cluster, data_dir(tmp_path), seed=2).grants().wrong == ()


def test_a_restore_that_an_operator_has_reported_is_accepted(tmp_path: Path) -> None:
    def raise_epoch(cluster: Cluster) -> None:
        operator = opened(cluster, seed=9)
        result(Deferred.fromCoroutine(operator.state.raise_epoch(2)))

    wired = restored_while_stopped(tmp_path, raise_epoch)
    assert (wired.lists().wrong, wired.grants().wrong) == ((), ())


def test_another_store_than_before_stops_grants(tmp_path: Path, logged_errors: list[dict[str, Any]]) -> None:
    started(Cluster(), data_dir(tmp_path)).stop()
    wired = started(Cluster(), data_dir(tmp_path), seed=1)
    assert any("the store in etcd is another one" in each for each in wired.grants().wrong)
    logged_errors.clear()


def test_a_daemon_keeps_its_machines_name_in_its_state_directory(tmp_path: Path) -> None:
    cluster = Cluster()
    first = started(cluster, data_dir(tmp_path / "new"))
    first.stop()
    second = started(cluster, data_dir(tmp_path / "new"), seed=1)
    assert second.incarnation == first.incarnation
    assert json.loads((tmp_path / "new" / "etcd.json").read_bytes())["machine"] == first.incarnation
    assert started(cluster, seed=2).incarnation != first.incarnation


def test_a_daemon_whose_machine_loses_power_soon_after_its_first_start_keeps_the_machines_name(
    tmp_path: Path,
) -> None:
    cluster = Cluster()
    first = started(cluster, data_dir(tmp_path / "new"), network="boot-a net:[1]")
    second = started(cluster, data_dir(tmp_path / "new"), seed=1, network="boot-b net:[1]")
    assert second.incarnation == first.incarnation


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


CLAIM = decode_put(b'{"id":"a","addr":"10.0.0.1:4002"}')


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


def test_a_daemon_without_a_directory_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wired = started(Cluster())
    create(wired)
    pass_time(wired, 20)
    wired.stop()
    assert list(tmp_path.iterdir()) == []
    assert wired.clock.getDelayedCalls() == []


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


def test_what_was_seen_of_etcd_is_saved_although_a_thread_could_not_be_started(
    tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    clock, file = Clock(), LastSeenFile(tmp_path)
    seen = LastSeen(cluster_id=1, revision=2, store_id="00" * 8, epoch=1, machine="m")
    failures = [RuntimeError("no thread")]

    def run_in_thread(call: Callable[[], None]) -> Deferred[None]:
        return fail(failures.pop()) if failures else maybeDeferred(call)

    saver = LastSeenSaver(file, lambda: seen, run_in_thread, clock)
    saver.startService()
    clock.advance(SAVE_SECONDS)
    assert file.load() is None
    assert [event["reason"] for event in logged_errors] == ["no thread"]
    logged_errors.clear()
    clock.advance(SAVE_SECONDS)
    assert file.load() == seen
    result(saver.stopService())
