"""Running the fold in a process of its own."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure


class _Child(ProcessProtocol):
    """Collects what the child prints, and ends it when nobody wants its result any more."""

    def __init__(self) -> None:
        self.ended: Deferred[tuple[int, bytes]] = Deferred(lambda _: self.end())
        self._output: list[bytes] = []

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.append(data)

    def processEnded(self, reason: Failure) -> None:
        status: Any = reason.value
        if not self.ended.called:
            self.ended.callback((-1 if status.exitCode is None else status.exitCode, b"".join(self._output)))

    def end(self) -> None:
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")


def run_compaction(reactor: IReactorProcess, directory: Path, through: int) -> Deferred[tuple[int, bytes]]:
    """Fold `directory` up to segment `through`; fire with the exit status and what was printed.

    Cancelled, the child is killed: it must not put a snapshot in place once this daemon has let go
    of the directory.
    """
    child = _Child()
    command = [sys.executable, "-m", "rqdisco.storage.compaction", str(directory), str(through)]
    reactor.spawnProcess(child, command[0], command, os.environ)
    return child.ended
