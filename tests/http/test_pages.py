"""The pages for people: who gets them, what they consist of, and what cannot get into them."""

from __future__ import annotations

import base64
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace
from pytest_twisted import ensureDeferred

from rqdisco.core.records import Node
from rqdisco.http.ui.accepting import prefers_html
from rqdisco.http.ui.pasted import pasted_id
from rqdisco.security.tokens import Access, TokenRing, describe
from rqdisco.telemetry.events import Event
from tests.http.conftest import Answer, ApiClient
from tests.support.connections import Server
from tests.support.daemon import Daemon, create_id
from tests.support.dns_sockets import Reactor

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
EVERYBODY_ELSE = [None, "*/*", "application/json", "application/json, text/html", "text/html;q=0, */*", "text/plain"]
A, B = "10.0.0.1:4001", "10.0.0.2:4001"
HOSTILE = [
    '"><script>alert(1)</script>:1',
    "'onmouseover='alert(1)':1",
    "</script><img/src=x/onerror=alert(1)>:1",
    "]]><svg/onload=alert(1)>:1",
    "&lt;b&gt;{{7*7}}:1",
    "\u202e1004:0.0.01:1",
]


class Page(HTMLParser):
    """A page parsed as a browser does: its elements with their attributes, and its text."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(answer.body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def health(self) -> str | None:
        """The verdict in the headline."""
        (badge,) = [each for each in self.all("span") if each.get("id") == "health"]
        return badge["data-health"]

    @property
    def current(self) -> list[str | None]:
        """The links that are marked as the current page."""
        return [each["href"] for each in self.all("a") if each.get("aria-current") == "page"]

    @property
    def main(self) -> dict[str, str | None]:
        (main,) = self.all("main")
        return main


async def page(api: ApiClient, path: str, **headers: str) -> Page:
    answer = await api("GET", path, Accept=BROWSER, **headers)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer)


@ensureDeferred
async def test_a_claim_that_waits_for_a_minute_is_said_to_wait_with_advice_and_without_the_node(api: ApiClient) -> None:
    value = {"id": "the-node", "api_addr": "http://the-node:1", "addr": "the-node:2"}
    await api("PUT", "/v1/kv/orders/leader?cas=0", value)
    for seconds, health in ((0, "forming"), (60, "forming"), (1, "waiting")):
        api.daemon.clock.advance(seconds)
        got = await page(api, "/orders")
        assert got.health == health
        assert ("rqdisco leader clear orders --yes" in got.text) == (health == "waiting")
        assert "the-node" not in got.text
    assert (await api("PUT", "/v1/kv/orders/leader", value)).body == b"true"
    got = await page(api, "/orders")
    assert got.health == "healthy"
    assert "the-node:1" in got.text


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


@ensureDeferred
async def test_the_page_of_an_id_lists_its_nodes_without_any_script(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": A, "raft_addr": "10.0.0.1:4002", "node_id": "n1"})
    await api("POST", f"/{discovery_id}", {"addr": B})
    got = await page(api, f"/{discovery_id}")
    for text in (discovery_id, "2 nodes", A, B, "10.0.0.1:4002", "n1", "told to bootstrap"):
        assert text in got.text


@pytest.mark.parametrize("more", [{}, {"id": "n1"}, {"api_addr": f"http://{A}"}, {"id": "", "api_addr": None}])
@ensureDeferred
async def test_the_page_shows_a_leader_that_reports_only_some_members(api: ApiClient, more: dict[str, Any]) -> None:
    discovery_id = await api.create_id()
    await api("PUT", f"/v1/kv/{discovery_id}/leader", {"addr": "10.0.0.1:4002", **more})
    assert {"class": "tag leader"} in (await page(api, f"/{discovery_id}")).all("span")


@ensureDeferred
async def test_the_page_has_a_complete_command_for_every_node_rqlite_and_way_of_running_it(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    got = await page(api, f"/{discovery_id}", Host="disco.example:4000")
    assert "Step 1: run this on each machine" in got.text
    for command in (
        "rqlited -node-id=node1 \\\n    -http-addr=NODE1_IP:4001 -raft-addr=NODE1_IP:4002 \\\n"
        f"    -disco-mode=consul-kv \\\n    -disco-key={discovery_id} \\\n"
        '    \'-disco-config={"address":"disco.example:4000"}\' \\\n    rqlite-data',
        f"ExecStart=/usr/bin/rqlited -http-addr=NODE2_IP:4001 -raft-addr=NODE2_IP:4002 \\\n"
        f"    -disco-url=http://disco.example:4000 \\\n    -disco-id={discovery_id} \\\n    /var/lib/rqlite/data",
        f"    -disco=http://disco.example:4000 \\\n    -discoid={discovery_id} \\\n    /rqlite/file/data",
        f'            - "-disco-key={discovery_id}"',
    ):
        assert command in got.text
    assert {each["data-node"] for each in got.all("div") if "data-node" in each} == {"1", "2", "3", "all"}
    other = await page(api, f"/{discovery_id}?url=https://public.example", Host="disco.example:4000")
    assert '"scheme":"https"' in other.text
    assert "disco.example" not in other.text
    wrong = await page(api, f"/{discovery_id}?url=javascript:alert(1)")
    assert "must be http://HOST:PORT" in wrong.text


@ensureDeferred
async def test_what_is_done_first_comes_first(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    first = await page(api, f"/{discovery_id}")
    assert first.text.index("Step 1: run this on each machine") < first.text.index("Step 2: watch the nodes register")
    for addr in (A, B, "10.0.0.3:4001"):
        await api("POST", f"/{discovery_id}", {"addr": addr})
    later = await page(api, f"/{discovery_id}")
    assert later.text.index("First answered here") < later.text.index("Add a node")
    assert {each["data-node"] for each in later.all("div") if "data-node" in each} == {"4", "all"}


@pytest.mark.parametrize(
    ("host", "warning"),
    [
        ("disco.example:4000", None),
        ("127.0.0.1:4000", "leads every machine to itself"),
        ("localhost", "localhost leads"),
    ],
)
@ensureDeferred
async def test_a_page_opened_at_loopback_warns_that_its_commands_work_nowhere_else(
    api: ApiClient, host: str, warning: str | None
) -> None:
    got = await page(api, f"/{await api.create_id()}", Host=host)
    assert ("leads every machine to itself" in got.text) == (warning is not None)
    assert warning is None or warning in got.text


@ensureDeferred
async def test_an_address_that_will_not_work_is_marked_with_the_fix(api: ApiClient) -> None:
    discovery_id = await api.create_id()
    await api("POST", f"/{discovery_id}", {"addr": "10.0.0.1"})
    await api("POST", f"/{discovery_id}", {"addr": B})
    got = await page(api, f"/{discovery_id}")
    assert len([each for each in got.all("p") if each.get("class") == "mark-note"]) == 1
    assert "10.0.0.1 has no port." in got.text
    assert "Restart its node with -http-adv-addr 10.0.0.1:4001" in got.text


@pytest.mark.parametrize("host", ["x" * 300, "a'b", "a,b", "a%22b"])
@ensureDeferred
async def test_a_host_header_that_names_no_machine_appears_on_no_page(api: ApiClient, host: str) -> None:
    discovery_id = await api.create_id()
    assert f"http://{host}" not in str((await page(api, f"/{discovery_id}", Host=host)).elements)


@pytest.mark.parametrize("hostile", HOSTILE)
@ensureDeferred
async def test_external_text_is_escaped(api: ApiClient, hostile: str) -> None:
    discovery_id, harmless = await api.create_id(), await api.create_id()
    for each, text in ((discovery_id, hostile), (harmless, "no-port")):
        body = {"addr": text, "raft_addr": text, "node_id": text}
        assert (await api("POST", f"/{each}", body)).status == 200
    got = await page(api, f"/{discovery_id}")
    expected = {tag for tag, _ in (await page(api, f"/{harmless}")).elements}
    assert {tag for tag, _ in got.elements} <= expected
    assert [tag for tag, _ in got.elements].count("tr") == 2
    assert not any(name.startswith("on") for _, attributes in got.elements for name in attributes)
    assert hostile.replace("\u202e", "\\u{202e}") in got.text
    status = await page(api, "/status")
    assert {"img", "svg", "script"} & {tag for tag, _ in status.elements} == {"img", "svg", "script"}
    assert hostile not in status.text


@ensureDeferred
async def test_hostile_paths_are_escaped_too(api: ApiClient) -> None:
    for path in ("/%3Cscript%3E", "/<script>alert(1)</script>", "/a'\"<b>", "/" + "x" * 300):
        answer = await api("GET", path, Accept=BROWSER)
        assert answer.status == 404
        if "html" in answer.headers["content-type"]:
            assert len(Page(answer).all("script")) == 1
            assert not Page(answer).all("b")


@ensureDeferred
async def test_an_id_that_was_never_created_has_a_page_that_searches_and_creates_it(api: ApiClient) -> None:
    answer = await api("GET", "/orders", Accept=BROWSER)
    got = Page(answer)
    assert (answer.status, got.main["data-page"]) == (404, "unknown")
    assert "This ID does not exist" in got.text
    assert {"id": "search", "value": "orders"}.items() <= got.all("input")[0].items()
    (form,) = [each for each in got.all("form") if each.get("id") == "create-this"]
    assert form["data-id"] == "orders"


@ensureDeferred
async def test_an_id_of_the_form_that_daemons_make_up_cannot_be_created_on_its_page(api: ApiClient) -> None:
    got = Page(await api("GET", "/f7132555-3ba6-899e-9de2-17971e39465c", Accept=BROWSER))
    (form,) = [each for each in got.all("form") if each.get("id") == "create-this"]
    assert "data-id" not in form
    assert "Only a daemon makes up IDs of this form" in got.text


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


def test_a_page_of_a_thousand_nodes_delays_nobody() -> None:
    server = Server()
    store, discovery_id = server.daemon.store, create_id(server.daemon)
    record = store.newest(discovery_id)
    assert record is not None
    nodes = tuple(Node(addr=f"10.0.{number // 250}.{number % 250}:4001") for number in range(1000))
    store.settle([store.put(replace(record, version=record.version + 1, nodes=nodes))])
    ask = f"GET /{discovery_id} HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n".encode()
    took = []
    for _ in range(5):
        began = time.process_time()
        answer = server.connect().send(ask)
        took.append(time.process_time() - began)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"10.0.3.249:4001" in answer
    assert b"800 more nodes" in answer
    assert min(took) < 0.1


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


class TestWithTokens:
    """With tokens."""

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        tokens = [describe(name, [name], f"secret-{name}") for name in ("read", "mint", "admin")]
        return {"access": Access(TokenRing(tokens))}

    @ensureDeferred
    async def test_a_page_asks_for_a_token_and_a_browser_for_nothing(self, api: ApiClient) -> None:
        for path in ("/", "/unknown", "/status"):
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                answer = await api("GET", path, Accept=BROWSER, **headers)
                assert (answer.status, Page(answer).main["data-page"]) == (401, "token")
                assert answer.headers["www-authenticate"] == 'Bearer realm="rqdisco"'
                assert "rqdisco 1" in Page(answer).text

    @ensureDeferred
    async def test_a_token_opens_the_pages_that_it_may_read(self, api: ApiClient) -> None:
        created = await api("POST", "/", Authorization="Bearer secret-mint")
        path = f"/{created.json['disco_id']}"
        expected = {"read": (200, 200, 403), "mint": (200, 403, 403), "admin": (200, 200, 200)}
        for scope, statuses in expected.items():
            basic = base64.b64encode(f"x:secret-{scope}".encode()).decode()
            for header in (f"Bearer secret-{scope}", f"Basic {basic}"):
                got = [
                    (await api("GET", each, Accept=BROWSER, Authorization=header)).status
                    for each in ("/", path, "/status")
                ]
                assert tuple(got) == statuses

    @ensureDeferred
    async def test_commands_have_a_place_for_the_token(self, api: ApiClient) -> None:
        created = await api("POST", "/", Authorization="Bearer secret-mint")
        got = await page(api, f"/{created.json['disco_id']}", Authorization="Bearer secret-read", Host="h:4000")
        assert "-disco-url=http://x:TOKEN@h:4000" in got.text
        assert "rqdisco token new" in got.text
        assert "secret-read" not in str(got.elements) + got.text
        assert "Tokens are sent unencrypted" in got.text

    @ensureDeferred
    async def test_docs_and_api_need_no_token_and_the_list_of_clusters_that_of_an_admin(self, api: ApiClient) -> None:
        for path in ("/help", "/help/api"):
            assert (await page(api, path)).main["data-page"] in ("help", "api")
        assert (await api("GET", "/clusters", Accept=BROWSER)).status == 401
        got = await page(api, "/clusters", Authorization="Bearer secret-read")
        assert "only operators see the list" in got.text

    @ensureDeferred
    async def test_an_unknown_id_is_created_on_its_page_only_with_a_token_that_may(self, api: ApiClient) -> None:
        for scope, may in (("read", False), ("admin", True)):
            answer = await api("GET", "/orders", Accept=BROWSER, Authorization=f"Bearer secret-{scope}")
            assert answer.status == 404
            assert (b'data-id="orders"' in answer.body) == may

    @ensureDeferred
    async def test_the_status_page_names_what_was_changed_to_admins(self, api: ApiClient) -> None:
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
    async def test_the_status_page_says_which_token_was_revoked(self, api: ApiClient) -> None:
        event = Event(kind="token", outcome="revoked", more={"name": "orders", "scopes": "read"})
        api.daemon.telemetry.events.publish(event)
        got = await page(api, "/status", Authorization="Bearer secret-admin")
        assert "token orders" in got.text

    @ensureDeferred
    async def test_static_files_need_no_token(self, api: ApiClient) -> None:
        answer = await api("GET", "/", Accept=BROWSER)
        for each in Page(answer).all("link"):
            assert (await api("GET", str(each["href"]))).status == 200
