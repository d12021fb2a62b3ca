"""Three members of the model, and three real ones, as one thing to be tested."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.http_client.interfaces import PostReply
from tests.support.etcd.gateway import TIMEOUT, Gateway
from tests.support.etcd.memory import ModelStreams, ModelTransport, model_on
from tests.support.etcd.model import Saved
from tests.support.etcd.real import RealEtcd
from tests.support.etcd.subjects import Answered, MemoryWatching, OverHTTP, Watching, watch_body
from tests.support.process import PATIENCE

NAMES = ("e1", "e2", "e3")
STATUS = "/v3/maintenance/status"


class Sent(Protocol):
    """A request on its way."""

    def result(self) -> Answered:
        """Wait for its answer."""


class Cluster(Protocol):
    """Three members, e1 to e3."""

    def send(self, name: str, path: str, document: object) -> Sent:
        """Send a request to a member."""

    def watch(self, name: str, requests: Sequence[object]) -> Watching:
        """Open a stream that needs a leader."""

    def stop(self, name: str) -> None:
        """Kill a member."""

    def start(self, name: str) -> None:
        """Start a member that was killed, and wait until it serves."""

    def hang(self, name: str) -> None:
        """Stop a member's process for a while."""

    def resume(self, name: str) -> None:
        """Let it go on."""

    def leader(self) -> str:
        """Wait until there is a leader; return its name."""

    def miss_leader(self, name: str) -> None:
        """Wait until a member knows no leader."""

    def pass_time(self, seconds: float) -> None:
        """Have time pass where it is not the real one."""

    def save(self) -> None:
        """Make a backup of all members."""

    def restore(self) -> None:
        """Put the backup back."""

    def close(self) -> None:
        """End it."""


class _InMemorySent:
    def __init__(self, clock: Clock, answer: Deferred[PostReply]) -> None:
        self._clock = clock
        self._replies: list[PostReply] = []
        answer.addCallback(self._replies.append)

    def result(self) -> Answered:
        if not self._replies:
            self._clock.advance(2 * TIMEOUT)
        (reply,) = self._replies
        return Answered(reply.status, json.loads(reply.body))


class ModelCluster:
    """Three members of the model, in memory."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.model = model_on(self.clock, NAMES)
        gateway, members = Gateway(self.model), {name: name for name in NAMES}
        self._transport = ModelTransport(gateway, members, self.clock)
        self._streams = ModelStreams(gateway, members, self.clock)
        self._saved: Saved | None = None
        self.stop, self.start = self.model.stop, self.model.start
        self.hang, self.resume = self.model.hang, self._resume

    def send(self, name: str, path: str, document: object) -> Sent:
        body = json.dumps(document).encode()
        return _InMemorySent(self.clock, self._transport.post(name, path, body, None, PATIENCE))

    def watch(self, name: str, requests: Sequence[object]) -> Watching:
        return MemoryWatching(self._streams, name, watch_body(requests), None)

    def leader(self) -> str:
        assert self.model.leader is not None
        return self.model.leader.name

    def miss_leader(self, name: str) -> None:
        self.model.notice(name)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def save(self) -> None:
        self._saved = self.model.save()

    def restore(self) -> None:
        assert self._saved is not None
        self.model.restore(self._saved)

    def close(self) -> None:
        """Nothing is open."""

    def _resume(self, name: str) -> None:
        self.model.resume(name)
        self.model.decide()


class _RealSent:
    def __init__(self, answered: Future[Answered]) -> None:
        self._answered = answered

    def result(self) -> Answered:
        return self._answered.result(PATIENCE)


class RealCluster:
    """Three real members."""

    def __init__(self, directory: Path) -> None:
        self._backups = directory / "backups"
        self._etcd = RealEtcd(directory, len(NAMES))
        self._threads = ThreadPoolExecutor(8)
        self.endpoints = self._etcd.endpoints
        self.stop = lambda name: self._etcd.members[name].kill()
        self.start = self._etcd.start
        self.hang = lambda name: self._etcd.members[name].hang()
        self.resume = lambda name: self._etcd.members[name].resume()

    def send(self, name: str, path: str, document: object) -> Sent:
        member = OverHTTP(self._etcd.members[name].endpoint)
        answered = self._threads.submit(member.post, path, document)
        answered.add_done_callback(lambda _: member.close())
        return _RealSent(answered)

    def watch(self, name: str, requests: Sequence[object]) -> Watching:
        return OverHTTP(self._etcd.members[name].endpoint).watch(requests)

    def leader(self) -> str:
        names: list[str] = []

        def elected() -> bool:
            names[:] = filter(None, [self._etcd.leader()])
            return bool(names) and self._etcd.members[names[0]].answers()

        _wait(elected)
        return names[0]

    def miss_leader(self, name: str) -> None:
        member = self._etcd.members[name]
        _wait(lambda: "leader" not in member.post(STATUS, {}).document)

    def pass_time(self, seconds: float) -> None:
        """It passes by itself."""

    def save(self) -> None:
        self._etcd.save(self._backups)

    def restore(self) -> None:
        self._etcd.restore(self._backups)

    def close(self) -> None:
        self._etcd.close()
        self._threads.shutdown()


def _wait(until: Callable[[], bool]) -> None:
    """Ask until something is so: etcd does not tell."""
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)
