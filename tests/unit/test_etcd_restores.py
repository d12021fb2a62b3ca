"""A daemon remembers the state of etcd, and detects a restored etcd or another store (E8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock

from rqdisco.backends.etcd.last_seen import LastSeen, LastSeenFile
from rqdisco.backends.etcd.service import SAVE_SECONDS, LastSeenSaver
from rqdisco.core.errors import StoreUnavailable
from tests.support.daemon import result
from tests.support.etcd.daemon import Cluster, opened
from tests.support.etcd.wired import Wired, create, data_dir, pass_time, register, started

WENT_BACK = "etcd seems to be restored from a backup"


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


def test_a_daemon_without_a_directory_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wired = started(Cluster())
    create(wired)
    pass_time(wired, 20)
    wired.stop()
    assert list(tmp_path.iterdir()) == []
    assert wired.clock.getDelayedCalls() == []


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
