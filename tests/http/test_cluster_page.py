"""The page of an ID: its nodes, its health, and the commands that add a node."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace
from pytest_twisted import ensureDeferred

from rqdisco.core.records import Node
from tests.http.conftest import ApiClient
from tests.http.html_pages import BROWSER, HOSTILE, Page, page
from tests.support.connections import Server
from tests.support.daemon import create_id

A, B = "10.0.0.1:4001", "10.0.0.2:4001"


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
