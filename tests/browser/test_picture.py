"""The picture of a cluster in chromium: its lines, its names and its dots."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visitor
from tests.browser.steps import is_live, lead, register
from tests.support.process import DaemonProcess

pytestmark = pytest.mark.process


@pytest.mark.parametrize("width", [390, 700, 1200])
@pytest.mark.parametrize("count", [2, 3, 6, 7, 12])
def test_no_line_of_the_picture_crosses_a_name_or_an_address(
    daemon: DaemonProcess, visitor: Visitor, count: int, width: int
) -> None:
    discovery_id = daemon.create_id()
    for number in range(1, count + 1):
        host = f"10.0.0.{number}"
        register(daemon, discovery_id, f"{host}:4001", raft_addr=f"{host}:4002", node_id=f"database-{number}")
    lead(daemon, discovery_id, "database-1")
    page = visitor(daemon, size=(width, 800)).open(f"/{discovery_id}")
    is_live(page)
    crossed = page.evaluate(
        """() => {
            const texts = [...document.querySelectorAll(".picture .name, .picture .under")];
            const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
            const frame = document.querySelector(".picture").getBoundingClientRect();
            const outside = boxes.filter(([, box]) => box.left < frame.left || box.right > frame.right);
            const found = [];
            for (const line of document.querySelectorAll(".picture line")) {
                const matrix = line.getScreenCTM();
                const at = (x, y) => new DOMPoint(x, y).matrixTransform(matrix);
                const [a, b] = [1, 2].map((end) => at(line[`x${end}`].baseVal.value, line[`y${end}`].baseVal.value));
                for (let part = 0; part <= 1; part += 0.005) {
                    const [x, y] = [a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part];
                    for (const [text, box] of boxes)
                        if (x > box.left && x < box.right && y > box.top && y < box.bottom) found.push(text);
                }
            }
            return [[...new Set(found)], outside.map(([text]) => text), boxes.length];
        }"""
    )
    assert crossed[:2] == [[], []]
    is_map = count > (6 if width < 720 else 12)
    assert crossed[2] == (0 if is_map else 2 * count)


def test_dots_of_a_map_have_labels_on_hover_and_focus_and_lead_to_their_rows(
    daemon: DaemonProcess, visitor: Visitor
) -> None:
    discovery_id = daemon.create_id()
    for number in range(1, 31):
        register(daemon, discovery_id, f"10.0.0.{number}:4001")
    page = visitor(daemon).open(f"/{discovery_id}")
    is_live(page)
    tip, dots = page.locator(".tip"), page.locator(".picture .dot")
    expect(tip).to_be_hidden()
    dots.nth(4).hover()
    expect(tip).to_have_text("10.0.0.5:4001")
    dots.first.focus()
    expect(tip).to_have_text("10.0.0.1:4001, bootstrap node")
    page.keyboard.press("ArrowRight")
    expect(dots.nth(1)).to_be_focused()
    expect(tip).to_have_text("10.0.0.2:4001")
    page.keyboard.press("End")
    expect(tip).to_have_text("10.0.0.30:4001")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove 10.0.0.30:4001")).to_be_focused()
    expect(page.locator(".legend li:visible")).to_have_count(1)
    expect(page.locator(".legend")).to_contain_text("bootstrap node: registered first")
