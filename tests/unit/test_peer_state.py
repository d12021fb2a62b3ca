"""State directories that the first release left: daemons start on them, meet, hold the same records,
members and hints, and decide as it did.
"""

from __future__ import annotations

import re

import msgspec
import pytest

from rqdisco.core.host_binding import THIS_MACHINE
from rqdisco.core.records import Node
from tests.support.daemon import DAY
from tests.support.golden_peers import GOLDEN, contents, read_situation, started, stop, stored_numbers
from tests.support.gossip import create_id, go, register, settle
from tests.support.peer_situations import SITUATIONS, observe
from tests.support.recorded_trio import outcome

# All that a daemon stores beside its records.
METADATA = {"member", "cursor", "hint", "hinted", "added", "reserved", "behind", "expired", "frozen", "calendar"}


@pytest.mark.parametrize("name", SITUATIONS)
def test_daemons_go_on_where_the_first_release_stopped(name: str) -> None:
    expected = read_situation(name).expected
    seen = msgspec.json.decode(msgspec.json.encode(observe(name)))
    assert seen["alone"] == expected["alone"], "each without the others"
    for part in ("clusters", "records"):
        assert seen[part] == expected[part]
    # The first release never wrote that the grants of a killed daemon were answered.
    assert seen["differing records"] == ([] if name == "pending" else expected["differing records"])
    assert seen["answers"] == expected["answers"]
    assert (seen["can create"], seen["agreed in the end"]) == (expected["can create"], expected["agreed in the end"])


def test_the_directories_hold_everything_that_a_daemon_stores() -> None:
    found = set()
    for file in (GOLDEN / "situations").rglob("*.j*"):
        if file.name != "situation.json":
            found |= set(re.findall(r'"id":"!([a-z]+)', file.read_text()))
    assert found == METADATA


def test_a_version_that_peers_may_have_is_not_issued_again_although_the_clock_was_set_back() -> None:
    network, daemons = started("established")
    network.set_by = -DAY
    settle(network.clock, 5)
    a = daemons["a"]
    reserved = stored_numbers(a.disk, "!reserved")[-1]
    record = go(a.directory.inspect(create_id(a)))
    assert record.version > reserved
    stop(network)


def test_the_number_of_a_hint_is_not_used_again_although_the_clock_was_set_back() -> None:
    network, daemons = started("established", "a")
    network.set_by = -DAY
    settle(network.clock, 3)
    a = daemons["a"]
    used = max(stored_numbers(a.disk, "!hinted"))
    of_b = next(
        each for each, line in contents(a).items() if line["home"] != a.owner and len(line.get("nodes", ())) > 2
    )
    assert "h1:1" in register(a, of_b, "h1:1")
    assert stored_numbers(a.disk, "!hint/")[-1] > used
    stop(network)


@pytest.mark.parametrize("again", ["a", "b"])
def test_a_grant_of_the_first_release_is_not_repeated_to_another_machine(again: str) -> None:
    network, daemons = started("local")
    settle(network.clock, 5)
    a = daemons["a"]
    granted = next(each for each, line in contents(a).items() if line.get("grant", {}).get("host") == f"@{a.owner}")
    asking = daemons[again].directory.register(granted, Node(addr="n1:4001"), THIS_MACHINE)
    seen = outcome(network.clock, asking)
    assert (seen if isinstance(seen, str) else seen.bootstrap) == ("again" if again == "a" else "Undecided")
    stop(network)
