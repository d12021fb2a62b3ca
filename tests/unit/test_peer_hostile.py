"""A peer that holds the key and sends what no daemon sends: it is refused, and harms no other peer."""

from __future__ import annotations

import msgspec
import pytest
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core.messages import Delta, Digest, Page
from rqdisco.backends.gossip.core.peer_errors import BadMessage
from rqdisco.core import codec
from rqdisco.core.records import Record
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
