"""Stateless daemons in front of real etcd members."""

from __future__ import annotations

import base64
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.support.certificates import Authority
from tests.support.dns import ZONE, answers
from tests.support.etcd.authentication import PASSWORD, USER, authentication
from tests.support.etcd.processes import Events, arguments
from tests.support.etcd.real import ETCD, Certificates, RealEtcd
from tests.support.process import PATIENCE, DaemonProcess, Environment
from tests.support.proxy import HALF_OPEN, Proxy

# On a busy machine a member may take long to answer.
PATIENT = "--wait-for-etcd=60"

pytestmark = [pytest.mark.process, pytest.mark.skipif(ETCD is None, reason="etcd is not installed")]

Start = Callable[..., DaemonProcess]


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[RealEtcd]:
    """One member."""
    with closing(RealEtcd(tmp_path)) as running:
        yield running


@pytest.fixture
def three(tmp_path: Path) -> Iterator[RealEtcd]:
    """Three members."""
    with closing(RealEtcd(tmp_path, 3)) as running:
        yield running


@pytest.fixture
def start(installed: Environment) -> Iterator[Start]:
    """Starts daemons of an etcd as `start(etcd, *options)`, and waits until they use it unless they
    are told to wait for it; they are killed after the test.
    """
    with ExitStack() as stack:

        def start_daemon(etcd: RealEtcd, *options: str, **environment: str) -> DaemonProcess:
            waits = any(each.startswith("--wait-for-etcd") for each in options)
            always = () if waits else (PATIENT,)
            command = arguments(etcd.endpoints, *always, *options)
            daemon = installed.start(*command, run=DaemonProcess, **environment)
            stack.callback(daemon.kill)
            if not waits:
                daemon.wait_for("etcd is in use")
            return daemon

        yield start_daemon


def run_to_end(installed: Environment, etcd: RealEtcd, *options: str) -> subprocess.CompletedProcess[str]:
    return installed.run(*arguments(etcd.endpoints, *options))


def register(daemon: DaemonProcess, discovery_id: str, addr: str) -> list[str]:
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": addr})
    assert reply.status == 200, reply
    nodes: list[str] = reply.document["nodes"]
    return nodes


def test_what_one_daemon_answers_the_others_know(start: Start, three: RealEtcd) -> None:
    one, other = start(three), start(three)
    discovery_id = one.create_id()
    assert register(one, discovery_id, "10.0.0.1:4001") == ["10.0.0.1:4001"]
    assert register(other, discovery_id, "10.0.0.2:4001") == ["10.0.0.1:4001", "10.0.0.2:4001"]
    assert one.nodes(discovery_id) == ["10.0.0.1:4001", "10.0.0.2:4001"]
    assert other.terminate() == -signal.SIGTERM
    assert (other.stderr, other.complaints) == ("", [])


def test_a_daemon_serves_on_while_the_leader_of_etcd_is_killed(start: Start, three: RealEtcd) -> None:
    daemon = start(three)
    discovery_id = daemon.create_id()
    leader = three.leader()
    assert leader is not None
    three.members[leader].kill()
    assert register(daemon, discovery_id, "10.0.0.1:4001") == ["10.0.0.1:4001"]
    assert daemon.request("GET", "/readyz?grant=1").status == 200


def test_without_a_quorum_requests_get_503_with_the_reason_and_the_process_is_alive(
    start: Start, three: RealEtcd
) -> None:
    daemon = start(three)
    discovery_id = daemon.create_id()
    three.members["e2"].kill()
    three.members["e3"].kill()
    reply = daemon.request("POST", f"/{discovery_id}", {"addr": "10.0.0.1:4001"})
    assert (reply.status, reply.document["error"]) == (503, "store unavailable")
    assert "etcd" in reply.document["reason"]
    daemon.wait_for("etcd cannot be used")
    assert daemon.request("GET", "/healthz").status == 200
    assert daemon.request("GET", "/readyz").status == 503
    three.start("e2")
    daemon.wait_for("etcd can be used again")
    assert register(daemon, discovery_id, "10.0.0.1:4001") == ["10.0.0.1:4001"]
    assert daemon.complaints == []


def test_systemd_is_told_that_the_daemon_is_ready_only_once_etcd_answers(
    start: Start, etcd: RealEtcd, tmp_path: Path
) -> None:
    etcd.members["e1"].kill()
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(tmp_path / "notify"))
        daemon = start(etcd, "--wait-for-etcd=60", NOTIFY_SOCKET=str(tmp_path / "notify"))
        daemon.wait_for("waiting for etcd")
        assert daemon.request("GET", "/readyz").status == 503
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        manager.settimeout(PATIENCE)
        etcd.start("e1")
        assert manager.recv(100) == b"READY=1"
    assert daemon.request("GET", "/readyz?grant=1").status == 200


def test_a_daemon_that_waits_for_etcd_stops_when_it_is_told_to(start: Start, etcd: RealEtcd) -> None:
    etcd.members["e1"].kill()
    daemon = start(etcd, "--wait-for-etcd=600")
    assert daemon.terminate() == -signal.SIGTERM
    assert (daemon.stderr, daemon.complaints) == ("", [])


def test_a_daemon_without_etcd_ends_with_one_line_and_a_status(installed: Environment, etcd: RealEtcd) -> None:
    etcd.members["e1"].kill()
    end = run_to_end(installed, etcd)
    (endpoint,) = etcd.endpoints
    assert (end.returncode, end.stderr) == (
        69,
        f"rqdisco: no etcd endpoint answers ({endpoint}: connection refused)\n",
    )
    assert "Traceback" not in end.stdout


def test_a_store_of_a_newer_release_ends_the_daemon_with_its_own_status(installed: Environment, etcd: RealEtcd) -> None:
    key, value = (base64.b64encode(each).decode() for each in (b"/x/v1/meta", b'{"format":9}'))
    assert etcd.post("/v3/kv/put", {"key": key, "value": value}).status == 200
    end = run_to_end(installed, etcd, PATIENT, "--etcd-prefix=/x/")
    assert end.returncode == 65
    assert end.stderr.startswith("rqdisco: /x/v1/meta: format 9 is newer than this release reads")
    assert len(end.stderr.splitlines()) == 1


def test_a_user_who_may_not_read_the_prefix_ends_the_daemon(
    installed: Environment, etcd: RealEtcd, tmp_path: Path
) -> None:
    for path, document in (
        ("user/add", {"name": "root", "password": "r"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("user/add", {"name": "rqdisco", "password": "secret"}),
        ("enable", {}),
    ):
        assert etcd.post(f"/v3/auth/{path}", document).status == 200
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    end = run_to_end(installed, etcd, PATIENT, "--etcd-user=rqdisco", f"--etcd-password-file={password}")
    assert end.returncode == 64
    assert end.stderr.startswith("rqdisco: etcd's user lacks the permission for these keys")
    password.write_text("wrong\n")
    end = run_to_end(installed, etcd, PATIENT, "--etcd-user=rqdisco", f"--etcd-password-file={password}")
    assert (end.returncode, end.stderr) == (64, "rqdisco: etcd refused the user name or the password\n")
    end = run_to_end(installed, etcd, PATIENT)
    assert end.returncode == 64
    assert end.stderr.startswith("rqdisco: etcd requires a user and a password")
    assert "secret" not in end.stdout


def test_daemons_hold_the_same_ids_and_their_restart_loses_nothing(
    start: Start, etcd: RealEtcd, installed: Environment, tmp_path: Path
) -> None:
    names = ("--dns=127.0.0.1:0", f"--dns-zone={ZONE}", f"--operator-socket={tmp_path / 'socket'}")
    one, other = start(etcd, *names), start(etcd)
    discovery_id = one.create_id()
    with Events(other, discovery_id) as events:
        for number in (1, 2, 3):
            node = {"addr": f"10.0.0.{number}:4001", "raft_addr": f"10.0.0.{number}:4002"}
            assert one.request("POST", f"/{discovery_id}", node).status == 200
            events.wait_for([f"10.0.0.{each}:4001" for each in range(1, number + 1)])
        assert one.request("DELETE", f"/{discovery_id}", {"addr": "10.0.0.3:4001"}).status == 200
        events.wait_for(["10.0.0.1:4001", "10.0.0.2:4001"])
    value = b'{"id":"n1","api_addr":"http://10.0.0.1:4001","addr":"10.0.0.1:4002"}'
    assert put_leader(one, discovery_id, value) == b"true"
    assert other.request("GET", f"/v1/kv/{discovery_id}/leader?raw").body == value

    socket_url = f"unix:{tmp_path / 'socket'}"
    exported = installed.run("rqdisco", "export", "--url", socket_url)
    assert exported.returncode == 0, exported.stderr
    (tmp_path / "export").write_text(exported.stdout)

    one.kill()
    assert other.terminate() == -signal.SIGTERM
    one, other = start(etcd, *names), start(etcd)
    for daemon in (one, other):
        assert daemon.nodes(discovery_id) == ["10.0.0.1:4001", "10.0.0.2:4001"]
        assert daemon.request("GET", f"/v1/kv/{discovery_id}/leader?raw").body == value
    (address,) = one.wait_for("listening")["dns"]
    query = dns.message.make_query(f"{discovery_id}.{ZONE}", "A")
    found = dns.query.udp(query, "127.0.0.1", 10, int(address.rpartition(":")[2]))
    assert answers(found) == ["10.0.0.1", "10.0.0.2"]

    elsewhere = start(etcd, "--etcd-prefix=/elsewhere/", f"--operator-socket={tmp_path / 'elsewhere'}")
    assert elsewhere.request("GET", f"/{discovery_id}").status == 404
    brought = installed.run(
        "rqdisco", "import", "--adopt", "--url", f"unix:{tmp_path / 'elsewhere'}", str(tmp_path / "export")
    )
    assert brought.returncode == 0, brought.stderr
    assert elsewhere.nodes(discovery_id) == ["10.0.0.1:4001", "10.0.0.2:4001"]
    assert [each.complaints for each in (one, other, elsewhere)] == [[], [], []]


def put_leader(daemon: DaemonProcess, discovery_id: str, value: bytes) -> bytes:
    with closing(daemon.connect()) as connection:
        connection.request("PUT", f"/v1/kv/{discovery_id}/leader", value)
        return connection.getresponse().read().strip()


def test_a_user_limited_to_the_prefix_is_enough_over_tls(start: Start, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, Authority())
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    user = (f"--etcd-user={USER}", f"--etcd-password-file={password}", "--etcd-prefix=/mine/")
    with closing(RealEtcd(tmp_path, certificates=certificates)) as etcd, authentication(etcd, "/mine/"):
        daemon = start(etcd, f"--etcd-ca={certificates.authority_file}", *user)
        discovery_id = daemon.create_id()
        assert register(daemon, discovery_id, "10.0.0.1:4001") == ["10.0.0.1:4001"]
        assert daemon.nodes(discovery_id) == ["10.0.0.1:4001"]
        assert daemon.request("GET", "/readyz?grant=1").status == 200
        assert daemon.complaints == []


def test_a_certificate_of_another_authority_ends_the_daemon(installed: Environment, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, Authority())
    other = tmp_path / "other.crt"
    other.write_bytes(Authority().pem)
    with closing(RealEtcd(tmp_path, certificates=certificates)) as etcd:
        end = run_to_end(installed, etcd, f"--etcd-ca={other}")
    assert end.returncode == 69
    (line,) = end.stderr.splitlines()
    assert "certificate verify failed" in line


def test_a_gateway_that_is_switched_off_ends_the_daemon(installed: Environment, tmp_path: Path) -> None:
    with closing(RealEtcd(tmp_path, options=["--enable-grpc-gateway=false"])) as etcd:
        end = run_to_end(installed, etcd)
    assert (end.returncode, end.stderr) == (
        69,
        "rqdisco: there is no JSON gateway; etcd runs with --enable-grpc-gateway=false, or this is not etcd\n",
    )


def test_a_daemon_told_to_stop_answers_what_it_has_begun(etcd: RealEtcd, installed: Environment) -> None:
    (member,) = etcd.members.values()
    host, _, port = member.address.partition(":")
    with Proxy(host, int(port)) as proxy:
        daemon = installed.start(*arguments([proxy.url]))
        try:
            daemon.wait_for("etcd is in use")
            discovery_id = daemon.create_id()
            under_way = proxy.strike(HALF_OPEN, b"request_put")
            found: list[list[str]] = []
            asking = threading.Thread(target=lambda: found.append(register(daemon, discovery_id, "10.0.0.1:4001")))
            asking.start()
            assert under_way.wait(PATIENCE)
            daemon.process.send_signal(signal.SIGTERM)
            daemon.wait_for("Received SIGTERM, shutting down.")
            proxy.heal(late=True)
            asking.join()
            assert found == [["10.0.0.1:4001"]]
            assert daemon.process.wait(PATIENCE) == -signal.SIGTERM
        finally:
            daemon.kill()
    assert daemon.complaints == []
