"""Hosts left at rqlited's default, each on a network of its own: one cluster, and never three."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.support.hosts import Hosts
from tests.support.process import DaemonProcess, Reply, ask

pytestmark = pytest.mark.process
DEFAULT, SECOND = "localhost:4001", "localhost:4003"
ANOTHER = "localhost:4001 is another machine's, set -http-adv-addr"
LEFT_AT_DEFAULT = {"id": "localhost:4002", "api_addr": "http://localhost:4001", "addr": "localhost:4002"}
CLAIM, KEY = "/v1/kv/rqlite/leader?cas=0", "/v1/kv/rqlite/leader"


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("to make network namespaces takes root, and ip of iproute2")
    with Hosts(["service", "one", "two", "three"]) as made:
        yield made


@pytest.fixture
def daemon(hosts: Hosts, start: Start, tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = start(tmp_path / "state", "--open", "--listen=tcp6:0:interface=\\:\\:", run=hosts.run("service"))
    yield daemon
    assert daemon.complaints == []


def port_of(daemon: DaemonProcess) -> int:
    """Return the port of the public listener; the first listener is for the daemon's host alone."""
    return int(daemon.wait_for("listening")["endpoints"][1].rpartition(":")[2])


def asked(hosts: Hosts, daemon: DaemonProcess, name: str, method: str, path: str, document: Any = None) -> Reply:
    """Return the answer to a host, over a separate connection."""
    connection = hosts.connect(name, hosts.addresses["service"], port_of(daemon))
    try:
        return ask(connection, method, path, document)
    finally:
        connection.close()


def test_one_of_several_hosts_left_at_the_default_is_granted_and_the_others_are_told_what_to_do(
    hosts: Hosts, daemon: DaemonProcess
) -> None:
    discovery_id = daemon.create_id()
    on = partial(asked, hosts, daemon)
    assert on("one", "POST", f"/{discovery_id}", {"addr": DEFAULT}).document["nodes"] == [DEFAULT]
    for name, addr in (("two", DEFAULT), ("three", f"{hosts.addresses['three']}:4001"), ("service", DEFAULT)):
        reply = on(name, "POST", f"/{discovery_id}", {"addr": addr})
        assert (reply.status, reply.reason) == (409, ANOTHER)
    assert on("one", "POST", f"/{discovery_id}", {"addr": SECOND}).document["nodes"] == [DEFAULT, SECOND]


def test_one_of_several_hosts_left_at_the_default_leads(hosts: Hosts, daemon: DaemonProcess) -> None:
    on = partial(asked, hosts, daemon)
    won = [on(name, "PUT", CLAIM, LEFT_AT_DEFAULT).body for name in ("one", "two", "three", "service")]
    assert won == [b"true", b"false", b"false", b"false"]
    assert on("one", "PUT", KEY, LEFT_AT_DEFAULT).body == b"true"
    assert [on(name, "GET", KEY).status for name in ("one", "two", "service")] == [200, 404, 404]


def test_the_daemons_own_host_is_one_client_host_by_all_its_addresses(hosts: Hosts, daemon: DaemonProcess) -> None:
    discovery_id = daemon.create_id()
    assert asked(hosts, daemon, "service", "POST", f"/{discovery_id}", {"addr": DEFAULT}).status == 200
    connection = hosts.connect("service", "127.0.0.1", port_of(daemon))
    assert ask(connection, "POST", f"/{discovery_id}", {"addr": SECOND}).document["nodes"] == [DEFAULT, SECOND]
    connection.close()
    assert asked(hosts, daemon, "one", "POST", f"/{discovery_id}", {"addr": DEFAULT}).reason == ANOTHER
