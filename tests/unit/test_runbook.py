"""The runbook for daemons with peers: in each situation its commands print what it says."""

from __future__ import annotations

import re
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.runbook import PAGE, Runbook, sections

SECTION = "Runbook"
# The machines whose daemons run when a situation begins, where these are not a, b and c.
RUNNING = {"Growing from one to three": "a", "Shrinking from two to one": "ab"}
SITUATIONS = sections(PAGE.read_text(), SECTION)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_commands_of_a_situation_print_what_the_runbook_says(
    situation: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, logged_errors: list[Any]
) -> None:
    # As wide as the tables of the page; a dumb terminal is always 80 columns wide.
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    runbook = Runbook(clock, RUNNING.get(situation, "abc"))
    for step in SITUATIONS[situation]:
        runbook.run(step)
    runbook.stop()
    logged_errors.clear()


def test_every_situation_is_in_the_table_and_has_commands() -> None:
    _, _, section = PAGE.read_text().partition(f"\n## {SECTION}\n")
    linked = re.findall(r"^\| \[[^]]+\]\(#([a-z-]+)\)", section, re.MULTILINE)
    assert linked == [re.sub(r"[^a-z ]", "", title.lower()).replace(" ", "-") for title in SITUATIONS]
    assert set(RUNNING) <= set(SITUATIONS)
    assert [
        title for title, steps in SITUATIONS.items() if not any("rqdisco peers" in each.command for each in steps)
    ] == []
