"""Several daemons: one name comes into being at two of them at the same moment."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Delta, Page
from rqdisco.core import codec
from rqdisco.core.errors import Undecided
from rqdisco.core.exports import TransferredRecord
from rqdisco.core.records import Node, Put, Record
from tests.support.daemon import give_up, result
from tests.support.gossip import GossipDaemon, Three, go, settle

NAMES = [f"orders-{number}" for number in range(12)]


def claim(daemon: GossipDaemon, clock: Clock, name: str, addr: str) -> bool:
    """Claim a name, again and again while the daemons refuse to decide; report whether that won."""
    for _ in range(5):
        claiming = Deferred.fromCoroutine(daemon.directory.claim(name, Put(node=Node(addr=addr), value=addr), None))
        settle(clock, 5)
        outcome: Any = result(claiming.addErrback(lambda failure: failure.value))
        if not isinstance(outcome, Exception):
            won: bool = outcome.won
            return won
    return False


@pytest.mark.parametrize("is_slow", [True, False])
@pytest.mark.parametrize("is_created", [True, False])
def test_a_name_claimed_where_it_belongs_while_it_is_imported_elsewhere_is_granted_once(
    is_created: bool, is_slow: bool, three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, c) = three
    name = next(each for each in NAMES if a.members.owner_of_name(each) == c.owner)
    # Nothing passes between these two for a moment after the import has asked, and neither has noticed.
    network.dropped.add(("a", "push"))
    importing = Deferred.fromCoroutine(a.directory.adopt(TransferredRecord(id=name, created_at=1), as_own=True))
    network.dropped.clear()
    network.cut |= {("a", "c"), ("c", "a")}
    c.threads.hold = is_slow
    if is_created:
        Deferred.fromCoroutine(c.directory.create_named(name)).addErrback(lambda _: None)
    put = Put(node=Node(addr="n1:1"), value="n1:1")
    claiming = Deferred.fromCoroutine(c.directory.claim(name, put, None))
    claiming.addErrback(lambda failure: failure.value)
    settle(clock, 0.4)
    network.heal()
    settle(clock, 3)
    c.threads.hold = False
    c.threads.release_all()
    settle(clock, 5)
    assert result(importing)
    first: Any = result(claiming)
    wins = [not isinstance(first, Exception) and first.won]
    settle(clock, 31)
    wins += [claim(daemon, clock, name, addr) for daemon, addr in ((b, "n2:1"), (c, "n3:1"), (a, "n4:1"))]
    assert sum(wins) == 1, wins
    assert not any(each.report.is_ownerless(a.owner) or go(each.directory.inspect(name)).ownerless for each in three[1])
    logged_errors.clear()


@pytest.mark.parametrize("by", ["a claim", "create"])
def test_a_name_that_a_member_did_not_confirm_as_new_is_granted_once_it_has(
    by: str, three: Three, clock: Clock
) -> None:
    network, (a, _b, c) = three
    name = next(each for each in NAMES if a.members.owner_of_name(each) == a.owner)
    network.dropped.add(("a", "barrier"))
    if by == "create":
        creating = Deferred.fromCoroutine(a.directory.create_named(name))
        settle(clock, 5)
        with pytest.raises(Undecided, match=r"^cannot create a name without "):
            result(creating)
    assert not claim(a, clock, name, "n1:1")
    network.dropped.clear()
    settle(clock, 3)
    assert claim(c, clock, name, "n1:1")


def test_a_name_that_turns_out_to_be_another_daemons_while_it_is_confirmed_is_not_called_lost(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    network, (a, b, _) = three
    name = next(each for each in NAMES if a.members.owner_of_name(each) == a.owner)
    confirmed: Deferred[None] = Deferred()
    network.held_answers["a", "barrier"] = confirmed
    put = Put(node=Node(addr="n1:1"), value="n1:1")
    claiming = Deferred.fromCoroutine(a.directory.claim(name, put, None))
    claiming.addErrback(lambda failure: failure.value)
    clock.advance(0.1)
    # A daemon of an earlier release confirms a name although it has another record of it.
    record = Record(id=name, owner=b.owner, version=1 << 40, created_at=1)
    delta = Delta(owner=b.owner, after=0, upto=0, records=[msgspec.Raw(codec.encode_record(record))])
    b.send(a, "push", Page(delta=delta))
    confirmed.callback(None)
    clock.advance(0.1)
    assert str(result(claiming)) == "another daemon owns this ID"
    logged_errors.clear()


def test_a_confirmed_name_whose_first_grant_was_revoked_is_granted_with_one_daemon_down(
    three: Three, clock: Clock
) -> None:
    network, (a, b, c) = three
    name = next(each for each in NAMES if a.members.owner_of_name(each) == a.owner)
    go(a.directory.create_named(name))
    c.stop()
    settle(clock, 5)
    network.swallowed.add(("a", "push"))
    put = Put(node=Node(addr="n1:1"), value="n1:1")
    claiming = Deferred.fromCoroutine(a.directory.claim(name, put, None))
    clock.advance(0.1)
    give_up(claiming)
    network.swallowed.clear()
    settle(clock, 5)
    assert claim(b, clock, name, "n2:1")


def test_a_confirmed_name_whose_first_grant_the_disk_refused_is_granted_with_one_daemon_down(
    three: Three, clock: Clock
) -> None:
    _, (a, b, c) = three
    name = next(each for each in NAMES if a.members.owner_of_name(each) == a.owner)
    go(a.directory.create_named(name))
    c.stop()
    settle(clock, 5)
    a.disk.room = 0
    assert not claim(a, clock, name, "n1:1")
    a.disk.room = None
    settle(clock, 5)
    assert claim(b, clock, name, "n2:1")
