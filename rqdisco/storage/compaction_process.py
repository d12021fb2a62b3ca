"""Run the compaction in a child process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure


class _Child(ProcessProtocol):
    """Collects the output of the child; cancelling `ended` kills the child."""

    transport: IProcessTransport

    def __init__(self) -> None:
        self.ended: Deferred[tuple[int, bytes]] = Deferred(lambda _: self._kill())
        self._output: list[bytes] = []

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self._output.append(data)

    def processEnded(self, reason: Failure) -> None:
        assert isinstance(reason.value, (ProcessDone, ProcessTerminated))
        status: int | None = reason.value.exitCode
        if not self.ended.called:
            self.ended.callback((-1 if status is None else status, b"".join(self._output)))

    def _kill(self) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")


def run_compaction(reactor: IReactorProcess, directory: Path, through: int) -> Deferred[tuple[int, bytes]]:
    """Compact `directory` up to segment `through`; fire with the exit status and the output.

    Cancelling kills the child, which must not replace the snapshot once this daemon has released the
    directory.
    """
    child = _Child()
    command = [sys.executable, "-m", "rqdisco.storage.compaction", str(directory), str(through)]
    reactor.spawnProcess(child, command[0], command, os.environ)
    return child.ended
