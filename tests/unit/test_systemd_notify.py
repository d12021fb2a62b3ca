"""The notifications that systemd gets."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from rqdisco.service.systemd import Notifier


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified_of_ready_watchdog_and_stopping(tmp_path: Path, abstract: bool) -> None:
    address = f"@rqdisco-{tmp_path.name}" if abstract else str(tmp_path / "not@ify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if abstract else address)
        clock = Clock()
        notifier = Notifier(clock, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000"}, 7)
        notifier.startService()
        clock.advance(10)
        notifier.stopService()
        received = [listener.recv(100) for _ in range(4)]
    assert received == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]
    assert clock.getDelayedCalls() == []


def test_nothing_is_notified_without_systemd_or_for_another_process(tmp_path: Path) -> None:
    clock = Clock()
    for environment in (
        {},
        {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"},
    ):
        notifier = Notifier(clock, environment, 7)
        notifier.startService()
        assert clock.getDelayedCalls() == []
        notifier.stopService()
