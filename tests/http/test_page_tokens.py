"""The pages of a daemon that asks for tokens."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from rqdisco.security.tokens import Access, TokenRing, describe
from rqdisco.telemetry.events import Event
from tests.http.conftest import ApiClient
from tests.http.html_pages import BROWSER, HOSTILE, Page, page


@pytest.fixture
def options() -> dict[str, Any]:
    tokens = [describe(name, [name], f"secret-{name}") for name in ("read", "mint", "admin")]
    return {"access": Access(TokenRing(tokens))}


@ensureDeferred
async def test_a_page_asks_for_a_token_and_a_browser_for_nothing(api: ApiClient) -> None:
    for path in ("/", "/unknown", "/status"):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await api("GET", path, Accept=BROWSER, **headers)
            assert (answer.status, Page(answer).main["data-page"]) == (401, "token")
            assert answer.headers["www-authenticate"] == 'Bearer realm="rqdisco"'
            assert "rqdisco 1" in Page(answer).text


@ensureDeferred
async def test_a_token_opens_the_pages_that_it_may_read(api: ApiClient) -> None:
    created = await api("POST", "/", Authorization="Bearer secret-mint")
    path = f"/{created.json['disco_id']}"
    expected = {"read": (200, 200, 403), "mint": (200, 403, 403), "admin": (200, 200, 200)}
    for scope, statuses in expected.items():
        basic = base64.b64encode(f"x:secret-{scope}".encode()).decode()
        for header in (f"Bearer secret-{scope}", f"Basic {basic}"):
            got = [
                (await api("GET", each, Accept=BROWSER, Authorization=header)).status for each in ("/", path, "/status")
            ]
            assert tuple(got) == statuses


@ensureDeferred
async def test_commands_have_a_place_for_the_token(api: ApiClient) -> None:
    created = await api("POST", "/", Authorization="Bearer secret-mint")
    got = await page(api, f"/{created.json['disco_id']}", Authorization="Bearer secret-read", Host="h:4000")
    assert "-disco-url=http://x:TOKEN@h:4000" in got.text
    assert "rqdisco token new" in got.text
    assert "secret-read" not in str(got.elements) + got.text
    assert "Tokens are sent unencrypted" in got.text


@ensureDeferred
async def test_docs_and_api_need_no_token_and_the_list_of_clusters_that_of_an_admin(api: ApiClient) -> None:
    for path in ("/help", "/help/api"):
        assert (await page(api, path)).main["data-page"] in ("help", "api")
    assert (await api("GET", "/clusters", Accept=BROWSER)).status == 401
    got = await page(api, "/clusters", Authorization="Bearer secret-read")
    assert "only operators see the list" in got.text


@ensureDeferred
async def test_an_unknown_id_is_created_on_its_page_only_with_a_token_that_may(api: ApiClient) -> None:
    for scope, may in (("read", False), ("admin", True)):
        answer = await api("GET", "/orders", Accept=BROWSER, Authorization=f"Bearer secret-{scope}")
        assert answer.status == 404
        assert (b'data-id="orders"' in answer.body) == may


@ensureDeferred
async def test_the_status_page_names_what_was_changed_to_admins(api: ApiClient) -> None:
    created = await api("POST", "/", Authorization="Bearer secret-mint")
    path, admin = f"/{created.json['disco_id']}", "Bearer secret-admin"
    for hostile in HOSTILE:
        await api("POST", path, {"addr": hostile}, Authorization=admin)
    got = await page(api, "/status", Authorization=admin)
    assert {"href": path} in got.all("a")
    assert "ID created" in got.text
    assert HOSTILE[0] in got.text
    assert len(got.all("script")) == len(got.all("img")) == 1
    assert not any(name.startswith("on") for _, attributes in got.elements for name in attributes)


@ensureDeferred
async def test_the_status_page_says_which_token_was_revoked(api: ApiClient) -> None:
    event = Event(kind="token", outcome="revoked", more={"name": "orders", "scopes": "read"})
    api.daemon.telemetry.events.publish(event)
    got = await page(api, "/status", Authorization="Bearer secret-admin")
    assert "token orders" in got.text


@ensureDeferred
async def test_static_files_need_no_token(api: ApiClient) -> None:
    answer = await api("GET", "/", Accept=BROWSER)
    for each in Page(answer).all("link"):
        assert (await api("GET", str(each["href"]))).status == 200
