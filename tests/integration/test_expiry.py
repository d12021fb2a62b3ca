"""A real daemon forgets the IDs that nobody used, and a snapshot and a restart forget them too."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from rqdisco.backends.single.version_ages import VersionAges
from rqdisco.core import codec
from rqdisco.core.records import Moment
from rqdisco.storage.files import Disk
from rqdisco.storage.wal.recovery import recover
from rqdisco.storage.wal.segments import SegmentWriter
from tests.integration.conftest import Start

pytestmark = pytest.mark.process

DAYS = 30
DAY_MS = 24 * 60 * 60 * 1000


def make_old(state: Path) -> None:
    """Write version ages for a stopped daemon as if all records had been there for long."""
    owner = json.loads((state / "identity.json").read_text())["incarnation"]
    disk = Disk()
    found = recover(disk, state)
    version_ages = VersionAges(owner, DAYS * DAY_MS)
    segments = SegmentWriter(disk, state, found.position, found.boot, found.boot_id)
    for day in range(DAYS + 1):
        note = version_ages.advance(Moment(found.boot, day * DAY_MS), found.last_version)
        assert note is not None
        version_ages.learn(note)
    assert note is not None
    segments.commit([codec.encode_metadata(note)])
    segments.seal()


def test_unused_ids_are_forgotten_and_used_ones_are_not(start: Start, tmp_path: Path) -> None:
    state = tmp_path / "state"
    daemon = start(state)
    unused, used = daemon.create_id(), daemon.create_id()
    assert daemon.request("POST", f"/{used}", {"addr": "10.0.0.1:4001"}).status == 200
    assert daemon.terminate() == -signal.SIGTERM
    make_old(state)
    daemon = start(state, f"--expire-unused={DAYS}", "--snapshot-every=1", f"--audit={tmp_path / 'audit'}")
    daemon.wait_for("unused IDs deleted", own=1)
    assert daemon.request("GET", f"/{unused}").status == 404
    assert daemon.nodes(used) == ["10.0.0.1:4001"]
    assert daemon.request("GET", "/").document["unused_days"] == DAYS
    younger = daemon.create_id()
    daemon.wait_for("snapshot written", records=4)
    snapshot = (state / "snapshot.json").read_text()
    assert unused not in snapshot
    assert used in snapshot
    assert daemon.terminate() == -signal.SIGTERM
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [line["discovery_id"] for line in lines if line["event"] == "expiry"] == [unused]
    daemon = start(state)
    assert daemon.request("GET", f"/{unused}").status == 404
    assert daemon.nodes(used) == ["10.0.0.1:4001"]
    assert daemon.nodes(younger) == []
    assert daemon.complaints == []
