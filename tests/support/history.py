"""What clients asked and were told of one discovery ID, and whether one order of decisions explains it all (P1).

A `History` is recorded while clients run; `check` looks for an order in which a single list, asked one operation at a
time, gives every answer (linearizability). It is the search of Wing and Gong with the memory of Lowe: operations
that overlap may have been decided in any order, and no set of decided operations is looked at twice in one state.

The list here is written down anew from the rules, not taken from `rqdisco.records`, which it is to judge. Nodes are
told apart by their addresses alone: node IDs, bounds on the length of a list and lost homes (R7) are not known to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf
from operator import attrgetter
from threading import Lock
from typing import Literal, NamedTuple, TypeAlias

from rqdisco.address import same_node

Kind: TypeAlias = Literal["register", "remove", "read", "claim", "report", "hint"]
Answer: TypeAlias = Literal["alone", 503] | tuple[str, ...] | bool
"""A register is told "alone" or a list, a remove or read a list, a claim or report whether it won; 503 is for all."""

WINDOW = 30.0
# Moments of a daemon are whole milliseconds.
_ROUNDING = 0.002


class Stamp(NamedTuple):
    """A moment: its time, and the turn in which it was recorded, which orders what happened at the same time."""

    at: float
    turn: int

    def __str__(self) -> str:
        return f"{self.at:.3f}"


NEVER = Stamp(inf, 0)


@dataclass(frozen=True)
class Operation:
    """One request of one client. Without an answer it may have taken effect at any time since, or never.

    `local` says that it was answered off home, from a copy (R4); `consistent` that a read was answered by the home.
    Nobody asks for a "hint": that is what a registration answered away from home may become there, beside itself.
    """

    client: str
    kind: Kind
    addr: str
    invoked: Stamp
    returned: Stamp | None = None
    answer: Answer | None = None
    local: bool = False
    consistent: bool = False

    def __str__(self) -> str:
        interval = f"{self.invoked}-{'' if self.returned is None else self.returned}"
        where = " off home" if self.local else ""
        return f"{interval} {self.client}: {f'{self.kind} {self.addr}'.rstrip()} -> {_told(self.answer)}{where}"

    @property
    def is_open(self) -> bool:
        """Whether its answer leaves open if it took effect: there is none, it is 503, or a copy gave it (R4)."""
        if self.answer is None or self.answer == 503:
            return True
        return self.local and self.kind == "register"

    @property
    def takes_part(self) -> bool:
        """Whether it says anything about the list, or may have changed it."""
        if self.kind == "read":
            return self.consistent and isinstance(self.answer, tuple)
        return self.answer is not False or (self.kind == "claim" and not self.local)


class History:
    """Records the operations on one ID, from any number of threads.

    `at` is in seconds of one clock that never goes back; it is read before the request is sent, and after the
    answer has arrived.
    """

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._turn = 0
        self._lock = Lock()

    @property
    def operations(self) -> list[Operation]:
        """All so far, in the order they began; those that still run look as if their answer was lost."""
        with self._lock:
            return list(self._operations)

    def begin(self, client: str, kind: Kind, addr: str, at: float) -> int:
        """A request is about to be sent, a read with "" for its address; return the token that ends it."""
        with self._lock:
            self._operations.append(Operation(client, kind, addr, self._stamp(at)))
            return len(self._operations) - 1

    def end(
        self,
        token: int,
        answer: Answer | list[str],
        at: float,
        *,
        local: bool = False,
        consistent: bool = False,
    ) -> None:
        """An answer has arrived. `local`: it was given off home; `consistent`: this read was the home's word."""
        answer = tuple(answer) if isinstance(answer, list) else answer
        with self._lock:
            begun = self._operations[token]
            assert begun.returned is None, f"ended twice: {begun}"
            self._operations[token] = replace(
                begun, returned=self._stamp(at), answer=answer, local=local, consistent=consistent
            )

    def lose(self, token: int) -> None:
        """No answer will arrive, so that it may take effect at any time from now on, or never."""
        with self._lock:
            begun = self._operations[token]
            assert begun.returned is None, f"ended twice: {begun}"

    def _stamp(self, at: float) -> Stamp:
        self._turn += 1
        return Stamp(at, self._turn)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is allowed: the re-grant window in seconds (R5a), and whether what was refused with 503 may still happen.

    A forwarded write may reach the home after its client was told 503, and a hint was perhaps kept of it. Where nothing
    is forwarded, `late=False` says that a 503 took effect before it was said, or not at all, and finds more.

    `ages_known=False` says that the home's machine was booted anew, or the home is another one by now: then a grant may
    count as older than the window at any time.
    """

    window: float = WINDOW
    late: bool = True
    ages_known: bool = True


@dataclass(frozen=True)
class Verdict:
    """Whether the history is linearizable, and why not.

    `order` explains all answers, or the most that can be explained of the shortest beginning that fails; `misfits` are
    the operations of which one would have to be next.
    """

    order: tuple[Operation, ...]
    misfits: tuple[Operation, ...] = ()
    text: str = "linearizable"

    def __bool__(self) -> bool:
        return not self.misfits


class Undecided(Exception):
    """The search was given up: too many operations are open or overlap."""


def check(operations: Iterable[Operation], rules: Rules | None = None, *, limit: int = 1_000_000) -> Verdict:
    """Say whether a single list, asked one operation at a time, explains the answers; the list is empty at first.

    Raises Undecided after `limit` states.
    """
    rules = rules or Rules()
    everything = list(operations)
    wrong = [each for each in everything if not _is_possible(each, everything)]
    if wrong:
        return Verdict((), tuple(wrong), "\n".join(["no list at all explains", *(f"  {each}" for each in wrong)]))
    found = _Search(everything, rules, limit).run()
    if found:
        return found
    # What begins a linearizable history is linearizable, so the shortest beginning that fails can be halved for.
    ends = sorted(each.returned for each in everything if each.returned is not None)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            shorter = _Search(_until(everything, ends[middle]), rules, limit).run()
        except Undecided:
            break
        if shorter:
            low = middle + 1
        else:
            high, found = middle, shorter
    return found


class Grant(NamedTuple):
    """Who was told last that it is alone, and between which times."""

    addr: str
    earliest: float
    latest: float


class State(NamedTuple):
    """The list, in the order of the alphabet, and what goes with it.

    `spared` are the removals, one bit each, that may have arrived before what they would remove was registered (R9).
    """

    nodes: tuple[str, ...] = ()
    grant: Grant | None = None
    leader: str | None = None
    confirmed: bool = False
    spared: int = 0

    def __str__(self) -> str:
        granted = "" if self.grant is None else f", {self.grant.addr} was told that it is alone"
        leader = "" if self.leader is None else f", {self.leader} leads"
        return f"[{', '.join(self.nodes)}]{granted}{leader}"


@dataclass(frozen=True)
class _Point:
    """Where in the order an operation is tried: between which times, and which removals of its address may be older."""

    earliest: float
    latest: float
    rules: Rules
    bit: int
    removals: int


def _decisions(state: State, operation: Operation, point: _Point) -> Iterator[tuple[Answer, State]]:
    """All that the list may answer to an operation, each with the state after it."""
    addr = operation.addr
    match operation.kind:
        case "read":
            yield state.nodes, state
        case "register":
            yield from _register(state, addr, point)
        case "hint":
            after = _with_node(state, addr, point)
            yield after.nodes, after
        case "remove":
            after = _without(state, addr, point)
            yield after.nodes, after
            if state.spared & point.bit:
                yield state.nodes, state._replace(spared=state.spared & ~point.bit)
        case "claim" if state.leader is not None or state.nodes:
            yield False, state
        case "claim":
            granted = _with_node(state, addr, point)
            yield True, granted._replace(leader=addr, grant=Grant(addr, point.earliest, point.latest))
        case "report":
            yield True, _with_node(state, addr, point)._replace(leader=addr, confirmed=True)


def _register(state: State, addr: str, point: _Point) -> Iterator[tuple[Answer, State]]:
    after = _with_node(state, addr, point)
    may_be_open, may_be_closed = _window(after, addr, point)
    if may_be_open:
        yield "alone", after
    if not may_be_closed:
        return
    if len(after.nodes) > 1:
        yield after.nodes, after
    else:
        granted = Grant(addr, point.earliest, point.latest)
        yield "alone", after._replace(grant=granted, spared=after.spared | point.removals)


def _window(state: State, addr: str, point: _Point) -> tuple[bool, bool]:
    """Whether the re-grant window of a node may be open, and whether it may be closed (R5a)."""
    grant, rules = state.grant, point.rules
    if grant is None or grant.addr != addr or state.confirmed:
        return False, True
    may_be_open = point.earliest - grant.latest < rules.window + _ROUNDING
    return may_be_open, not rules.ages_known or point.latest - grant.earliest > rules.window - _ROUNDING


def _with_node(state: State, addr: str, point: _Point) -> State:
    """The state with `addr` listed in place of its own entries; a grant and the leader key go along."""
    if addr in state.nodes and not any(same_node(node, addr) for node in state.nodes if node != addr):
        return state
    others = tuple(node for node in state.nodes if not same_node(node, addr))
    is_new = len(others) == len(state.nodes)
    grant, leader = state.grant, state.leader
    if grant is not None and same_node(grant.addr, addr):
        grant = grant._replace(addr=addr)
    if leader is not None and same_node(leader, addr):
        leader = addr
    spared = state.spared | (point.removals if is_new else 0)
    return State(tuple(sorted((*others, addr))), grant, leader, state.confirmed, spared)


def _without(state: State, addr: str, point: _Point) -> State:
    if addr not in state.nodes:
        addr = addr.removeprefix("http://")
    spared = state.spared & ~point.removals & ~point.bit
    if addr not in state.nodes:
        return state._replace(spared=state.spared & ~point.bit)
    nodes = tuple(node for node in state.nodes if node != addr)
    if not nodes:
        return State(spared=spared)
    grant = None if state.grant is not None and state.grant.addr == addr else state.grant
    leader = None if state.leader == addr else state.leader
    return State(nodes, grant, leader, state.confirmed, spared)


class _Step(NamedTuple):
    """One operation of the order that is being tried, and all that holds after it; none for the beginning."""

    operation: Operation | None
    done: int
    state: State
    low: Stamp


class _Search:
    """Looks through the orders depth first, and remembers where it was."""

    def __init__(self, operations: Iterable[Operation], rules: Rules, limit: int) -> None:
        part = [each for each in operations if each.takes_part]
        part += [
            replace(each, kind="hint", returned=None, answer=None, local=False)
            for each in part
            if each.kind == "register" and each.is_open and (rules.late or each.local)
        ]
        self._rules = rules
        self._limit = limit
        self._bits = {id(each): 1 << number for number, each in enumerate(part)}
        self._open = sorted((each for each in part if each.is_open), key=attrgetter("invoked"))
        self._answered = sorted((each for each in part if not each.is_open), key=_end)
        self._removals = [each for each in part if each.kind == "remove" and not each.is_open]
        self._told = {id(each): _canonical(each) for each in self._answered}

    def run(self) -> Verdict:
        start = _Step(None, 0, State(), Stamp(-inf, 0))
        path, tries = [start], [self._next(start)]
        best, seen = list(path), {(0, State())}
        most = 0
        while tries:
            if len(seen) > self._limit:
                raise Undecided(f"{self._limit} states were not enough for {len(self._bits)} operations")
            step = next(tries[-1], None)
            if step is None:
                tries.pop()
                path.pop()
                continue
            key = (step.done, step.state)
            if key in seen:
                continue
            seen.add(key)
            path.append(step)
            tries.append(self._next(step))
            count = sum(1 for each in path if each.operation is not None and not each.operation.is_open)
            if count > most:
                most, best = count, list(path)
            if count == len(self._answered):
                break
        order = tuple(each.operation for each in best if each.operation is not None)
        if most == len(self._answered):
            return Verdict(order)
        misfits = self._eligible(best[-1].done)
        return Verdict(order, tuple(misfits), self._explain(best, misfits))

    def _next(self, step: _Step) -> Iterator[_Step]:
        """All operations that may come next, where they fit: those that were answered, then those that are open."""
        eligible = self._eligible(step.done)
        if not eligible:
            return
        horizon = min(map(_end, eligible))
        for operation in eligible:
            for answer, after in self._decisions(step, operation, horizon):
                if answer == self._told[id(operation)]:
                    yield self._stepped(step, operation, after)
        tried = set()
        for operation in self._open:
            if step.done & self._bits[id(operation)] or operation.invoked > horizon:
                continue
            if not self._may_be_late(operation):
                if step.low > _end(operation):
                    continue
            elif (operation.kind, operation.addr) in tried:
                # The one before could have taken its place.
                continue
            else:
                tried.add((operation.kind, operation.addr))
            for _, after in self._decisions(step, operation, horizon):
                if after != step.state and self._matters(step.state, after, operation, eligible):
                    yield self._stepped(step, operation, after)

    def _eligible(self, done: int) -> list[Operation]:
        """The answered operations that may be next: no other one that is left had returned before they began."""
        left = [each for each in self._answered if not done & self._bits[id(each)]]
        return [each for each in left if each.invoked <= _end(left[0])]

    def _decisions(self, step: _Step, operation: Operation, horizon: Stamp) -> Iterator[tuple[Answer, State]]:
        removals = 0
        if operation.kind != "read":
            for each in self._removals:
                bit = self._bits[id(each)]
                if not step.done & bit and each.invoked <= horizon and same_node(each.addr, operation.addr):
                    removals |= bit
        bit = self._bits[id(operation)]
        earliest = max(step.low, operation.invoked).at
        latest = (horizon if self._may_be_late(operation) else min(horizon, _end(operation))).at
        return _decisions(step.state, operation, _Point(earliest, latest, self._rules, bit, removals))

    def _may_be_late(self, operation: Operation) -> bool:
        return self._rules.late or operation.returned is None

    def _stepped(self, step: _Step, operation: Operation, after: State) -> _Step:
        done = step.done | self._bits[id(operation)]
        return _Step(operation, done, after, max(step.low, operation.invoked))

    def _matters(self, before: State, after: State, operation: Operation, eligible: list[Operation]) -> bool:
        """Whether what may never have happened has to be tried here, rather than after the next answer.

        What only adds to the list can wait until an answer shows it.
        """
        if operation.kind == "remove" or not self._may_be_late(operation):
            return True
        if before._replace(nodes=(), spared=0) != after._replace(nodes=(), spared=0):
            return True
        return any(_may_show(self._told[id(each)], operation.addr) for each in eligible)

    def _explain(self, path: list[_Step], misfits: list[Operation]) -> str:
        last = path[-1]
        lines = [f"not linearizable: {len(self._answered)} answers, of which no order explains more than"]
        for step in path[1:]:
            happened = " (happened)" if step.operation is not None and step.operation.is_open else ""
            lines.append(f"  {step.operation}{happened}")
        lines += [f"which leaves {last.state}, where none of these fits:"]
        horizon = min(map(_end, misfits))
        for each in misfits:
            possible = dict.fromkeys(_told(answer) for answer, _ in self._decisions(last, each, horizon))
            lines.append(f"  {each}, not {' or '.join(possible)}")
        idle = [each for each in self._open if not last.done & self._bits[id(each)] and each.invoked <= horizon]
        if idle:
            lines += ["nor does it help if any of these happened:", *(f"  {each}" for each in idle)]
        return "\n".join(lines)


def _end(operation: Operation) -> Stamp:
    return NEVER if operation.returned is None else operation.returned


def _until(operations: list[Operation], end: Stamp) -> list[Operation]:
    """The history as it was at a moment."""
    return [
        each if _end(each) <= end else replace(each, returned=None, answer=None, local=False, consistent=False)
        for each in operations
        if each.invoked <= end
    ]


def _canonical(operation: Operation) -> Answer | None:
    """The answer as the model gives it: nobody but the caller is "alone", and lists are in the alphabet's order."""
    answer = operation.answer
    if not isinstance(answer, tuple):
        return answer
    if operation.kind == "register" and _is_own(operation.addr, answer):
        return "alone"
    return tuple(sorted(answer))


def _is_own(addr: str, listed: tuple[str, ...]) -> bool:
    return bool(listed) and all(same_node(addr, node) for node in listed)


def _may_show(answer: Answer | None, addr: str) -> bool:
    return isinstance(answer, bool) or (isinstance(answer, tuple) and any(same_node(addr, node) for node in answer))


def _is_possible(operation: Operation, operations: list[Operation]) -> bool:
    """Whether there is any list at all that explains the answer: of those off home it is the whole check (R3, R4)."""
    answer, addr = operation.answer, operation.addr
    if not operation.local or operation.answer is None:
        return True
    if operation.kind == "claim":
        return answer is not True
    if operation.kind != "register" or answer == 503:
        return operation.kind != "remove" or answer == 503
    if not isinstance(answer, tuple) or not _may_show(answer, addr) or _is_own(addr, answer):
        return False
    known = {
        each.addr for each in operations if each.kind not in ("read", "remove") and each.invoked <= _end(operation)
    }
    return known.issuperset(answer)


def _told(answer: Answer | None) -> str:
    match answer:
        case None:
            return "lost"
        case bool():
            return "won" if answer else "not won"
        case tuple():
            return f"[{', '.join(answer)}]"
        case _:
            return str(answer)
