"""The states of single daemons in the small world, and their steps, each computed once.

Two daemons have far fewer states each than the world has. So a world names the states of its
daemons, and a step of the world is mostly a look at a table.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from rqdisco.backends.gossip.core.effects import ClientReply, Effect, Fence, Log, Respond, Send
from rqdisco.backends.gossip.core.inputs import (
    Answered,
    Cancelled,
    Command,
    Failed,
    Greeted,
    HungUp,
    Input,
    Received,
    Requested,
    Ticked,
)
from rqdisco.backends.gossip.core.messages import Hello
from rqdisco.backends.gossip.core.peer_errors import NotGreeted, PeerError, PeerUnreachable
from rqdisco.core.directory import Removal
from rqdisco.core.records import Record, RegistrationOutcome
from tests.simulated.copies import FIRST_CALL, CanonicalForm, copy_of, message_text
from tests.simulated.machines import Daemon

# A number that nothing waits for any more, and the one of the message that a step delivers.
NOBODY = -1
THIS = -2
# Each daemon has one peer.
_PEER = "peer"


class Message(msgspec.Struct, frozen=True):
    """A message on its way; `session` is None for a hello."""

    verb: str
    session: str | None
    content: Any


class Answer(msgspec.Struct, frozen=True):
    """An answer on its way; `session` is the new one that the answer to a hello names."""

    content: Any
    session: str | None = None


BROKEN = Answer(PeerUnreachable("connection lost"))


class Said(NamedTuple):
    """The answer to a client: bootstrap, or the other addresses that it may join."""

    is_told: bool
    is_again: bool
    listed: tuple[str, ...]
    is_done: bool
    text: str


class Facts(NamedTuple):
    """The part of a daemon that the world needs to know.

    `nodes` are those of its newest record, None without one; `granted` is the address that is just
    being told to bootstrap; `hinted` are those answered on the owner's behalf.
    """

    is_up: bool
    is_ready: bool
    writes: int
    may_tick: bool
    nodes: tuple[str, ...] | None
    granted: str | None
    hinted: tuple[str, ...]
    is_idle: bool


class Step(NamedTuple):
    """The state after a step, what its numbers are called now, and what the daemon does."""

    after: int
    renamed: dict[int, int]
    sent: tuple[tuple[int, int], ...]
    answered: tuple[tuple[int, int], ...]
    said: tuple[tuple[int, Said], ...]
    failure: str | None


class Ids:
    """Small numbers for values that are equal if their texts are."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self.values: list[Any] = []

    def of(self, value: Any, key: Hashable) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.values)
            self.values.append(value)
        return number


class Table:
    """All states of daemons that were met. `watched` is the discovery ID."""

    def __init__(self, *, may_roll_back: bool, watched: str = "") -> None:
        self.facts: list[Facts] = []
        self.messages = Ids()
        self.answers = Ids()
        self.broken = self.answers.of(BROKEN, None)
        self._may_roll_back = may_roll_back
        self._watched = watched
        self._states: dict[bytes, int] = {}
        self._daemons: list[Daemon] = []
        # What the numbers of the daemon are, by name.
        self._numbers: list[list[int]] = []
        self._steps: dict[Hashable, Step] = {}
        self.show: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return len(self._daemons)

    @property
    def step_count(self) -> int:
        return len(self._steps)

    def add(self, daemon: Daemon) -> tuple[int, dict[int, int]]:
        """Return the number of a daemon's state, and the names of its numbers."""
        form = self._form_of(daemon)
        digest = blake2b(form.text.encode(), digest_size=16).digest()
        number = self._states.get(digest)
        if number is None:
            number = self._states[digest] = len(self._daemons)
            self._daemons.append(daemon)
            self._numbers.append(list(form.names))
            self.facts.append(self._facts_of(daemon))
        return number, form.names

    def daemon(self, number: int) -> Daemon:
        """Return a copy of a daemon in a state."""
        copied: Daemon = copy_of(self._daemons[number])
        return copied

    def step(self, number: int, *what: Hashable) -> Step:
        """Return what an input does in a state: one of `_INPUTS` or `_TO_THE_PROCESS`, "deliver",
        "answer", "fail" or "hang up".
        """
        if self.show is not None:
            return self._compute(number, what)
        key = (number, what)
        step = self._steps.get(key)
        if step is None:
            step = self._steps[key] = self._compute(number, what)
        return step

    def _compute(self, number: int, what: tuple[Any, ...]) -> Step:
        daemon = self.daemon(number)
        numbers = self._numbers[number]
        call = max((each for each in numbers if each >= FIRST_CALL), default=FIRST_CALL) + 1
        session = None
        try:
            if what[0] == "deliver":
                message: Message = self.messages.values[what[1]]
                session = daemon.next_session() if message.verb == "hello" else None
                given: Any = (
                    Received(call, message.session, message.verb, message.content)
                    if session is None and message.session is not None
                    else Greeted(call, str(session), message.content)
                )
                effects = self._give(daemon, given)
            else:
                effects = self._perform(daemon, numbers, *what)
        except Exception as error:  # any exception is what the search looks for
            return Step(number, {}, (), (), (), f"{daemon.name} raises {type(error).__name__}: {error}")
        after, names = self.add(daemon)
        renamed = {name: names[each] for name, each in enumerate(numbers) if each in names}
        if call in names:
            renamed[THIS] = names[call]
        before = {each: name for name, each in enumerate(numbers)}
        return self._step(daemon, after, renamed, names, before, effects, session)

    def _perform(self, daemon: Daemon, numbers: list[int], what: str, *args: Any) -> list[Effect]:
        if what in _TO_THE_PROCESS:
            text, act = _TO_THE_PROCESS[what]
            self._show(daemon, text(daemon, *args))
            return self._shown(act(daemon, *args))
        if what in _INPUTS:
            return self._give(daemon, _INPUTS[what](daemon, *args))
        return self._give(daemon, self._outcome(daemon, numbers[args[0]], what, *args[1:]))

    def _outcome(self, daemon: Daemon, number: int, what: str, answer: int | None = None) -> Input:
        """Return the input by which a daemon learns what became of a message."""
        if what == "hang up":
            return HungUp(number)
        arrived: Answer = BROKEN if answer is None else self.answers.values[answer]
        if isinstance(arrived.content, Hello):
            daemon.sessions[_PEER] = str(arrived.session)
        elif isinstance(arrived.content, NotGreeted):
            daemon.sessions.clear()
        is_failed = isinstance(arrived.content, PeerError)
        return Failed(number, arrived.content) if is_failed else Answered(number, arrived.content)

    def _step(
        self,
        daemon: Daemon,
        after: int,
        renamed: dict[int, int],
        names: dict[int, int],
        before: dict[int, int],
        effects: list[Effect],
        session: str | None,
    ) -> Step:
        sent, answered, said, failure = [], [], [], None
        for effect in effects:
            if isinstance(effect, Send):
                with_session = None if effect.verb == "hello" else daemon.sessions.get(_PEER, "none")
                key = (effect.verb, with_session, message_text(effect.message))
                message = self.messages.of(Message(effect.verb, with_session, effect.message), key)
                sent.append((names.get(effect.number, NOBODY), message))
            elif isinstance(effect, Respond):
                answer = Answer(effect.message, session if isinstance(effect.message, Hello) else None)
                text = repr(effect.message) if isinstance(effect.message, PeerError) else message_text(effect.message)
                answered.append((before.get(effect.number, THIS), self.answers.of(answer, (text, answer.session))))
            elif isinstance(effect, ClientReply):
                said.append((effect.number, _said(effect.result)))
            elif isinstance(effect, Fence):
                failure = f"{daemon.name} is fenced: {effect.reason}"
            elif isinstance(effect, Log) and effect.level == "error":
                failure = failure or f"{daemon.name} logs: {effect.text}"
        return Step(after, renamed, tuple(sent), tuple(answered), tuple(said), failure)

    def _give(self, daemon: Daemon, given: Any) -> list[Effect]:
        self._show(daemon, f"<- {given}")
        return self._shown(daemon.give(given))

    def _show(self, daemon: Daemon, text: str) -> None:
        if self.show is not None:
            self.show(f"{daemon.name} at {daemon.clock:.3f} {text}")

    def _shown(self, effects: list[Effect]) -> list[Effect]:
        if self.show is not None:
            for effect in effects:
                self.show(f"      -> {effect}")
        return effects

    def _form_of(self, daemon: Daemon) -> CanonicalForm:
        state = None if daemon.machine is None else daemon.machine.state
        records = daemon.disk.records if state is None else None
        before = (daemon.before_last.records, daemon.before_last.metadata) if self._may_roll_back else None
        queue = [(each.number, [change.line for change in each.changes]) for each in daemon.unwritten]
        own = (daemon.name, daemon.clock, daemon.starts, daemon.greetings)
        return CanonicalForm(state, own, records, daemon.disk.metadata, before, queue, daemon.sessions)

    def _facts_of(self, daemon: Daemon) -> Facts:
        if daemon.machine is None:
            return Facts(False, False, 0, False, None, None, (), False)
        state = daemon.machine.state
        record = state.store.newest(self._watched) if self._watched else None
        pending = state.pending_grants.get(self._watched)
        granted = None if pending is None or pending.before is None else pending.outcome.record
        return Facts(
            is_up=True,
            is_ready=not any(each.incarnation not in state.confirmed for each in state.members.others),
            writes=len(daemon.unwritten),
            may_tick=state.woken_at is not None,
            nodes=None if record is None else _addresses(record),
            granted=None if granted is None or granted.grant is None else granted.grant.addr,
            hinted=tuple(each.addr for each in state.hints.nodes(self._watched)),
            is_idle=not (state.outgoing or state.requests or daemon.unwritten),
        )


def _addresses(record: Record) -> tuple[str, ...]:
    return tuple(each.addr for each in record.nodes)


def _said(result: Any) -> Said:
    if isinstance(result, RegistrationOutcome):
        listed = tuple(each.addr for each in result.listed)
        text = f"{result.bootstrap or 'listed'} {' '.join(listed)}{' on behalf' if result.on_behalf else ''}"
        return Said(result.bootstrap is not None, result.bootstrap == "again", listed, False, text)
    if isinstance(result, Removal):
        return Said(False, False, (), True, f"removed: {result.removed}")
    return Said(False, False, (), False, f"{type(result).__name__} {result}")


def _write_text(daemon: Daemon) -> str:
    return "written: " + (", ".join(each.line.decode() for each in daemon.unwritten[0].changes) or "nothing")


def _kill_text(daemon: Daemon, written: int) -> str:
    return f"killed; the disk has {written} of {len(daemon.unwritten)} unfinished writes"


def _roll_back_text(_: Daemon) -> str:
    return "killed; the disk loses its last write as well"


def _start_text(_: Daemon) -> str:
    return "starts"


def _kill(daemon: Daemon, written: int) -> list[Effect]:
    daemon.kill(written)
    return []


def _roll_back(daemon: Daemon) -> list[Effect]:
    daemon.kill(0)
    daemon.lose_last_write()
    return []


def _tick(daemon: Daemon) -> Input:
    daemon.clock = max(daemon.clock, daemon.wake_at or 0.0)
    return Ticked()


def _request(_: Daemon, number: int, command: Command) -> Input:
    return Requested(number, command)


def _cancel(_: Daemon, number: int) -> Input:
    return Cancelled(number)


# What happens to the process, not to the machine; with a text that describes it.
_TO_THE_PROCESS: dict[str, tuple[Callable[..., str], Callable[..., list[Effect]]]] = {
    "write": (_write_text, Daemon.finish_write),
    "kill": (_kill_text, _kill),
    "roll back": (_roll_back_text, _roll_back),
    "start": (_start_text, Daemon.start),
}
_INPUTS: dict[str, Callable[..., Input]] = {"tick": _tick, "request": _request, "cancel": _cancel}
