"""A daemon that probes doubles of rqlited that listen, refuse, hang or use TLS, on loopback
addresses.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.test_refusals import refusal
from tests.support.certificates import Authority
from tests.support.process import Environment

pytestmark = pytest.mark.process


class Rqlited(BaseHTTPRequestHandler):
    """The answer of a node: ready, except for an old one without /readyz."""

    def do_GET(self) -> None:
        is_old = self.connection.getsockname()[0] == "127.0.0.9"
        self.send_response(404 if is_old or self.path != "/readyz" else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Takes over a port that is bound already; clients may hang up early."""

    def __init__(self, bound: socket.socket) -> None:
        super().__init__(bound.getsockname()[:2], Rqlited, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.server_activate()

    def handle_error(self, *_: Any) -> None:
        pass


class Hosts:
    """Nodes on separate addresses, whose ports nobody takes in the meantime."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._bound: dict[str, socket.socket] = {}

    def refuses(self, ip: str) -> str:
        """Return the address of one where nothing listens."""
        bound = self._bound[ip] = self._stack.enter_context(socket.socket())
        bound.bind((ip, 0))
        return "{}:{}".format(*bound.getsockname())

    def hangs(self, ip: str) -> str:
        """Return the address of one whose system accepts connections that nobody answers."""
        addr = self.refuses(ip)
        self._bound[ip].listen()
        return addr

    def runs(self, ip: str, tls: ssl.SSLContext | None = None) -> str:
        """Return the address of one that answers."""
        addr = self.refuses(ip)
        self.start(ip, tls)
        return addr

    def start(self, ip: str, tls: ssl.SSLContext | None = None) -> None:
        """Let the one that refused answer."""
        server = Server(self._bound[ip])
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self._stack.callback(server.server_close)
        self._stack.callback(server.shutdown)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with ExitStack() as stack:
        yield Hosts(stack)


def test_nodes_go_up_and_down_come_back_and_are_pruned(
    installed: Environment, start: Start, hosts: Hosts, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key, certificate = Authority().write(tmp_path, "nobody", ["elsewhere.example.org"])
    context.load_cert_chain(certificate, key)
    daemon = start(tmp_path / "state", "--probe=1", "--probe-allow=127.0.0.0/8")
    refusing, hanging = hosts.refuses("127.0.0.2"), hosts.hangs("127.0.0.3")
    alive = [hosts.runs("127.0.0.4"), hosts.runs("127.0.0.9"), f"https://{hosts.runs('127.0.0.5', context)}"]
    discovery_id = daemon.create_id()
    for addr in (refusing, hanging, *alive):
        daemon.request("POST", f"/{discovery_id}", {"addr": addr})
    daemon.wait_for("node is down", target=f"http://{refusing}", outcome="refused")
    daemon.wait_for("node is down", target=f"http://{hanging}", outcome="no_answer")
    document = daemon.request("GET", f"/{discovery_id}").document
    assert document["nodes"] == [*alive, refusing, hanging]
    assert [(node["up"], node.get("ready")) for node in document["registrations"]] == [
        (True, True),
        (True, None),
        (True, True),
        (False, None),
        (False, None),
    ]
    hosts.start("127.0.0.2")
    daemon.wait_for("node is up again", target=f"http://{refusing}")
    pruned = installed.run(
        "rqdisco", "prune", discovery_id, "--down-for=1s", "--yes", RQDISCO_URL=f"http://127.0.0.1:{daemon.port}"
    )
    assert (pruned.stdout, pruned.stderr) == (f"{hanging}\n", "")
    assert daemon.nodes(discovery_id) == [refusing, *alive]
    assert daemon.complaints == []
    # A stop does not wait for probes in any state.
    daemon.terminate()


def test_a_network_that_contains_this_host_does_not_allow_probing_it(
    start: Start, hosts: Hosts, tmp_path: Path
) -> None:
    daemon = start(tmp_path / "state", "--probe=1", "--probe-allow=0.0.0.0/0", "--probe-allow=127.0.0.2")
    secret, known = hosts.hangs("127.0.0.3"), hosts.refuses("127.0.0.2")
    discovery_id = daemon.create_id()
    for addr in (secret, f"localhost:{secret.partition(':')[2]}", known):
        daemon.request("POST", f"/{discovery_id}", {"addr": addr})
    daemon.wait_for("node is down", target=f"http://{known}")
    shown = daemon.request("GET", f"/{discovery_id}").document["registrations"]
    assert [node.get("up") for node in shown] == [None, None, False]
    listening = hosts._bound["127.0.0.3"]
    listening.setblocking(False)
    with suppress(BlockingIOError):
        listening.accept()
        raise AssertionError("somebody connected")


def test_a_daemon_that_may_probe_nobody_does_not_start(installed: Environment, tmp_path: Path) -> None:
    code, line = refusal(installed, tmp_path / "state", "--probe=15")
    assert (code, "requires --probe-allow" in line) == (64, True)
