"""The host names that the running daemon answers to, on each kind of listener."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.test_tokens import new
from tests.support.process import PATIENCE, Environment

pytestmark = pytest.mark.process

NAMES = ("127.0.0.1:4000", "localhost:4000", "disco.example", "evil.example")


def statuses(where: str, path: str = "/healthz", names: tuple[str, ...] = NAMES) -> list[int]:
    """Return the statuses of requests with these host names."""
    found = []
    for name in names:
        connection = http.client.HTTPConnection("127.0.0.1", timeout=PATIENCE)
        if where.startswith("unix:"):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(where.removeprefix("unix:"))
        else:
            connection.sock = socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), 30)
        connection.request("GET", path, headers={"Host": name})
        found.append(connection.getresponse().status)
        connection.close()
    return found


def test_each_loopback_listener_answers_to_its_names_and_all_others_to_any(start: Start, tmp_path: Path) -> None:
    daemon = start(
        tmp_path / "state",
        "--host=Disco.Example.",
        f"--listen=unix:{tmp_path / 'http.sock'}",
        "--metrics-listen=tcp:0:interface=127.0.0.1",
        "--metrics-listen=tcp:0",
        f"--operator-socket={tmp_path / 'o.sock'}",
    )
    where = daemon.wait_for("listening")
    local, unix = where["endpoints"]
    assert statuses(local) == [200, 200, 200, 403]
    assert statuses(unix) == statuses(where["operator"][0]) == [200] * 4
    own, open_to_others = where["metrics"]
    assert statuses(own, "/metrics") == [200, 200, 200, 403]
    assert statuses(open_to_others, "/metrics") == [200] * 4
    assert daemon.complaints == []


def test_a_loopback_listener_stays_restricted_beside_a_public_one(start: Start, tmp_path: Path) -> None:
    daemon = start(tmp_path / "state", "--open", "--listen=tcp:0", RQDISCO_HOST="disco.example other.example")
    local, open_to_others = daemon.wait_for("listening")["endpoints"]
    assert statuses(local) == [200, 200, 200, 403]
    assert statuses(open_to_others) == [200] * 4


def test_any_host_name_is_accepted_where_a_token_is_needed(
    installed: Environment, start: Start, tmp_path: Path
) -> None:
    new(installed, tmp_path / "tokens", "ops", "--scope=admin")
    daemon = start(tmp_path / "state", f"--tokens={tmp_path / 'tokens'}")
    assert statuses(daemon.wait_for("listening")["endpoints"][0]) == [200] * 4
