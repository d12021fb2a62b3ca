"""Three peers behind haproxy with deploy/haproxy/haproxy.cfg."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from queue import Queue
from typing import BinaryIO

import pytest

from tests.integration.conftest import Start
from tests.integration.test_peers import command
from tests.support.haproxy import CONFIG, HAProxy
from tests.support.process import ANY_PORT, PATIENCE, DaemonProcess, Environment, Reply
from tests.support.trio import Trio

pytestmark = pytest.mark.process

Behind = Callable[[list[int]], HAProxy]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """Starts haproxy in front of servers on three ports."""
    with ExitStack() as stack:

        def start_haproxy(ports: list[int]) -> HAProxy:
            haproxy = HAProxy(tmp_path, ports)
            stack.callback(haproxy.stop)
            return haproxy

        yield start_haproxy


@pytest.fixture
def trio(start: Start, tmp_path: Path) -> Trio:
    return Trio(start, tmp_path, "--open", f"--listen=haproxy:{ANY_PORT}")


@pytest.fixture
def haproxy(trio: Trio, behind: Behind) -> HAProxy:
    return behind([proxied_port(daemon) for daemon in trio.daemons.values()])


def proxied_port(daemon: DaemonProcess) -> int:
    """Return the port where a daemon expects a PROXY header; its first listener is public."""
    return int(daemon.wait_for("listening")["endpoints"][1].rpartition(":")[2])


def register(haproxy: HAProxy, discovery_id: str, addr: str, source: str = "127.0.0.1") -> Reply:
    return haproxy.request("POST", f"/{discovery_id}", {"addr": addr}, source)


def create_id(haproxy: HAProxy) -> str:
    reply = haproxy.request("POST", "/")
    assert reply.status == 200, reply
    discovery_id: str = reply.document["disco_id"]
    return discovery_id


def test_haproxy_accepts_the_documented_configuration() -> None:
    checked = subprocess.run(
        ["haproxy", "-c", "-f", str(CONFIG)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked


def test_concurrent_nodes_form_one_cluster_whichever_daemons_they_reach(trio: Trio, haproxy: HAProxy) -> None:
    discovery_id = create_id(haproxy)
    with ThreadPoolExecutor(9) as pool:
        asking = [pool.submit(register, haproxy, discovery_id, f"n{number}:4001") for number in range(9)]
        replies = [each.result() for each in asking]
    assert {reply.status for reply in replies} == {200}
    assert len([reply for reply in replies if len(reply.document["nodes"]) == 1]) == 1
    for daemon in trio.daemons.values():
        daemon.wait_for("registration")
    for _ in range(3):
        shown = haproxy.request("GET", f"/{discovery_id}?consistent=1").document["nodes"]
        assert sorted(shown) == [f"n{number}:4001" for number in range(9)]


def test_one_of_all_claims_of_a_consul_key_through_haproxy_wins(haproxy: HAProxy) -> None:
    def claim(number: int) -> Reply:
        value = {"id": str(number), "api_addr": f"http://n{number}:4001", "addr": f"n{number}:4002"}
        return haproxy.request("PUT", "/v1/kv/my-cluster/leader?cas=0", value)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(reply.body for reply in pool.map(claim, range(6))) == [b"false"] * 5 + [b"true"]


def test_daemons_log_the_address_of_the_node(trio: Trio, haproxy: HAProxy) -> None:
    discovery_id = create_id(haproxy)
    nodes = {f"n{number}:4001": f"127.0.0.{number}" for number in range(2, 5)}
    for addr, source in nodes.items():
        for _ in trio.daemons:
            assert register(haproxy, discovery_id, addr, source).status == 200
    for daemon in trio.daemons.values():
        for addr, source in nodes.items():
            assert daemon.wait_for("registration", addr=addr)["peer"] == source
    assert all(daemon.complaints == [] for daemon in trio.daemons.values())


def test_nobody_misses_a_killed_daemon_and_it_is_taken_out(trio: Trio, haproxy: HAProxy) -> None:
    discovery_id = trio.daemons["a"].create_id()
    trio.daemons["c"].kill()
    for number in range(1, 7):
        reply = register(haproxy, discovery_id, f"n{number}:4001")
        assert (reply.status, len(reply.document["nodes"])) == (200, number)
    haproxy.wait_for("daemons/c is DOWN.*Connection refused")
    for _ in range(3):
        register(haproxy, create_id(haproxy), "n1:4001")
    assert not [line for line in haproxy.lines if " is DOWN" in line and "daemons/c " not in line], "P5"


def test_a_daemon_that_hangs_is_taken_out_and_returns(trio: Trio, haproxy: HAProxy) -> None:
    trio.daemons["b"].process.send_signal(signal.SIGSTOP)
    try:
        haproxy.wait_for(r"daemons/b is DOWN.*timeout")
        assert haproxy.request("POST", "/").status == 200
    finally:
        trio.daemons["b"].process.send_signal(signal.SIGCONT)
    haproxy.wait_for(r"daemons/b is UP.*code: 200")


def test_a_daemon_that_is_not_ready_is_taken_out(trio: Trio, haproxy: HAProxy, installed: Environment) -> None:
    assert command(installed, trio, "c", "drain", "--to", "a", "--yes").returncode == 0
    haproxy.wait_for(r"daemons/c is DOWN.*Layer7 wrong status, code: 503, info: .not ready")
    reply = trio.daemons["c"].request("GET", "/readyz")
    assert (reply.status, reply.document["ready"]) == (503, False)
    assert trio.daemons["c"].request("GET", "/healthz").status == 200


def test_a_daemon_that_drains_when_it_is_stopped_leaves_no_request_unanswered(
    start: Start, tmp_path: Path, behind: Behind
) -> None:
    trio = Trio(start, tmp_path, "--open", f"--listen=haproxy:{ANY_PORT}", "--drain-timeout=10")
    haproxy = behind([proxied_port(daemon) for daemon in trio.daemons.values()])
    discovery_id = create_id(haproxy)
    stop = threading.Event()

    def ask_on() -> list[int]:
        statuses = []
        while not stop.is_set():
            statuses.append(haproxy.request("GET", f"/{discovery_id}").status)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_on) for _ in range(8)]
        try:
            trio.daemons["a"].process.send_signal(signal.SIGTERM)
            haproxy.wait_for(r"daemons/a is DOWN.*code: 503")
            assert trio.daemons["a"].request("GET", "/readyz").document["wrong"] == ["the daemon is stopping"]
            assert trio.daemons["a"].request("GET", "/healthz").status == 200
        finally:
            stop.set()
        assert {status for each in asking for status in each.result()} == {200}


def test_a_node_logs_that_no_daemon_is_up(trio: Trio, haproxy: HAProxy) -> None:
    assert haproxy.request("GET", "/readyz").document == {"ready": True}
    for name in "abc":
        trio.daemons[name].kill()
    for name in "abc":
        haproxy.wait_for(f"daemons/{name} is DOWN")
    for method, path in (("POST", "/"), ("GET", "/v1/kv/my/leader"), ("GET", "/readyz")):
        reply = haproxy.request(method, path)
        assert (reply.status, reply.reason) == (503, "no daemon can be reached")
        assert reply.document == {"error": "no daemon can be reached"}
        assert reply.headers["retry-after"] == "5"


class FakeDaemon:
    """Reports that it is ready; reports other requests by method, and then their end, to `news`,
    without an answer.

    It hangs up on them itself, unless it is `patient`.
    """

    def __init__(self, news: Queue[str], *, patient: bool) -> None:
        self._news = news
        self._is_patient = patient
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as received, suppress(ConnectionError):
                self._take(connection, received)

    def _take(self, connection: socket.socket, received: BinaryIO) -> None:
        beginning = received.read(16)
        received.read(int.from_bytes(beginning[14:], "big"))
        request_line = received.readline()
        if request_line.startswith(b"GET /readyz "):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        elif request_line:
            self._news.put(request_line.split()[0].decode())
            if self._is_patient:
                with suppress(ConnectionError):
                    received.read()
                self._news.put("gone")


@pytest.fixture
def fake(behind: Behind) -> Iterator[Callable[..., tuple[HAProxy, Queue[str]]]]:
    """haproxy in front of fake daemons, and the queue that those report to."""
    with ExitStack() as stack:

        def start_fake(*, patient: bool) -> tuple[HAProxy, Queue[str]]:
            news: Queue[str] = Queue()
            daemons = [stack.enter_context(closing(FakeDaemon(news, patient=patient))) for _ in range(3)]
            return behind([each.port for each in daemons]), news

        yield start_fake


Fake = Callable[..., tuple[HAProxy, "Queue[str]"]]
WRITES = [("POST", "/"), ("POST", "/ID"), ("PUT", "/v1/kv/my/leader?cas=0"), ("DELETE", "/ID")]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_request_that_a_daemon_may_have_acted_upon_is_not_sent_to_another(fake: Fake, method: str, path: str) -> None:
    haproxy, news = fake(patient=False)
    assert haproxy.request(method, path, {"addr": "n1:4001"}).status == 502
    assert news.get(timeout=PATIENCE) == method
    assert news.empty()


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_node_that_hangs_up_is_also_gone_for_the_daemon(fake: Fake, method: str, path: str) -> None:
    haproxy, news = fake(patient=True)
    connection = haproxy.connect()
    connection.request(method, path, b'{"addr": "n1:4001"}')
    assert news.get(timeout=PATIENCE) == method
    connection.close()
    assert news.get(timeout=PATIENCE) == "gone"
