"""TLS, end to end in memory: a listener as an option describes it, and clients with and without
certificates.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock

from rqdisco.core.errors import BadEndpoint, TLSUnusable
from rqdisco.security.certificates import Certificates, Files
from rqdisco.security.tls import parse_description
from rqdisco.service.listeners import endpoint
from tests.support.certificates import Authority, replace
from tests.support.tls import Client, Listener, Transport, anybody, described


@pytest.mark.parametrize(
    ("description", "inner", "files"),
    [
        (
            "ssl:4000:privateKey=/k:certKey=/c:interface=127.0.0.1:backlog=9",
            "tcp:4000:interface=127.0.0.1:backlog=9",
            Files(key=Path("/k"), certificate=Path("/c")),
        ),
        ("tls:4000:privateKey=/k", "tcp:4000", Files(key=Path("/k"), certificate=Path("/k"))),
        (
            "tls:systemd:domain=INET:name=x:privateKey=/k:clientCA=/a",
            "systemd:domain=INET:name=x",
            Files(key=Path("/k"), certificate=Path("/k"), authorities=Path("/a")),
        ),
        (
            r"tls:tcp6:4000:interface=\:\:1:privateKey=/a\:b\\c:certKey=/c=d:extraCertChain=/e",
            r"tcp6:4000:interface=\:\:1",
            Files(key=Path(r"/a:b\c"), certificate=Path("/c=d"), chain=Path("/e")),
        ),
        ("tls:haproxy:tcp:4000:privateKey=/k", "haproxy:tcp:4000", Files(key=Path("/k"), certificate=Path("/k"))),
    ],
)
def test_a_tls_description_consists_of_an_inner_endpoint_and_files(description: str, inner: str, files: Files) -> None:
    parsed = parse_description(description)
    assert parsed is not None
    assert (parsed.inner, parsed.files) == (inner, files)


@pytest.mark.parametrize("description", ["tcp:4000", "unix:/ssl:x", "systemd:name=tls", "haproxy:tcp:1", "sslx:1"])
def test_all_other_descriptions_are_unchanged(description: str) -> None:
    assert parse_description(description) is None


@pytest.mark.parametrize(
    "description",
    [
        "ssl:4000",
        "ssl:privateKey=/k",
        "tls:",
        "ssl:4000:certKey=/c",
        "ssl:x:privateKey=/k",
        "tls:ssl:4000:privateKey=/k",
        "ssl:4000:privateKey=/k:sslmethod=SSLv3_METHOD",
        "haproxy:ssl:4000:privateKey=/k",
    ],
)
def test_an_impossible_description_is_a_bad_endpoint(description: str) -> None:
    clock = MemoryReactorClock()
    with pytest.raises(BadEndpoint, match="--listen"):
        endpoint(clock, "listen", description, Certificates(clock.seconds))


def test_listening_addresses_are_reported_as_before(authority: Authority, tmp_path: Path) -> None:
    listener = Listener(described(authority.write(tmp_path, "a"), "interface=127.0.0.1", "backlog=77"))
    assert (listener.port, listener.interface, listener.backlog) == (4000, "127.0.0.1", 77)


@pytest.mark.parametrize(("version", "name"), [(SSL.TLS1_2_VERSION, "TLSv1.2"), (SSL.TLS1_3_VERSION, "TLSv1.3")])
def test_http_1_1_is_spoken_over_tls_1_2_and_later(
    authority: Authority, tmp_path: Path, version: int, name: str
) -> None:
    listener = Listener(described(authority.write(tmp_path, "a")))
    client = Client(listener, anybody(authority, version=version))
    assert client.spoken == (name, b"http/1.1")
    assert client.ask() == b"HTTP/1.1 200 OK"
    assert not listener.is_mutual


def test_a_client_that_reconnects_repeatedly_is_closed_before_any_handshake(
    authority: Authority, tmp_path: Path, log: list[dict[str, Any]]
) -> None:
    listener = Listener(described(authority.write(tmp_path, "a")), most_each=1)
    address = IPv4Address("TCP", "198.51.100.7", 4711)
    taken = 0
    while (protocol := listener.factory.buildProtocol(address)) is not None:
        protocol.makeConnection(Transport(peerAddress=address))
        taken += 1
        assert taken < 1000
    assert taken == 101
    assert [event["peer"] for event in log if event.get("log_format") == "too many connections"] == ["198.51.100.7"]
    assert listener.factory.buildProtocol(IPv4Address("TCP", "198.51.100.8", 4711)) is not None


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_no_older_tls_is_accepted(authority: Authority, tmp_path: Path, version: int) -> None:
    listener = Listener(described(authority.write(tmp_path, "a")))
    with pytest.raises(SSL.Error):
        Client(listener, anybody(version=version))


def test_a_replaced_certificate_is_used_for_new_connections_and_nobody_is_cut_off(
    authority: Authority, tmp_path: Path, log: list[dict[str, Any]]
) -> None:
    files = authority.write(tmp_path, "old")
    listener = Listener(described(files))
    before = Client(listener, anybody(authority))
    other = authority.issue("new", days=60)
    for file, content in zip(files, other, strict=True):
        replace(file, content)
    assert Client(listener, anybody(authority)).subject == "old", "files are looked at once a second"
    listener.clock.advance(1)
    after = Client(listener, anybody(authority))
    assert (before.subject, after.subject) == ("old", "new")
    assert (before.ask(), after.ask()) == (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK")
    ((where, end),) = listener.certificates.expiries()
    assert where == "listen tcp:4000"
    assert timedelta(days=59) < end - datetime.now(UTC) <= timedelta(days=60)
    assert [event["where"] for event in log if event["log_format"] == "certificates reloaded"] == [where]


def test_an_unusable_file_changes_nothing_until_it_is_repaired(
    authority: Authority, tmp_path: Path, logged_errors: list[dict[str, Any]]
) -> None:
    files = authority.write(tmp_path, "old")
    listener = Listener(described(files))
    other = authority.issue("new")
    replace(files[1], other[1])
    for _ in range(3):
        listener.clock.advance(1)
        assert Client(listener, anybody(authority)).subject == "old"
    assert [event["why"] for event in logged_errors] == [f"{files[0]}: is not the key of the certificate in {files[1]}"]
    replace(files[0], other[0])
    listener.clock.advance(1)
    assert Client(listener, anybody(authority)).subject == "new"
    files[0].unlink()
    listener.certificates.reload()
    assert Client(listener, anybody(authority)).subject == "new"
    assert [event["why"] for event in logged_errors[1:]] == [f"{files[0]}: No such file or directory"]
    logged_errors.clear()


def test_the_certificate_chain_is_sent_along(authority: Authority, tmp_path: Path) -> None:
    between = Authority("between", authority)
    key, certificate = between.write(tmp_path, "a")
    alone = Listener(described((key, certificate)))
    with pytest.raises(SSL.Error):
        Client(alone, anybody(authority))
    (tmp_path / "chain").write_bytes(between.pem)
    assert Client(Listener(described((key, certificate), f"extraCertChain={tmp_path / 'chain'}")), anybody(authority))
    replace(certificate, certificate.read_bytes() + between.pem)
    assert Client(Listener(described((key, certificate))), anybody(authority)).subject == "a"
    both = tmp_path / "both"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    assert Client(Listener(f"ssl:4000:privateKey={both}"), anybody(authority)).subject == "a"


def test_clients_need_a_certificate_of_the_authority_that_is_named(authority: Authority, tmp_path: Path) -> None:
    clients, strangers = Authority("clients"), Authority("strangers")
    (tmp_path / "clients").write_bytes(clients.pem)
    listener = Listener(described(authority.write(tmp_path, "a"), f"clientCA={tmp_path / 'clients'}"))
    assert listener.is_mutual
    known = clients.write(tmp_path, "known")
    assert Client(listener, anybody(authority, pair=known)).ask() == b"HTTP/1.1 200 OK"
    for pair in (None, strangers.write(tmp_path, "stranger"), authority.write(tmp_path, "b")):
        with pytest.raises(SSL.Error):
            Client(listener, anybody(authority, pair=pair)).ask()
    expired = clients.write(tmp_path, "expired", days=-1)
    with pytest.raises(SSL.Error):
        Client(listener, anybody(authority, pair=expired)).ask()
    replace(tmp_path / "clients", strangers.pem)
    listener.clock.advance(1)
    with pytest.raises(SSL.Error):
        Client(listener, anybody(authority, pair=known)).ask()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("no key", "key: No such file or directory"),
        ("no certificate", "crt: contains no certificate in PEM format"),
        ("encrypted", "key: the key is encrypted"),
        ("swapped", "contains no private key in PEM format"),
        ("other key", "is not the key of the certificate in"),
        ("bad authority", "ca: contains no certificate in PEM format"),
    ],
)
def test_unusable_files_are_named(authority: Authority, tmp_path: Path, spoil: str, why: str) -> None:
    key, certificate = authority.write(tmp_path, "a")
    more = []
    if spoil == "no key":
        key.unlink()
    elif spoil == "no certificate":
        certificate.write_bytes(b"")
    elif spoil == "encrypted":
        locked = BestAvailableEncryption(b"password")
        key.write_bytes(authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    elif spoil == "swapped":
        key, certificate = certificate, key
    elif spoil == "other key":
        authority.write(tmp_path, "b")
        key = tmp_path / "b.key"
    else:
        (tmp_path / "ca").write_text("nonsense")
        more.append(f"clientCA={tmp_path / 'ca'}")
    with pytest.raises(TLSUnusable) as refused:
        Listener(described((key, certificate), *more))
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
