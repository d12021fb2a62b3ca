"""A peer that holds the key and sends what no daemon sends: it is refused, and harms no other peer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Call, Delta, Digest, Hint, Hints, Member, Page
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core import codec
from rqdisco.core.records import Node, Put, Record
from tests.support.daemon import result
from tests.support.gossip import Three, create_id, listed, register, settle

VERSION = 1_800_000_000_000


def line(owner: str, version: int) -> bytes:
    return codec.encode_record(Record(id="some-name", owner=owner, version=version, created_at=1))


def out_of_order(owner: str) -> bytes:
    return b'{"id":"some-name","home":"%s","created_at":1,"version":%d}' % (owner.encode(), VERSION)


def with_escape(owner: str) -> bytes:
    return line("\\u0061" + owner[1:], VERSION).replace(rb"\\u", rb"\u")


@pytest.mark.parametrize(
    "unreadable",
    [out_of_order, with_escape, lambda owner: line(owner, 1 << 64), lambda owner: line(owner, -1)],
    ids=["fields in another order", "an escape in the owner", "a version beyond 64 bits", "a negative version"],
)
def test_a_record_that_the_store_could_not_read_back_is_refused(three: Three, clock: Clock, unreadable: object) -> None:
    _, (a, b, c) = three
    assert callable(unreadable)
    records = [msgspec.Raw(unreadable(b.owner))]
    with pytest.raises(BadMessage):
        result(b.send(a, "push", Page(delta=Delta(owner=b.owner, after=0, upto=VERSION, records=records))))
    a = a.restart()
    settle(clock, 5)
    discovery_id = create_id(a)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    assert listed(b, discovery_id) == ["n1:1"]


@pytest.mark.parametrize("version", [1 << 64, -1])
def test_a_peer_that_reports_impossible_versions_of_an_owners_records_does_not_stop_it(
    three: Three, clock: Clock, version: int
) -> None:
    _, (a, b, c) = three
    with pytest.raises(BadMessage):
        result(b.send(a, "digest", Digest(held={a.owner: version}, fingerprint=b.members.fingerprint)))
    settle(clock, 3)
    for _ in range(300):
        discovery_id = create_id(a)
    assert register(c, discovery_id, "n1:1") == ["n1:1"]
    assert listed(b, discovery_id) == ["n1:1"]


@pytest.mark.parametrize(
    "member",
    [
        Member(incarnation="", name="x", url="http://x"),
        Member(incarnation="1" * 16, name="", url="http://x"),
        Member(incarnation="1" * 16, name="x" * 10_000, url="http://x"),
    ],
    ids=["no incarnation", "no name", "a long name"],
)
def test_what_is_no_member_is_not_learned_from_a_list(three: Three, clock: Clock, member: Member) -> None:
    """Members are kept for ever, and every later list shows them."""
    _, (a, b, _) = three
    sent = Digest(held={}, fingerprint="other", members=(*b.members.all, member))
    result(b.send(a, "digest", sent))
    settle(clock, 3)
    assert len(a.members.all) == 3
    assert a.is_converged


def test_a_long_list_of_lost_daemons_is_learned_at_once(three: Three, clock: Clock) -> None:
    """Every start with an empty disk, as in a container, leaves one."""
    _, (a, b, c) = three
    lost = tuple(
        Member(incarnation=f"{number:016x}", name=f"n{number}", url="http://x", state="forgotten", successor=a.owner)
        for number in range(5000)
    )
    result(b.send(a, "digest", Digest(held={}, fingerprint="other", members=(*b.members.all, *lost))))
    settle(clock, 5)
    assert len(a.members.all) == len(c.members.all) == 5003


def test_a_request_that_cannot_be_processed_is_answered_and_stops_no_other(
    three: Three, clock: Clock, logged_errors: list[Any]
) -> None:
    _, (a, b, _) = three
    unknown: Any = object()
    with pytest.raises(AttributeError):
        result(a.backend.driver.request(unknown))
    logged_errors.clear()
    discovery_id = create_id(a)
    assert register(b, discovery_id, "n1:1") == ["n1:1"]
    settle(clock, 3)
    assert a.is_converged


def test_a_hint_for_an_id_of_another_daemon_changes_nothing(three: Three, clock: Clock) -> None:
    """Only its owner may list the node; taking the ID over would end its grants."""
    _, (a, b, c) = three
    discovery_id = create_id(c)
    settle(clock, 1)
    hint = Hint(number=1, id=discovery_id, node=Node(addr="n9:1"))
    result(b.send(a, "hints", Hints(owner=a.owner, of=a.owner, hints=(hint,))))
    settle(clock, 3)
    record = c.store.settled(discovery_id)
    assert record is not None
    assert (record.owner, record.nodes) == (c.owner, ())
    assert register(a, discovery_id, "n1:1") == ["n1:1"]


@pytest.mark.parametrize("discovery_id", ["", "!member/x", 'x","home":"y'])
def test_a_forwarded_request_for_what_is_no_id_is_refused(three: Three, clock: Clock, discovery_id: str) -> None:
    """The log would hold a line that is no record, or one that is metadata."""
    _, daemons = three
    owner = daemons[0].members.owner_of_name(discovery_id)
    a, b, c = sorted(daemons, key=lambda each: each.owner != owner)
    put = Put(node=Node(addr="n1:1"), value="n1:1")
    call = Call(owner=a.owner, op="report", request="r", ms=2000, id=discovery_id, put=put)
    with pytest.raises(BadMessage):
        result(b.send(a, "call", call))
    a = a.restart()
    settle(clock, 5)
    created = create_id(a)
    assert register(c, created, "n1:1") == ["n1:1"]
