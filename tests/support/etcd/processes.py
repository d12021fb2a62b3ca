"""Daemons in separate processes, in front of real etcd members, and what happens to all of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from time import monotonic
from types import TracebackType

from tests.support.etcd.real import RealEtcd
from tests.support.process import ANY_PORT, PATIENCE, DaemonProcess, Environment

NAMES = "abc"


def arguments(endpoints: Sequence[str], *options: str) -> list[str]:
    """Return the arguments that run a daemon of an etcd."""
    members = [f"--etcd={endpoint}" for endpoint in endpoints]
    return ["twistd", "--nodaemon", "--pidfile=", "rqdisco", f"--listen={ANY_PORT}", *members, *options]


class Events:
    """The event stream of an ID at a daemon."""

    def __init__(self, daemon: DaemonProcess, discovery_id: str) -> None:
        self._connection = daemon.connect()
        self._connection.request("GET", f"/{discovery_id}/events")
        self._response = self._connection.getresponse()
        assert self._response.status == 200

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def wait_for(self, nodes: Sequence[str]) -> None:
        """Return when an event has exactly these nodes. A stream without events has comments."""
        patient_until, seen = monotonic() + PATIENCE, b""
        while True:
            assert monotonic() < patient_until, f"no event with {nodes}, the last line is {seen!r}"
            line = seen = self._response.readline()
            assert line, "the stream ended"
            if line.startswith(b"data:") and json.loads(line[5:])["nodes"] == list(nodes):
                return


class EtcdTrio:
    """Three members of etcd and three daemons, started with the options `always`. Each has the members
    in an order of its own: the first begins with the first.
    """

    def __init__(self, installed: Environment, directory: Path, *always: str) -> None:
        self._installed = installed
        self._always = always
        self._stack = ExitStack()
        self.etcd = RealEtcd(directory, 3)
        self._stack.callback(self.etcd.close)
        self.daemons: dict[str, DaemonProcess] = {}
        self.all: list[DaemonProcess] = []

    def __enter__(self) -> EtcdTrio:
        try:
            with ThreadPoolExecutor(len(NAMES)) as pool:
                list(pool.map(self.start, NAMES))
            self.daemons = {name: self.daemons[name] for name in NAMES}
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def complaints(self) -> list[object]:
        """The faults that any daemon logged of itself so far."""
        return [each for daemon in self.all for each in (*daemon.complaints, *daemon.stderr.splitlines())]

    def start(self, name: str) -> DaemonProcess:
        """Start a daemon, or restart it; return when it uses etcd."""
        first = NAMES.index(name)
        endpoints = [*self.etcd.endpoints[first:], *self.etcd.endpoints[:first]]
        daemon = self._installed.start(*arguments(endpoints, "--wait-for-etcd=60", *self._always))
        self._stack.callback(daemon.kill)
        self.all.append(daemon)
        daemon.wait_for("etcd is in use")
        self.daemons[name] = daemon
        return daemon

    def strike(self, random: Random, wait: Callable[[float], object]) -> str:
        """Kill a member or a daemon and start it again, or stop one for a while; return what was
        done.
        """
        what = random.choice(("kill a member", "stop a member", "kill a daemon", "stop a daemon"))
        name = random.choice(tuple(self.etcd.members) if "member" in what else NAMES)
        seconds = random.choice((0.2, 0.9, 2.5) if "member" in what else (0.2, 0.9))
        match what:
            case "kill a member":
                self.etcd.members[name].kill()
                wait(min(seconds, 0.9))
                self.etcd.start(name, wait=False)
            case "stop a member":
                self.etcd.members[name].hang()
                wait(seconds)
                self.etcd.members[name].resume()
            case "kill a daemon":
                self.daemons[name].kill()
                self.start(name)
            case _:
                process = self.daemons[name].process
                process.send_signal(signal.SIGSTOP)
                wait(seconds)
                process.send_signal(signal.SIGCONT)
        return f"{what}: {name}, {seconds} s"
