"""The state machine by itself: it never raises, it is deterministic, and its state can be copied."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rqdisco.backends.gossip.core.effects import Effect, Respond, Send
from rqdisco.backends.gossip.core.inputs import (
    Answered,
    Cancelled,
    Claim,
    ClearLeader,
    Create,
    CreateNamed,
    Delivered,
    Drain,
    Failed,
    Forget,
    FreezeStore,
    Greeted,
    HungUp,
    Input,
    LookUp,
    Persisted,
    Received,
    Register,
    Remove,
    Requested,
    ThawStore,
    Ticked,
)
from rqdisco.backends.gossip.core.messages import VERBS, decode_message, encode_message
from rqdisco.backends.gossip.core.peer_errors import BadMessage, NotGreeted, PeerUnreachable
from rqdisco.core import codec
from rqdisco.core.codec import Malformed
from rqdisco.core.records import Grant, Leader, Node, Put, Record
from tests.simulated.copies import CanonicalForm, copy_of, message_text
from tests.simulated.machines import Daemon
from tests.simulated.wires import Wires

OWNERS = [Daemon(name, ()).incarnation for name in "abc"]
CREATED = "ca970000-0000-8000-8000-000000000000"
NODE = Node(addr="10.0.0.1:4001")
W = TypeVar("W", bound=Wires)
EXAMPLES = settings(max_examples=int(os.environ.get("EXAMPLES", "150")), derandomize=True, deadline=None, database=None)

TEXTS = st.sampled_from([*OWNERS, "f" * 16, "", "a", "http://a", "http://x", CREATED, "orders", NODE.addr, "é"])
NUMBERS = st.sampled_from(
    [0, 1, -1, 3, 1_700_000_001_000, 1_700_000_001_001, 1_800_000_000_000, 1 << 53, 1 << 63, 1 << 70]
)
LINES = st.builds(
    lambda owner, version, nodes, grant, leader, flag: codec.encode_record(
        Record(
            id=CREATED,
            owner=owner,
            version=version,
            created_at=1,
            nodes=nodes,
            grant=grant,
            leader=leader,
            was_emptied=flag,
        )
    ),
    st.sampled_from([*OWNERS, "f" * 16]),
    NUMBERS,
    st.sampled_from([(), (NODE,), (NODE, Node(addr="10.0.0.2:4001"))]),
    st.sampled_from([None, Grant(addr=NODE.addr, boot=1, at=5), Grant(addr=NODE.addr, boot=1, at=5, pending=True)]),
    st.sampled_from([None, Leader(addr=NODE.addr, value="{}", created=1, modified=1)]),
    st.booleans(),
)
RAWS = st.one_of(LINES, st.sampled_from([b"{}", b"1", b'{"id":1}', b"null", b'[{"id":"x"}]'])).map(msgspec.Raw)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Generate values of a type, with values from the daemons' own world."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is msgspec.Raw:
        found: st.SearchStrategy[Any] = RAWS
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        found = st.builds(kind, **{name: values_of(hints[name]) for name in kind.__struct_fields__})
    elif origin is Literal:
        found = st.sampled_from(args)
    elif origin in (Union, types.UnionType):
        found = st.one_of(*map(values_of, args))
    elif origin is tuple and args[-1] is not Ellipsis:
        found = st.tuples(*map(values_of, args))
    elif origin in (tuple, list):
        found = st.lists(values_of(args[0]), max_size=3).map(origin)
    elif origin is dict:
        found = st.dictionaries(values_of(args[0]), values_of(args[1]), max_size=3)
    else:
        found = {int: NUMBERS, str: TEXTS, bool: st.booleans(), type(None): st.none()}[kind]
    return found


def _messages(place: int) -> dict[str, st.SearchStrategy[Any]]:
    return {verb: values_of(kinds[place]) for verb, kinds in VERBS.items()}


REQUESTS, ANSWERS = _messages(0), _messages(1)
VERB = st.sampled_from(sorted(VERBS))


def _decoded(message: Any) -> Any:
    """Return the message as it arrives, None if no peer could decode it."""
    try:
        return decode_message(encode_message(message), type(message))
    except (Malformed, msgspec.MsgspecError, OverflowError):
        return None


def _used(kind: type[W]) -> W:
    """Return three daemons with an ID that is used."""
    wires = kind.of(3)
    wires.ask(wires.daemons[0], Create(bytes(14)))
    wires.settle(1.0)
    wires.ask(wires.daemons[1], Register(CREATED, NODE, "host"))
    wires.settle(1.0)
    return wires


@pytest.fixture(scope="module")
def used() -> Wires:
    return _used(Wires)


def _form(daemon: Daemon) -> str:
    assert daemon.machine is not None
    return CanonicalForm(daemon.machine.state).text


def _copied(daemon: Daemon) -> Daemon:
    copied: Daemon = copy_of(daemon)
    return copied


def _session(daemon: Daemon) -> str:
    """Return the name of a session that a peer has with a daemon."""
    assert daemon.machine is not None
    return next(reversed(daemon.machine.state.sessions._sessions))


@settings(EXAMPLES)
@given(data=st.data(), verbs=st.lists(VERB, min_size=1, max_size=6))
def test_whatever_a_peer_sends_is_answered(used: Wires, data: Any, verbs: list[str]) -> None:
    daemon = _copied(used.daemons[0])
    session, answered = _session(daemon), set()
    for call, verb in enumerate(verbs):
        message = _decoded(data.draw(REQUESTS[verb]))
        if message is None:
            continue
        before = repr(message)
        is_hello = verb == "hello"
        given_: Input = Greeted(call, f"new{call}", message) if is_hello else Received(call, session, verb, message)
        effects = daemon.give(given_)
        while daemon.unwritten:
            effects += daemon.finish_write()
        answered |= {effect.number for effect in effects if isinstance(effect, Respond)}
        assert not is_hello or call in answered
        assert repr(message) == before


COMMANDS = st.one_of(
    st.builds(Register, st.sampled_from([CREATED, "x"]), st.builds(Node, addr=TEXTS), st.just("host")),
    st.builds(Remove, st.just(CREATED), TEXTS),
    st.builds(LookUp, st.just(CREATED), st.booleans()),
    st.builds(Create, st.just(b"new ID bytes..")),
    st.builds(CreateNamed, st.just("orders")),
    st.builds(Claim, st.just("orders"), st.builds(Put, node=st.just(NODE), value=st.just("{}")), st.just("host")),
    st.builds(ClearLeader, st.just("orders"), st.none()),
    st.builds(Forget, TEXTS),
    st.builds(Drain),
    st.builds(FreezeStore, st.just("maintenance")),
    st.builds(ThawStore),
)


@settings(EXAMPLES)
@given(data=st.data(), commands=st.lists(COMMANDS, min_size=1, max_size=6))
def test_whatever_a_peer_answers_is_survived(used: Wires, data: Any, commands: list[Any]) -> None:
    daemon = _copied(used.daemons[1])
    for number, command in enumerate(commands):
        daemon.clock = max(daemon.clock, daemon.wake_at or 0.0)
        effects = daemon.give(Ticked()) + daemon.give(Requested(number + 1000, command))
        while daemon.unwritten:
            effects += daemon.finish_write()
        for send in effects:
            if isinstance(send, Send) and (answer := _decoded(data.draw(ANSWERS[send.verb]))) is not None:
                before = repr(answer)
                daemon.give(Answered(send.number, answer))
                assert repr(answer) == before


@pytest.mark.parametrize(
    "given_",
    [
        Answered(1, None),
        Failed(1, PeerUnreachable("gone")),
        Persisted(1),
        HungUp(1),
        Cancelled(1),
        Delivered(1, True),
        Delivered(1, False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_was_never_asked_changes_nothing(used: Wires, given_: Input) -> None:
    daemon = _copied(used.daemons[0])
    before = _form(daemon)

    assert not daemon.give(given_)

    assert _form(daemon) == before


@settings(EXAMPLES)
@given(data=st.data(), verb=VERB.filter(lambda verb: verb != "hello"), is_readable=st.booleans())
def test_a_message_without_a_session_changes_nothing(used: Wires, data: Any, verb: str, is_readable: bool) -> None:
    daemon = _copied(used.daemons[0])
    before = _form(daemon)
    message = data.draw(REQUESTS[verb]) if is_readable else BadMessage("unreadable")

    effects = daemon.give(Received(7, "unknown", verb, message))

    assert [type(each.message) for each in effects if isinstance(each, Respond)] == [NotGreeted]
    assert _form(daemon) == before


@settings(EXAMPLES)
@given(commands=st.lists(st.tuples(COMMANDS, st.booleans()), max_size=8))
def test_a_copy_behaves_like_the_original(used: Wires, commands: list[tuple[Any, bool]]) -> None:
    daemon = _copied(used.daemons[0])
    for number, (command, is_written) in enumerate(commands):
        copied = _copied(daemon)
        given_ = Requested(number + 1000, command)
        text, copied_text = _text(daemon.give(given_)), _text(copied.give(given_))
        assert copied_text == text
        assert _form(copied) == _form(daemon)
        if is_written:
            copied = _copied(daemon)
            kept = _form(copied)
            while daemon.unwritten:
                daemon.finish_write()
            assert _form(copied) == kept


def _text(effects: list[Any]) -> str:
    """Return a text of effects; the `repr` of records in messages has none of their content."""
    texts = []
    for effect in effects:
        content = getattr(effect, "message", None)
        texts.append(message_text(content) if isinstance(content, msgspec.Struct) else repr(effect))
        texts.append(f"{type(effect).__name__} {getattr(effect, 'number', '')}")
    return "\n".join(texts)


_RUN = """
from hashlib import sha256
from tests.simulated.test_machines import a_run
print(sha256(a_run().encode()).hexdigest())
"""


@dataclass
class NotedWires(Wires):
    """Daemons whose effects are written down."""

    texts: list[str] = field(default_factory=list)

    def _perform(self, daemon: Daemon, effects: list[Effect]) -> None:
        self.texts.append(f"{daemon.name} {daemon.clock} {_text(effects)}")
        super()._perform(daemon, effects)


def a_run() -> str:
    """Return what three daemons do in a run with a crash, as text."""
    wires = _used(NotedWires)
    for number in range(3):
        wires.ask(wires.daemons[number], Register(CREATED, Node(addr=f"10.0.0.{number + 5}:4001"), "host"))
    wires.kill(wires.daemons[0], 1)
    wires.ask(wires.daemons[1], Register(CREATED, Node(addr="10.0.0.9:4001"), "host"))
    wires.settle(8.0)
    wires.start(wires.daemons[0])
    wires.settle(4.0)
    return "\n".join(wires.texts)


def test_the_same_inputs_have_the_same_effects_in_every_process() -> None:
    """The order of sets of text differs from process to process."""
    here = sha256(a_run().encode()).hexdigest()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run([sys.executable, "-c", _RUN], env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == here
