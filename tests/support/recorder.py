"""Clients of several daemons; every request and answer is recorded and judged at the end."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from itertools import count
from threading import Lock
from time import monotonic
from typing import TypeAlias

from tests.support.history import Answer, History, Kind, Operation
from tests.support.linearizable import Verdict, check
from tests.support.one_list import Rules
from tests.support.process import DaemonProcess, Reply, ask
from tests.support.rqlited import Node, RqliteNetwork, Version, nodes_in

# P4
ANSWER_SECONDS = 8.0
# How long clients wait, so that an answer that is late on an idle machine differs from one of a busy machine.
WAITS_SECONDS = 3 * ANSWER_SECONDS
ON_BEHALF = "listed on the owner's behalf"

Results: TypeAlias = dict[tuple[str, str], str]
"""The result of each registration, by its discovery ID and where it came from."""


class RecordedNode(Node):
    """A node that is restarted until it is in a cluster, and asks any of several daemons each
    time.
    """

    def __init__(
        self,
        recorder: Recorder,
        version: Version,
        addr: str,
        discovery_id: str,
        port: Callable[[], int],
        network: RqliteNetwork,
    ) -> None:
        super().__init__(version, addr, discovery_id, port, network)
        self._recorder = recorder
        self._id = discovery_id
        self._source = ""

    def _ask(self) -> tuple[int, str, bytes]:
        self._source = self._recorder.source()
        end = self._recorder.begin(self._id, "register", self.addr, self._source)
        answer: Answer | None = None
        try:
            status, reason, content = super()._ask()
            assert status in (200, 503), (status, reason)
            answer = tuple(nodes_in(content)) if status == 200 else 503
        finally:
            end(answer)
        return status, reason, content

    def _connected(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), WAITS_SECONDS, (self._source, 0))


class Recorder:
    """Keeps a history for each discovery ID.

    Each request comes from an address of its own in 127.0.0.0/8. So the daemons' logs show for each
    answer whether it was given on the owner's behalf, which the answer itself does not. Where nothing
    is forwarded, none is.
    """

    def __init__(self, *, forwards: bool = True) -> None:
        self._forwards = forwards
        self._took: list[tuple[float, str]] = []
        self._histories: dict[str, History] = {}
        self._sources: dict[tuple[str, int], str] = {}
        self._numbers = count(1)
        self._lock = Lock()

    def source(self) -> str:
        """Return an unused address of 127.0.0.0/8."""
        with self._lock:
            number = next(self._numbers)
        return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"

    def begin(self, discovery_id: str, kind: Kind, addr: str, source: str) -> Callable[[Answer | None], None]:
        """Record that a request is about to be sent; return the function to call with its answer. A
        read is answered by the owner.
        """
        with self._lock:
            history = self._histories.setdefault(discovery_id, History())
        begun = monotonic()
        token = history.begin(addr, kind, addr, begun)
        with self._lock:
            self._sources[discovery_id, token] = source

        def end(answer: Answer | None) -> None:
            ended = monotonic()
            if ended - begun >= ANSWER_SECONDS:
                text = f"{kind} {addr} under {discovery_id}: {answer} after {ended - begun:.1f} s"
                self._took.append((ended - begun, text))
            if answer is None:
                history.lose(token)
            else:
                history.end(token, answer, ended, consistent=kind == "read")

        return end

    def register(self, daemon: DaemonProcess, discovery_id: str, addr: str) -> Answer | None:
        """Return the answer to a node: a list, 503, or None if the daemon was gone."""
        return self._request(daemon, "register", discovery_id, addr)

    def remove(self, daemon: DaemonProcess, discovery_id: str, addr: str) -> Answer | None:
        """Like `register`."""
        return self._request(daemon, "remove", discovery_id, addr)

    def read(self, daemon: DaemonProcess, discovery_id: str) -> Answer | None:
        """Return the list as the owner answers it."""
        return self._request(daemon, "read", discovery_id, "")

    def acknowledged(self, discovery_id: str) -> set[str]:
        """Return all nodes whose registration was answered with a list."""
        operations = self._histories[discovery_id].operations
        return {each.addr for each in operations if each.kind == "register" and isinstance(each.answer, tuple)}

    def late(self, limit: float) -> list[str]:
        """Return the requests whose answers took at least `limit` seconds, which is no less than
        `ANSWER_SECONDS`.
        """
        return [text for seconds, text in self._took if seconds >= limit]

    def summary(self, daemons: Iterable[DaemonProcess]) -> str:
        """Summarize the answers."""
        daemons = list(daemons)
        operations = [each for known in self._histories for each in self.operations(known, daemons)]
        answers = Counter(_format_result(each) for each in operations)
        return f"{len(operations)} requests: " + ", ".join(f"{count} {what}" for what, count in sorted(answers.items()))

    def operations(self, discovery_id: str, daemons: Iterable[DaemonProcess]) -> list[Operation]:
        """Return all operations on one ID, with what the logs of all `daemons` that ever ran say of
        them.
        """
        results = _results(daemons)
        operations = self._histories[discovery_id].operations
        return [self._placed(discovery_id, token, each, results) for token, each in enumerate(operations)]

    def verdicts(self, daemons: Iterable[DaemonProcess], rules: Rules | None = None) -> dict[str, Verdict]:
        """Return the verdict on each ID."""
        daemons = list(daemons)
        return {each: check(self.operations(each, daemons), rules) for each in self._histories}

    def _placed(self, discovery_id: str, token: int, operation: Operation, results: Results) -> Operation:
        if operation.kind != "register" or not isinstance(operation.answer, tuple) or not self._forwards:
            return operation
        # A killed daemon may have logged nothing; such a list counts as the one that proves least.
        unknown = ON_BEHALF if len(operation.answer) > 1 else ""
        result = results.get((discovery_id, self._sources[discovery_id, token]), unknown)
        return replace(operation, local=result == ON_BEHALF)

    def _request(self, daemon: DaemonProcess, kind: Kind, discovery_id: str, addr: str) -> Answer | None:
        source = self.source()
        end = self.begin(discovery_id, kind, addr, source)
        answer: Answer | None = None
        try:
            reply = _asked(daemon, kind, discovery_id, addr, source)
            answer = 503 if reply.status == 503 else tuple(reply.document["nodes"])
        except (OSError, HTTPException):
            pass
        finally:
            end(answer)
        return answer


def _format_result(operation: Operation) -> str:
    match operation.answer:
        case None:
            return "lost"
        case 503:
            return "refused"
    return "answered on behalf" if operation.local else "answered"


def _asked(daemon: DaemonProcess, kind: Kind, discovery_id: str, addr: str, source: str) -> Reply:
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=WAITS_SECONDS, source_address=(source, 0))
    try:
        if kind == "read":
            reply = ask(connection, "GET", f"/{discovery_id}?consistent=1")
        else:
            method = "POST" if kind == "register" else "DELETE"
            reply = ask(connection, method, f"/{discovery_id}", {"addr": addr})
    finally:
        connection.close()
    assert reply.status in (200, 503), reply
    return reply


def _results(daemons: Iterable[DaemonProcess]) -> Results:
    """Return the result of each registration."""
    return {
        (event["discovery_id"], event["peer"]): event["result"]
        for daemon in daemons
        for event in list(daemon.events)
        if event.get("event") == "registration"
    }
