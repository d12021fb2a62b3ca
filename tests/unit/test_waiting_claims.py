"""Claims that wait long for their leaders' first reports are noticed, and an operator learns what
to do.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred

from rqdisco.backends import claim_monitor
from rqdisco.core.codec import decode_put, encode_record, split_record
from rqdisco.core.records import Leader, Node, Put, Record, UnreportedClaim
from rqdisco.storage import node_counter
from rqdisco.telemetry.health import Condition
from tests.support.daemon import Daemon, create_id, give_up, register
from tests.support.gossip import go

NOTE = (
    "1 claim waits for a leader's first report for more than a minute; the daemon's log names ID and node: stop that"
    " node for good, or wipe its data directory, then run `rqdisco leader clear`"
)


def put(name: str) -> Put:
    return decode_put(msgspec.json.encode({"id": name, "addr": f"{name}:2"}))


def claim(daemon: Daemon, key: str, name: str = "a", host: str = "10.0.0.1") -> bool:
    return bool(go(daemon.directory.claim(key, put(name), host)).won)


def warnings(log: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Return ID, address and times of each claim that was warned of."""
    logged = [event for event in log if event["log_format"].startswith("a claim waits")]
    return [(event["discovery_id"], event["addr"], event["times"]) for event in logged]


@pytest.fixture
def daemon() -> Any:
    running = Daemon()
    running.background.startService()
    yield running
    if running.background.running:
        running.background.stopService()


def test_a_claim_that_waits_for_a_minute_is_logged_in_readyz_and_counted(
    daemon: Daemon, log: list[dict[str, Any]]
) -> None:
    claim(daemon, "orders")
    daemon.clock.advance(30)
    claim(daemon, "orders")
    claim(daemon, "other")
    daemon.clock.advance(29.9)
    assert (warnings(log), daemon.claims.count) == ([], 0)
    assert daemon.health.for_lists() == Condition((), ())
    daemon.clock.advance(0.2)
    assert (warnings(log), daemon.claims.count) == ([("orders", "a:2", 2)], 1)
    assert daemon.health.for_lists() == daemon.health.for_grants() == Condition((), (NOTE,))
    assert daemon.status.collect(0).notes == (NOTE,)
    daemon.clock.advance(30)
    assert (len(warnings(log)), daemon.claims.count) == (2, 2)
    assert daemon.health.for_lists().notes[0].startswith("2 claims wait for")
    daemon.clock.advance(3600)
    assert len(warnings(log)) == 2, "each is named once"


@pytest.mark.parametrize("end", ["report", "report by another", "clear", "remove"])
def test_a_claim_that_ends_is_no_longer_reported(daemon: Daemon, log: list[dict[str, Any]], end: str) -> None:
    ends = {
        "report": lambda: daemon.directory.report("orders", put("a"), None),
        "report by another": lambda: daemon.directory.report("orders", put("b"), None),
        "clear": lambda: daemon.directory.clear_leader("orders"),
        "remove": lambda: daemon.directory.remove("orders", "a:2"),
    }
    claim(daemon, "orders")
    daemon.clock.advance(61)
    assert daemon.claims.count == 1
    go(ends[end]())
    assert daemon.claims.count == 0
    assert daemon.health.for_lists() == Condition((), ())
    claim(daemon, "orders")
    go(ends[end]())
    daemon.clock.advance(61)
    assert len(warnings(log)) == 1


def test_an_unanswered_claim_does_not_count(daemon: Daemon, log: list[dict[str, Any]]) -> None:
    daemon.threads.hold = True
    give_up(Deferred.fromCoroutine(daemon.directory.claim("orders", put("a"), None)))
    daemon.threads.hold = False
    daemon.threads.release_all()
    daemon.clock.advance(61)
    assert (warnings(log), daemon.claims.count) == ([], 0)


def test_claims_present_at_the_start_are_found_and_those_that_ended_meanwhile_are_not(
    daemon: Daemon, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [create_id(daemon) for _ in range(5)]
    register(daemon, ids[0], "n:1")
    for key in (ids[1], ids[4]):
        claim(daemon, key)
    monkeypatch.setattr("rqdisco.storage.initial_count.RECORDS_AT_ONCE", 2)
    daemon.background.stopService()
    after = daemon.restart()
    go(after.directory.report(ids[4], put("a"), None))
    after.background.startService()
    after.clock.advance(1)
    # Some steps of the count pass before they are found.
    after.clock.pump([1] * 65)
    assert [discovery_id for discovery_id, *_ in warnings(log)] == [ids[1]]
    assert after.claims.count == 1
    after.background.stopService()


def test_the_number_of_monitored_claims_is_bounded(
    daemon: Daemon, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_monitor, "MAX_TRACKED", 3)
    for number in range(5):
        claim(daemon, f"k{number}")
    daemon.clock.advance(61)
    assert daemon.claims.count == 3
    go(daemon.directory.report("k0", put("a"), None))
    assert daemon.claims.count == 2
    claim(daemon, "k5")
    daemon.clock.advance(61)
    assert daemon.claims.count == 3, "there was room again"
    assert [discovery_id for discovery_id, *_ in warnings(log)] == ["k0", "k1", "k2", "k5"]


def test_no_request_of_a_node_can_look_like_a_claim() -> None:
    value = '{"addr":"h:2","x":"\\"unreported\\":","unreported":{"times":1}}'
    nodes = (Node(addr='"unreported":{', node_id='"unreported":'),)
    leader = Leader(addr='"unreported":{', value=value, created=1, modified=1)
    record = Record(id="x", owner="0" * 16, version=1, created_at=1, nodes=nodes, leader=leader)
    assert not node_counter.is_claimed(split_record(encode_record(record))[1])
    claimed = msgspec.structs.replace(record, unreported=UnreportedClaim(times=1, since=1))
    assert node_counter.is_claimed(split_record(encode_record(claimed))[1])
