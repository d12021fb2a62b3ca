"""The pages for people: who gets them, what they consist of, and what cannot get into them."""

from __future__ import annotations

import re

import pytest
from pytest_twisted import ensureDeferred

from rqdisco.http.ui.accepting import prefers_html
from tests.http.conftest import ApiClient
from tests.http.html_pages import BROWSER, Page, page
from tests.support.connections import Server
from tests.support.daemon import Daemon
from tests.support.dns_sockets import Reactor

A = "10.0.0.1:4001"
EVERYBODY_ELSE = [None, "*/*", "application/json", "application/json, text/html", "text/html;q=0, */*", "text/plain"]


@pytest.mark.parametrize("accept", EVERYBODY_ELSE)
@ensureDeferred
async def test_clients_other_than_browsers_still_get_json(api: ApiClient, accept: str | None) -> None:
    discovery_id = await api.create_id()
    headers = {} if accept is None else {"Accept": accept}
    for path in ("/", f"/{discovery_id}", "/unknown", "/status"):
        answer = await api("GET", path, **headers)
        assert answer.headers["content-type"] == "application/json"
        ours = {"content-type", "content-length", "cache-control"}
        assert set(answer.headers) - {"date", "server", "content-encoding"} == ours


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("text/html;level=1, application/json;q=0.9", True),
        ("TEXT/HTML", True),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=nonsense", False),
        ("text/htmlx, x/text/html", False),
        (", ;;, text/html; q = 0.1", True),
    ],
)
def test_html_is_for_clients_that_prefer_it_to_json(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


@ensureDeferred
async def test_every_page_forbids_what_it_does_not_need(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    for path in ("/", f"/{discovery_id}", "/status", "/unknown"):
        answer = await api("GET", path, Accept=BROWSER)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["vary"] == "Accept, Authorization"


@ensureDeferred
async def test_a_page_asks_no_other_host_for_anything_and_has_no_script_or_style_of_its_own(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    for path in ("/", f"/{discovery_id}", "/status"):
        got = await page(api, path)
        for tag, attributes in got.elements:
            assert tag != "style"
            assert tag != "script" or attributes["src"]
            assert not {name for name in attributes if name == "style" or name.startswith("on")}
            for name in ("src", "href"):
                address = attributes.get(name)
                assert address is None or re.match(r"/(?!/)|#", address), address
        for address in [each["src"] for each in got.all("script")] + [each["href"] for each in got.all("link")]:
            file = await api("GET", str(address))
            assert file.status == 200
            assert "immutable" in file.headers["cache-control"]
            assert b"http" not in file.body.replace(b"http://www.w3.org/2000/svg", b"").replace(b"https?", b"")


@ensureDeferred
async def test_only_the_known_static_files_are_served(api: ApiClient) -> None:
    script = (await page(api, "/")).all("script")[0]["src"]
    assert script is not None
    for path in (
        "/static/page.js",
        "/static/",
        f"{script}x",
        script.replace("page.js", "../assets.py"),
        "/static/%2e%2e",
    ):
        answer = await api("GET", path)
        assert (answer.status, answer.headers["content-type"]) == (404, "application/json")


@ensureDeferred
async def test_hostile_paths_are_escaped_too(api: ApiClient) -> None:
    for path in ("/%3Cscript%3E", "/<script>alert(1)</script>", "/a'\"<b>", "/" + "x" * 300):
        answer = await api("GET", path, Accept=BROWSER)
        assert answer.status == 404
        if "html" in answer.headers["content-type"]:
            assert len(Page(answer).all("script")) == 1
            assert not Page(answer).all("b")


@pytest.mark.parametrize("path", ["/a/b", "/orders/nothing", "/v1/kv/orders/leader", "/v1/nothing", "/orders/events"])
@ensureDeferred
async def test_errors_are_pages_for_browsers_and_json_or_text_for_others(api: ApiClient, path: str) -> None:
    answer = await api("GET", path, Accept=BROWSER)
    assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert Page(answer).main["data-page"] == "problem"
    assert "html" not in (await api("GET", path)).headers["content-type"]


@ensureDeferred
async def test_every_page_leads_to_clusters_status_api_and_docs_and_marks_the_current_one(api: ApiClient) -> None:
    places = ["/clusters", "/status", "/help/api", "/help"]
    for path in ("/", f"/{await api.create_id()}", *places):
        got = await page(api, path)
        assert [each["href"] for each in got.all("a")][2:6] == places
        assert got.current == [path] if path in places else got.current == []
        is_id = path not in ("/", *places)
        assert ("true" in [each.get("aria-current") for each in got.all("a")]) == is_id


@ensureDeferred
async def test_the_api_page_lists_the_paths_of_this_listener(api: ApiClient) -> None:
    got = await page(api, "/help/api", Host="disco.example:4000")
    for text in ("/{id}/events", "Register a node", "curl -X POST http://disco.example:4000/"):
        assert text in got.text
    assert "/operator/export" not in got.text


@ensureDeferred
async def test_an_open_daemon_lists_no_ids_on_its_page_of_clusters(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    got = await page(api, "/clusters")
    assert discovery_id not in got.text
    assert "only operators see the list" in got.text


@ensureDeferred
async def test_head_is_answered_like_get_without_the_body(api: ApiClient) -> None:
    answer = await api("HEAD", "/", Accept=BROWSER)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@ensureDeferred
async def test_the_status_page_of_an_open_daemon_names_no_id_address_or_client(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A})
    got = await page(api, "/status")
    assert "Registrations1in the last hour" in got.text.replace("\n", "")
    assert "peak 1/min, now" in got.text
    assert "All is well" in got.text
    for secret in (discovery_id, A, "127.0.0.1"):
        assert secret not in got.text


def test_pages_are_rendered_one_in_a_turn_and_those_that_wait_too_long_are_refused() -> None:
    reactor = Reactor()
    server = Server()
    daemon = Daemon(clock=reactor, rest=reactor.callLater)
    server.site.application = daemon.apis.public()
    asked = [server.connect() for _ in range(6)]
    statuses = []

    def answer_in_turn() -> None:
        statuses.append([connection.transport.value()[9:12] for connection in asked].count(b"200"))

    for connection in asked:
        connection.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n")
    gone = server.connect()
    gone.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n")
    gone.hang_up()
    for _ in range(3):
        answer_in_turn()
        reactor.turn()
    assert statuses == [1, 2, 3]
    assert server.connect().send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"HTTP/1.1 200 OK"), "not a page"
    reactor.advance(5.0)
    late = asked[5].take()
    assert late.startswith(b"HTTP/1.1 503 too busy\r\n")
    assert b"\r\nRetry-After: 5\r\n" in late
    assert b"try again later" in late
    reactor.turn()
    daemon.deadlines.stop()
    assert not reactor.getDelayedCalls()
