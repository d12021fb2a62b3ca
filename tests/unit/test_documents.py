"""Documents are spaced as the original service spaced them, whatever the addresses in them."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.core.leaders import Leaders
from rqdisco.core.records import Leader, Node
from rqdisco.core.verdicts import Health, Verdict
from rqdisco.core.views import View
from rqdisco.http.requests import documents
from rqdisco.http.requests.documents import (
    LegacyDocument,
    encode_assessment,
    encode_document,
    encode_full_document,
    not_seen,
)
from rqdisco.probes.probe_state import NodeStatus

ADDRESSES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]) | st.sampled_from('",\\[]{}: é'), min_size=1)
OPTIONAL = st.none() | ADDRESSES
NODES = st.lists(
    st.builds(Node, addr=ADDRESSES, raft_addr=OPTIONAL, node_id=OPTIONAL), max_size=6, unique_by=lambda node: node.addr
).map(tuple)
VALUES = st.fixed_dictionaries({"addr": ADDRESSES}, optional={"id": ADDRESSES, "api_addr": ADDRESSES})
STATUS = st.none() | st.builds(
    NodeStatus,
    up=st.none() | st.booleans(),
    since=st.none() | st.floats(0, 1e6),
    checked=st.floats(0, 1e6),
    ready=st.none() | st.booleans(),
    unresolved=st.booleans(),
    why=OPTIONAL,
)
VERDICTS = st.builds(Verdict, st.sampled_from(Health), ADDRESSES, ADDRESSES)


@st.composite
def views(draw: st.DrawFn) -> View:
    nodes = draw(NODES)
    listed = [node.addr for node in nodes]
    leader = None
    if draw(st.booleans()):
        addr = draw(st.sampled_from(listed) if listed else ADDRESSES)
        value = msgspec.json.encode(draw(VALUES)).decode()
        leader = Leader(addr=addr, value=value, created=1, modified=draw(st.integers(1, 2**50)))
    return View(
        id=draw(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)),
        owner="0" * 16,
        version=1,
        created_at=draw(st.integers(0, 2**52)),
        nodes=nodes,
        leader=leader,
        confirmed=draw(st.booleans()),
        unconfirmed=tuple(draw(st.lists(st.sampled_from(listed), unique=True))) if listed else (),
        claimed=draw(st.integers(0, 3)),
        claimed_since=draw(st.integers(0, 2**63 - 1)),
    )


def spaced(document: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=0)


@given(views())
def test_a_list_is_spaced_as_by_the_original_service(view: View) -> None:
    expected = LegacyDocument(documents.legacy_time(view.created_at), view.id, [node.addr for node in view.nodes])
    assert encode_document(view, view.nodes) == spaced(expected)


@given(views(), VERDICTS, st.booleans(), st.booleans(), STATUS, st.none() | st.tuples(ADDRESSES, ADDRESSES))
def test_a_full_document_is_spaced_alike(
    view: View,
    verdict: Verdict,
    orphaned: bool,
    probed: bool,
    status: NodeStatus | None,
    two_leaders: Leaders | None,
) -> None:
    def seen(_: Node) -> NodeStatus | None:
        return status

    probe = seen if probed else not_seen
    assessment = encode_assessment(view, verdict)
    answer = encode_full_document(view, assessment, orphaned=orphaned, seen=probe, two_leaders=two_leaders)
    assert answer == spaced(documents._full_document(view, verdict, orphaned, probe, two_leaders))
