"""`rqdisco backup` of a running daemon under load, and the daemon that `rqdisco restore` makes."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.process import DaemonProcess, Environment, ask
from tests.support.trio import Trio

pytestmark = pytest.mark.process


class Load:
    """Registers nodes in a thread, as fast as they are answered; `acknowledged` are those that
    were, each with its ID.
    """

    def __init__(self, daemon: DaemonProcess) -> None:
        self.acknowledged: list[tuple[str, str]] = []
        self._daemon = daemon
        self._ids = [daemon.create_id() for _ in range(5)]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        connection = self._daemon.connect()
        number = 0
        while not self._is_over.is_set():
            discovery_id, addr = self._ids[number % 5], f"10.0.{number // 250}.{number % 250}:4001"
            if ask(connection, "POST", f"/{discovery_id}", {"addr": addr}).status == 200:
                self.acknowledged.append((discovery_id, addr))
            number += 1


def test_a_backup_under_load_restores_everything_that_was_acknowledged_before_it(
    installed: Environment, start: Start, tmp_path: Path
) -> None:
    operator = tmp_path / "operator.sock"
    daemon = start(tmp_path / "state", f"--operator-socket={operator}", "--client-rate=0", "--snapshot-every=1")
    unused = daemon.create_id()
    with Load(daemon) as load:
        for number in range(3):
            before = list(load.acknowledged)
            made = installed.run("rqdisco", "--url", f"unix:{operator}", "backup", str(tmp_path / f"{number}.json"))
            assert (made.returncode, made.stdout) == (0, "")
            assert made.stderr == f"rqdisco: backed up 6 IDs to {tmp_path / f'{number}.json'}\n"
    assert len(before) > 50, "there was load"
    assert daemon.complaints == []
    daemon.kill()

    refused = installed.run(
        "rqdisco", "restore", str(tmp_path / "2.json"), "--data-dir", str(tmp_path / "new"), "--original-is-gone"
    )
    assert (refused.returncode, "the original is still there" in refused.stderr) == (1, True)
    shutil.rmtree(tmp_path / "state")
    restored = installed.run(
        "rqdisco", "restore", str(tmp_path / "2.json"), "--data-dir", str(tmp_path / "new"), "--original-is-gone"
    )
    assert restored.returncode == 0, restored.stderr
    daemon = start(tmp_path / "new")
    listed = {discovery_id: set(daemon.nodes(discovery_id)) for discovery_id, _ in before}
    assert [each for each in before if each[1] not in listed[each[0]]] == []
    answer = daemon.request("POST", f"/{unused}", {"addr": "10.1.0.1:4001"})
    assert json.loads(answer.body)["nodes"] == ["10.1.0.1:4001"], "it is told to bootstrap"


def test_a_peer_restored_as_its_original_takes_what_it_granted_after_the_backup_from_its_peers(
    installed: Environment, start: Start, tmp_path: Path
) -> None:
    trio = Trio(start, tmp_path)
    discovery_id = trio.daemons["a"].create_id()
    backup = str(tmp_path / "backup.json")
    made = installed.run("rqdisco", "--url", f"unix:{trio.socket('a')}", "backup", backup)
    assert made.returncode == 0, made.stderr
    assert trio.register("a", discovery_id, "n1:4001") == (200, ["n1:4001"])
    trio.daemons["a"].kill()
    shutil.rmtree(trio.state("a"))
    restored = installed.run("rqdisco", "restore", backup, "--data-dir", str(trio.state("a")), "--original-is-gone")
    assert restored.returncode == 0, restored.stderr
    trio.start("a").wait_for("peers agree", count=3)
    assert trio.register("b", discovery_id, "n2:4001") == (200, ["n1:4001", "n2:4001"])
    assert trio.complaints == []
