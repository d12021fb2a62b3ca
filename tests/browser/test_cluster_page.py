"""The page of an ID in chromium: it shows every change without a reload, and changes nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import Visitor
from tests.browser.steps import A, B, check, choose, is_live, lead, register, rows
from tests.integration.conftest import Start
from tests.support.process import ANY_PORT, DaemonProcess, Environment

pytestmark = pytest.mark.process

RAFT = ("10.0.0.1:4002", "10.0.0.2:4002")
# One announcement may follow another at once.
COLLECT_ANNOUNCEMENTS = """() => {
  const place = document.getElementById("announce");
  window.announced = [];
  new MutationObserver(() => announced.push(place.textContent)).observe(place, { childList: true });
}"""
HOSTILE = '"><img/src=x/onerror=document.title="owned">\u202e:1'


def test_a_node_that_registers_appears_without_a_reload_in_every_tab(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    tabs = [visit.open(f"/{discovery_id}") for _ in range(2)]
    for page in tabs:
        is_live(page)
    register(daemon, discovery_id, A, node_id="n1", raft_addr="10.0.0.1:4002")
    register(daemon, discovery_id, B)
    for page in tabs:
        expect(rows(page)).to_have_count(2)
        expect(rows(page).first).to_contain_text(A)
        expect(rows(page).first).to_contain_text("bootstrap node")
        expect(page.locator(".picture svg")).to_have_attribute("aria-label", "2 nodes")
        expect(page.locator("#count")).to_have_text("2 nodes")
        expect(page.locator("#announce")).to_contain_text("registered")
    daemon.request(
        "PUT", f"/v1/kv/{discovery_id}/leader", {"id": "n1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
    )
    for page in tabs:
        expect(rows(page).first).to_contain_text("leader")
        expect(page.locator(".picture svg")).to_have_attribute("aria-label", f"2 nodes, led by {A}")


def test_a_claim_is_shown_without_its_node(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    claim = {"id": "n1", "api_addr": f"http://{A}", "addr": "10.0.0.1:4002"}
    page = visit.open(f"/{discovery_id}")
    is_live(page)
    assert daemon.request("PUT", f"/v1/kv/{discovery_id}/leader?cas=0", claim).body == b"true"
    expect(page.locator("#reason")).to_contain_text("a node won the claim to lead", ignore_case=True)
    expect(page.locator("#health")).to_have_text("forming")
    expect(page.get_by_text("A node claimed to lead, and is shown once it reports itself")).to_be_visible()
    lead(daemon, discovery_id, "n1")
    expect(rows(page)).to_have_count(1)
    expect(page.locator("#health")).to_have_text("healthy")


def test_two_leaders_are_an_alarm_on_the_page_without_a_reload(start: Start, tmp_path: Path, visitor: Visitor) -> None:
    daemon = start(tmp_path / "state")
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    page = visit.open(f"/{discovery_id}")
    is_live(page)
    expect(page.locator("#health")).to_have_text("forming")
    page.evaluate(COLLECT_ANNOUNCEMENTS)
    for raft_addr in RAFT * 2:
        reported = daemon.request("PUT", f"/v1/kv/{discovery_id}/leader", {"id": raft_addr, "addr": raft_addr})
        assert reported.body == b"true"
    for each in (page, visit.open(f"/{discovery_id}")):
        expect(each.locator("#health")).to_have_text("two leaders")
        for raft_addr in RAFT:
            expect(each.locator("#reason")).to_contain_text(raft_addr)
        check(each)
    announced = page.evaluate("announced.join()")
    assert "registered" in announced
    assert "Health: two leaders" in announced


def test_the_headline_follows_the_verdict_of_the_daemon(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    shown = {"disco_id": discovery_id, "nodes": [A], "registrations": [{"addr": A}], "warnings": []}
    waiting = {"verdict": "waiting", "reason": "a node waits", "next_step": "run `rqdisco leader clear` now"}
    healthy = {"verdict": "healthy", "reason": "1 of 1 node answers", "next_step": "nothing to do"}
    events = [{**shown, "health": waiting}]
    page = visitor(daemon).open()

    def stream(route: Route) -> None:
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        route.fulfill(content_type="text/event-stream", body=f"retry: 20\n\n{data}")

    page.route("**/events", stream)
    page.goto(f"{page.url}{discovery_id}")
    expect(page.locator("#health")).to_have_text("waiting")
    expect(page.locator("#reason")).to_have_text("A node waits.")
    expect(page.locator("#next code")).to_have_text("rqdisco leader clear")
    events[:] = [{**shown, "health": healthy}]
    expect(page.locator("#health")).to_have_text("healthy")
    expect(page.locator("#next")).to_be_hidden()
    expect(page.locator("#announce")).to_have_text("Health: healthy")


def test_an_address_that_will_not_work_is_marked_with_the_fix_without_a_reload(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    discovery_id = daemon.create_id()
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    register(daemon, discovery_id, "10.0.0.1")
    expect(rows(page).locator(".mark-note")).to_contain_text("10.0.0.1 has no port.")
    expect(rows(page).locator(".mark-note code")).to_have_text(f"rqdisco remove {discovery_id} 10.0.0.1")


def test_a_command_is_copied_with_the_address_of_its_machine(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    page = visit.open(f"/{discovery_id}")
    choose(page, "4.0 to 6.10", "Node 2")
    (button,) = page.locator(".recipe button:visible").all()
    expected = (
        "rqlited -http-addr=NODE2_IP:4001 -raft-addr=NODE2_IP:4002 \\\n"
        f"    -disco-url={visit.base} \\\n    -disco-id={discovery_id} \\\n    rqlite-data"
    )
    for address in ("NODE2_IP", "10.0.0.2"):
        button.click()
        expect(button).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == expected.replace("NODE2_IP", address)
        page.get_by_label("Address of this machine").fill("10.0.0.2")
    choose(page, "Node 1")
    expect(page.locator(".recipe:visible pre")).to_contain_text("NODE1_IP")
    expect(page.get_by_label("Address of this machine")).to_have_value("")
    page.locator("[data-copy=the-id]").click()
    page.wait_for_function("id => navigator.clipboard.readText().then(text => text === id)", arg=discovery_id)


def test_commands_follow_the_address_that_nodes_use(daemon: DaemonProcess, visitor: Visitor) -> None:
    page = visitor(daemon).open(f"/{daemon.create_id()}")
    page.get_by_label("Nodes reach this service at").fill("https://disco.example")
    page.get_by_role("button", name="Use").click()
    expect(page.locator(".recipe:visible pre")).to_contain_text('{"address":"disco.example:443","scheme":"https"}')


def test_removing_asks_first_and_warns_of_the_last_node(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    register(daemon, discovery_id, B)
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    page.get_by_role("button", name=f"Remove {B}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Remove {B}?")
    expect(dialog.get_by_text("This is the last node")).to_be_hidden()
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_be_hidden()
    assert daemon.nodes(discovery_id) == [A, B]
    page.get_by_role("button", name=f"Remove {B}").click()
    dialog.get_by_role("button", name="Remove the node").click()
    expect(rows(page)).to_have_count(1)
    page.get_by_role("button", name=f"Remove {A}").press("Enter")
    expect(dialog.get_by_text("This is the last node")).to_be_visible()
    dialog.get_by_role("button", name="Remove the node").press("Enter")
    expect(page.get_by_text("No node has registered yet")).to_be_visible()
    assert daemon.nodes(discovery_id) == []


def test_a_page_follows_a_daemon_through_its_restart(installed: Environment, tmp_path: Path, visitor: Visitor) -> None:
    def run(listen: str) -> DaemonProcess:
        return installed.start(*installed.twistd(tmp_path / "state", listen=listen))

    first = run(ANY_PORT)
    discovery_id = first.create_id()
    page = visitor(first).open(f"/{discovery_id}")
    is_live(page)
    first.terminate()
    assert not [event for event in first.events if event.get("level") == "warn"], "nobody had to be cut off"
    expect(page.locator("#live")).to_have_text("Reconnecting…")
    second = run(f"tcp:{first.port}:interface=127.0.0.1")
    try:
        register(second, discovery_id, A)
        expect(rows(page)).to_have_count(1)
        is_live(page)
    finally:
        second.kill()


def test_a_hostile_address_is_shown_as_text(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id, visit = daemon.create_id(), visitor(daemon)
    register(daemon, discovery_id, HOSTILE, node_id=HOSTILE, raft_addr=HOSTILE)
    for late in (False, True):
        page = visit.open(f"/{discovery_id}")
        is_live(page)
        if late:
            register(daemon, discovery_id, HOSTILE + "2", node_id=HOSTILE + "2")
        expect(rows(page)).to_have_count(1 + late)
        shown = HOSTILE.replace("\u202e", "\\u{202e}")
        expect(rows(page).first.locator("bdi").first).to_have_text(shown)
        page.locator("[data-remove]").first.click()
        expect(page.get_by_role("dialog")).to_contain_text(shown)
        assert page.locator("main img").count() == 0
        assert "owned" not in page.title()


def test_an_id_of_a_thousand_nodes_stays_usable(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    connection = daemon.connect()
    for number in range(1000):
        connection.request("POST", f"/{discovery_id}", f'{{"addr": "10.0.{number // 250}.{number % 250}:4001"}}')
        connection.getresponse().read()
    connection.close()
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    expect(rows(page)).to_have_count(200)
    expect(page.locator(".picture .dot")).to_have_count(1000)
    page.get_by_label("Find a node").fill("10.0.3.249")
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Find a node").fill("")
    page.get_by_role("button", name="Show all 1,000 nodes").click()
    expect(rows(page)).to_have_count(1000)
    daemon.request("DELETE", f"/{discovery_id}", {"addr": "10.0.2.100:4001"})
    expect(rows(page)).to_have_count(999)


def test_an_event_whose_connection_broke_is_asked_for_again(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    page = visitor(daemon).open()
    event = f"id: current\ndata: {json.dumps(daemon.request('GET', f'/{discovery_id}').document)}\n\n"
    asked: list[Any] = []

    def stream(route: Route) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        sent = "" if asked[-1] == "current" else event[:40] if len(asked) == 1 else event
        route.fulfill(content_type="text/event-stream", body=f"retry: 20\n\n{sent}")

    page.route("**/events", stream)
    page.goto(f"{page.url}{discovery_id}")
    for _ in range(500):
        if len(asked) < 3:
            page.wait_for_timeout(20)
    assert asked[:3] == [None, None, "current"]


def test_a_page_that_may_not_be_followed_any_more_says_so(daemon: DaemonProcess, visitor: Visitor) -> None:
    discovery_id = daemon.create_id()
    page = visitor(daemon).open()
    page.route("**/events", lambda route: route.fulfill(status=404, body="{}"))
    page.goto(f"{page.url}{discovery_id}")
    expect(page.locator("#live")).to_have_text("Not live: the service refuses to stream this ID")


def test_the_answer_to_one_removal_does_not_close_the_dialog_about_another(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    discovery_id = daemon.create_id()
    register(daemon, discovery_id, A)
    register(daemon, discovery_id, B)
    page, late = visitor(daemon).open(f"/{discovery_id}"), list[Route]()
    is_live(page)

    def hold(route: Route) -> None:
        late.append(route)

    page.route(page.url, hold)
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name=f"Remove {A}").click()
    dialog.get_by_role("button", name="Remove the node").click()
    expect(dialog.get_by_role("button", name="Remove the node")).to_be_disabled()
    dialog.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name=f"Remove {B}").click()
    late.pop().continue_()
    expect(rows(page)).to_have_count(1)
    expect(dialog).to_contain_text(f"Remove {B}?")
    dialog.get_by_role("button", name="Remove the node").click()
    late.pop().fulfill(status=503, body='{"error": "out of order"}')
    expect(dialog).to_contain_text("out of order")
