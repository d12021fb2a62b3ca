"""Requests and answers of clients for one discovery ID: recorded while they run, and judged
afterwards (`linearizable`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from threading import Lock
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["register", "remove", "read", "claim", "report", "hint"]
Answer: TypeAlias = Literal["alone", 503] | tuple[str, ...] | bool
"""A register is answered "alone" or a list, a remove or read a list, a claim or report whether it
won; or 503.
"""


class Stamp(NamedTuple):
    """A moment: its time, and its place in the recording, which orders events of the same time."""

    at: float
    turn: int

    def __str__(self) -> str:
        return f"{self.at:.3f}"


NEVER = Stamp(inf, 0)


@dataclass(frozen=True)
class Operation:
    """One request of one client. Without an answer it may have taken effect at any time since, or
    never.

    `local` marks an answer on the owner's behalf, from a copy (R4); `consistent` a read answered by
    the owner. No client sends a "hint": a registration answered on the owner's behalf may become
    one, beside itself.
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
        where = " on behalf" if self.local else ""
        return f"{interval} {self.client}: {f'{self.kind} {self.addr}'.rstrip()} -> {format_answer(self.answer)}{where}"

    @property
    def is_open(self) -> bool:
        """Report whether its answer leaves open if it took effect: there is none, it is 503, or a
        copy gave it (R4).
        """
        if self.answer is None or self.answer == 503:
            return True
        return self.local and self.kind == "register"

    @property
    def takes_part(self) -> bool:
        """Report whether it gives evidence of the list, or may have changed it."""
        if self.kind == "read":
            return self.consistent and isinstance(self.answer, tuple)
        return self.answer is not False or (self.kind == "claim" and not self.local)


class History:
    """Records the operations on one ID, from any number of threads.

    `at` is in seconds of one clock that never goes back; it is read before the request is sent, and
    after the answer has arrived.
    """

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._turn = 0
        self._lock = Lock()

    @property
    def operations(self) -> list[Operation]:
        """Return all operations so far, in the order they began; those still running look as if
        their answer was lost.
        """
        with self._lock:
            return list(self._operations)

    def begin(self, client: str, kind: Kind, addr: str, at: float) -> int:
        """Record that a request is about to be sent, a read with "" for its address; return the
        token that ends it.
        """
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
        """Record that an answer has arrived. `local`: on the owner's behalf; `consistent`: a read
        answered by the owner.
        """
        answer = tuple(answer) if isinstance(answer, list) else answer
        with self._lock:
            begun = self._operations[token]
            assert begun.returned is None, f"ended twice: {begun}"
            self._operations[token] = replace(
                begun, returned=self._stamp(at), answer=answer, local=local, consistent=consistent
            )

    def lose(self, token: int) -> None:
        """Record that no answer will arrive, so that the request may take effect at any time from
        now on, or never.
        """
        with self._lock:
            begun = self._operations[token]
            assert begun.returned is None, f"ended twice: {begun}"

    def _stamp(self, at: float) -> Stamp:
        self._turn += 1
        return Stamp(at, self._turn)


def format_answer(answer: Answer | None) -> str:
    """Format an answer for people."""
    match answer:
        case None:
            return "lost"
        case bool():
            return "won" if answer else "not won"
        case tuple():
            return f"[{', '.join(answer)}]"
        case _:
            return str(answer)
