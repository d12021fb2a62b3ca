"""The number of functions that a granted registration enters because it arrives at a daemon
that does not own its ID.

All functions are counted that any of three daemons enters from the call of `Directory.register`
until its answer, those of the replication included; then those of the same registration at the
owner are taken away, one for one. The HTTP between client and daemon is not part of this; that
between the daemons is another figure, without the HTTP server that clients use as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rqdisco.core.records import Node, RegistrationOutcome
from tests.support.daemon import result
from tests.support.entered import entered
from tests.support.gossip import DirectNetwork, GossipDaemon, create_id, settle
from tests.support.sealed_network import SealedNetwork

NAMES = "abc"
HTTP_SERVER = ("http/", "limits/", "telemetry/", "twisted_compat.py")


def granted_at(name: str, network_of: Callable[[Clock], DirectNetwork]) -> Counter[str]:
    """Count the functions that the first registration of an ID enters at a daemon; the first of
    three is the owner.
    """
    clock = Clock()
    network = network_of(clock)
    for each in NAMES:
        GossipDaemon(network, each, [] if each == NAMES[0] else [NAMES[0]])
    settle(clock, 5)
    first, second = (create_id(network.daemons[NAMES[0]]) for _ in range(2))
    settle(clock, 2)
    answers: list[RegistrationOutcome] = []

    def register(discovery_id: str) -> None:
        node = Node(addr="10.0.0.1:4001")
        coroutine = network.daemons[name].directory.register(discovery_id, node, "198.51.100.7")
        answers.append(result(Deferred.fromCoroutine(coroutine)))

    # It makes the connection that the second one uses.
    register(first)
    settle(clock, 2)
    names = entered(partial(register, second))
    assert [answer.bootstrap for answer in answers] == ["granted"] * 2
    return Counter(each for each in names if not each.startswith(HTTP_SERVER))


@pytest.mark.parametrize(
    ("network_of", "most"), [(DirectNetwork, 29), (SealedNetwork, 50)], ids=["messages", "messages and their HTTP"]
)
def test_a_grant_that_arrives_elsewhere_enters_few_functions_beyond_a_local_one(
    network_of: Callable[[Clock], DirectNetwork], most: int
) -> None:
    beyond = granted_at("b", network_of) - granted_at("a", network_of)
    names = [f"{count} {name}" for name, count in beyond.items()]
    assert beyond.total() <= most, "\n".join(["", *names, f"{beyond.total()} functions"])
    # Otherwise the registration did not pass from one daemon to another.
    assert beyond.total() > 0
