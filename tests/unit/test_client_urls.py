"""The client library: the service of a URL, and which parts of the URL are sent and shown."""

from __future__ import annotations

import base64
import re

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock

from rqdisco.client import connect
from rqdisco.client.urls import parse_url
from tests.support.command import Service
from tests.support.foreign_services import CannedAnswer


def test_credentials_in_the_url_are_sent_as_basic_authentication_and_nowhere_else() -> None:
    says = CannedAnswer(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
    service = Service(says)
    service.get(service.client("http://me:p%40%C3%BC@rqdisco:4000/prefix/").get("x"))
    (request,) = says.requests
    assert request.uri == b"/prefix/x"
    assert request.getHeader("host") == "rqdisco:4000"
    given = base64.b64decode(request.getHeader("authorization").removeprefix("Basic ")).decode()
    assert given == "me:p@ü"
    service.get(service.client().get("x"))
    assert says.requests[1].getHeader("authorization") is None


def test_ipv6_addresses_and_international_names_are_valid_hosts() -> None:
    for url, host in (("http://[::1]:4000", "[::1]:4000"), ("http://bücher.example", "xn--bcher-kva.example")):
        says = CannedAnswer(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
        service = Service(says)
        service.get(service.client(url).get("x"))
        assert says.requests[0].getHeader("host") == host


@pytest.mark.parametrize("zone", ["%25eth0", "%eth0"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_ipv6_address_with_a_zone_is_reached_through_that_interface(scheme: str, zone: str) -> None:
    reactor = MemoryReactorClock()
    url = f"{scheme}://[fe80::1{zone}]:4001"
    assert parse_url(url).name == f"{scheme}://[fe80::1%25eth0]:4001"
    asking = Deferred.fromCoroutine(connect(reactor, url).create())
    assert reactor.tcpClients[0][:2] == ("fe80::1%eth0", 4001)
    asking.cancel()
    asking.addErrback(lambda failure: failure.trap(CancelledError))


def test_a_zone_is_never_sent() -> None:
    says = CannedAnswer(200, b'{"created_at": "", "disco_id": "x", "nodes": []}')
    service = Service(says)
    service.get(service.client("http://[fe80::1%25eth0]:4000").get("x"))
    assert says.requests[0].getHeader("host") == "[fe80::1]:4000"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://[fe80::1%25]:1", "the name of a network interface"),
        ("http://[fe80::1%25a%2fb]:1", "the name of a network interface"),
        ("http://[fe80::1%25a b]:1", "the name of a network interface"),
        ("http://[::1", "[ and ] may only enclose an IPv6 address"),
        ("http://[::1%]:1", "the name of a network interface"),
        ("http://me:[@h:1", "[ and ] may only enclose an IPv6 address"),
    ],
)
def test_an_invalid_ipv6_address_with_a_zone_is_refused_with_a_reason(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_url(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h", "http://h"),
        ("https://user:secret@h:1/", "https://h:1"),
        ("http://[::1]:4000", "http://[::1]:4000"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:x.sock", "unix:x.sock"),
    ],
)
def test_a_url_is_shown_without_its_credentials(url: str, name: str) -> None:
    assert parse_url(url).name == name


@pytest.mark.parametrize(
    "url",
    ["", "h:4000", "ftp://h", "http://", "http://h:x", "http://h:70000", "http://h?x", "http://h#x", "http://[::1",
     "http://a..b", "http://" + "a" * 70, "unix:", "unix://h/x", "unix:/a\0b", "http://\ud800"],
)  # fmt: skip
def test_an_invalid_service_url_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_url(url)


def test_a_unix_url_goes_to_the_socket_and_others_to_their_host() -> None:
    reactor = MemoryReactorClock()
    asking = [
        Deferred.fromCoroutine(connect(reactor, "unix:/run/x.sock").create()),
        Deferred.fromCoroutine(connect(reactor, "http://[::1]:4001").create()),
    ]
    assert reactor.unixClients[0][0] == "/run/x.sock"
    assert reactor.tcpClients[0][1] == 4001
    for each in asking:
        each.cancel()
        each.addErrback(lambda failure: failure.trap(CancelledError))


def test_a_url_with_a_slash_in_its_password_is_refused_without_showing_a_part_of_it() -> None:
    with pytest.raises(ValueError, match="%2F") as refusal:
        parse_url("http://user:pa/ss@host:4000")
    assert "'pa'" not in str(refusal.value)
