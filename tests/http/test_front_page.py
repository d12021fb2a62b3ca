"""The front page: the service, its status, and the way to the page of an ID."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from rqdisco.http.ui.pasted import pasted_id
from tests.http.conftest import ApiClient
from tests.http.html_pages import page
from tests.support.connections import Server


@ensureDeferred
async def test_the_front_page_describes_the_service_and_its_status(api: ApiClient) -> None:
    await api.create_id()
    api.daemon.recount()
    got = await page(api, "/")
    assert "find each other" in got.text
    assert "Discovery IDs1" in got.text.replace("\n", "")
    assert {"id": "create", "method": "post"}.items() <= got.all("form")[0].items()


@ensureDeferred
async def test_the_front_page_mentions_that_unused_ids_are_forgotten_where_they_are(api: ApiClient) -> None:
    api.daemon.unused_days = 30
    got = await page(api, "/")
    assert "IDs without a nodedeleted after 30 d 0 h" in got.text.replace("\n", "")


def test_a_browser_without_scripts_is_sent_to_the_page_of_an_id() -> None:
    ask = "GET /?id={} HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n"
    answer = Server().connect().send(ask.format("some-id").encode())
    assert answer.startswith(b"HTTP/1.1 303 See Other")
    assert b"\r\nLocation: /some-id\r\n" in answer
    for bad in ("//evil.example", "a%20b", "%0d%0aX:1", ""):
        answer = Server().connect().send(ask.format(bad).encode())
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert (b"There is no discovery ID in" in answer) == (bad != "")


ADDRESSES = [
    "orders",
    " orders\n",
    "http://disco.example:4000/orders",
    "https://disco.example/orders?url=https://x",
    "disco.example:4000/orders/",
    "http://disco.example:4000/orders/events",
    "http://disco.example:4000/v1/kv/orders/leader?raw",
    "http://disco.example:4000/?id=orders",
    "/orders#nodes-title",
]


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_id_is_found_in_any_address_of_it_that_somebody_pastes(text: str) -> None:
    assert pasted_id(text) == "orders"


@pytest.mark.parametrize(
    "text", ["", " ", "a b", "http://h/", "http://h/status", "http://[", "http://h/clusters?search=x"]
)
def test_an_address_of_no_id_is_none(text: str) -> None:
    assert pasted_id(text) is None
