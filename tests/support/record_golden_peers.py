"""Record the golden files of peers: `python -m tests.support.record_golden_peers`.

It was run once, by the first release. Never record the files anew: those of a later release go
beside them.
"""

from __future__ import annotations

import copy
import shutil

import msgspec
from rqdisco.backends.gossip.forwarding import outcome_of_refusal
from rqdisco.backends.gossip.replication import cursors

from rqdisco.backends.gossip.core import messages
from rqdisco.core import errors
from rqdisco.core.codec import encode_record
from rqdisco.core.records import Grant, Leader, Moment, Node, Put, Record, UnreportedClaim
from tests.support.golden_peer_http import talk
from tests.support.golden_peers import GOLDEN, NAMES, Conversation, Situation, stop, write_disk
from tests.support.peer_situations import CONVERSATIONS, LEADER, SITUATIONS, converse, newcomer, observe

# A message of each kind with all its fields, most of which are seldom set.
NODE = Node(addr="n1:4001", raft_addr="n1:4002", node_id="n1")
RECORD = Record(
    id="1a2b3c4d-0000-8000-8000-000000000001",
    owner="1a2b3c4d5e6f7081",
    version=1_795_000_000_001,
    created_at=1_795_000_000_000_000,
    nodes=(NODE,),
    grant=Grant(addr="n1:4001", boot=3, at=77, pending=True, host="192.0.2.1"),
    was_emptied=True,
    leader=Leader(addr="n1:4001", value=LEADER.decode(), created=1, modified=2, flags=3),
    confirmed=True,
    attempted=True,
    unreported=UnreportedClaim(times=2, since=1_795_000_000_000),
    host="192.0.2.1",
    previous_owners=("ffeeddccbbaa9988",),
    ownerless=True,
)
LINE = msgspec.Raw(encode_record(RECORD))
MEMBER = messages.Member(
    incarnation="ffeeddccbbaa9988",
    name="a",
    url="https://a:4003",
    state="leaving",
    successor="1a2b3c4d5e6f7081",
    declared_lost=True,
    features=("hints", "barrier"),
)
OWNER = RECORD.owner
MOMENT = Moment(boot=3, ms=9)
HINT = messages.Hint(number=5, id=RECORD.id, node=NODE, host="@ffeeddccbbaa9988")
DELTA = messages.Delta(owner=OWNER, after=1, upto=2, records=[LINE])
FULL: list[tuple[str, int, msgspec.Struct]] = [
    (
        "hello",
        0,
        messages.Hello(
            name="a",
            incarnation=OWNER,
            run_id="0011223344556677",
            url="https://a:4003",
            protocol=(1, 2),
            features=("hints", "later"),
            members=(MEMBER,),
            wall_ms=1_795_000_000_000,
        ),
    ),
    (
        "digest",
        1,
        messages.Digest(
            held={OWNER: 1},
            fingerprint="01234567",
            issued=2,
            newest_beyond_gap={OWNER: 3},
            members=(MEMBER,),
            expired={OWNER: 4},
            fenced="two daemons are called a",
            stopped="fenced",
            wall_ms=5,
            at=MOMENT,
        ),
    ),
    ("push", 0, messages.Page(delta=DELTA, page=7)),
    ("push", 1, messages.Held(held=8)),
    ("pull", 0, messages.Pull(owner=OWNER, after=1, page=2, upto=3)),
    ("pull", 1, messages.Page(delta=DELTA, page=7)),
    ("hints", 0, messages.Hints(owner=OWNER, of="ffeeddccbbaa9988", hints=(HINT,))),
    ("hints", 1, messages.Added(upto=5)),
    ("barrier", 0, messages.Barrier(owner=OWNER, record=LINE, of="ffeeddccbbaa9988", added=4)),
    ("barrier", 1, messages.Hints(owner=OWNER, of="ffeeddccbbaa9988", hints=(HINT,))),
    (
        "call",
        0,
        messages.Call(
            owner=OWNER,
            op="report",
            request="0011223344556677",
            ms=4000,
            id=RECORD.id,
            node=NODE,
            addr="n1:4001",
            put=Put(node=NODE, value=LEADER.decode(), flags=3),
            index=6,
            until=MOMENT,
            host="192.0.2.1",
        ),
    ),
    (
        "call",
        1,
        messages.Outcome(
            record=RECORD,
            listed=(NODE,),
            bootstrap="again",
            yes=True,
            removed="claim",
            again=True,
            refusal="StoreUnavailable",
            reason="the disk is full",
        ),
    ),
    ("agree", 0, messages.SuccessionProposal(incarnation=OWNER, successor="ffeeddccbbaa9988", upto=9)),
    ("agree", 1, messages.Agreed(successor="ffeeddccbbaa9988", held=9)),
    ("succeed", 0, messages.SuccessionProposal(incarnation=OWNER, successor="ffeeddccbbaa9988", upto=9)),
    ("succeed", 1, messages.Agreed(successor="ffeeddccbbaa9988", held=9)),
]
# The refusals of an owner, which are made into answers to clients elsewhere.
REFUSALS = (
    errors.NoSuchID("x"),
    errors.UnknownCreatedID("x"),
    errors.TooManyNodes("x"),
    errors.TooManyIDs(),
    errors.Ownerless("x"),
    errors.LoopbackConflict("x"),
    errors.Frozen("moved"),
    errors.NotReady("no peer contacted yet"),
    errors.Undecided("too late"),
    errors.StoreUnavailable("the disk is full"),
)


def _record_messages() -> None:
    full = [(verb, index, messages.encode_message(message).decode()) for verb, index, message in FULL]
    refusals = [("call", 1, messages.encode_message(outcome_of_refusal(each)).decode()) for each in REFUSALS]
    lines = b",\n".join(msgspec.json.encode(each) for each in (*full, *refusals))
    (GOLDEN / "messages.json").write_bytes(b"[" + lines + b"]\n")


def _record_situations() -> None:
    for name, (build, absent) in SITUATIONS.items():
        trio = build()
        clock = round(trio.clock.seconds() + 0.5, 1)
        disks = {each: copy.deepcopy(trio[each].disk.kill()) for each in NAMES}
        stop(trio.network)
        directory = GOLDEN / "situations" / name
        for each in NAMES:
            if each not in absent:
                write_disk(disks[each], directory / each)
                if name != "established":
                    # One situation with it is enough.
                    (directory / each / "snapshot.previous.json").unlink()
        situation = Situation(clock=clock, absent=tuple(absent))
        (directory / "situation.json").write_bytes(msgspec.json.encode(situation) + b"\n")
        situation.expected = observe(name)
        (directory / "situation.json").write_bytes(msgspec.json.encode(situation) + b"\n")


def _record_conversations() -> None:
    cursors.RECORDS_PER_MESSAGE = 5
    networks = {name: converse(name) for name in CONVERSATIONS} | {"newcomer": newcomer()}
    for name, network in networks.items():
        situation, sender, absent, *_ = CONVERSATIONS.get(name, ("established", "c", ""))
        # A link itself refuses to send without a session, or to a daemon that is down.
        unsent = ("", "PeerUnreachable", "NotGreeted")
        exchanges = [
            each
            for each in network.exchanges
            if (each.answer or each.refusal not in unsent)
            and (sender in (each.sender, each.receiver) or each.verb not in ("hello", "digest"))
        ]
        conversation = Conversation(situation=situation, sender=sender, absent=tuple(absent), exchanges=exchanges)
        # One line per exchange, so that a difference can be read.
        content = msgspec.json.encode(conversation).replace(b',{"at":', b',\n{"at":')
        (GOLDEN / "conversations").mkdir(parents=True, exist_ok=True)
        (GOLDEN / "conversations" / f"{name}.json").write_bytes(content + b"\n")


if __name__ == "__main__":
    shutil.rmtree(GOLDEN / "situations", ignore_errors=True)
    shutil.rmtree(GOLDEN / "conversations", ignore_errors=True)
    _record_situations()
    _record_conversations()
    _record_messages()
    (GOLDEN / "http.json").write_bytes(msgspec.json.format(msgspec.json.encode(talk()), indent=1) + b"\n")
