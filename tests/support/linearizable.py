"""Decide whether one order of decisions explains all answers of clients of one discovery ID (P1).

`check` searches for an order in which a single list, asked one operation at a time, gives every
answer (linearizability). It is the search of Wing and Gong with the memory of Lowe: overlapping
operations may have been decided in any order, and no set of decided operations is examined twice in
one state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf
from operator import attrgetter
from typing import NamedTuple

from rqdisco.core.addresses import same_node
from tests.support.history import NEVER, Answer, Operation, Stamp, format_answer
from tests.support.one_list import Point, Rules, State, decisions


@dataclass(frozen=True)
class Verdict:
    """The verdict on a history: linearizable, or why not.

    `order` explains all answers, or the most that can be explained of the shortest failing prefix;
    `misfits` are the operations of which one would have to be next.
    """

    order: tuple[Operation, ...]
    misfits: tuple[Operation, ...] = ()
    text: str = "linearizable"

    def __bool__(self) -> bool:
        return not self.misfits


class Undecided(Exception):
    """The search was given up: too many operations are open or overlap."""


def check(operations: Iterable[Operation], rules: Rules | None = None, *, limit: int = 1_000_000) -> Verdict:
    """Judge whether a single list, asked one operation at a time, explains the answers; the list is
    empty at first.

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
    # Every prefix of a linearizable history is linearizable, so the shortest failing one is found
    # by bisection.
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


class _Step(NamedTuple):
    """One operation of the attempted order, and everything that holds after it; None for the
    beginning.
    """

    operation: Operation | None
    done: int
    state: State
    low: Stamp


def _meets_removal(registration: Operation, operations: Iterable[Operation]) -> bool:
    """Report whether a removal of the same address went on at the same time."""
    until = registration.returned
    return any(
        each.kind == "remove"
        and same_node(each.addr, registration.addr)
        and (until is None or each.invoked < until)
        and (each.returned is None or registration.invoked < each.returned)
        for each in operations
    )


class _Search:
    """A depth-first search of the orders that remembers where it was."""

    def __init__(self, operations: Iterable[Operation], rules: Rules, limit: int) -> None:
        part = [each for each in operations if each.takes_part]
        part += [
            replace(each, kind="hint", returned=None, answer=None, local=False)
            for each in part
            if each.kind == "register"
            and ((each.is_open and (rules.late or each.local)) or (rules.repeats and _meets_removal(each, part)))
        ]
        self._rules = rules
        self._limit = limit
        self._bits = {id(each): 1 << number for number, each in enumerate(part)}
        self._open = sorted((each for each in part if each.is_open), key=attrgetter("invoked"))
        self._answered = sorted((each for each in part if not each.is_open), key=_end)
        self._removals = [each for each in part if each.kind == "remove" and not each.is_open]
        self._canonical_answers = {id(each): _canonical(each) for each in self._answered}

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
        """Yield all operations that may come next, where they fit: answered ones first, then open
        ones.
        """
        eligible = self._eligible(step.done)
        if not eligible:
            return
        horizon = min(map(_end, eligible))
        for operation in eligible:
            for answer, after in self._decisions(step, operation, horizon):
                if answer == self._canonical_answers[id(operation)]:
                    yield self._stepped(step, operation, after)
        attempted = set()
        for operation in self._open:
            if step.done & self._bits[id(operation)] or operation.invoked > horizon:
                continue
            if not self._may_be_late(operation):
                if step.low > _end(operation):
                    continue
            elif (operation.kind, operation.addr) in attempted:
                # The previous one could have taken its place.
                continue
            else:
                attempted.add((operation.kind, operation.addr))
            for _, after in self._decisions(step, operation, horizon):
                if after != step.state and self._matters(step.state, after, operation, eligible):
                    yield self._stepped(step, operation, after)

    def _eligible(self, done: int) -> list[Operation]:
        """Yield the answered operations that may be next: no other remaining one returned before
        they began.
        """
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
        return decisions(step.state, operation, Point(earliest, latest, self._rules, bit, removals))

    def _may_be_late(self, operation: Operation) -> bool:
        return self._rules.late or operation.returned is None

    def _stepped(self, step: _Step, operation: Operation, after: State) -> _Step:
        done = step.done | self._bits[id(operation)]
        return _Step(operation, done, after, max(step.low, operation.invoked))

    def _matters(self, before: State, after: State, operation: Operation, eligible: list[Operation]) -> bool:
        """Report whether an operation that may never have happened must be tried here, rather than
        after the next answer.

        One that only adds to the list can wait until an answer shows it.
        """
        if operation.kind == "remove" or not self._may_be_late(operation):
            return True
        if before._replace(nodes=(), spared=0) != after._replace(nodes=(), spared=0):
            return True
        return any(_may_show(self._canonical_answers[id(each)], operation.addr) for each in eligible)

    def _explain(self, path: list[_Step], misfits: list[Operation]) -> str:
        last = path[-1]
        lines = [f"not linearizable: {len(self._answered)} answers, of which no order explains more than"]
        for step in path[1:]:
            happened = " (happened)" if step.operation is not None and step.operation.is_open else ""
            lines.append(f"  {step.operation}{happened}")
        lines += [f"which leaves {last.state}, where none of these fits:"]
        horizon = min(map(_end, misfits))
        for each in misfits:
            possible = dict.fromkeys(format_answer(answer) for answer, _ in self._decisions(last, each, horizon))
            lines.append(f"  {each}, not {' or '.join(possible)}")
        idle = [each for each in self._open if not last.done & self._bits[id(each)] and each.invoked <= horizon]
        if idle:
            lines += ["nor does it help if any of these happened:", *(f"  {each}" for each in idle)]
        return "\n".join(lines)


def _end(operation: Operation) -> Stamp:
    return NEVER if operation.returned is None else operation.returned


def _until(operations: list[Operation], end: Stamp) -> list[Operation]:
    """Return the history as it was at a moment."""
    return [
        each if _end(each) <= end else replace(each, returned=None, answer=None, local=False, consistent=False)
        for each in operations
        if each.invoked <= end
    ]


def _canonical(operation: Operation) -> Answer | None:
    """Return the answer as the model gives it: only the caller is "alone", and lists are in
    alphabetical order.
    """
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
    """Report whether any list at all explains the answer; for those on the owner's behalf this is
    the whole check (R3, R4).
    """
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
