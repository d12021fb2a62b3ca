"""Snapshots are made beside the daemon, which neither waits for them nor leaves one behind."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import PATIENCE, DaemonProcess

pytestmark = pytest.mark.process


@contextmanager
def stuck_snapshot(daemon: DaemonProcess, state: Path) -> Iterator[int]:
    """Wait for the next snapshot to begin and hold it; yields a file that shows when the process
    that makes it is gone.

    It starts from the previous snapshot, which is replaced by a pipe without a writer.
    """
    snapshot, kept, pipe = state / "snapshot.json", state / "kept", state / "pipe"
    daemon.create_id()
    daemon.wait_for("snapshot written")
    os.mkfifo(pipe)
    snapshot.rename(kept)
    pipe.rename(snapshot)
    daemon.create_id()
    # Returns once the other end is open too.
    descriptor = os.open(snapshot, os.O_WRONLY)
    kept.rename(snapshot)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_the_daemon_serves_while_a_snapshot_is_stuck(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--snapshot-every=1")
    with stuck_snapshot(daemon, tmp_path / "state"):
        discovery_id = daemon.create_id()
        assert daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"}).status == 200
        since = len(daemon.events)
    daemon.wait_for("snapshot written", since, records=3)
    assert [event["level"] for event in daemon.events if "snapshot failed" in event["event"]] == ["warn"]
    assert daemon.complaints == []
    daemon.kill()
    assert start(tmp_path / "state").nodes(discovery_id) == ["10.0.0.1:4001"]


def test_sigterm_ends_a_snapshot_under_way(start: Start, tmp_path: Path) -> None:
    """The next daemon would start on a directory in which another process still renames and removes
    files.
    """
    daemon = start(tmp_path / "state", "--snapshot-every=1")
    with stuck_snapshot(daemon, tmp_path / "state") as descriptor:
        assert daemon.terminate() == -15
        reader = select.poll()
        reader.register(descriptor, 0)
        assert reader.poll(PATIENCE / 3 * 1000), "the process that makes the snapshot is still running"
    daemon = start(tmp_path / "state")
    assert daemon.request("GET", "/").document["ids"] == 2
