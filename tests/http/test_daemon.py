"""The whole daemon as twistd runs it, on a real disk and a real port, inside the process of the
test.
"""

from __future__ import annotations

import json
import signal
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import treq
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred

from rqdisco.storage.compaction_process import run_compaction
from rqdisco.storage.files import Disk
from rqdisco.storage.wal.segments import segment_path
from rqdisco.tap import Options, makeService
from tests.support.logs import observed_by
from tests.support.process import PATIENCE


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []
    hangup = signal.getsignal(signal.SIGHUP)
    with observed_by(seen.append):
        yield seen
        signal.signal(signal.SIGHUP, hangup)


def parsed(directory: Path, *arguments: str) -> Options:
    options = Options({})
    options.parseOptions(["--listen=tcp:0:interface=127.0.0.1", f"--data-dir={directory}", *arguments])
    return options


class Running:
    """A daemon between start and stop."""

    def __init__(self, directory: Path, events: list[dict[str, Any]], *arguments: str) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.service = makeService(parsed(directory, *arguments))
        self.service.startService()
        (listening,) = [event for event in events if event["log_format"] == "listening"][-1:]
        self.url = f"http://{listening['endpoints'][0]}"

    async def ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        response = await treq.request(
            method, self.url + path, json=body, reactor=self.reactor, persistent=False, allow_redirects=False
        )
        return await response.json()

    async def stop(self) -> None:
        stopping = self.service.stopService()
        assert stopping is not None
        await stopping


def describe_states(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


@ensureDeferred
async def test_registrations_survive_a_restart(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    daemon = Running(tmp_path / "state", events)
    discovery_id = (await daemon.ask("POST", "/"))["disco_id"]
    assert (await daemon.ask("POST", f"/{discovery_id}", {"addr": "a:1"}))["nodes"] == ["a:1"]
    await daemon.stop()
    assert describe_states(tmp_path / "state") == [
        "identity.json",
        "journal",
        "journal/0000000001.journal",
        "lock",
    ]
    (tmp_path / "state/lock").unlink()
    again = Running(tmp_path / "state", events)
    assert (await again.ask("GET", f"/{discovery_id}"))["nodes"] == ["a:1"]
    assert (await again.ask("POST", f"/{discovery_id}", {"addr": "b:1"}))["nodes"] == ["a:1", "b:1"]
    assert (await again.ask("POST", f"/{discovery_id}", {"addr": "a:1"}))["nodes"] == ["a:1"], "the window is open"
    assert (await again.ask("GET", "/"))["ids"] == 1
    await again.stop()


@ensureDeferred
async def test_each_change_is_one_log_line_with_its_client_and_outcome(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    daemon = Running(tmp_path, events)
    discovery_id = (await daemon.ask("POST", "/"))["disco_id"]
    for method, addr in (("POST", "a:1"), ("POST", "b:1"), ("POST", "a:1"), ("POST", "a b"), ("DELETE", "a:1")):
        await daemon.ask(method, f"/{discovery_id}", {"addr": addr})
    await daemon.stop()
    lines = [
        (event["log_format"], event["addr"], event["result"])
        for event in events
        if event.get("discovery_id") == discovery_id and event.get("peer") == "127.0.0.1" and "result" in event
    ]
    assert lines == [
        ("create", None, "created"),
        ("registration", "a:1", "granted"),
        ("registration", "b:1", "listed"),
        ("registration", "a:1", "again"),
        ("registration", None, "refused: invalid address: contains white space"),
        ("removal", "a:1", "removed"),
    ]


@ensureDeferred
async def test_a_doubtful_address_is_a_warning_that_names_who_registered_it(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    daemon = Running(tmp_path, events)
    discovery_id = (await daemon.ask("POST", "/"))["disco_id"]
    await daemon.ask("POST", f"/{discovery_id}", {"addr": "0.0.0.0:4001"})
    await daemon.ask("DELETE", f"/{discovery_id}", {"addr": "0.0.0.0:4001"})
    await daemon.stop()
    warnings = [event for event in events if event["log_level"].name == "warn"]
    assert [(event["log_format"], event["discovery_id"]) for event in warnings] == [
        ("doubtful address", discovery_id),
        ("no nodes left, the next to register is told to bootstrap", discovery_id),
    ]
    assert warnings[0]["peer"] == "127.0.0.1"


@ensureDeferred
async def test_a_child_process_compacts_the_journal_into_a_snapshot(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    daemon = Running(tmp_path, events)
    discovery_id = (await daemon.ask("POST", "/"))["disco_id"]
    await daemon.stop()
    status, output = await run_compaction(daemon.reactor, tmp_path, 1)
    assert (status, output) == (0, b"1\n")
    assert [record["id"] for record in json.loads((tmp_path / "snapshot.json").read_bytes())["records"]] == [
        discovery_id
    ]
    status, output = await run_compaction(daemon.reactor, tmp_path, 9)
    assert status == 1
    assert b"0000000002.journal: missing" in output


@ensureDeferred
async def test_a_compaction_that_is_no_longer_awaited_is_killed_and_changes_nothing(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    daemon = Running(tmp_path, events)
    await daemon.ask("POST", "/")
    await daemon.stop()
    compacting = run_compaction(daemon.reactor, tmp_path, 1)
    compacting.cancel()
    with pytest.raises(CancelledError):
        await compacting
    assert not (tmp_path / "snapshot.json").exists()


@ensureDeferred
async def test_two_compactions_never_write_at_once(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    daemon = Running(tmp_path, events)
    await daemon.ask("POST", "/")
    await daemon.stop()
    assert Disk().lock(tmp_path / "fold.lock")
    status, output = await run_compaction(daemon.reactor, tmp_path, 1)
    assert (status, output) == (1, f"{tmp_path}/fold.lock: another compaction is running\n".encode())


@ensureDeferred
async def test_a_hangup_signal_logs_the_status(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    daemon = Running(tmp_path, events)
    seen: Deferred[dict[str, Any]] = Deferred()

    def observer(event: dict[str, Any]) -> None:
        if event["log_format"] == "status" and not seen.called:
            seen.callback(event)

    with observed_by(observer):
        signal.raise_signal(signal.SIGHUP)
        event = await seen
    assert (event["ids"], event["wrong"]) == (0, None)
    await daemon.stop()


def _damage(path: Path) -> None:
    segment = segment_path(path, 1)
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"garbage")
    segment_path(path, 2).write_bytes(b"garbage")


def _copy(path: Path) -> None:
    path.mkdir()
    (path / "journal").mkdir()
    crc = f"{zlib.crc32(b'0000000000000000 1'):08x}"
    identity = {"format": "rqdisco identity", "version": 1, "incarnation": "0" * 16, "inode": "1", "crc": crc}
    (path / "identity.json").write_text(json.dumps(identity))


@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        (lambda path: path.write_text("a file"), 74, "name a directory that can be read and written"),
        (_damage, 65, "0000000001.journal: byte 0"),
        (_copy, 78, "is a copy"),
    ],
)
def test_an_unusable_state_directory_ends_the_process_with_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], prepare: Any, status: int, words: str
) -> None:
    prepare(tmp_path / "state")
    with pytest.raises(SystemExit) as ended:
        makeService(parsed(tmp_path / "state"))
    assert ended.value.code == status
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert words in error


def test_an_endpoint_that_cannot_be_parsed_is_a_usage_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        makeService(parsed(tmp_path, "--listen=nonsense:1"))
    assert ended.value.code == 64
    assert "--listen nonsense:1" in capfd.readouterr().err


@ensureDeferred
async def test_a_connection_not_yet_accepted_is_answered_by_a_daemon_that_stops(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    daemon = Running(tmp_path, events)
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        # The reactor has no turn before it stops: only the kernel knows of this client.
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await daemon.stop()
        assert client.recv(10_000).startswith(b"HTTP/1.1 200 OK\r\n")


async def create_and_register(daemon: Running) -> tuple[Any, Any]:
    """Return whether the daemon is ready, and the answer to the first node of a new ID."""
    discovery_id = (await daemon.ask("POST", "/"))["disco_id"]
    return await daemon.ask("GET", "/readyz"), await daemon.ask("POST", f"/{discovery_id}", {"addr": "a:1"})


@ensureDeferred
async def test_a_daemon_that_drains_keeps_serving_and_reports_that_it_stops(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    before = Running(tmp_path / "before", events)
    began = monotonic()
    await create_and_register(before)
    drains = max(0.5, 20 * (monotonic() - began))
    await before.stop()

    daemon = Running(tmp_path / "state", events, f"--drain-timeout={drains}")
    stopping = daemon.service.stopService()
    answer, registered = await create_and_register(daemon)
    is_over = stopping.called
    await stopping
    assert answer == {"ready": False, "wrong": ["the daemon is stopping"], "notes": []}
    assert registered["nodes"] == ["a:1"]
    assert not is_over
