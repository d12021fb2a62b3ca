"""Golden files of peers: messages and state directories that the first release wrote, and what
today's daemons have to do with them.

Daemons of the last release before `backends.gossip.core` wrote them. The parts of the code that may
move are imported and called here, in one place: `messages`, and the functions from `decoded` to
`drain`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from rqdisco.backends.gossip.core import messages
from rqdisco.backends.limits import Limits
from rqdisco.core.codec import encode_record
from rqdisco.core.records import Grant, Leader, Moment, Node, Put, Record, UnreportedClaim
from tests.support import frozen_messages
from tests.support.daemon import STATE
from tests.support.disk import Inode, ModelDisk
from tests.support.frozen_messages import (
    FROZEN,
    FrozenAdded,
    FrozenAgreed,
    FrozenDelta,
    FrozenHeld,
    FrozenHints,
    FrozenOutcome,
    FrozenPage,
)
from tests.support.gossip import DirectLink, DirectNetwork, GossipDaemon, settle, wait

GOLDEN = Path(__file__).parents[1] / "unit" / "golden" / "peers"
NAMES = "abc"

# The request and the answer of each verb.
KINDS: dict[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {
    "hello": (messages.Hello, messages.Hello),
    "digest": (messages.Digest, messages.Digest),
    "push": (messages.Page, messages.Held),
    "pull": (messages.Pull, messages.Page),
    "hints": (messages.Hints, messages.Added),
    "barrier": (messages.Barrier, messages.Hints),
    "call": (messages.Call, messages.Outcome),
    "agree": (messages.SuccessionProposal, messages.Agreed),
    "succeed": (messages.SuccessionProposal, messages.Agreed),
}
# What messages consist of, and its frozen copy.
PARTS: list[tuple[type[msgspec.Struct], type[msgspec.Struct]]] = [
    (messages.Member, frozen_messages.FrozenMember),
    (messages.Delta, frozen_messages.FrozenDelta),
    (messages.Hint, frozen_messages.FrozenHint),
    (Record, frozen_messages.FrozenRecord),
    (Node, frozen_messages.FrozenNode),
    (Grant, frozen_messages.FrozenGrant),
    (Leader, frozen_messages.FrozenLeader),
    (UnreportedClaim, frozen_messages.FrozenUnreported),
    (Put, frozen_messages.FrozenPut),
    (Moment, frozen_messages.FrozenMoment),
]


def decoded(verb: str, index: int, text: str | bytes) -> msgspec.Struct:
    """Decode the request (0) or the answer (1) of a verb. Raises Malformed."""
    content = text.encode() if isinstance(text, str) else text
    message: msgspec.Struct = messages.decode_message(content, KINDS[verb][index])
    return message


def encoded(message: msgspec.Struct) -> str:
    """Encode a message."""
    return messages.encode_message(message).decode()


def greet(daemon: GossipDaemon, hello: bytes) -> Deferred[tuple[str, bytes]]:
    """Send a hello to a daemon; fire with the session's name and the answer."""
    return daemon.backend.driver.greet(hello)


def serve(daemon: GossipDaemon, session: str, verb: str, body: bytes) -> Deferred[bytes]:
    """Send a message to a daemon."""
    return daemon.backend.driver.serve(session, verb, body)


def cluster(daemon: GossipDaemon) -> dict[str, Any]:
    """Return what `rqdisco peers` shows of a daemon, without what changes with time."""
    document: dict[str, Any] = daemon.report.as_object()
    shown = {name: document[name] for name in ("name", "incarnation", "state", "hints", "frozen")}
    peers = [
        {name: peer.get(name) for name in ("name", "incarnation", "state", "successor")} for peer in document["peers"]
    ]
    return {**shown, "peers": peers}


def forget(daemon: GossipDaemon, name: str) -> Any:
    """Have a daemon forget another one."""
    return daemon.forget(name)


def owner_of_name(daemon: GossipDaemon, name: str) -> str:
    """Return who a daemon thinks owns a name that nobody has claimed."""
    return daemon.members.owner_of_name(name)


def drain(daemon: GossipDaemon, to: str) -> Any:
    """Have a daemon hand its IDs over to another one."""
    return daemon.drain(to)


class Exchange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request that was sent at a second of the clock, and its answer or the receiver's refusal."""

    at: float
    sender: str
    receiver: str
    verb: str
    request: str
    answer: str = ""
    refusal: str = ""
    reason: str = ""


class Conversation(msgspec.Struct, kw_only=True):
    """All messages of daemons that started in a situation at a second of the clock, in the order in
    which they were sent. `sender` acted, the others answered; `absent` did not run.
    """

    situation: str
    sender: str
    absent: tuple[str, ...]
    exchanges: list[Exchange]


class Situation(msgspec.Struct, kw_only=True):
    """State directories of a set of daemons, in files by daemon and path, which were left at second
    `clock`; `absent` are those that never return. `expected` is what was observed then.
    """

    clock: float
    absent: tuple[str, ...] = ()
    expected: Any = None


class RecordingNetwork(DirectNetwork):
    """A network that records all exchanges; messages to `stand_ins` are answered by them."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.exchanges: list[Exchange] = []
        self.stand_ins: dict[str, StandIn] = {}

    def link(self, sender: str) -> Callable[[str], DirectLink]:
        return lambda url: _RecordedLink(self, sender, url)


class _RecordedLink(DirectLink):
    def __init__(self, network: RecordingNetwork, sender: str, url: str) -> None:
        super().__init__(network, sender, url)
        self._recorder = network
        self._pair = sender, url.removeprefix("http://")

    def greet(self, hello: bytes, seconds: float) -> Deferred[bytes]:
        if (stand_in := self._recorder.stand_ins.get(self._pair[1])) is not None:
            return succeed(stand_in.answer("hello", hello))
        return self._record("hello", hello, lambda: super(_RecordedLink, self).greet(hello, seconds))

    def request(self, verb: str, body: bytes, seconds: float) -> Deferred[bytes]:
        if (stand_in := self._recorder.stand_ins.get(self._pair[1])) is not None:
            return succeed(stand_in.answer(verb, body))
        return self._record(verb, body, lambda: super(_RecordedLink, self).request(verb, body, seconds))

    def _record(self, verb: str, body: bytes, send: Callable[[], Deferred[bytes]]) -> Deferred[bytes]:
        sender, receiver = self._pair
        at = round(self._recorder.clock.seconds(), 3)
        exchange = Exchange(at=at, sender=sender, receiver=receiver, verb=verb, request=body.decode())
        self._recorder.exchanges.append(exchange)

        def answered(answer: bytes) -> bytes:
            exchange.answer = answer.decode()
            return answer

        def refused(failure: Any) -> Any:
            exchange.refusal, exchange.reason = type(failure.value).__name__, str(failure.value)
            return failure

        return send().addCallbacks(answered, refused)


class StandIn:
    """A daemon of the first release, as far as others can tell: it greets and digests as it was
    recorded, and understands what that release understood. It answers calls with the `outcomes`, and
    barriers with the `hints`, that a test gives it.
    """

    def __init__(self, name: str, clock: Clock, exchanges: Sequence[Exchange]) -> None:
        self._clock = clock
        said = [(each.at, each.verb, each.request) for each in exchanges if each.sender == name]
        said += [(each.at, each.verb, each.answer) for each in exchanges if each.receiver == name and each.answer]
        self._hello = next(text for _, verb, text in said if verb == "hello")
        pulls = [each for each in exchanges if (each.receiver, each.verb) == (name, "pull") and each.answer]
        self._pulls = sorted(((json.loads(each.request)["after"], each) for each in pulls), key=lambda pair: -pair[0])
        self._digests = sorted((at, text) for at, verb, text in said if verb == "digest")
        self.received: list[tuple[str, Any]] = []
        self.outcomes: list[str] = []
        self.hints: list[str] = []

    def answer(self, verb: str, body: bytes) -> bytes:
        request: Any = msgspec.json.decode(body, type=FROZEN[verb][0])
        self.received.append((verb, request))
        if verb == "hello":
            return self._hello.encode()
        if verb == "digest":
            before = [text for at, text in self._digests if at <= self._clock.seconds() + 0.001]
            return (before or [self._digests[0][1]])[-1].encode()
        if (verb == "call" and self.outcomes) or (verb == "barrier" and self.hints):
            return (self.outcomes if verb == "call" else self.hints).pop(0).encode()
        if verb == "pull":
            for _, exchange in self._pulls:
                if exchange.request.encode() == body:
                    return exchange.answer.encode()
            for after, exchange in self._pulls:
                if after <= request.after and json.loads(exchange.request)["home"] == request.home:
                    return exchange.answer.encode()
        return msgspec.json.encode(_plain_answer(verb, request))


def _plain_answer(verb: str, request: Any) -> msgspec.Struct:
    """Return an answer of a daemon that has nothing to add."""
    if verb == "push":
        return FrozenHeld(held=request.delta.upto)
    if verb == "pull":
        return FrozenPage(delta=FrozenDelta(home=request.home, after=request.after, upto=request.after, records=[]))
    if verb == "hints":
        return FrozenAdded(upto=0)
    if verb == "barrier":
        return FrozenHints(home=request.home, of="", hints=())
    if verb == "call":
        return FrozenOutcome(refusal="Undecided", reason="this is a stand-in")
    return FrozenAgreed(successor=request.successor, held=0)


def read_conversations() -> dict[str, Conversation]:
    """Read all recorded conversations, by name."""
    files = sorted((GOLDEN / "conversations").glob("*.json"))
    return {file.stem: msgspec.json.decode(file.read_bytes(), type=Conversation) for file in files}


def read_situation(name: str) -> Situation:
    """Read what is known of a situation."""
    return msgspec.json.decode((GOLDEN / "situations" / name / "situation.json").read_bytes(), type=Situation)


def read_disk(directory: Path) -> ModelDisk:
    """Return a disk with the files of a state directory, whose identity is not that of a copy."""
    disk = ModelDisk()
    disk.make_directory(STATE)
    disk.make_directory(STATE / "journal")
    for file in sorted(each for each in directory.rglob("*") if each.is_file()):
        disk.replace(STATE / file.relative_to(directory), file.read_bytes())
    identity = msgspec.json.decode(disk.read(STATE / "identity.json"), type=dict[str, Any])
    disk._directories[STATE] = int(identity["directory"])
    inode = Inode(int(identity["inode"]))
    inode.seen = inode.safe = disk.read(STATE / "identity.json")
    disk._seen[STATE / "identity.json"] = disk._safe[STATE / "identity.json"] = inode
    disk._numbers += 1000
    return disk


def write_disk(disk: ModelDisk, directory: Path) -> None:
    """Write the files of a disk's state directory."""
    for path, inode in disk._seen.items():
        if inode is None or path.name.endswith((".lock", "lock")):
            continue
        to = directory / path.relative_to(STATE)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(inode.seen)


def started(
    name: str, only: str = NAMES, limits: Limits | None = None
) -> tuple[RecordingNetwork, dict[str, GossipDaemon]]:
    """Start daemons on the disks of a situation, those that never return excepted."""
    situation = read_situation(name)
    clock = Clock()
    clock.advance(situation.clock)
    network = RecordingNetwork(clock)
    return network, start(network, name, [each for each in only if each not in situation.absent], limits)


def start(
    network: RecordingNetwork, situation: str, names: Sequence[str], limits: Limits | None = None
) -> dict[str, GossipDaemon]:
    """Start daemons on the disks of a situation."""
    return {
        name: GossipDaemon(
            network,
            name,
            [NAMES[0]] if name != NAMES[0] else [],
            disk=read_disk(GOLDEN / "situations" / situation / name),
            seed=1,
            limits=limits,
        )
        for name in names
    }


def stop(network: RecordingNetwork) -> None:
    """Stop all daemons."""
    for daemon in network.daemons.values():
        daemon.stop()
    settle(network.clock, 1)


def stored_numbers(disk: ModelDisk, key: str) -> list[int]:
    """Return the numbers that were ever stored under keys with this beginning, in order."""
    files = sorted((path for path, inode in disk._seen.items() if inode is not None), key=lambda path: path.name)
    lines = [line for path in files for line in disk.read(path).splitlines() if b'{"id":"' + key.encode() in line]
    return [int(number) for line in lines for number in re.findall(rb'"number":([0-9]+)', line)]


def contents(daemon: GossipDaemon) -> dict[str, Any]:
    """Return all records of a daemon, without versions."""

    async def collect() -> list[Any]:
        return [record async for part in daemon.directory.records() for record in part]

    found = {}
    for record in wait(daemon.clock, collect(), 1):
        line = msgspec.json.decode(encode_record(record))
        del line["version"]
        if line.get("leader"):
            del line["leader"]["created"], line["leader"]["modified"]
        found[line.pop("id")] = line
    return dict(sorted(found.items()))
