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
    ),
    Kept(
        1742,
        3,
        FAULTS,
        "I4: a home on an older disk, which is full as well, tells its peers what it has in the place of what the disk "
        "refused to take back, and so overwrites it there",
        is_open=True,
    ),
    Kept(
        1523,
        3,
        FAULTS,
        "I7, R2: after a power cut a version is given out again that peers had before the disk",
        is_open=True,
    ),
    Kept(
        1549,
        3,
        FAULTS,
        "a daemon logs a failure: an older digest comes in while what the newer one tells is pulled",
        is_open=True,
    ),
    Kept(
        1700,
        3,
        FAULTS,
        "I4: what a member holds of a lost home beyond a gap is not asked for by whoever takes over, as 4252",
        is_open=True,
    ),
    Kept(2076, 3, FAULTS, "I5: most likely as 1700", is_open=True),
    Kept(
        1467,
        3,
        FAULTS,
        "I4: a daemon is drained that still keeps hints for another home, and nobody takes them from it any more",
        is_open=True,
    ),
    Kept(
        2166, 3, FAULTS, "I4: acknowledged nodes are lost after a rollback and a drain; not looked into", is_open=True
    ),
    Kept(
        2539,
        2,
        FAULTS,
        "I9, I4: a registration that was to be granted, and is not after the barrier, lets others decide before its "
        "own change is in the store, and then overwrites theirs",
        is_open=True,
    ),
    Kept(2845, 2, FAULTS, "I9: most likely as 2539", is_open=True),
    Kept(3059, 2, FAULTS, "I9: as 1742", is_open=True),
    Kept(2904, 2, FAULTS, "I5: a record is at one daemon only in the end; not looked into", is_open=True),
    Kept(
        4252,
        3,
        FAULTS,
        "I1: a home on an older disk hears a peer that has its last grant beyond a gap, of which digests say nothing, "
        "and grants again",
        is_open=True,
    ),
    Kept(5307, 3, FAULTS, "I4: not looked into", is_open=True),
    Kept(127, 3, FAULTS, "I1: as 445"),
)
