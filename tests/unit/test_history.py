"""The judge of histories accepts what one list, asked one operation at a time, explains, and
nothing else.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.history import Answer, History, Kind
from tests.support.linearizable import Undecided, Verdict, check
from tests.support.one_list import Rules

LOST = None
BASE = ("register n1", 0, 1, "alone"), ("register n2", 2, 3, ["n1", "n2"])


def judged(*events: Any, rules: Rules | None = None, limit: int = 100_000) -> Verdict:
    """Return the verdict on operations, each `(what, from, to, answer)` and "on behalf" or "by the
    owner"; LOST for no answer.
    """
    history = History()
    for what, begun, ended, answer, *where in events:
        kind: Kind
        kind, _, addr = what.partition(" ")
        token = history.begin(addr, kind, addr, begun)
        if ended is LOST:
            history.lose(token)
        else:
            history.end(token, answer, ended, local="on behalf" in where, consistent="by the owner" in where)
    return check(history.operations, rules, limit=limit)


def read(begun: float, *nodes: str) -> tuple[str, float, float, Answer, str]:
    return "read", begun, begun + 0.1, nodes, "by the owner"


def refused(what: str, begun: float) -> tuple[str, float, float, Answer]:
    return what, begun, begun + 0.1, 503


def lost(what: str, begun: float) -> tuple[str, float, None, None]:
    return what, begun, LOST, LOST


def on_behalf(what: str, begun: float, *nodes: str) -> tuple[str, float, float, Answer, str]:
    return what, begun, begun + 0.1, nodes, "on behalf"


LEGAL = {
    "one is alone and all others get it listed": (*BASE, read(4, "n1", "n2")),
    "a list of the caller alone says that it is alone": (("register n1", 0, 1, ["n1"]), read(2, "n1")),
    "who asks at the same time is decided in any order": (
        ("register n1", 0, 3, ["n1", "n2"]),
        ("register n2", 1, 2, "alone"),
    ),
    "a lost answer takes effect at once": (lost("register n1", 0), ("register n2", 1, 2, ["n1", "n2"])),
    "a lost answer takes effect late": (lost("register n1", 0), ("register n2", 1, 2, "alone"), read(9, "n1", "n2")),
    "a lost answer never takes effect": (lost("register n1", 0), ("register n2", 1, 2, "alone"), read(9, "n2")),
    "a lost removal takes effect late": (*BASE, lost("remove n2", 4), read(5, "n1", "n2"), read(6, "n1")),
    "a lost removal empties the list": (
        ("register n1", 0, 1, "alone"),
        lost("remove n1", 2),
        ("register n2", 3, 4, "alone"),
    ),
    "what was refused took effect": (refused("register n1", 0), ("register n2", 1, 2, ["n1", "n2"])),
    "what was refused took effect later": (refused("register n1", 0), read(1), read(2, "n1")),
    "who was granted while it was refused is alone": (
        refused("register n1", 0),
        ("register n2", 1, 2, ["n1", "n2"]),
        ("register n1", 3, 4, "alone"),
    ),
    "what was refused was a hint, and nobody is alone": (
        ("register n1", 0, 1, "alone"),
        refused("register n2", 2),
        ("remove n1", 3, 4, ["n2"]),
        read(5, "n2"),
    ),
    "a list on behalf is an old one": (
        *BASE,
        ("remove n1", 4, 5, ["n2"]),
        on_behalf("register n3", 6, "n1", "n2", "n3"),
        read(7, "n2"),
        read(8, "n2", "n3"),
    ),
    "a hint is spelled as it is listed": (*BASE, on_behalf("register http://n2", 4, "n1", "n2")),
    "a node listed on behalf is added after its forwarded request was, and removed": (
        *BASE,
        on_behalf("register n3", 4, "n1", "n2", "n3"),
        read(5, "n1", "n2", "n3"),
        ("remove n3", 6, 7, ["n1", "n2"]),
        read(8, "n1", "n2", "n3"),
    ),
    "alone again within the window, though others are listed": (*BASE, ("register n1", 29, 29.9, "alone")),
    "not alone after the window": (*BASE, ("register n1", 31.1, 32, ["n1", "n2"])),
    "the window is over, or not, when nobody knows": (*BASE, ("register n1", 29.5, 30.5, ["n1", "n2"])),
    "alone after the window, if nobody else is listed": (
        ("register n1", 0, 1, "alone"),
        ("register n1", 40, 41, "alone"),
        ("register n2", 50, 51, ["n1", "n2"]),
        ("register n1", 60, 61, "alone"),
    ),
    "alone on a list that is empty again": (
        *BASE,
        ("remove n1", 4, 5, ["n2"]),
        ("remove n2", 6, 7, []),
        ("register n2", 8, 9, "alone"),
    ),
    "the last that is left is alone": (
        *BASE,
        ("remove n1", 4, 5, ["n2"]),
        ("register n2", 6, 7, "alone"),
    ),
    "a removal spares what registered since it arrived": (
        ("register n1", 0, 1, "alone"),
        ("remove n1", 2, 9, ["n1"]),
        lost("remove n1", 2.5),
        ("register n1", 3, 4, "alone"),
    ),
    "http:// before an address makes no other node": (
        ("register n1", 0, 1, "alone"),
        ("register http://n1", 2, 3, "alone"),
        ("remove http://n1", 4, 5, []),
    ),
    "a removal of nobody": (*BASE, ("remove n3", 4, 5, ["n1", "n2"])),
    "a claim is won once": (("claim n1", 0, 1, True), ("claim n2", 2, 3, False), ("register n2", 4, 5, ["n1", "n2"])),
    "a claim is lost to a node that is listed": (("register n1", 0, 1, "alone"), ("claim n2", 2, 3, False)),
    "a report closes the window": (*BASE, ("report n1", 4, 5, True), ("register n1", 6, 7, ["n1", "n2"])),
    "a read of a copy says nothing": (*BASE, ("read", 4, 5, [])),
}

ILLEGAL = {
    "two are alone": (("register n1", 0, 1, "alone"), ("register n2", 2, 3, "alone")),
    "two are alone that asked at once": (("register n1", 0, 3, "alone"), ("register n2", 1, 2, "alone")),
    "two are alone, and a removal came too late": (
        ("register n1", 0, 1, "alone"),
        ("register n2", 2, 3, "alone"),
        lost("remove n1", 4),
    ),
    "two are alone, and what was removed was another": (
        *BASE,
        ("remove n2", 4, 5, ["n1"]),
        ("register n3", 6, 7, "alone"),
    ),
    "nobody is alone": (("register n1", 0, 2, ["n1", "n2"]), ("register n2", 1, 3, ["n1", "n2"])),
    "a list forgets an acknowledged node": (*BASE, ("register n3", 4, 5, ["n1", "n3"])),
    "a removed node is listed again": (*BASE, ("remove n2", 4, 5, ["n1"]), read(6, "n1", "n2")),
    "a list has a node that nobody registered": (*BASE, read(4, "n1", "n2", "n3")),
    "a list without its caller": (*BASE, ("register n3", 4, 5, ["n1", "n2"])),
    "a stale consistent read": (*BASE, read(4, "n1")),
    "two reads against real time": (
        ("register n1", 0, 1, "alone"),
        ("register n2", 2, 9, ["n1", "n2"]),
        read(3, "n1", "n2"),
        read(4, "n1"),
    ),
    "two registrations against real time": (
        ("register n1", 0, 1, "alone"),
        ("register n2", 2, 3, ["n1", "n2", "n3"]),
        ("register n3", 4, 5, ["n1", "n2", "n3"]),
    ),
    "a lost answer takes effect before it was asked for": (
        ("register n1", 0, 1, "alone"),
        read(2, "n1", "n2"),
        lost("register n2", 3),
    ),
    "a lost answer takes effect, and then not": (lost("register n1", 0), read(1, "n1"), read(2)),
    "alone again after the window": (*BASE, ("register n1", 31.1, 32, "alone")),
    "not alone again within the window": (*BASE, ("register n1", 4, 5, ["n1", "n2"])),
    "alone again after a report": (*BASE, ("report n1", 4, 5, True), ("register n1", 6, 7, "alone")),
    "alone again after it was removed": (
        *BASE,
        ("remove n1", 4, 5, ["n2"]),
        ("register n1", 6, 7, "alone"),
    ),
    "a removal that removes nothing": (*BASE, ("remove n2", 4, 5, ["n1", "n2"])),
    "a removal spares what registered before it": (
        ("register n1", 0, 1, "alone"),
        ("remove n1", 2, 3, ["n1"]),
        lost("register n1", 4),
    ),
    "alone on behalf": (("register n1", 0, 1, ["n1"], "on behalf"),),
    "a list on behalf without its caller": (*BASE, on_behalf("register n3", 4, "n1", "n2")),
    "a list on behalf of a node that nobody registered": (*BASE, on_behalf("register n3", 4, "n1", "n3", "n4")),
    "a removal on behalf": (*BASE, on_behalf("remove n2", 4, "n1")),
    "a claim won on behalf": (("claim n1", 0, 1, True, "on behalf"),),
    "a hint is added twice": (
        *BASE,
        on_behalf("register n3", 4, "n1", "n2", "n3"),
        read(5, "n1", "n2", "n3"),
        ("remove n3", 6, 7, ["n1", "n2"]),
        read(8, "n1", "n2", "n3"),
        ("remove n3", 9, 10, ["n1", "n2"]),
        read(11, "n1", "n2", "n3"),
    ),
    "two claims are won": (("claim n1", 0, 1, True), ("claim n2", 2, 3, True)),
    "a claim is won against a node that is alone": (("register n1", 0, 1, "alone"), ("claim n2", 2, 3, True)),
    "a claim is lost to nobody": (("claim n1", 0, 1, False),),
}


@pytest.mark.parametrize("operations", LEGAL.values(), ids=LEGAL)
def test_the_checker_accepts(operations: Any) -> None:
    verdict = judged(*operations)
    assert verdict, verdict.text


@pytest.mark.parametrize("operations", ILLEGAL.values(), ids=ILLEGAL)
def test_the_checker_rejects(operations: Any) -> None:
    assert not judged(*operations)


def test_a_refused_request_takes_effect_at_once_or_never_where_nothing_is_forwarded() -> None:
    rules = Rules(late=False)
    late = refused("register n1", 0), read(1), read(2, "n1")
    assert not judged(*late, rules=rules)
    again = ("register n1", 0, 1, "alone"), refused("register n2", 2), ("register n1", 3, 4, "alone")
    assert judged(*again, read(5, "n1", "n2"), rules=rules)
    assert judged(*again, read(5, "n1"), rules=rules)


def test_a_grant_of_unknown_age_may_count_as_an_old_one() -> None:
    after_a_reboot = *BASE, ("register n1", 4, 5, ["n1", "n2"])
    assert judged(*after_a_reboot, rules=Rules(ages_known=False))
    renewed = ("register n1", 0, 1, "alone"), ("register n1", 20, 21, "alone"), ("register n2", 22, 23, ["n1", "n2"])
    assert judged(*renewed, ("register n1", 40, 41, "alone"), rules=Rules(ages_known=False))
    assert not judged(*renewed, ("register n1", 40, 41, "alone"))


def test_a_verdict_names_the_shortest_failing_prefix() -> None:
    verdict = judged(*BASE, read(4, "n1", "n2"), read(5, "n1"), read(6, "n1", "n2"))
    assert [str(each) for each in verdict.misfits] == ["5.000-5.100 : read -> [n1]"]
    assert "which leaves [n1, n2], n1 was told to bootstrap, where none of these fits" in verdict.text
    assert "not [n1, n2]" in verdict.text


def test_hundreds_of_refusals_are_judged_at_once() -> None:
    refusals = [refused(f"register n{number}", time) for number in (1, 2, 3) for time in range(100)]
    assert judged(*refusals, ("register n2", 100, 101, ["n1", "n2"]), read(102, "n1", "n2"), limit=100_000)
    assert not judged(*refusals, ("register n2", 100, 101, "alone"), ("register n1", 102, 103, "alone"), limit=100_000)


def test_a_search_that_takes_too_long_is_reported() -> None:
    with pytest.raises(Undecided):
        judged(*BASE, read(4, "n1", "n2"), limit=2)
