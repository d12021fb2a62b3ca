"""Colors and widths of terminals: what is down is red, and no address is split across lines."""

from __future__ import annotations

import re

import pytest

from tests.support.any_daemon import Probe
from tests.support.command import Service, Shell
from tests.support.daemon import create_id, register

A = "10.0.0.1:4001"
NAME = f"node-1.{'very-long-name.' * 3}example.com"
RED, GREEN = "\x1b[1;31m", "\x1b[32m"


@pytest.fixture(autouse=True)
def _xterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def probed() -> tuple[Service, str]:
    """Return a service with an ID of which one node is up and one is down."""
    probe = Probe(interval=60.0)
    probe.network.listens("10.0.0.1")
    service = Service(probe=probe, operator=True)
    discovery_id = create_id(service.daemon)
    for addr in (A, "10.0.0.2:4001"):
        register(service.daemon, discovery_id, addr)
    service.daemon.rounds.startService()
    service.daemon.clock.pump([2.0] * 600)
    return service, discovery_id


@pytest.mark.parametrize("command", ["show", "status"])
def test_down_is_red_and_up_is_green_on_a_terminal(probed: tuple[Service, str], command: str) -> None:
    service, discovery_id = probed
    shell = Shell(service, terminal=True)
    shell(command, discovery_id)
    assert re.search(re.escape(RED) + "down for", shell.out.text)
    assert re.search(re.escape(GREEN) + "up for", shell.out.text)


def test_a_list_of_clusters_is_colored_by_their_health(probed: tuple[Service, str]) -> None:
    service, _ = probed
    shell = Shell(service, terminal=True)
    assert shell("list") == 0
    assert f"{RED}no quorum" in shell.out.text


@pytest.mark.parametrize("command", ["show", "status"])
def test_nothing_is_colored_elsewhere_or_where_the_user_wants_no_color(
    probed: tuple[Service, str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    service, discovery_id = probed
    pipe = Shell(service)
    pipe(command, discovery_id)
    assert "\x1b" not in pipe.out.text
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Shell(service, terminal=True)
    terminal(command, discovery_id)
    assert "\x1b[1;31m" not in terminal.out.text
    assert "down for" in terminal.out.text


@pytest.mark.parametrize("columns", [60, 200])
@pytest.mark.parametrize(
    "line", ["show {id}", "leader show {id}", "list", "nodes {id}", "status {id}", "reset {id} --yes"]
)
def test_no_address_is_split_across_lines(monkeypatch: pytest.MonkeyPatch, columns: int, line: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    service = Service(operator=True)
    discovery_id = create_id(service.daemon)
    shell = Shell(service, terminal=True)
    addr, raft = f"{NAME}:4001", f"{NAME}:4002"
    assert shell("register", discovery_id, addr, "--raft-addr", raft, "--node-id", "n1") == 0
    assert shell("leader", "set", discovery_id, "--id", "n1", "--api-addr", f"http://{addr}", "--addr", raft) == 0
    assert shell(*line.format(id=discovery_id).split()) == 0
    assert discovery_id in shell.out.text + shell.err.text or line.startswith(("nodes", "status"))
    assert addr in shell.out.text or raft in shell.out.text
    assert shell.out.text.count(NAME) == "".join(shell.out.text.split()).count(NAME)


def test_a_narrow_terminal_shows_one_line_per_cell_and_a_wide_one_a_table(
    monkeypatch: pytest.MonkeyPatch, service: Service, some_id: str
) -> None:
    shell = Shell(service, terminal=True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    assert shell("show", some_id) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shell.out.text)
    assert max(map(len, plain.splitlines()[1:])) <= 60
    assert re.search(rf"ADDRESS +RAFT ADDRESS .*\n{re.escape(A)} +10.0.0.1:4002 +n1", plain)
    monkeypatch.setenv("COLUMNS", "30")
    assert shell("show", some_id) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shell.out.text)
    assert plain.splitlines()[1:6] == [
        f"ADDRESS       {A}",
        "RAFT ADDRESS  10.0.0.1:4002",
        "NODE ID       n1",
        "LEADER        -",
        "",
    ]
