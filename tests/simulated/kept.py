"""Runs that once showed something, kept as tests: what they showed must not come back."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulated.faults import FAULTS


@dataclass(frozen=True)
class Kept:
    """A run and what it showed; `is_open` as long as it still does."""

    seed: int
    daemons: int
    faults: tuple[str, ...]
    why: str
    is_open: bool = False

    def __str__(self) -> str:
        return f"{self.seed}-of-{self.daemons}"


KEPT = (
    Kept(
        10,
        3,
        ("disks",),
        "I3: a daemon that came back empty was taken for the one it had been, in the session that the refused greeting "
        "had begun, so that nobody could forget that",
    ),
    Kept(
        27,
        3,
        ("disks", "crashes"),
        "I4: of two lost daemons each had to agree that the other was lost, so that neither could be forgotten",
    ),
    Kept(
        24,
        3,
        ("answers", "removals"),
        "I4: a removal that was refused, and asked for again, arrived after its node had come back",
    ),
    Kept(
        31,
        3,
        ("rollbacks", "partitions"),
        "I4: a home on an older disk took a hint for an ID that it had yet to take back, and dropped it",
    ),
    Kept(
        80,
        2,
        ("rollbacks", "partitions"),
        "I9: a consistent read was answered from an older disk, before other daemons were heard",
    ),
    Kept(
        261,
        3,
        FAULTS,
        "I4: a daemon could not be drained any more whose successor had been drained before it had taken over",
    ),
    Kept(
        445,
        3,
        ("rollbacks", "partitions"),
        "I4, I1: a home on an older disk took back what the first peer had, in new versions, and so overwrote what was "
        "newer at the second",
        is_open=True,
    ),
)
