"""The table of nasty requests over sockets: to the daemon itself, and through haproxy and nginx,
where no client may get the answer to another client's request.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.connections import MAX_BODY
from tests.support.haproxy import HAProxy
from tests.support.nasty_requests import NASTY_REQUESTS
from tests.support.nasty_requests.rows import ID, NastyRequest
from tests.support.nginx import Nginx
from tests.support.process import PATIENCE, DaemonProcess, Environment
from tests.support.raw_responses import RawResponse, read_responses

pytestmark = pytest.mark.process

# Requests are passed on as they are where haproxy can be made to, and all clients share connections
# to the daemon, unlike with the file of deploy/.
_SHARING = """
global
    log stdout format raw local0 info
    nbthread 1
    tune.bufsize 65536
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    option accept-invalid-http-request
    http-reuse always
frontend all
    bind fd@{listener}
    default_backend daemon
backend daemon
    server a 127.0.0.1:{port} pool-max-conn 1
"""
_NAMES = (f"nobody-{number}".encode() for number in count())


@pytest.fixture(scope="module")
def public_daemon(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon that any Host may address; its second listener expects a PROXY header."""
    state = tmp_path_factory.mktemp("public") / "state"
    options = "--open", f"--max-body={MAX_BODY}", "--listen=haproxy:tcp:0"
    daemon = installed.start(*installed.twistd(state, *options, listen="tcp:0"))
    yield daemon
    daemon.kill()


@pytest.fixture
def daemon(public_daemon: DaemonProcess) -> Iterator[DaemonProcess]:
    """The module's daemon, which must be well after the test too."""
    yield public_daemon
    assert public_daemon.request("GET", "/").status == 200
    assert public_daemon.complaints == []
    assert public_daemon.stderr == ""


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def send(connection: socket.socket, pieces: Sequence[bytes]) -> None:
    """Send all pieces, unless the other side has closed the connection."""
    with suppress(ConnectionResetError, BrokenPipeError):
        for piece in pieces:
            connection.sendall(piece)


def finish(connection: socket.socket) -> bytes:
    """Close the client's side; return everything that arrives until the other side closes too."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    return received(connection)


def received(connection: socket.socket) -> bytes:
    """Return everything that arrives until the other side closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def answered(port: int, pieces: Sequence[bytes]) -> tuple[int, ...]:
    """Return the final statuses of all answers to one connection."""
    with connected(port) as connection:
        send(connection, pieces)
        return tuple(response.status for response in read_responses(finish(connection)) if response.status != 100)


def right(row: NastyRequest) -> set[tuple[int, ...]]:
    return {outcome.statuses for outcome in row.outcomes}


def with_id(daemon: DaemonProcess) -> dict[str, bytes]:
    """Return the bytes of each row, with an ID of this daemon."""
    discovery_id = daemon.create_id().encode()
    return {row.name: row.data.replace(ID, discovery_id) for row in NASTY_REQUESTS}


def test_a_client_that_closes_its_side_at_once_gets_the_answers_of_the_table(daemon: DaemonProcess) -> None:
    data = with_id(daemon)
    found = {row.name: answered(daemon.port, [data[row.name]]) for row in NASTY_REQUESTS}
    assert {row.name: found[row.name] for row in NASTY_REQUESTS if found[row.name] not in right(row)} == {}


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [(b"http://evil.example/", b"localhost", 403), (b"http://localhost/", b"evil.example", 200)],
)
def test_the_host_of_an_absolute_target_counts_and_not_that_of_the_header(
    shared_daemon: DaemonProcess, target: bytes, host: bytes, status: int
) -> None:
    """A listener on loopback serves only names of this machine (RFC 9112 section 3.2.2)."""
    assert answered(shared_daemon.port, [b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)]) == (status,)


def test_bytes_that_arrive_one_by_one_make_no_difference(daemon: DaemonProcess) -> None:
    data = with_id(daemon)
    rows = [row for row in NASTY_REQUESTS[::7] if len(row.data) < 300]
    found = {
        row.name: answered(daemon.port, [data[row.name][place : place + 1] for place in range(len(data[row.name]))])
        for row in rows
    }
    assert {row.name: found[row.name] for row in rows if found[row.name] not in right(row)} == {}


def lookup(port: int) -> str | None:
    """Ask for an ID that only this client asks for; return what is wrong with the answer."""
    name = next(_NAMES)
    with connected(port) as connection:
        send(connection, [b"GET /%b HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n" % name])
        data = received(connection)
    responses: list[RawResponse] = read_responses(data)
    if [response.status for response in responses] == [404] and b'"%b does not exist"' % name in responses[0].body:
        return None
    return f"{name!r} was answered {data!r}"


def misled(port: int, data: bytes) -> list[str]:
    """Send a row, and good requests over other connections while it is there and when it is gone;
    return what was wrong with their answers.
    """
    with connected(port) as connection:
        send(connection, [data])
        found = [lookup(port)]
        finish(connection)
    found += [lookup(port), lookup(port)]
    return [each for each in found if each is not None]


def sharing(listener: int, ports: Sequence[int]) -> str:
    return _SHARING.format(listener=listener, port=ports[0])


Proxy = HAProxy | Nginx


def haproxy_that_shares(directory: Path, daemon: DaemonProcess) -> Proxy:
    return HAProxy(directory, [daemon.port], sharing)


def haproxy_of_deploy(directory: Path, daemon: DaemonProcess) -> Proxy:
    """haproxy with the file of deploy/, whose three servers are this daemon."""
    port = int(daemon.wait_for("listening")["endpoints"][1].rpartition(":")[2])
    return HAProxy(directory, [port] * 3)


def nginx_that_shares(directory: Path, daemon: DaemonProcess) -> Proxy:
    return Nginx(directory, daemon.port)


def needs(program: str, start: Callable[[Path, DaemonProcess], Proxy]) -> Any:
    """Return a parameter whose tests are skipped if the program is missing."""
    missing = pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")
    return pytest.param(start, marks=missing, id=start.__name__)


@pytest.fixture(
    params=[
        needs("haproxy", haproxy_that_shares),
        needs("haproxy", haproxy_of_deploy),
        needs("nginx", nginx_that_shares),
    ]
)
def proxy_port(request: pytest.FixtureRequest, daemon: DaemonProcess, tmp_path: Path) -> Iterator[int]:
    """The port of a proxy in front of the daemon."""
    proxy: Proxy = request.param(tmp_path, daemon)
    yield proxy.port
    proxy.stop()


def test_no_client_gets_the_answer_to_what_another_client_smuggles(daemon: DaemonProcess, proxy_port: int) -> None:
    assert lookup(proxy_port) is None
    data = with_id(daemon)
    found = {name: misled(proxy_port, row) for name, row in data.items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
