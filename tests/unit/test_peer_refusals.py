"""The names of refusals between peers: part of the protocol, whatever the classes are called."""

from __future__ import annotations

import pytest

from rqdisco.backends.gossip.core.calls import outcome_of_refusal, refusal_of
from rqdisco.core.errors import (
    LoopbackConflict,
    NoSuchID,
    NotReady,
    Ownerless,
    RequestRefused,
    StoreUnavailable,
    TooManyIDs,
    TooManyNodes,
    Undecided,
    UnknownCreatedID,
)

REFUSALS: list[tuple[str, RequestRefused | StoreUnavailable]] = [
    ("NoSuchID", NoSuchID("x")),
    ("UnknownCreatedID", UnknownCreatedID("x")),
    ("TooManyNodes", TooManyNodes("x")),
    ("TooManyIDs", TooManyIDs()),
    ("AnotherMachine", LoopbackConflict("localhost:4001 is another machine's")),
    ("Orphaned", Ownerless("x")),
    ("Undecided", Undecided("a reason")),
    ("StoreUnavailable", StoreUnavailable("a reason")),
]


@pytest.mark.parametrize(("name", "refusal"), REFUSALS, ids=[name for name, _ in REFUSALS])
def test_a_refusal_travels_under_a_name_of_the_protocol_and_is_raised_again(
    name: str, refusal: RequestRefused | StoreUnavailable
) -> None:
    outcome = outcome_of_refusal(refusal)
    assert outcome.refusal == name
    raised = refusal_of(outcome, "x")
    assert (type(raised), str(raised)) == (type(refusal), str(refusal))


def test_an_owner_that_is_not_ready_is_undecided_for_its_peers() -> None:
    outcome = outcome_of_refusal(NotReady("not all peers were contacted yet"))
    assert outcome.refusal == "Undecided"
