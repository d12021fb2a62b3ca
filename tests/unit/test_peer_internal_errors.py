"""Several daemons: an internal error is logged, and blocks nothing for long."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.codec import decode_put
from rqdisco.core.errors import NoSuccessor, StoreUnavailable, Undecided
from rqdisco.core.records import Node
from tests.support.daemon import result
from tests.support.gossip import GossipDaemon, Three, create_id, register, settle, trio, wait


def damage(daemon: GossipDaemon, discovery_id: str) -> None:
    """Make a record unreadable in memory, until the daemon discards what the disk does not have."""
    line = daemon.store.line(discovery_id.encode())
    assert line is not None
    daemon.store.put_line(line.replace(b'"nodes":[', b'"nodes":1,"later":['), 0)


def test_a_daemon_whose_ids_were_not_taken_over_due_to_an_internal_error_is_forgotten_by_the_repeated_command(
    clock: Clock, logged_errors: list[Any]
) -> None:
    _, (a, b) = trio(clock, "ab")
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 2)
    a.stop()
    settle(clock, 3)
    damage(b, discovery_id)
    with pytest.raises(StoreUnavailable, match="internal error"):
        wait(clock, b.forget("a"))
    b.store.discard()
    assert wait(clock, b.forget("a")) == 1
    assert register(b, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    assert len(logged_errors) == 1
    logged_errors.clear()
    b.stop()


def test_a_daemon_whose_ids_were_not_taken_over_due_to_an_internal_error_is_drained_by_the_repeated_command(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _, (a, b, c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 2)
    damage(b, discovery_id)
    with pytest.raises(NoSuccessor, match="b cannot take over yet, try again: internal error"):
        wait(clock, a.drain("b"))
    b.store.discard()
    settle(clock, 5)
    assert wait(clock, a.drain()) == "b"
    settle(clock, 60)
    record = c.store.settled(discovery_id)
    assert record is not None
    assert record.owner == b.owner
    assert register(c, discovery_id, "n2:1") == ["n1:1", "n2:1"]
    logged_errors.clear()


def test_a_request_that_meets_an_internal_error_after_a_wait_is_answered(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, _c) = three
    assert wait(clock, b.directory.report("orders", decode_put(b'{"addr": "n1:2"}'), None), 2)
    network.split("c")
    settle(clock, 3)
    claiming = Deferred.fromCoroutine(a.directory.claim("accounts", decode_put(b'{"addr": "n1:2"}'), None))
    line = a.store.line(b"orders")
    assert line is not None
    a.store.put_line(line.replace(b"orders", b"accounts").replace(b'"nodes":[', b'"nodes":1,"later":['), 0)
    network.heal()
    settle(clock, 1)
    with pytest.raises(Undecided, match="internal error"):
        result(claiming)
    a.store.discard()
    logged_errors.clear()


def test_a_registration_that_meets_an_internal_error_after_peers_were_asked_keeps_no_other_waiting(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, _b, _c) = three
    discovery_id = create_id(a)
    register(a, discovery_id, "n1:1")
    settle(clock, 2)
    result(Deferred.fromCoroutine(a.directory.remove(discovery_id, "n1:1")))
    network.held_answers["a", "barrier"] = answered = Deferred[None]()
    registering = Deferred.fromCoroutine(a.directory.register(discovery_id, Node(addr="n2:1"), None))
    line = a.store.line(discovery_id.encode())
    assert line is not None
    a.store.put_line(line[:-1] + b',"nodes":1}', 0)
    del network.held_answers["a", "barrier"]
    answered.callback(None)
    settle(clock, 1)
    with pytest.raises(Undecided, match="internal error"):
        result(registering)
    a.store.discard()
    assert register(a, discovery_id, "n3:1") == ["n3:1"]
    logged_errors.clear()
