"""Clients behind a real nginx that names them in X-Forwarded-For."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.support.nginx import Nginx
from tests.support.process import PATIENCE, DaemonProcess

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]
DEFAULT, SECOND = "localhost:4001", "localhost:4003"
ANOTHER = "localhost:4001 is another machine's, set -http-adv-addr"
HIDDEN = "localhost:4001 came through a proxy that hides its machine, set -http-adv-addr"


@pytest.fixture
def daemon(start: Start, tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = start(tmp_path / "state", "--open", "--trusted-proxy=127.0.0.0/8")
    yield daemon
    assert daemon.complaints == []


@pytest.fixture
def nginx(daemon: DaemonProcess, tmp_path: Path) -> Iterator[Nginx]:
    directory = tmp_path / "nginx"
    directory.mkdir()
    nginx = Nginx(directory, daemon.port, "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;")
    yield nginx
    nginx.stop()


def register(nginx: Nginx, discovery_id: str, addr: str, client: str | None = None) -> list[str] | str:
    """Register through nginx, as a proxy on this machine does for a client elsewhere; without
    `client`, as a node. Return the list of nodes, or the reason of a refusal.
    """
    connection = HTTPConnection("127.0.0.1", nginx.port, PATIENCE, source_address=("127.0.0.2", 0))
    headers = {} if client is None else {"X-Forwarded-For": client}
    try:
        connection.request("POST", f"/{discovery_id}", json.dumps({"addr": addr}), headers)
        response = connection.getresponse()
        nodes: list[str] = json.loads(response.read()).get("nodes", [])
        return nodes or response.reason
    finally:
        connection.close()


def test_one_of_three_hosts_behind_nginx_left_at_the_default_is_alone(daemon: DaemonProcess, nginx: Nginx) -> None:
    discovery_id = daemon.create_id()
    assert register(nginx, discovery_id, DEFAULT, "10.0.0.1") == [DEFAULT]
    assert register(nginx, discovery_id, SECOND, "10.0.0.1") == [DEFAULT, SECOND]
    assert register(nginx, discovery_id, DEFAULT, "10.0.0.2") == ANOTHER
    # All that nginx knows of this client is its loopback address, which it could have made up.
    assert register(nginx, daemon.create_id(), DEFAULT) == HIDDEN
    assert daemon.wait_for("registration")["peer"] == "10.0.0.1"
