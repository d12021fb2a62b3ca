"""Listeners that other hosts can reach, judged by the sockets themselves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from rqdisco.core.errors import CannotListen, UnprotectedListener
from rqdisco.http.server.site import Site, SiteConfig
from rqdisco.security.certificates import Certificates
from rqdisco.service.listeners import HTTPListener, endpoint
from rqdisco.service.reachability import listens_locally
from tests.support.daemon import Daemon


@pytest.mark.parametrize(
    ("description", "address", "local"),
    [
        ("tcp:4000:interface=127.0.0.1", IPv4Address("TCP", "127.0.0.1", 4000), True),
        ("tcp:4000:interface=localhost", IPv4Address("TCP", "127.0.0.1", 4000), True),
        ("tcp:4000:interface=127.5.0.1", IPv4Address("TCP", "127.5.0.1", 4000), True),
        ("tcp6:4000:interface=\\:\\:1", IPv6Address("TCP", "::1", 4000), True),
        ("tcp6:4000", IPv6Address("TCP", "::ffff:127.0.0.1", 4000), True),
        ("unix:/x", UNIXAddress(b"/x"), True),
        ("systemd:domain=UNIX:name=x", UNIXAddress(None), True),
        ("tcp:4000", IPv4Address("TCP", "0.0.0.0", 4000), False),
        ("tcp6:4000", IPv6Address("TCP", "::", 4000), False),
        ("tcp6:4000", IPv6Address("TCP", "::ffff:10.0.0.1", 4000), False),
        ("tcp6:4000", IPv6Address("TCP", "fe80::1%lo", 4000), False),
        ("tcp:4000:interface=10.0.0.1", IPv4Address("TCP", "10.0.0.1", 4000), False),
        ("systemd:domain=INET:name=x", IPv4Address("TCP", "0.0.0.0", 4000), False),
        ("systemd:domain=INET:name=x", IPv4Address("TCP", "127.0.0.1", 4000), True),
        ("haproxy:tcp:4000:interface=127.0.0.1", IPv4Address("TCP", "127.0.0.1", 4000), False),
        ("haproxy:unix:/x", UNIXAddress(b"/x"), False),
        ("tls:4000:privateKey=/k", IPv4Address("TCP", "127.0.0.1", 4000), True),
        ("tls:unix:/x:privateKey=/k", UNIXAddress(b"/x"), True),
        ("tls:haproxy:unix:/x:privateKey=/k", UNIXAddress(b"/x"), False),
        ("onion:80", IPv4Address("TCP", "127.0.0.1", 4000), False),
        ("tcp:4000:interface=a.name", IPv4Address("TCP", "a.name", 4000), False),
        ("tcp:4000", object(), False),
    ],
)
def test_addresses_reachable_only_from_this_host_are_local(description: str, address: Any, local: bool) -> None:
    assert listens_locally(description, address) == local


def api(description: str, passed: Any = None, *, is_guarded: bool = False) -> HTTPListener:
    from twisted.internet import reactor

    at = (
        endpoint(reactor, "listen", description, Certificates(reactor.seconds))
        if passed is None
        else (description, passed)
    )
    site = Site(Daemon().apis.public(), reactor, SiteConfig(), lambda: 0.0)
    return HTTPListener("endpoints", reactor, [at], site, is_guarded=is_guarded)


def passed_on(host: str, family: int = socket.AF_INET) -> Any:
    """Return a socket that systemd opened on `host`, declared to be of that family. Its endpoint
    closes it.
    """
    from twisted.internet import endpoints, reactor

    return endpoints.AdoptedStreamServerEndpoint(reactor, socket.create_server((host, 0)).detach(), family)


@pytest.mark.parametrize(
    "description", ["tcp:0", "tcp6:0", "tcp:0:interface=0.0.0.0", "haproxy:tcp:0:interface=127.0.0.1"]
)
@ensureDeferred
async def test_a_listener_for_other_hosts_needs_authorization_and_says_how(description: str) -> None:
    unguarded, guarded = api(description), api(description, is_guarded=True)
    with pytest.raises(UnprotectedListener) as refused:
        await unguarded.open()
    await unguarded.close()
    assert str(refused.value).startswith(f"{description}: ")
    assert "--tokens FILE" in str(refused.value)
    assert "--open" in str(refused.value)
    assert len(await guarded.open()) == 1
    await guarded.close()


@ensureDeferred
async def test_a_listener_for_this_host_alone_needs_no_authorization(tmp_path: Path) -> None:
    for description in ("tcp:0:interface=127.0.0.1", f"unix:{tmp_path / 'socket'}"):
        opened = api(description)
        assert len(await opened.open()) == 1
        await opened.close()


@ensureDeferred
async def test_an_inherited_socket_is_judged_by_what_it_is_bound_to() -> None:
    local, open_to_others = (api("systemd:name=x", passed_on(host)) for host in ("127.0.0.1", "0.0.0.0"))
    assert [where.partition(":")[0] for where in await local.open()] == ["127.0.0.1"]
    with pytest.raises(UnprotectedListener):
        await open_to_others.open()
    await local.close()
    await open_to_others.close()


@ensureDeferred
async def test_an_inherited_socket_of_the_wrong_kind_is_refused() -> None:
    misnamed = api("systemd:domain=UNIX:name=x", passed_on("127.0.0.1", socket.AF_UNIX))
    with pytest.raises(CannotListen, match="cannot listen on systemd:domain=UNIX:name=x: "):
        await misnamed.open()
    await misnamed.close()


@contextmanager
def listening(path: Path, backlog: int = 10) -> Iterator[socket.socket]:
    """Listen on a Unix socket, which stays in the file system afterwards."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(backlog)
        yield server


@pytest.mark.parametrize("kind", ["", "haproxy:"])
@ensureDeferred
async def test_a_stale_socket_is_replaced_although_its_process_number_is_in_use(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "http.sock"
    with listening(path):
        pass
    # Twisted's own lock beside a socket. In a container each process is the first one.
    Path(f"{path}.lock").symlink_to(str(os.getpid()))
    opened = api(f"{kind}unix:{path}:mode=600", is_guarded=True)
    assert await opened.open() == [f"unix:{path}"]
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await opened.close()
    assert not path.exists()


@pytest.mark.parametrize("waiting", [0, 3])
@ensureDeferred
async def test_a_socket_with_a_listener_is_not_removed_even_if_it_accepts_nobody(tmp_path: Path, waiting: int) -> None:
    path = tmp_path / "http.sock"
    with listening(path, backlog=0 if waiting else 10) as server, ExitStack() as clients:
        for _ in range(waiting):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(str(path))
        with pytest.raises(CannotListen) as refused:
            await api(f"unix:{path}").open()
        assert str(refused.value) == f"cannot listen on unix:{path}: another process listens there"
        assert path.is_socket()
        assert server.getsockname() == str(path)


@ensureDeferred
async def test_a_missing_directory_of_a_socket_is_named_as_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "http.sock"
    with pytest.raises(CannotListen) as refused:
        await api(f"unix:{path}").open()
    assert str(refused.value) == f"cannot listen on unix:{path}: its directory does not exist"


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
@ensureDeferred
async def test_only_a_socket_is_ever_removed(tmp_path: Path, kind: str) -> None:
    path, left = tmp_path / "http.sock", tmp_path / "left.sock"
    with listening(left):
        pass
    make = {"file": path.touch, "link": lambda: path.symlink_to(left), "directory": path.mkdir}
    make[kind]()
    with pytest.raises(CannotListen) as refused:
        await api(f"unix:{path}").open()
    assert str(refused.value) == f"cannot listen on unix:{path}: it exists and is not a socket"
    assert path.exists()
    assert left.is_socket()
