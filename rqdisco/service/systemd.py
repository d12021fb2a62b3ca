"""Notifies systemd of the daemon's state: READY, STOPPING and the watchdog (sd_notify(3),
sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall


class Notifier(Service):
    """Sends states to the socket that systemd names in the environment; does nothing without one.

    The reactor feeds the watchdog at half its interval, so that a stuck reactor shows.
    """

    def __init__(self, clock: IReactorTime, environment: Mapping[str, str], pid: int) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        mine = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        self._interval = int(environment.get("WATCHDOG_USEC", "0")) / 2_000_000 if mine else 0.0
        self._feeding = LoopingCall(self.notify, "WATCHDOG=1")
        self._feeding.clock = clock

    def startService(self) -> None:
        """Report the daemon as ready."""
        super().startService()
        self.notify("READY=1")
        if self._interval > 0:
            self._feeding.start(self._interval)

    def stopService(self) -> None:
        super().stopService()
        if self._feeding.running:
            self._feeding.stop()
        self.notify("STOPPING=1")

    def notify(self, state: str) -> None:
        """Send one assignment. Errors are ignored: the daemon serves on without systemd."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(state.encode(), self._address)
