"""Runs that once showed something, kept as tests: what they showed must not come back."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulated.faults import EXPIRY, FAULTS


@dataclass(frozen=True)
class Regression:
    """A run and what it showed."""

    seed: int
    daemons: int
    faults: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"{self.seed}-of-{self.daemons}"


REGRESSIONS = (
    Regression(
        10,
        3,
        ("disks",),
        "I3: a daemon that came back empty was taken for the one it had been, in the session that the refused greeting "
        "had begun, so that nobody could forget that",
    ),
    Regression(
        27,
        3,
        ("disks", "crashes"),
        "I4: of two lost daemons each had to agree that the other was lost, so that neither could be forgotten",
    ),
    Regression(
        24,
        3,
        ("answers", "removals"),
        "I4: a removal that was refused, and asked for again, arrived after its node had come back",
    ),
    Regression(
        31,
        3,
        ("rollbacks", "partitions"),
        "I4: a home on an older disk took a hint for an ID that it had yet to take back, and dropped it",
    ),
    Regression(
        80,
        2,
        ("rollbacks", "partitions"),
        "I9: a consistent read was answered from an older disk, before other daemons were heard",
    ),
    Regression(
        261,
        3,
        FAULTS,
        "I4: a daemon could not be drained any more whose successor had been drained before it had taken over",
    ),
    Regression(
        445,
        3,
        ("rollbacks", "partitions"),
        "I4, I1: a home on an older disk took back what the first peer had, in new versions, and so overwrote what was "
        "newer at the second",
    ),
    Regression(
        1742,
        3,
        FAULTS,
        "I4: a home on an older disk, which is full as well, told its peers what it had in the place of what the disk "
        "refused to take back, and so overwrote it there",
    ),
    Regression(
        1523,
        3,
        FAULTS,
        "I7, R2: after a power cut a version was given out again that peers had had before the disk",
    ),
    Regression(
        1549,
        3,
        FAULTS,
        "a daemon logged a failure: an older digest came in while what the newer one told was pulled",
    ),
    Regression(
        1700,
        3,
        FAULTS,
        "I4: what a member held of a lost home beyond a gap was not asked for by whoever took over, as 4252",
    ),
    Regression(2076, 3, FAULTS, "I5: most likely as 1700"),
    Regression(
        1467,
        3,
        FAULTS,
        "I4: a daemon was drained that still kept hints for another home, and nobody took them from it any more",
    ),
    Regression(2166, 3, FAULTS, "I4: acknowledged nodes were lost after a rollback and a drain"),
    Regression(
        2539,
        2,
        FAULTS,
        "I9, I4: a registration that was to be granted, and was not after the barrier, let others decide before its "
        "own change was in the store, and then overwrote theirs",
    ),
    Regression(2845, 2, FAULTS, "I9: most likely as 2539"),
    Regression(3059, 2, FAULTS, "I9: as 1742"),
    Regression(2904, 2, FAULTS, "I5: a record was at one daemon only in the end"),
    Regression(
        4252,
        3,
        FAULTS,
        "I1: a home on an older disk heard a peer that had its last grant beyond a gap, of which digests said nothing, "
        "and granted again",
    ),
    Regression(5307, 3, FAULTS, "I4: acknowledged nodes were lost"),
    Regression(127, 3, FAULTS, "I1: as 445"),
    Regression(195, 3, FAULTS, "R8, wrongly: a daemon that was started just now was to know that a copy of it runs"),
    Regression(
        740,
        3,
        FAULTS,
        "R2: a home that was killed right after a grant said at the next barrier, under the same version, that it was "
        "sent, where its peers had it as pending",
    ),
    Regression(
        840, 3, FAULTS, "I6, wrongly: a request was late that had waited in the socket of a daemon that stood still"
    ),
    Regression(
        2055,
        3,
        FAULTS,
        "I4, wrongly: only a daemon that was drained, which nobody asks any more, knew what a lost disk had held",
    ),
    Regression(2283, 3, FAULTS, "I5, wrongly: a report of the last moment was on its way to the disk of a peer"),
    Regression(
        856,
        3,
        FAULTS,
        "I4, wrongly: a daemon was lost while it was drained, and its operator did not ask its successor, as told",
    ),
    Regression(24, 2, FAULTS, "R8, wrongly: a copy was to be found out by messages that were lost until right before"),
    Regression(
        1806,
        2,
        FAULTS,
        "I4: a clock was set back after all hints were handed over, and new ones got numbers that the home had seen",
    ),
    Regression(
        2956, 3, FAULTS, "I4: two lost daemons, called lost at two others, kept each other from being forgotten"
    ),
    Regression(3104, 3, FAULTS, "I4: a drained daemon on an older disk went on to promise what nobody takes from it"),
    Regression(
        1706,
        3,
        FAULTS,
        "I9, wrongly: of what a successor's older disk had lost only those knew who had handed over to it",
    ),
    Regression(
        138,
        3,
        (*FAULTS, EXPIRY),
        "I5: a peer kept a grant that was taken back for ever, since the ID was forgotten before it was told of that",
    ),
    Regression(
        482,
        3,
        (*FAULTS, EXPIRY),
        "I5: a peer kept an ID for ever that was forgotten by the successor of its home, before it was told of that",
    ),
    Regression(
        295,
        3,
        (*FAULTS, EXPIRY),
        "P7: a home on an older disk said that there was no such ID, before other daemons were heard",
    ),
    Regression(
        911001566,
        2,
        FAULTS,
        "R8: an owner decided while what it had listed itself before it was ready was not on its list",
    ),
    Regression(
        910000432,
        3,
        FAULTS,
        "I1: the judge took an older grant to the same address, which was taken back, for what another disk knew",
    ),
    Regression(
        330,
        3,
        FAULTS,
        "I3: a node that was refused after its hint was written came to the list all the same, beside another one, and "
        "neither was told to bootstrap",
    ),
    Regression(
        50020,
        3,
        FAULTS,
        "I1: an owner told a node that it is alone beside one that it had listed itself before it was ready",
    ),
    Regression(50126, 3, FAULTS, "I3: a peer showed a claim whose answer had not left its owner"),
    Regression(
        70311,
        3,
        FAULTS,
        "I4, I5: of a lost daemon, whose disk had been an older one, its successor did not ask for what its own cursor "
        "had passed",
    ),
    Regression(
        4101526, 3, FAULTS, "I9: a node was not removed by a successor that had not written its record anew yet"
    ),
    Regression(
        4102124, 3, FAULTS, "I9: a full disk refused that a daemon was drained, which was told to others all the same"
    ),
    Regression(
        6200291,
        5,
        FAULTS,
        "I4, wrongly: whoever removed a node hung up and asked again, and it came back while the first was on its way",
    ),
    Regression(
        6014373,
        2,
        FAULTS,
        "I3: what a killed daemon had sent came after the next boot of it was heard, which was taken for its twin",
    ),
    Regression(
        6008740,
        2,
        FAULTS,
        "I9, wrongly: a read came before the record that says that the owner was lost while it told a node",
    ),
)
