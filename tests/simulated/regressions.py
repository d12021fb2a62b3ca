"""Runs that once found a bug, kept as regression tests."""

from __future__ import annotations

from dataclasses import dataclass

from tests.simulated.faults import EXPIRY, FAULTS


@dataclass(frozen=True)
class Regression:
    """A run and the bug it found."""

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
        "I3: a daemon that came back empty was mistaken for its former self, in the session that the refused greeting "
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
        "I4: a refused removal that was repeated arrived after its node had come back",
    ),
    Regression(
        31,
        3,
        ("rollbacks", "partitions"),
        "I4: an owner on an older disk took a hint for an ID that it had yet to recover, and dropped it",
    ),
    Regression(
        80,
        2,
        ("rollbacks", "partitions"),
        "I9: a consistent read was answered from an older disk, before other daemons were reached",
    ),
    Regression(
        261,
        3,
        FAULTS,
        "I4: a daemon could not be drained whose successor had been drained before it had taken over",
    ),
    Regression(
        445,
        3,
        ("rollbacks", "partitions"),
        "I4, I1: an owner on an older disk recovered what the first peer had, in new versions, and overwrote what was "
        "newer at the second",
    ),
    Regression(
        1742,
        3,
        FAULTS,
        "I4: an owner on an older disk, which was full as well, sent its peers old records in place of those the disk "
        "refused to recover, and so overwrote them there",
    ),
    Regression(
        1523,
        3,
        FAULTS,
        "I7, R2: after a power cut a version was issued again that peers had had before the disk",
    ),
    Regression(
        1549,
        3,
        FAULTS,
        "a daemon logged a failure: an older digest arrived while the changes of a newer one were pulled",
    ),
    Regression(
        1700,
        3,
        FAULTS,
        "I4: a successor did not pull what a member held of a lost owner beyond a gap, as 4252",
    ),
    Regression(2076, 3, FAULTS, "I5: most likely as 1700"),
    Regression(
        1467,
        3,
        FAULTS,
        "I4: a daemon was drained that still stored hints for another owner, and nobody took them from it any more",
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
        "I1: an owner on an older disk reached a peer that had its last grant beyond a gap that digests did not cover, "
        "and granted again",
    ),
    Regression(5307, 3, FAULTS, "I4: acknowledged nodes were lost"),
    Regression(127, 3, FAULTS, "I1: as 445"),
    Regression(195, 3, FAULTS, "R8, wrongly: a daemon started just now was expected to know that a copy of it runs"),
    Regression(
        740,
        3,
        FAULTS,
        "R2: an owner killed right after a grant reported it at the next barrier, under the same version, as "
        "answered, where its peers had it as pending",
    ),
    Regression(840, 3, FAULTS, "I6, wrongly: a request was late that had waited in the socket of a stopped daemon"),
    Regression(
        2055,
        3,
        FAULTS,
        "I4, wrongly: only a drained daemon, which nobody uses any more, had what a lost disk had held",
    ),
    Regression(2283, 3, FAULTS, "I5, wrongly: a report of the last moment was on its way to the disk of a peer"),
    Regression(
        856,
        3,
        FAULTS,
        "I4, wrongly: a daemon was lost while it was drained, and its operator did not ask its successor, as advised",
    ),
    Regression(
        24, 2, FAULTS, "R8, wrongly: a copy was expected to be discovered by messages that were lost until right before"
    ),
    Regression(
        1806,
        2,
        FAULTS,
        "I4: a clock was set back after all hints were handed over, and new ones got numbers that the owner had seen",
    ),
    Regression(
        2956, 3, FAULTS, "I4: two lost daemons, declared lost at two others, kept each other from being forgotten"
    ),
    Regression(
        3104, 3, FAULTS, "I4: a drained daemon on an older disk continued to store hints that nobody takes from it"
    ),
    Regression(
        1706,
        3,
        FAULTS,
        "I9, wrongly: only those that had handed over to a successor had what its older disk had lost",
    ),
    Regression(
        138,
        3,
        (*FAULTS, EXPIRY),
        "I5: a peer kept a revoked grant for ever, because the ID was forgotten before the peer received that",
    ),
    Regression(
        482,
        3,
        (*FAULTS, EXPIRY),
        "I5: a peer kept an ID for ever that the successor of its owner forgot before the peer received that",
    ),
    Regression(
        295,
        3,
        (*FAULTS, EXPIRY),
        "P7: an owner on an older disk denied an ID, before other daemons were reached",
    ),
    Regression(
        911001566,
        2,
        FAULTS,
        "R8: an owner decided while nodes that it had answered itself before it was ready were not on its list",
    ),
    Regression(
        910000432,
        3,
        FAULTS,
        "I1: the judge mistook an older, revoked grant to the same address for one that another disk had",
    ),
    Regression(
        330,
        3,
        FAULTS,
        "I3: a node refused after its hint was written got on the list all the same, beside another one, and "
        "neither was granted",
    ),
    Regression(
        50020,
        3,
        FAULTS,
        "I1: an owner granted a node beside one that it had answered itself before it was ready",
    ),
    Regression(50126, 3, FAULTS, "I3: a peer showed a claim whose answer had not left its owner"),
    Regression(
        70311,
        3,
        FAULTS,
        "I4, I5: the successor of a lost daemon, whose disk had been an older one, did not pull what its own cursor "
        "had passed",
    ),
    Regression(4101526, 3, FAULTS, "I9: a node was not removed by a successor that had not rewritten its record yet"),
    Regression(4102124, 3, FAULTS, "I9: a full disk refused a drain that was sent to others all the same"),
    Regression(
        6200291,
        5,
        FAULTS,
        "I4, wrongly: a client hung up and repeated a removal, and the node came back while the first was on its way",
    ),
    Regression(
        6014373,
        2,
        FAULTS,
        "I3: a message of a killed daemon arrived after one of its next boot, which was taken for its duplicate",
    ),
    Regression(
        6008740,
        2,
        FAULTS,
        "I9, wrongly: a read came before the record that marks the loss of the owner during a grant",
    ),
)
