"""Three peer daemons, each behind a proxy that the others must use."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from types import TracebackType
from typing import TypeVar

from tests.support.process import PATIENCE, DaemonProcess
from tests.support.proxy import Proxy

KEY = "c2l4dGVlbiBieXRlcyBhcmUgZW5vdWdoIGhlcmU="
NAMES = "abc"
# systemd's default delay before a restart.
RESTART_SECONDS = 0.1

T = TypeVar("T")


class ProxiedPeers:
    """`start` starts a daemon on a directory with some options. The daemons advertise the ports of
    their proxies.
    """

    def __init__(self, start: Callable[..., DaemonProcess], directory: Path) -> None:
        self._start = start
        self._directory = directory
        self._stack = ExitStack()
        self.proxies = {name: self._stack.enter_context(Proxy()) for name in NAMES}
        self.daemons: dict[str, DaemonProcess] = {}
        self.all: list[DaemonProcess] = []
        (directory / "keys").write_text(f"{KEY}\n")

    def __enter__(self) -> ProxiedPeers:
        try:
            for name in NAMES:
                self.start(name)
            for daemon in self.all:
                daemon.wait_for("peers agree", count=len(NAMES))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, name: str) -> DaemonProcess:
        """Start a daemon, or restart it after it was killed."""
        others = [f"--peer={proxy.url}" for each, proxy in self.proxies.items() if each != name]
        daemon = self._start(
            self._directory / name,
            f"--name={name}",
            "--peer-listen=tcp:0:interface=127.0.0.1",
            f"--advertise={self.proxies[name].url}",
            f"--peer-keys={self._directory / 'keys'}",
            *others,
        )
        self._stack.callback(daemon.kill)
        self.proxies[name].target = int(daemon.wait_for("listening")["peers"][0].rpartition(":")[2])
        self.daemons[name] = daemon
        self.all.append(daemon)
        return daemon

    def stop(self, name: str) -> None:
        """Stop the daemon with SIGSTOP; its sockets stay open."""
        self.daemons[name].process.send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Continue the daemon after `stop`."""
        self.daemons[name].process.send_signal(signal.SIGCONT)

    def restore(self) -> None:
        """End all faults; return when each daemon can forward to each other."""
        for proxy in self.proxies.values():
            proxy.heal()
        for name, daemon in self.daemons.items():
            self.resume(name)
            if daemon.process.poll() is not None:
                self.start(name)
        for owner in self.daemons.values():
            discovery_id = owner.create_id()
            for api in self.daemons.values():
                at_last(partial(_is_forwarded, api, discovery_id))


def at_last(attempt: Callable[[], T | None], calm: Event | None = None) -> T:
    """Return the result of an attempt that is repeated, as a supervisor does, until it has one.

    Patience begins when `calm` is set: until then something causes faults.
    """
    patient_until = monotonic() + PATIENCE
    while not (outcome := attempt()):
        if calm is not None and not calm.is_set():
            patient_until = monotonic() + PATIENCE
        assert monotonic() < patient_until, f"never: {attempt}"
        Event().wait(RESTART_SECONDS)
    return outcome


def _is_forwarded(api: DaemonProcess, discovery_id: str) -> bool:
    return api.request("GET", f"/{discovery_id}?consistent=1").status == 200
