"""A full disk: writes are refused with a reason, reads continue, and no restart is needed once
there is room.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import PATIENCE, DaemonProcess, Environment, Reply

pytestmark = pytest.mark.process


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte. Mounting it needs root, as all tests of a full disk do."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte of room; return the file to remove for room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return ballast


def create_until_refused(daemon: DaemonProcess, most: int = 100) -> tuple[list[str], Reply]:
    """Create IDs until one is refused; return those that still fit the current page, and the
    refusal.
    """
    created: list[str] = []
    while (reply := daemon.request("POST", "/")).status == 200:
        created.append(reply.document["disco_id"])
        assert len(created) < most
    return created, reply


def assert_refused(reply: Reply) -> None:
    assert (reply.status, reply.reason) == (503, "store unavailable: no space left on device")
    assert reply.document == {"error": "store unavailable", "reason": "no space left on device"}
    assert int(reply.headers["retry-after"]) > 0


def test_a_full_disk_refuses_writes_until_there_is_room(start: Start, small_disk: Path) -> None:
    daemon = start(small_disk / "state")
    first, used = daemon.create_id(), daemon.create_id()
    daemon.request("POST", f"/{used}", {"addr": "10.0.0.1:4001"})
    ballast = fill(small_disk)
    created, refusal = create_until_refused(daemon)
    assert_refused(refusal)
    for _ in range(3):
        assert_refused(daemon.request("POST", f"/{first}", {"addr": "10.0.0.1:4001"}))
        assert_refused(daemon.request("POST", f"/{used}", {"addr": "10.0.0.2:4001"}))
        assert_refused(daemon.request("DELETE", f"/{used}", {"addr": "10.0.0.1:4001"}))
    assert (daemon.nodes(first), daemon.nodes(used)) == ([], ["10.0.0.1:4001"])

    daemon.kill()
    daemon = start(small_disk / "state")
    assert daemon.request("GET", "/").document["ids"] == len(created) + 2
    assert (daemon.nodes(first), daemon.nodes(used)) == ([], ["10.0.0.1:4001"])
    assert_refused(daemon.request("POST", f"/{first}", {"addr": "10.0.0.1:4001"}))
    reply = daemon.request("POST", f"/{used}", {"addr": "10.0.0.1:4001"})
    assert (reply.status, reply.document["nodes"]) == (200, ["10.0.0.1:4001"])

    ballast.unlink()
    reply = daemon.request("POST", f"/{first}", {"addr": "10.0.0.2:4001"})
    assert (reply.status, reply.document["nodes"]) == (200, ["10.0.0.2:4001"])
    assert daemon.complaints == []
    assert daemon.terminate() == -15

    daemon = start(small_disk / "state")
    assert daemon.nodes(first) == ["10.0.0.2:4001"]
    assert [daemon.nodes(discovery_id) for discovery_id in created] == [[]] * len(created)


def test_room_on_the_disk_is_used_without_a_restart(start: Start, small_disk: Path) -> None:
    daemon = start(small_disk / "state")
    daemon.create_id()
    for _ in range(3):
        ballast = fill(small_disk)
        created, refusal = create_until_refused(daemon)
        assert_refused(refusal)
        ballast.unlink()
        assert [daemon.nodes(discovery_id) for discovery_id in (*created, daemon.create_id())] == [[]] * (
            len(created) + 1
        )
    daemon.kill()
    start(small_disk / "state")


def test_the_disk_reserve_is_left_to_snapshots(start: Start, small_disk: Path) -> None:
    ballast = fill(small_disk)
    os.truncate(ballast, ballast.stat().st_size - (300 << 10))
    daemon = start(small_disk / "state", "--snapshot-every=1", "--disk-reserve=200K")
    discovery_id = daemon.create_id()
    created, refusal = create_until_refused(daemon, 5000)
    assert (refusal.status, refusal.reason) == (
        503,
        "store unavailable: only the disk reserve is left (--disk-reserve)",
    )
    daemon.wait_for("snapshot written")
    assert daemon.nodes(discovery_id) == []
    ballast.unlink()
    for each in (discovery_id, *created[-3:]):
        reply = daemon.request("POST", f"/{each}", {"addr": "10.0.0.1:4001"})
        assert (reply.status, reply.document["nodes"]) == (200, ["10.0.0.1:4001"])


def test_a_snapshot_waits_for_room(start: Start, small_disk: Path) -> None:
    daemon = start(small_disk / "state", "--snapshot-every=1")
    discovery_id = daemon.create_id()
    daemon.wait_for("snapshot written")
    daemon.create_id()
    ballast = fill(small_disk)
    since = len(daemon.events)
    create_until_refused(daemon)
    daemon.wait_for("snapshot failed: [Errno 28] No space left on device", since)
    assert daemon.nodes(discovery_id) == []
    ballast.unlink()
    daemon.wait_for("snapshot written", since)
    assert not (small_disk / "state" / "snapshot.json.new").exists()


def test_a_new_directory_on_a_full_disk_is_74(installed: Environment, small_disk: Path) -> None:
    ballast = fill(small_disk)
    result = installed.run(*installed.twistd(small_disk / "state"))
    assert result.returncode == 74
    assert result.stderr.startswith(f"rqdisco: {small_disk / 'state'}")
    assert "No space left on device" in result.stderr
    assert result.stderr.count("\n") == 1
    ballast.unlink()
    daemon = installed.start(*installed.twistd(small_disk / "state"))
    assert daemon.terminate() == -15


def test_a_failing_disk_ends_the_daemon_with_74(start: Start, tmp_path: Path) -> None:
    """A write that fails for another reason than lack of room: 503 to the waiting client, and an
    exit.
    """
    daemon = start(tmp_path / "state")
    discovery_id = daemon.create_id()
    (segment,) = (tmp_path / "state" / "journal").iterdir()
    size = segment.stat().st_size + 10
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, size))
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"})
    assert (reply.status, reply.reason) == (503, "store unavailable: writing to the disk failed")
    assert daemon.process.wait(PATIENCE) == 74
    reason = f"{segment}: File too large"
    daemon.wait_for(f"journal failed, nothing can be acknowledged any more: {reason}")
    daemon = start(tmp_path / "state")
    assert daemon.nodes(discovery_id) == []
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.2:4001"})
    assert reply.document["nodes"] == ["10.0.0.2:4001"]
