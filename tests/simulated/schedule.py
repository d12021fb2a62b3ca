"""Schedules: what is done to the daemons of a run, as JSON lines.

A schedule has no seed. It lists the faults at their times, what clients and operators chose, and
the messages and requests that do not pass as usual. Everything is named by what it happens to: the
third digest from one daemon to another, the second registration of a node. So a change of the
daemons that sends one message more or less leaves all else as it was. What is not listed passes as
usual: a delay of some milliseconds that follows from the same names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

FORMAT = "rqdisco simulated schedule"
VERSION = 1


class Fate(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fate of a message between daemons and of its answer: lost; late by this many seconds,
    or slow to arrive; repeated after these seconds. `hang_up_lost`: nobody notices that the sender
    stopped waiting.
    """

    lost: bool = False
    late: float = 0.0
    again: float = 0.0
    answer_lost: bool = False
    answer_late: float = 0.0
    hang_up_lost: bool = False


class CallFate(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fate of a client's request and of its answer: the client hangs up, or the answer is
    lost. An answer is `held` for some seconds while it is unknown if the client is still there.
    """

    late: float = 0.0
    hangs_up: bool = False
    answer_lost: bool = False
    answer_late: float = 0.0
    held: float = 0.0


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The run: the kinds of faults that may happen in it, and its options; `salt` names it, and
    makes the IDs and usual delays of two runs differ.

    `why` is why a schedule is kept. With `as_bytes` each message is encoded and decoded.
    """

    format: str
    version: int
    why: str = ""
    salt: str
    daemons: int
    faults: tuple[str, ...]
    report_seconds: int = 10
    unused_seconds: float | None = None
    window: float = 30.0
    as_bytes: bool = False


class Fault(msgspec.Struct, frozen=True):
    """A fault, or an act of an operator, at a moment; `given` are the arguments of the method of
    `Faults` that carries it out.
    """

    at: float
    kind: str
    given: dict[str, Any]

    def __str__(self) -> str:
        given = ", ".join(f"{name} {value}" for name, value in self.given.items())
        return f"{self.at:9.3f} {self.kind} {given}".rstrip()


@dataclass
class Schedule:
    """A whole schedule. `draws` are what each actor chose, in order; `messages` and `calls` the
    unusual ones, by their names and counts.
    """

    header: Header
    faults: list[Fault] = field(default_factory=list)
    draws: dict[str, list[float]] = field(default_factory=dict)
    messages: dict[str, dict[int, Fate]] = field(default_factory=dict)
    calls: dict[str, dict[int, CallFate]] = field(default_factory=dict)

    def without_unused(self) -> Schedule:
        """Leave out backups that nothing was rolled back to."""
        used = {each.given["backup"] for each in self.faults if each.kind == "roll_back"}
        kept = [each for each in self.faults if each.kind != "back_up" or each.given["backup"] in used]
        return replace(self, faults=kept)

    def lines(self) -> list[bytes]:
        """Encode it."""
        documents: list[Any] = [self.header]
        documents += [{"at": each.at, "fault": each.kind, **each.given} for each in self.faults]
        documents += [{"actor": actor, "draws": drawn} for actor, drawn in self.draws.items() if drawn]
        documents += [{"messages": name, "fates": _by_text(fates)} for name, fates in self.messages.items() if fates]
        documents += [{"calls": name, "fates": _by_text(fates)} for name, fates in self.calls.items() if fates]
        return [msgspec.json.encode(each) for each in documents]

    def write(self, path: Path) -> None:
        """Write it to a file."""
        path.write_bytes(b"\n".join(self.lines()) + b"\n")


def read_schedule(path: Path) -> Schedule:
    """Read a schedule from a file."""
    return decode_schedule(path.read_bytes().splitlines())


def decode_schedule(lines: Iterable[bytes]) -> Schedule:
    """Decode the lines of a schedule. Raises ValueError."""
    first, *rest = lines
    header = msgspec.json.decode(first, type=Header)
    if (header.format, header.version) != (FORMAT, VERSION):
        raise ValueError("not a schedule")
    schedule = Schedule(header)
    for line in rest:
        document = msgspec.json.decode(line)
        if "fault" in document:
            schedule.faults.append(Fault(document.pop("at"), document.pop("fault"), document))
        elif "actor" in document:
            schedule.draws[document["actor"]] = document["draws"]
        elif "messages" in document:
            schedule.messages[document["messages"]] = msgspec.convert(document["fates"], dict[int, Fate], strict=False)
        elif "calls" in document:
            schedule.calls[document["calls"]] = msgspec.convert(document["fates"], dict[int, CallFate], strict=False)
        else:
            raise ValueError(f"not a line of a schedule: {line.decode()}")
    return schedule


def _by_text(fates: dict[int, Any]) -> dict[str, Any]:
    return {str(count): fate for count, fate in fates.items()}
