"""Requests that pages of other sites must not make through a visitor's browser, without effect on
other clients.
"""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from rqdisco.http.cross_site import is_own_origin
from tests.http.conftest import ApiClient

A = "10.0.0.1:4001"
FOREIGN = [
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
    {"Sec_Fetch_Site": "cross-site", "Origin": "http://rqdisco:4000", "Host": "rqdisco:4000"},
    {"Origin": "http://evil.example"},
    {"Origin": "http://rqdisco:4001", "Host": "rqdisco:4000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://rqdisco", "Host": "rqdisco:443"},
    {"Origin": "https://rqdisco", "Host": "rqdisco:80"},
    {"Origin": "http://rqdisco:443", "Host": "rqdisco"},
    {"Origin": "http://rqdisco:8080", "Host": "rqdisco:80"},
    {"Origin": "file://rqdisco", "Host": "rqdisco"},
    {"Origin": "rqdisco", "Host": "rqdisco"},
    {"Origin": "http://[2001:db8::80]", "Host": "[2001:db8::80]:443"},
]
OWN = [
    {},
    {"Sec_Fetch_Site": "same-origin", "Origin": "https://public.example"},
    {"Sec_Fetch_Site": "none"},
    {"Origin": "http://rqdisco:4000", "Host": "rqdisco:4000"},
    {"Origin": "http://RQDISCO:4000", "Host": "rqdisco:4000"},
    {"Origin": "http://rqdisco", "Host": "rqdisco:80"},
    {"Origin": "http://rqdisco:80", "Host": "rqdisco"},
    {"Origin": "https://rqdisco", "Host": "rqdisco:443"},
    {"Origin": "https://rqdisco:443", "Host": "RQDISCO"},
    {"Origin": "http://[2001:db8::80]", "Host": "[2001:db8::80]:80"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@ensureDeferred
async def test_a_foreign_page_creates_registers_and_removes_nothing(api: ApiClient, headers: dict[str, str]) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A})
    for method, path in (
        ("POST", "/"),
        ("POST", f"/{discovery_id}"),
        ("DELETE", f"/{discovery_id}"),
        ("PUT", "/v1/kv/new/leader"),
        ("DELETE", f"/v1/kv/{discovery_id}/leader"),
    ):
        answer = await api(method, path, {"addr": A}, Content_Type="text/plain", **headers)
        assert (answer.status, answer.json) == (403, {"error": "another site's page may not do this"})
    assert api.daemon.size == 1
    assert (await api("GET", f"/{discovery_id}")).json["nodes"] == [A]


@pytest.mark.parametrize("headers", OWN)
@ensureDeferred
async def test_the_own_page_and_clients_without_fetch_headers_may_write(
    api: ApiClient, headers: dict[str, str]
) -> None:
    discovery_id = (await api("POST", "/", **headers)).json["disco_id"]
    assert (await api("POST", f"/{discovery_id}", {"addr": A}, **headers)).json["nodes"] == [A]
    assert (await api("DELETE", f"/{discovery_id}", {"addr": A}, **headers)).json["nodes"] == []


@pytest.mark.parametrize("origin", [b"", b"null", b"http://", b"https://:443", b"http:"])
def test_an_origin_without_a_host_is_nobodys_own(origin: bytes) -> None:
    assert not is_own_origin(origin, b"")
    assert not is_own_origin(origin, b":443")


def test_the_end_of_an_ipv6_address_is_no_port() -> None:
    assert not is_own_origin(b"http://[2001:db8::80]", b"[2001:db8:")
