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

from tests.support.history import NEVER, Answer, Operation, Stamp, format_answer
from tests.support.one_list import Point, Rules, State, decisions, same_node


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


class _Candidate:
    """An operation of the search: its bit in sets of operations, when it ends, its canonical answer,
    and the removals of its address, each with its bit. It `may_be_late` if it may take effect after
    its answer.
    """

    __slots__ = ("answer", "bit", "end", "invoked", "may_be_late", "operation", "removals")

    def __init__(self, operation: Operation, bit: int, rules: Rules) -> None:
        self.operation, self.bit = operation, bit
        self.invoked, self.end = operation.invoked, _end(operation)
        self.answer = _canonical(operation)
        self.may_be_late = rules.late or operation.returned is None
        self.removals: tuple[_Candidate, ...] = ()


class _Step(NamedTuple):
    """One operation of the attempted order, and everything that holds after it; None for the
    beginning. `answered` counts the operations before it and itself that have an answer.
    """

    candidate: _Candidate | None
    done: int
    state: State
    low: Stamp
    answered: int


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
        candidates = [_Candidate(each, 1 << number, rules) for number, each in enumerate(part)]
        self._open = sorted((each for each in candidates if each.operation.is_open), key=attrgetter("invoked"))
        self._answered = sorted((each for each in candidates if not each.operation.is_open), key=attrgetter("end"))
        removals = [each for each in candidates if each.operation.kind == "remove" and not each.operation.is_open]
        for each in candidates:
            if each.operation.kind != "read":
                addr = each.operation.addr
                each.removals = tuple(other for other in removals if same_node(other.operation.addr, addr))

    def run(self) -> Verdict:
        start = _Step(None, 0, State(), Stamp(-inf, 0), 0)
        path, tries = [start], [self._next(start)]
        best, seen = list(path), {(0, State())}
        while tries:
            if len(seen) > self._limit:
                count = len(self._answered) + len(self._open)
                raise Undecided(f"{self._limit} states were not enough for {count} operations")
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
            if step.answered > best[-1].answered:
                best = list(path)
            if step.answered == len(self._answered):
                break
        order = tuple(each.candidate.operation for each in best if each.candidate is not None)
        if best[-1].answered == len(self._answered):
            return Verdict(order)
        misfits = self._eligible(best[-1].done)
        return Verdict(order, tuple(each.operation for each in misfits), self._explain(best, misfits))

    def _next(self, step: _Step) -> Iterator[_Step]:
        """Yield all operations that may come next, where they fit: answered ones first, then open
        ones.
        """
        eligible = self._eligible(step.done)
        if not eligible:
            return
        horizon = eligible[0].end
        for candidate in eligible:
            for answer, after in self._decisions(step, candidate, horizon):
                if answer == candidate.answer:
                    yield self._stepped(step, candidate, after)
        for candidate in self._possible(step, horizon):
            for _, after in self._decisions(step, candidate, horizon):
                if after != step.state and self._matters(step.state, after, candidate, eligible):
                    yield self._stepped(step, candidate, after)

    def _possible(self, step: _Step, horizon: Stamp) -> Iterator[_Candidate]:
        """Yield the open operations that may have happened next."""
        attempted = set()
        for candidate in self._open:
            if candidate.invoked > horizon:
                return
            if step.done & candidate.bit:
                continue
            if not candidate.may_be_late:
                if step.low <= candidate.end:
                    yield candidate
                continue
            key = candidate.operation.kind, candidate.operation.addr
            if key not in attempted:
                # Otherwise the previous one could have taken its place.
                attempted.add(key)
                yield candidate

    def _eligible(self, done: int) -> list[_Candidate]:
        """Return the answered operations that may be next, the first to end first: no other remaining
        one returned before they began.
        """
        left = [each for each in self._answered if not done & each.bit]
        if not left:
            return left
        end = left[0].end
        return [each for each in left if each.invoked <= end]

    def _decisions(self, step: _Step, candidate: _Candidate, horizon: Stamp) -> Iterator[tuple[Answer, State]]:
        done, removals = step.done, 0
        for each in candidate.removals:
            if not done & each.bit and each.invoked <= horizon:
                removals |= each.bit
        earliest = max(step.low, candidate.invoked).at
        latest = (horizon if candidate.may_be_late else min(horizon, candidate.end)).at
        point = Point(earliest, latest, self._rules, candidate.bit, removals)
        return decisions(step.state, candidate.operation, point)

    def _stepped(self, step: _Step, candidate: _Candidate, after: State) -> _Step:
        answered = step.answered + (not candidate.operation.is_open)
        return _Step(candidate, step.done | candidate.bit, after, max(step.low, candidate.invoked), answered)

    def _matters(self, before: State, after: State, candidate: _Candidate, eligible: list[_Candidate]) -> bool:
        """Report whether an operation that may never have happened must be tried here, rather than
        after the next answer.

        One that only adds to the list can wait until an answer shows it.
        """
        if candidate.operation.kind == "remove" or not candidate.may_be_late:
            return True
        if before[1:-1] != after[1:-1]:
            # More than the nodes, which are the first field, and the spared removals, the last.
            return True
        return any(_may_show(each.answer, candidate.operation.addr) for each in eligible)

    def _explain(self, path: list[_Step], misfits: list[_Candidate]) -> str:
        last = path[-1]
        lines = [f"not linearizable: {len(self._answered)} answers, of which no order explains more than"]
        order = (step.candidate.operation for step in path if step.candidate is not None)
        lines += [f"  {each}{' (happened)' if each.is_open else ''}" for each in order]
        lines += [f"which leaves {last.state}, where none of these fits:"]
        horizon = misfits[0].end
        for each in misfits:
            possible = dict.fromkeys(format_answer(answer) for answer, _ in self._decisions(last, each, horizon))
            lines.append(f"  {each.operation}, not {' or '.join(possible)}")
        idle = [each for each in self._open if not last.done & each.bit and each.invoked <= horizon]
        if idle:
            lines += ["nor does it help if any of these happened:", *(f"  {each.operation}" for each in idle)]
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
