"""Nothing acknowledged is lost, whatever ends the process and whenever it does."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random

import pytest

from tests.integration.conftest import Start
from tests.support.process import DaemonProcess, ask
from tests.support.reference import Reference

pytestmark = pytest.mark.process

WRITERS = 32
ROUNDS = 20


class Ledger:
    """The acknowledged registrations of each ID. Nothing is removed, so each list is the beginning of
    every longer one.
    """

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.lists: dict[str, list[str]] = {}
        self.acknowledged = 0
        self.unanswered: list[tuple[str, str]] = []
        self.touched: set[str] = set()
        self._alone: dict[str, str] = {}
        self._fresh: list[str] = []
        self._addresses = 0
        self._lock = threading.Lock()

    def next_registration(self) -> tuple[str, str] | None:
        """Return the ID and address to register next; None: time for another ID."""
        with self._lock:
            if self.unanswered:
                return self.unanswered.pop()
            if not self._fresh or self.random.random() < 0.2:
                return None
            self._addresses += 1
            return self.random.choice(self._fresh[-4:]), f"10.0.0.1:{self._addresses}"

    def created(self, discovery_id: str) -> int:
        """Record and count a created ID."""
        with self._lock:
            assert discovery_id not in self.lists
            self.lists[discovery_id] = []
            self._fresh.append(discovery_id)
            self.touched.add(discovery_id)
            self.acknowledged += 1
            return self.acknowledged

    def registered(self, discovery_id: str, addr: str, nodes: list[str]) -> int:
        """Record and count a registration."""
        with self._lock:
            assert addr in nodes
            if nodes == [addr]:
                assert self._alone.setdefault(discovery_id, addr) == addr
            self._agree(discovery_id, nodes)
            self.acknowledged += 1
            return self.acknowledged

    def lost(self, registration: tuple[str, str] | None) -> None:
        """Record a registration with an unknown outcome: its node repeats it some time."""
        if registration is not None:
            with self._lock:
                self.unanswered.append(registration)

    def copy(self) -> dict[str, list[str]]:
        """Return all lists as they are acknowledged now."""
        with self._lock:
            return {discovery_id: list(nodes) for discovery_id, nodes in self.lists.items()}

    def check(self, daemon: DaemonProcess, *, everything: bool = False) -> None:
        """Compare with the lists of the daemon for the IDs touched since the last call, or for
        all.
        """
        with closing(daemon.connect()) as connection:
            for discovery_id in self.lists if everything else self.touched:
                reply = ask(connection, "GET", f"/{discovery_id}")
                assert reply.status == 200, reply
                nodes = reply.document["nodes"]
                assert len(nodes) >= len(self.lists[discovery_id])
                self._agree(discovery_id, nodes)
        self.touched.clear()

    def _agree(self, discovery_id: str, nodes: list[str]) -> None:
        known = self.lists[discovery_id]
        shorter, longer = sorted((known, nodes), key=len)
        assert longer[: len(shorter)] == shorter
        assert len(set(longer)) == len(longer)
        self.lists[discovery_id] = longer
        self.touched.add(discovery_id)


def write(daemon: DaemonProcess, ledger: Ledger, acknowledgements: int, then: Callable[[], object]) -> None:
    """Write with many threads at once; meanwhile, after this many acknowledgements, call `then`,
    and end.
    """
    goal = ledger.acknowledged + acknowledgements
    ending, ended = threading.Event(), threading.Event()

    def write_on() -> None:
        with closing(daemon.connect()) as connection:
            write_over(connection)

    def write_over(connection: HTTPConnection) -> None:
        while not ended.is_set():
            registration = ledger.next_registration()
            try:
                count = write_one(connection, ledger, registration)
            except (OSError, HTTPException):
                assert ending.is_set(), "the daemon ended by itself"
                ledger.lost(registration)
                return
            if count == goal:
                ending.set()
                try:
                    then()
                finally:
                    ended.set()

    with ThreadPoolExecutor(WRITERS) as pool:
        for result in [pool.submit(write_on) for _ in range(WRITERS)]:
            result.result()
    assert ended.is_set()


def write_one(connection: HTTPConnection, ledger: Ledger, registration: tuple[str, str] | None) -> int:
    """Make one acknowledged write; return how many there were until then."""
    path, document = ("/", None) if registration is None else (f"/{registration[0]}", {"addr": registration[1]})
    reply = ask(connection, "POST", path, document)
    assert reply.status == 200, reply
    if registration is None:
        return ledger.created(reply.document["disco_id"])
    return ledger.registered(*registration, reply.document["nodes"])


def test_kill_9_loses_nothing_acknowledged(start: Start, tmp_path: Path) -> None:
    ledger = Ledger()
    daemon = start(tmp_path / "state")
    for _ in range(ROUNDS):
        write(daemon, ledger, ledger.random.randrange(40, 400), daemon.kill)
        assert daemon.process.returncode == -signal.SIGKILL
        daemon = start(tmp_path / "state")
        ledger.check(daemon)
    ledger.check(daemon, everything=True)
    assert daemon.complaints == []


def test_kill_9_during_snapshots_loses_nothing_acknowledged(start: Start, tmp_path: Path) -> None:
    ledger = Ledger(1)
    daemon = start(tmp_path / "state", "--snapshot-every=1")
    for _ in range(4):
        write(daemon, ledger, ledger.random.randrange(40, 400), lambda: None)
        daemon.wait_for("snapshot written")
        write(daemon, ledger, ledger.random.randrange(40, 400), daemon.kill)
        daemon = start(tmp_path / "state", "--snapshot-every=1")
        ledger.check(daemon, everything=True)


def test_sigterm_under_load_exits_cleanly_and_loses_nothing(start: Start, tmp_path: Path) -> None:
    ledger = Ledger(2)
    for _ in range(3):
        daemon = start(tmp_path / "state")
        write(daemon, ledger, ledger.random.randrange(40, 400), daemon.terminate)
        assert daemon.process.returncode == -signal.SIGTERM
        assert daemon.complaints == []
        assert daemon.stderr == ""
    ledger.check(start(tmp_path / "state"), everything=True)


def test_sigterm_does_not_wait_for_idle_clients(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state")
    connection = daemon.connect()
    assert ask(connection, "GET", "/").status == 200
    with Reference() as reference:
        began = time.monotonic()
        assert daemon.terminate() == -signal.SIGTERM
        assert time.monotonic() - began < reference.limit(4)
    connection.close()


def test_sighup_logs_the_status_and_the_daemon_continues(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state")
    discovery_id = daemon.create_id()
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.wait_for("status")["ids"] == 1
    since = len(daemon.events)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("status", since)
    assert daemon.nodes(discovery_id) == []


def test_a_copy_without_identity_lists_everything_acknowledged_before_it(start: Start, tmp_path: Path) -> None:
    """Its IDs have another owner: they are listed and joined, and nobody is granted."""
    daemon, ledger = start(tmp_path / "state"), Ledger(3)
    before: dict[str, list[str]] = {}

    def copy() -> None:
        before.update(ledger.copy())
        shutil.copytree(tmp_path / "state", tmp_path / "copy")

    write(daemon, ledger, 500, copy)
    (tmp_path / "copy" / "identity.json").unlink()
    copied = start(tmp_path / "copy")
    for discovery_id, nodes in before.items():
        assert copied.nodes(discovery_id)[: len(nodes)] == nodes
        reply = copied.request("POST", f"/{discovery_id}", {"addr": "10.0.0.2:4001"})
        assert reply.status == (200 if nodes else reply.status)
        if reply.status == 200:
            assert len(reply.document["nodes"]) > 1
        else:
            assert (reply.status, reply.reason) == (410, "no owner, create a new ID")
    ledger.check(daemon, everything=True)


def test_a_snapshot_is_json_with_one_record_per_line(start: Start, tmp_path: Path) -> None:
    daemon, ledger = start(tmp_path / "state", "--snapshot-every=1"), Ledger(4)
    for _ in range(2):
        write(daemon, ledger, 200, lambda: None)
        daemon.wait_for("snapshot written", records=len(ledger.lists))
    daemon.kill()
    content = (tmp_path / "state" / "snapshot.json").read_text()
    records = json.loads(content)["records"]
    assert [json.loads(line.rstrip(",")) for line in content.splitlines()[1:-1]] == records
    assert [record["id"] for record in records] == sorted(ledger.lists)
    for record in records:
        nodes = [node["addr"] for node in record.get("nodes", [])]
        assert ledger.lists[record["id"]][: len(nodes)] == nodes
    ledger.check(start(tmp_path / "state"), everything=True)
