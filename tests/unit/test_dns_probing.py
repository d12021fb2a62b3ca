"""Probes change answers over DNS: nodes that are down are left out, if there are others to
answer with.
"""

from __future__ import annotations

import pytest

from rqdisco.core.records import Node
from tests.support.any_daemon import Probe
from tests.support.backends import new_daemon
from tests.support.dns import ZONE, Names, answers, is_absent
from tests.support.dns_sockets import Reactor

pytestmark = pytest.mark.usefixtures("each_backend")

RAFT = f"_rqlite-raft._tcp.id.{ZONE}"


class Probed:
    """A name server whose daemon probes for a minute."""

    def __init__(self, *alive: str) -> None:
        self.probe = Probe("10.0.0.0/8", "fd00::/8")
        for ip in alive:
            self.probe.network.listens(ip)
        clock = Reactor()
        self.names = Names(daemon=new_daemon(clock=clock, probe=self.probe))
        self.clock = self.names.daemon.clock

    def add(self, *nodes: Node | str) -> None:
        self.names.add("id", *nodes)
        rounds = self.names.daemon.rounds
        assert rounds is not None
        rounds.startService()
        self.clock.pump([0.25] * 240)

    def ask(self, kind: str, name: str = f"id.{ZONE}") -> list[str]:
        return answers(self.names.ask(name, kind))


def test_nodes_that_are_down_are_left_out() -> None:
    probed = Probed("10.0.0.2", "fd00::1")
    probed.add("10.0.0.1:4001", "10.0.0.2:4001", "[fd00::1]:4001", "[fd00::2]:4001")
    assert probed.ask("A") == ["10.0.0.2"]
    assert probed.ask("AAAA") == ["fd00::1"]
    assert [answer.split()[3] for answer in probed.ask("SRV", RAFT)] == [
        f"n-0a000002.id.{ZONE}.",
        f"n-fd000000000000000000000000000001.id.{ZONE}.",
    ]


def test_all_nodes_are_answered_where_all_are_down() -> None:
    probed = Probed()
    probed.add("10.0.0.1:4001", "10.0.0.2:4001")
    assert probed.ask("A") == ["10.0.0.1", "10.0.0.2"]
    assert len(probed.ask("SRV", RAFT)) == 2


def test_nodes_that_are_down_are_answered_where_none_that_is_up_has_the_requested_type() -> None:
    probed = Probed("10.0.0.2")
    probed.add(Node(addr="[fd00::1]:4001", raft_addr="[fd00::1]:4002"), Node(addr="10.0.0.2:4001"))
    assert probed.ask("AAAA") == ["fd00::1"]
    assert len(probed.ask("SRV", RAFT)) == 1
    assert probed.ask("A") == ["10.0.0.2"]


def test_an_answer_is_empty_only_if_it_would_be_without_probes() -> None:
    probed = Probed()
    probed.add("10.0.0.1:4001")
    assert is_absent(probed.names.ask(f"id.{ZONE}", "AAAA"))


def test_the_name_of_a_node_that_is_down_still_resolves() -> None:
    probed = Probed("10.0.0.2")
    probed.add("10.0.0.1:4001", "10.0.0.2:4001")
    assert probed.ask("A", f"n-0a000001.id.{ZONE}") == ["10.0.0.1"]


def test_nodes_that_are_not_probed_count_as_up() -> None:
    probed = Probed()
    probed.add("10.0.0.1:4001", "192.0.2.1:4001")
    assert probed.ask("A") == ["192.0.2.1"]
