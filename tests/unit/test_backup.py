"""A backup of a running daemon, and the state directories that are made from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count, takewhile
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from rqdisco.client.exports import BACKUP_FORMAT, BACKUP_VERSION
from rqdisco.core.codec import is_metadata
from rqdisco.core.errors import (
    CannotStart,
    DamagedState,
    Ownerless,
    StateUnusable,
    StoreUnavailable,
    TooBusy,
    UnknownFormat,
)
from rqdisco.storage.backup import FORMAT, LINK, BackupReader, Backups
from rqdisco.storage.compaction import compact
from rqdisco.storage.identity import NAME as IDENTITY
from rqdisco.storage.restore import check_backup, check_original_is_gone, restore_backup
from rqdisco.storage.snapshot import NAME as SNAPSHOT
from rqdisco.storage.snapshot import VERSION
from tests.support.daemon import STATE, Daemon, create_id, register, result, shown
from tests.support.disk import ModelDisk
from tests.support.gossip import GossipDaemon, Three, settle
from tests.support.gossip import create_id as create_at
from tests.support.gossip import listed as listed_at
from tests.support.gossip import register as register_at

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
FILE = Path("/backup.json")
GOLDEN = Path(__file__).parent / "golden"
OTHER = "00112233aabbccdd"


async def _content(backups: Backups, between: Callable[[], object] = lambda: None) -> bytes:
    content = []
    async with backups.make() as parts:
        async for part in parts:
            content.append(part)
            between()
    return b"".join(content)


def backed_up(daemon: Daemon, between: Callable[[], object] = lambda: None) -> bytes:
    """Return a backup; `between` is called after each of its parts."""
    content: bytes = result(Deferred.fromCoroutine(_content(daemon.backups, between)))
    return content


def disk_with(content: bytes) -> ModelDisk:
    """Return the disk of another machine, with a backup on it."""
    disk = ModelDisk()
    handle = disk.create(FILE)
    handle.write(content)
    handle.sync()
    disk.sync_directory(FILE.parent)
    return disk


def answer(daemon: Daemon, discovery_id: str, addr: str) -> list[str]:
    """Return the list that a node gets when it registers."""
    return [node.addr for node in result(register(daemon, discovery_id, addr)).listed]


def restored(content: bytes, incarnation: str, daemon: Daemon) -> Daemon:
    """Return the daemon that runs on a restored directory, later and elsewhere."""
    disk = disk_with(content)
    restore_backup(disk, FILE, STATE, incarnation)
    return Daemon(disk.kill(), seed=7, boot_id="boot-b", clock=daemon.clock)


def test_a_backup_is_one_json_document_with_everything_that_was_acknowledged_before() -> None:
    daemon = Daemon()
    ids = {create_id(daemon) for _ in range(3)}
    register(daemon, min(ids), A)
    result(daemon.compact())
    register(daemon, max(ids), B)
    document = json.loads(backed_up(daemon))
    assert {record["id"] for record in document["records"]} == ids
    assert {record["id"]: record.get("nodes") for record in document["records"]}[max(ids)] == [{"addr": B}]
    assert (document["incarnation"], document["directory"]) == (daemon.owner, "/state")
    assert not daemon.disk.exists(STATE / LINK)


def test_a_daemon_without_ids_can_be_backed_up() -> None:
    daemon = Daemon()
    assert restored(backed_up(daemon), daemon.owner, daemon).directory.size == 0


def test_a_daemon_restored_as_its_original_lists_and_grants_as_that_did() -> None:
    daemon = Daemon()
    used, unused = create_id(daemon), create_id(daemon)
    register(daemon, used, A)
    after = restored(backed_up(daemon), daemon.owner, daemon)
    assert after.owner == daemon.owner
    assert answer(after, used, B) == [A, B]
    assert answer(after, unused, C) == [C], "it is told to bootstrap"


def test_a_daemon_restored_as_another_one_never_grants_under_the_old_ids() -> None:
    daemon = Daemon()
    used, unused = create_id(daemon), create_id(daemon)
    register(daemon, used, A)
    after = restored(backed_up(daemon), OTHER, daemon)
    assert answer(after, used, B) == [A, B]
    with pytest.raises(Ownerless):
        answer(after, unused, C)
    assert answer(after, create_id(after), C) == [C]


def test_what_changes_after_the_restore_survives_restarts_and_snapshots() -> None:
    daemon = Daemon()
    discovery_id = create_id(daemon)
    register(daemon, discovery_id, A)
    after = restored(backed_up(daemon), daemon.owner, daemon)
    register(after, discovery_id, B)
    result(after.compact())
    register(after, discovery_id, C)
    again = after.restart()
    assert shown(again, discovery_id) == [A, B, C]
    assert shown(restored(backed_up(again), daemon.owner, daemon), discovery_id) == [A, B, C]


def test_a_backup_that_is_read_slowly_stays_what_it_was_while_snapshots_are_made() -> None:
    daemon = Daemon()
    ids = [create_id(daemon) for _ in range(5)]
    register(daemon, ids[0], A)
    before = backed_up(daemon)

    def change() -> None:
        register(daemon, ids[1], B)
        create_id(daemon)
        result(daemon.compact())

    assert backed_up(daemon, change) == before


def test_a_second_backup_waits_for_the_first_and_is_refused_if_that_takes_long() -> None:
    daemon = Daemon()
    create_id(daemon)
    daemon.threads.hold = True
    first = Deferred.fromCoroutine(_content(daemon.backups))
    second = Deferred.fromCoroutine(_content(daemon.backups))
    third = Deferred.fromCoroutine(_content(daemon.backups))
    daemon.clock.advance(4)
    third.addErrback(lambda _: None).cancel()
    daemon.clock.advance(1)
    with pytest.raises(TooBusy):
        result(second)
    daemon.threads.hold = False
    daemon.threads.release_all()
    assert json.loads(result(first))["count"] == json.loads(backed_up(daemon))["count"] == 1


def test_a_backup_whose_client_is_gone_leaves_nothing_behind() -> None:
    daemon = Daemon()
    create_id(daemon)
    daemon.threads.hold = True
    making = Deferred.fromCoroutine(_content(daemon.backups))
    making.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
    daemon.threads.hold = False
    daemon.threads.release_all()
    assert making.called
    assert not daemon.disk.exists(STATE / LINK)
    assert backed_up(daemon)


def test_a_second_name_of_a_snapshot_left_by_a_killed_daemon_is_removed() -> None:
    daemon = Daemon()
    create_id(daemon)
    result(daemon.compact())
    daemon.disk.link(STATE / SNAPSHOT, STATE / LINK)
    assert not daemon.restart().disk.exists(STATE / LINK)


def test_no_backup_is_made_of_a_damaged_snapshot() -> None:
    daemon = Daemon()
    create_id(daemon)
    result(daemon.compact())
    daemon.disk.replace(STATE / SNAPSHOT, daemon.disk.read(STATE / SNAPSHOT).replace(b'"count":1', b'"count":2'))
    with pytest.raises(StoreUnavailable) as refused:
        backed_up(daemon)
    assert "count or CRC does not match" in refused.value.reason


def small_backup() -> bytes:
    daemon = Daemon()
    for _ in range(3):
        register(daemon, create_id(daemon), A)
    return backed_up(daemon)


def test_nothing_is_restored_from_a_backup_that_is_damaged_anywhere() -> None:
    content = small_backup()
    assert check_backup(disk_with(content), FILE).ids == 3
    damaged = [content[:size] for size in range(0, len(content), 7)]
    damaged += [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 7)]
    for each in damaged:
        with pytest.raises((DamagedState, UnknownFormat)):
            check_backup(disk_with(each), FILE)


def test_a_backup_of_a_newer_release_is_named_as_such() -> None:
    with pytest.raises(UnknownFormat, match="version 99 is newer than this release reads"):
        check_backup(disk_with(small_backup().replace(b'"version":5', b'"version":99', 1)), FILE)


def test_the_command_reads_the_version_that_the_daemon_writes() -> None:
    assert (BACKUP_FORMAT, BACKUP_VERSION) == (FORMAT, VERSION)


def test_a_backup_of_the_first_release_can_be_restored() -> None:
    disk = disk_with((GOLDEN / "backup-5.json").read_bytes())
    header = check_backup(disk, FILE).header
    restore_backup(disk, FILE, STATE, header.incarnation)
    daemon = Daemon(disk.kill(), seed=7)
    assert shown(daemon, "orders") == [A]
    assert answer(daemon, "orders", B) == [A, B]


def test_nothing_is_restored_over_another_state() -> None:
    content = small_backup()
    disk = disk_with(content)
    disk.make_directory(STATE)
    disk.create(STATE / "notes").close()
    with pytest.raises(StateUnusable, match="/state: not empty; move it away, or name another directory"):
        restore_backup(disk, FILE, STATE, OTHER)
    assert disk.names(STATE) == ["notes"]


def test_nothing_is_restored_into_a_directory_that_another_restore_has_just_filled() -> None:
    disk = disk_with(small_backup())
    disk.make_directory(STATE)

    def overtake(operation: str) -> None:
        if operation == "lock lock":
            disk.create(STATE / IDENTITY).close()

    disk.before = overtake
    with pytest.raises(StateUnusable, match="/state: not empty"):
        restore_backup(disk, FILE, STATE, OTHER)
    assert disk.size(STATE / IDENTITY) == 0


@pytest.mark.parametrize("change", [{"incarnation": "zz"}, {"incarnation": OTHER.upper()}, {"directory": "/a\0b"}])
def test_nothing_is_restored_from_a_backup_that_no_daemon_made(change: dict[str, str]) -> None:
    first, rest = small_backup().split(b"\n", 1)
    header = msgspec.json.decode(first.removesuffix(b',"records":[') + b"}") | change
    disk = disk_with(msgspec.json.encode(header)[:-1] + b',"records":[\n' + rest)
    with pytest.raises(DamagedState, match="line 1: not a"):
        check_backup(disk, FILE)


def interrupt_after(operations: int) -> Callable[[str], None]:
    left = iter(range(operations))

    def before(operation: str) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return before


def test_a_restore_that_is_interrupted_anywhere_leaves_everything_or_nothing_that_a_daemon_would_serve() -> None:
    content = small_backup()
    header = BackupReader(disk_with(content), FILE).header
    outcomes: set[str] = set()
    for stop_at in takewhile(lambda _: "whole" not in outcomes, count(1)):
        for seed in range(4):
            disk = disk_with(content)
            disk.before = interrupt_after(stop_at)
            try:
                restore_backup(disk, FILE, STATE, header.incarnation)
                outcomes.add("whole")
            except KeyboardInterrupt:
                pass
            found = disk.crash(Random(seed))
            try:
                daemon = Daemon(found, seed=7)
            except CannotStart:
                outcomes.add("refused")
                continue
            outcomes.add(f"{daemon.directory.size} IDs")
            assert daemon.directory.size == 3 or daemon.owner != header.incarnation
    assert outcomes == {"whole", "refused", "0 IDs", "3 IDs"}


def test_a_backup_is_not_restored_as_its_original_while_that_is_still_in_its_place() -> None:
    daemon = Daemon()
    create_id(daemon)
    header = BackupReader(disk_with(backed_up(daemon)), FILE).header
    with pytest.raises(StateUnusable, match="/state: the original is still there"):
        check_original_is_gone(daemon.disk, header)
    daemon.disk.remove(STATE / IDENTITY)
    check_original_is_gone(daemon.disk, header)


def test_the_freeze_of_a_daemon_is_in_its_backup() -> None:
    daemon = Daemon()
    create_id(daemon)
    result(Deferred.fromCoroutine(daemon.directory.freeze("moving")))
    content = backed_up(daemon)
    assert any(is_metadata(key) for key, _ in BackupReader(disk_with(content), FILE).records())
    assert restored(content, daemon.owner, daemon).directory.frozen == "moving"


def restart_from_backup(daemon: GossipDaemon, content: bytes, incarnation: str) -> GossipDaemon:
    """Return the peer that runs on a restored directory in place of `daemon`."""
    disk = disk_with(content)
    restore_backup(disk, FILE, STATE, incarnation)
    return daemon.restart(disk.kill())


def backup_of(daemon: GossipDaemon) -> bytes:
    """Return the backup of a peer."""
    result(daemon.journal.seal().addCallback(lambda through: compact(daemon.disk, STATE, through)))
    backups = Backups(daemon.disk, STATE, daemon.owner, lambda: succeed(None), daemon.threads, daemon.clock, lambda: 0)
    content: bytes = result(Deferred.fromCoroutine(_content(backups)))
    return content


def test_a_peer_restored_as_its_original_takes_what_it_granted_since_from_its_peers(three: Three, clock: Clock) -> None:
    _, (a, _, _) = three
    discovery_id = create_at(a)
    settle(clock, 1)
    content = backup_of(a)
    assert register_at(a, discovery_id, A) == [A]
    settle(clock, 1)
    a = restart_from_backup(a, content, a.owner)
    settle(clock, 3)
    assert register_at(a, discovery_id, B) == [A, B]
    assert a.is_ready


def test_a_restored_copy_beside_its_original_ends_with_both_deciding_nothing(
    three: Three, clock: Clock, logged_errors: list[dict[str, Any]]
) -> None:
    network, (a, b, c) = three
    discovery_id = create_at(a)
    settle(clock, 1)
    disk = disk_with(backup_of(a))
    restore_backup(disk, FILE, STATE, a.owner)
    copy = GossipDaemon(network, "d", ["b"], called="a", disk=disk.kill())
    settle(clock, 5)
    assert {event["why"] for event in logged_errors} == {f"two daemons run as incarnation {a.owner}"}
    logged_errors.clear()
    for each in (a, copy):
        with pytest.raises(StoreUnavailable):
            register_at(each, discovery_id, A)
    assert listed_at(b, discovery_id) == listed_at(c, discovery_id) == []
