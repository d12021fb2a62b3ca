"""`rqdisco peers` and `rqdisco peers forget` where several daemons had one name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from rqdisco.http.ui.daemon_status import PeersView
from tests.support.disk import ModelDisk
from tests.support.gossip import GossipDaemon, Three, create_id, register, settle, trio
from tests.support.operator import Operator


@pytest.fixture
def three(clock: Clock) -> Three:
    return trio(clock)


def lose(daemon: GossipDaemon, clock: Clock) -> GossipDaemon:
    """Restart a daemon with an empty disk."""
    back = daemon.restart(ModelDisk())
    settle(clock, 5)
    return back


def rows(operator: Operator) -> list[list[str]]:
    """Return name, incarnation and state of each daemon."""
    operator.run("peers")
    return [line.split("\t")[:3] for line in operator.shell.lines]


def test_peers_of_one_name_are_told_apart_by_their_incarnations(three: Three, clock: Clock) -> None:
    _, (a, _b, c) = three
    lost = c.owner
    c = lose(c, clock)
    operator = Operator.of(a, terminal=False)
    assert rows(operator)[2:] == [["c", c.owner[:4], "up"], ["c", lost[:4], "unreachable"]]
    assert operator.said == [f"rqdisco: c ({lost[:4]}) does not answer"]
    view = msgspec.convert(a.report.as_object(), PeersView)
    labels = {each.incarnation: view.label(each) for each in view.peers}
    assert (labels[lost], labels[c.owner]) == (f"c ({lost[:4]})", f"c ({c.owner[:4]})"), "on the pages"


def test_the_one_that_is_lost_is_named_with_what_becomes_of_its_ids_and_then_forgotten(
    three: Three, clock: Clock
) -> None:
    _, (a, _b, c) = three
    lost = c.owner
    for _ in range(12):
        register(c, create_id(c), "n1:1")
    settle(clock, 1)
    c = lose(c, clock)
    operator = Operator.of(a, True)
    preview = operator.preview("c")
    assert (preview["incarnation"], preview["state"], preview["ids"]) == (lost, "silent", 12)
    assert operator.run("peers", "forget", "c") == 0
    silence, consequence, refused, done = operator.said
    assert silence.startswith(f"rqdisco: c ({lost}) has not answered for ")
    assert consequence == "rqdisco: 12 IDs become list-only: nodes join, none is told to bootstrap"
    assert refused == "rqdisco: it is refused if it returns"
    assert operator.shell.questions == [f"Is c ({lost}) lost for good?"]
    assert done == f"rqdisco: forgot c ({lost}); 12 IDs are list-only: nodes join, none is told to bootstrap"
    shown = rows(Operator.of(a, terminal=False))
    assert shown[2:] == [["c", c.owner[:4], "up"], ["c", lost[:4], "forgotten, IDs at a"]]
    (forgotten,) = [each for each in operator.document()["peers"] if each["incarnation"] == lost]
    assert (forgotten["successor"], forgotten["successor_incarnation"]) == ("a", a.owner)


def test_a_lost_daemon_without_ids_is_said_to_have_none(three: Three, clock: Clock) -> None:
    _, (a, _b, c) = three
    lost = c.owner
    lose(c, clock)
    operator = Operator.of(a, True)
    assert operator.run("peers", "forget", "c") == 0
    assert operator.said[1] == "rqdisco: it owns no IDs"
    assert operator.said[-1] == f"rqdisco: forgot c ({lost}); it owned no IDs"


def test_nothing_is_forgotten_without_a_yes(three: Three, clock: Clock) -> None:
    _, (a, _b, c) = three
    lost = c.owner
    lose(c, clock)
    declining = Operator.of(a, False)
    assert declining.run("peers", "forget", "c") == 1
    assert declining.said[-1] == "rqdisco: not forgotten"
    script = Operator.of(a, terminal=False)
    assert script.run("peers", "forget", "c") == 2
    assert script.said[0].startswith(f"rqdisco: c ({lost}) has not answered for ")
    assert script.said[0].endswith("; confirm with --yes")
    assert script.preview("c")["state"] == "silent"
    assert script.run("peers", "forget", lost[:4], "--yes") == 0
    assert script.said == [f"rqdisco: forgot c ({lost}); it owned no IDs"]


def test_where_all_of_one_name_are_silent_the_operator_chooses_the_incarnation(three: Three, clock: Clock) -> None:
    network, (a, _b, c) = three
    lost = c.owner
    c = lose(c, clock)
    network.split("c")
    settle(clock, 3)
    operator = Operator.of(a, True)
    assert operator.run("peers", "forget", "c") == 1
    (refusal,) = operator.said
    assert f"{lost} (unreachable)" in refusal
    assert f"{c.owner} (unreachable)" in refusal
    network.heal()
    settle(clock, 5)
    assert operator.run("peers", "forget", lost) == 0


def test_where_all_of_one_name_answer_none_is_forgotten(clock: Clock, logged_errors: list[Any]) -> None:
    _, (a, _b, c, d) = trio(clock, "abcd")
    d = d.restart(called="c")
    settle(clock, 5)
    operator = Operator.of(a, True)
    assert operator.run("peers", "forget", "c") == 1
    (refusal,) = operator.said
    assert "several daemons called c answer: stop the one that is to go" in refusal
    assert f"{c.owner} (up)" in refusal
    assert f"{d.owner} (up)" in refusal
    logged_errors.clear()


def test_the_beginning_of_an_incarnation_must_name_one_daemon(three: Three, clock: Clock) -> None:
    _, (a, _b, c) = three
    c.stop()
    settle(clock, 5)
    operator = Operator.of(a)
    assert operator.preview(c.owner[:3])["error"] == f"no peer is called {c.owner[:3]}"
    assert operator.preview(a.owner)["error"] == f"no peer is called {a.owner}"
    assert operator.preview(c.owner[:5])["incarnation"] == c.owner
