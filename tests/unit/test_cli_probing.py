"""Probed nodes in the output of commands, and what prune removes and never removes."""

from __future__ import annotations

import pytest

from rqdisco.cli.durations import format_duration, parse_duration
from tests.support.any_daemon import Probe
from tests.support.command import Service, Shell
from tests.support.daemon import create_id, register, shown

pytestmark = pytest.mark.usefixtures("each_backend")

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
NAMED = "n3.example.org:4001"
HOUR = 3600.0


class World:
    """A service that probes every minute, and its nodes: those in `alive` are up."""

    def __init__(self, *alive: str) -> None:
        self.probe = Probe(interval=60.0)
        for ip in alive:
            self.probe.network.listens(ip)
        self.service = Service(probe=self.probe)
        self.daemon = self.service.daemon
        assert self.daemon.rounds is not None
        self.rounds = self.daemon.rounds
        self.shell = Shell(self.service)

    def start(self, *addrs: str) -> str:
        discovery_id = create_id(self.daemon)
        for addr in addrs:
            register(self.daemon, discovery_id, addr)
        self.rounds.startService()
        return discovery_id

    def advance(self, seconds: float) -> None:
        self.daemon.clock.pump([2.0] * round(seconds / 2))

    def with_answers(self, *answers: bool) -> Shell:
        return Shell(self.service, terminal=True, answers=answers)


def test_prune_removes_nodes_that_are_down_for_that_long_and_prints_them() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A, B)
    world.advance(HOUR)
    register(world.daemon, discovery_id, C)
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=3h", "--yes") == 0
    assert world.shell.lines == []
    assert world.shell("prune", discovery_id, "--down-for=90m", "--yes") == 0
    assert (world.shell.lines, world.shell.messages) == ([A], "")
    assert shown(world.daemon, discovery_id) == [B, C]


def test_a_dry_run_only_prints() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A, B)
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=30m", "--dry-run") == 0
    assert world.shell.lines == [A]
    assert shown(world.daemon, discovery_id) == [A, B]


def test_nothing_is_removed_where_no_node_is_up() -> None:
    world = World()
    discovery_id = world.start(A, B)
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=30m", "--yes") == 1
    assert "no node is up" in world.shell.messages
    assert shown(world.daemon, discovery_id) == [A, B]


def test_nodes_that_are_not_probed_are_no_reason_to_remove_all_that_are() -> None:
    world = World()
    discovery_id = world.start(A, "192.0.2.1:4001")
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=30m", "--yes") == 1
    assert shown(world.daemon, discovery_id) == [A, "192.0.2.1:4001"]


def test_nothing_is_removed_without_probes() -> None:
    service = Service()
    shell, discovery_id = Shell(service), create_id(service.daemon)
    register(service.daemon, discovery_id, A)
    assert shell("prune", discovery_id, "--down-for=30m", "--yes") == 1
    assert "--probe" in shell.messages


def test_a_node_whose_name_does_not_resolve_is_never_removed_and_is_named() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A, B, NAMED)
    world.advance(3 * HOUR)
    for options in (("--dry-run",), ("--yes",), ("--yes",)):
        assert world.shell("prune", discovery_id, "--down-for=1s", *options) == 0
        assert world.shell.messages == f"rqdisco: kept {NAMED}: it is unresolved for 3 h, so it may be up\n"
    assert shown(world.daemon, discovery_id) == [B, NAMED]


def test_a_node_that_was_down_and_no_longer_resolves_is_not_removed_either() -> None:
    world = World("10.0.0.2")
    world.probe.resolver.known["n3.example.org"] = ["10.0.0.3"]
    discovery_id = world.start(B, NAMED)
    world.advance(2 * HOUR)
    assert world.shell("prune", discovery_id, "--down-for=1h", "--dry-run") == 0
    assert world.shell.lines == [NAMED]
    world.probe.resolver.known.clear()
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=1s", "--yes") == 0
    assert shown(world.daemon, discovery_id) == [B, NAMED]


def test_prune_reports_that_no_name_resolves() -> None:
    world = World()
    discovery_id = world.start(NAMED)
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=1s", "--yes") == 0
    assert world.shell.lines == []
    assert f"{NAMED}: it is unresolved" in world.shell.messages


def test_prune_asks_on_a_terminal_and_needs_an_option_elsewhere() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A, B)
    world.advance(HOUR)
    assert world.shell("prune", discovery_id, "--down-for=30m") == 2
    assert "--yes" in world.shell.messages
    assert world.with_answers(False)("prune", discovery_id, "--down-for=30m") == 1
    assert shown(world.daemon, discovery_id) == [A, B]
    assert world.with_answers(True)("prune", discovery_id, "--down-for=30m") == 0
    assert shown(world.daemon, discovery_id) == [B]


def test_a_node_that_returns_during_the_question_is_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A, B)
    world.advance(HOUR)
    shell = world.with_answers()

    def think(_: str) -> bool:
        world.probe.network.listens("10.0.0.1")
        world.advance(HOUR)
        return True

    monkeypatch.setattr(shell, "_ask", think)
    assert shell("prune", discovery_id, "--down-for=30m") == 1
    assert f"kept {A}: it is no longer down" in shell.messages
    assert shown(world.daemon, discovery_id) == [A, B]


@pytest.mark.parametrize("text", ["", "h", "24 h", "1w", "-1h", "1e3", "nan"])
def test_an_invalid_duration_is_a_usage_error(text: str) -> None:
    service = Service()
    assert Shell(service)("prune", create_id(service.daemon), f"--down-for={text}") == 2
    assert service.asked == 0


def test_durations_are_read_and_written_in_common_notation() -> None:
    assert [parse_duration(text) for text in ("90", "90s", "1.5m", "24h", "7d")] == [90, 90, 90, 86400, 604800]
    assert [format_duration(each) for each in (0.4, 119, 120, 7199, 7200, 172799, 172800)] == [
        "0 s",
        "119 s",
        "2 m",
        "120 m",
        "2 h",
        "48 h",
        "2 d",
    ]


def test_nodes_show_and_status_mark_nodes_that_are_down() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A, B)
    world.advance(HOUR)
    assert world.shell("nodes", discovery_id) == 0
    assert (world.shell.lines, world.shell.messages) == ([B, A], f"rqdisco: {A} is down for 60 m (refused)\n")
    assert world.shell("show", discovery_id) == 0
    assert world.shell.lines == [f"{B}\t-\t-\t-\tup for 60 m", f"{A}\t-\t-\t-\tdown for 60 m (refused)"]
    assert world.shell("status", discovery_id) == 1
    assert world.shell.lines[:2] == [f"node {B} up for 60 m", f"node {A} down for 60 m (refused)"]


def test_nodes_show_and_status_mark_unresolved_names_without_judging_by_them() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(NAMED, B)
    world.advance(HOUR)
    assert world.shell("nodes", discovery_id) == 0
    assert (world.shell.lines, world.shell.messages) == ([NAMED, B], f"rqdisco: {NAMED} is unresolved for 60 m\n")
    assert world.shell("show", discovery_id) == 0
    assert world.shell.lines[0] == f"{NAMED}\t-\t-\t-\tunresolved for 60 m"
    assert world.shell("status", discovery_id) == 0
    assert world.shell.lines[0] == f"node {NAMED} unresolved for 60 m"
    assert world.shell.lines[2] == (
        "health unknown: 1 of 2 nodes answers, and a quorum is 2; 1 of 2 nodes does not resolve"
    )


def test_a_cluster_with_nothing_up_or_its_leader_down_is_unhealthy() -> None:
    world = World("10.0.0.2")
    discovery_id = world.start(A)
    world.advance(HOUR)
    assert world.shell("status", discovery_id) == 1
    assert world.shell.lines[1].startswith(f"health waiting: {A} was told to bootstrap at 2026-11-18T")
    leader = ("--id=n1", f"--api-addr=http://{A}", "--addr=10.0.0.1:4002")
    register(world.daemon, discovery_id, B)
    assert world.shell("leader", "set", discovery_id, *leader) == 0
    world.advance(HOUR / 4)
    assert world.shell("status", discovery_id) == 1
    assert world.shell.lines[-2].startswith(f"health waiting: the leader {A} last reported at 2026-11-18T")
    assert world.shell.lines[-2].endswith("does not answer: nodes that join wait for a leader that reports")
