"""Clients that send all kinds of requests to all daemons, at a steady rate, and remember what was
acknowledged.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import NamedTuple

from benchmarks.peers import NAMES
from benchmarks.soak.cluster import ZONE, Where

THREADS = 8
CLIENT_SECONDS = 10.0
# Each client keeps this many registrations, so that state does not grow with time.
_STORED = 150
# The requests and their weights.
_MIX = {"read": 45, "register": 22, "remove": 22, "report": 4, "claim": 1, "create": 1, "dns": 5}
_NAMES, _WEIGHTS = list(_MIX), list(_MIX.values())
_FAULT = -1


class SlowRequest(NamedTuple):
    """One request: when it was due, its kind, its daemon, the seconds until its answer, its status;
    the reason if that is not 200.
    """

    due: float
    kind: str
    daemon: str
    took: float
    status: int
    reason: str


class Acknowledged:
    """The acknowledgements that one client received: addresses and keys that exist, and those
    removed.

    Anything not acknowledged is neither: it may have been done all the same.
    """

    def __init__(self) -> None:
        self.there: set[tuple[str, str]] = set()
        self.gone: set[tuple[str, str]] = set()
        self.created: list[str] = []
        self.led: dict[str, str] = {}


class Worker(threading.Thread):
    """A client of one daemon, `rate` requests a second. `is_calm` reports that no fault is
    active.
    """

    def __init__(
        self,
        number: int,
        name: str,
        rate: float,
        where: Callable[[], Where],
        ids: list[str],
        is_calm: Callable[[], bool],
        ending: threading.Event,
    ) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._name = name
        self._interval = 1 / rate
        self._where = where
        self._ids = ids
        self._is_calm = is_calm
        self._ending = ending
        self._random = random.Random(number)
        self._connection: http.client.HTTPConnection | None = None
        self._at: Where | None = None
        self._serial = count(1)
        self._mine: list[tuple[str, str]] = []
        self._keys: list[str] = []
        self._unanswered: tuple[str, dict[str, str]] | None = None
        self._reason = ""
        self.acknowledged = Acknowledged()
        self.asked: list[SlowRequest] = []
        self.skipped: list[float] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self.error = error

    def _run(self) -> None:
        due = time.monotonic() + self._random.random() * self._interval
        while not self._ending.is_set():
            now = time.monotonic()
            if now < due:
                time.sleep(due - now)
            kind = self._random.choices(_NAMES, _WEIGHTS)[0]
            if kind == "register" and len(self._mine) >= _STORED:
                kind = "remove"
            if kind == "remove" and not self._mine:
                kind = "register"
            if self._unanswered is not None or (kind == "report" and not self._keys):
                kind = "claim"
            status = getattr(self, f"_{kind}")()
            ended = time.monotonic()
            reason = "" if status == 200 else self._reason
            self.asked.append(SlowRequest(due, kind, self._name, ended - due, status, reason))
            due += self._interval
            while due < ended - self._interval:
                # All this time it waited for one answer.
                self.skipped.append(due)
                due += self._interval

    def _read(self) -> int:
        return self._ask("GET", f"/{self._random.choice(self._ids)}")[0]

    def _register(self) -> int:
        discovery_id = self._random.choice(self._ids)
        address = f"172.{self._number}.{next(self._serial)}:4001"
        calm = self._is_calm()
        status, _ = self._ask("POST", f"/{discovery_id}", {"addr": address})
        if status == 200:
            self.acknowledged.there.add((discovery_id, address))
            if calm and self._is_calm():
                # A registration on the owner's behalf cannot be removed before the owner has
                # received it.
                self._mine.append((discovery_id, address))
        return status

    def _remove(self) -> int:
        discovery_id, address = self._mine.pop(self._random.randrange(len(self._mine)))
        self.acknowledged.there.discard((discovery_id, address))
        status, _ = self._ask("DELETE", f"/{discovery_id}", {"addr": address})
        if status == 200:
            self.acknowledged.gone.add((discovery_id, address))
        return status

    def _create(self) -> int:
        status, answer = self._ask("POST", "/")
        if status == 200:
            self.acknowledged.created.append(json.loads(answer)["disco_id"])
        return status

    def _claim(self) -> int:
        key, value = self._unanswered or (f"soak-{self._number}-{next(self._serial)}", self._value())
        status, answer = self._ask("PUT", f"/v1/kv/{key}/leader?cas=0", value)
        # As a node does, ask again: until then only the owner of the key may show a claim that it won.
        self._unanswered = None if status == 200 else (key, value)
        if status == 200 and answer == b"true":
            self._keys.append(key)
            self.acknowledged.led[key] = json.dumps(value)
        return status

    def _report(self) -> int:
        key = self._random.choice(self._keys)
        # The same node reports again that it leads.
        status, _ = self._ask("PUT", f"/v1/kv/{key}/leader", json.loads(self.acknowledged.led[key]))
        return status

    def _value(self) -> dict[str, str]:
        node = f"172.{self._number}.{next(self._serial)}"
        return {"id": node, "api_addr": f"http://{node}:4001", "addr": f"{node}:4002"}

    def _dns(self) -> int:
        """Query the addresses of an ID; an answer in time counts as 200."""
        labels = f"{self._random.choice(self._ids)}.{ZONE}".split(".")
        name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
        question = (
            struct.pack("!6H", self._random.randrange(1 << 16), 0x100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(5)
            try:
                asking.sendto(question, self._where().dns)
                answer = asking.recv(4096)
            except OSError:
                return _FAULT
        return 200 if answer[:2] == question[:2] and answer[3] & 15 == 0 else 500 + (answer[3] & 15)

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return status and content; -1 where there was no answer."""
        at = self._where()
        if self._connection is None or at != self._at:
            self._close()
            self._at = at
            self._connection = http.client.HTTPConnection(*at.http, timeout=CLIENT_SECONDS)
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body))
            response = self._connection.getresponse()
            content = response.read()
            self._reason = response.reason
            return response.status, content
        except (OSError, http.client.HTTPException) as error:
            self._close()
            self._reason = repr(error)
            return _FAULT, b""

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def workers(
    rate: float,
    where: Callable[[str], Where],
    ids: list[str],
    is_calm: Callable[[], bool],
    ending: threading.Event,
) -> list[Worker]:
    """Return clients of all daemons, with this many requests a second together."""
    each = rate / len(NAMES) / THREADS
    return [
        Worker(number, name, each, partial(where, name), ids, is_calm, ending)
        for number, name in enumerate(NAMES * THREADS)
    ]
