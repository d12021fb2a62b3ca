"""The daemon's own files, when clients use all remaining descriptors."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import PATIENCE, PROJECT, DaemonProcess

pytestmark = pytest.mark.process

ALLOW = (
    "import resource, rqdisco.limits.descriptors as d;"
    " print(d.allow_connections(10_000), *resource.getrlimit(resource.RLIMIT_NOFILE))"
)


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "raised"),
    [(1024, 15_000, 10_000, 10_512), (1024, 4096, 3584, 4096), (300, 300, 150, 300), (12_000, 15_000, 10_000, 12_000)],
)
def test_connections_are_limited_by_the_descriptors_left_over(soft: int, hard: int, allowed: int, raised: int) -> None:
    command = ["prlimit", f"--nofile={soft}:{hard}", sys.executable, "-c", ALLOW]
    output = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert list(map(int, output.split())) == [allowed, raised, hard]


def test_a_client_that_takes_all_connections_does_not_stop_the_journal_or_snapshots(
    start: Start, tmp_path: Path
) -> None:
    def bounded(command: list[str], environment: dict[str, str]) -> DaemonProcess:
        return DaemonProcess(["prlimit", "--nofile=700:700", *command], environment)

    daemon = start(tmp_path / "state", "--snapshot-every=1", run=bounded)
    idle = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) for _ in range(800)]
    for _ in range(2):
        since = len(daemon.events)
        discovery_id = daemon.create_id()
        reply = daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"})
        assert reply.document["nodes"] == ["10.0.0.1:4001"]
        daemon.wait_for("snapshot written", since)
    assert daemon.complaints == []
    for connection in idle:
        connection.close()
