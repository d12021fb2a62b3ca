"""State directories that the first release left: daemons start on them, meet, hold the same records,
members and hints, and decide as it did.
"""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.support.golden_peers import GOLDEN, read_situation
from tests.support.peer_situations import SITUATIONS, observe

# All that a daemon stores beside its records.
METADATA = {"member", "cursor", "hint", "hinted", "added", "reserved", "behind", "expired", "frozen", "calendar"}


@pytest.mark.parametrize("name", SITUATIONS)
def test_daemons_go_on_where_the_first_release_stopped(name: str) -> None:
    expected = read_situation(name).expected
    seen = msgspec.json.decode(msgspec.json.encode(observe(name)))
    assert seen["alone"] == expected["alone"], "each without the others"
    for part in ("clusters", "records", "differing records"):
        assert seen[part] == expected[part]
    assert seen["answers"] == expected["answers"]
    assert (seen["can create"], seen["agreed in the end"]) == (expected["can create"], expected["agreed in the end"])


def test_the_directories_hold_everything_that_a_daemon_stores() -> None:
    found = set()
    for file in (GOLDEN / "situations").rglob("*.j*"):
        if file.name != "situation.json":
            found |= set(re.findall(r'"id":"!([a-z]+)', file.read_text()))
    assert found == METADATA
