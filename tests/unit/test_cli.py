"""What is typed and what comes back: every command on a whole daemon in memory, and no time goes by but the test's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.cli.listing import formatted
from rqdisco.client import Registration
from tests.support.command import URL, Service, Shell
from tests.support.daemon import mint, register, shown

A, B, C = "10.0.0.1:4001", "10.0.0.2:4001", "10.0.0.3:4001"
RAFT_A, RAFT_B = "10.0.0.1:4002", "10.0.0.2:4002"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set where the tests run is not meant for them."""
    monkeypatch.delenv("RQDISCO_URL", raising=False)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def shell(service: Service) -> Shell:
    return Shell(service)


@pytest.fixture
def some_id(service: Service) -> str:
    """An ID with two nodes, of which the first is known in full."""
    discovery_id = mint(service.daemon)
    shell = Shell(service)
    assert shell("register", discovery_id, A, "--raft-addr", RAFT_A, "--node-id", "n1") == 0
    assert shell("register", discovery_id, B) == 0
    return discovery_id


def lead(shell: Shell, discovery_id: str, *more: str) -> int:
    value = ("--id", "n1", "--api-addr", f"http://{A}", "--addr", RAFT_A)
    return shell("leader", "set", discovery_id, *value, *more)


def test_create_prints_an_id_and_nothing_else(service: Service, shell: Shell) -> None:
    assert shell("create") == 0
    (discovery_id,) = shell.lines
    assert shown(service.daemon, discovery_id) == []
    assert shell.said == ""


def test_register_prints_the_list_that_the_node_has_to_act_on(service: Service, shell: Shell) -> None:
    discovery_id = mint(service.daemon)
    assert shell("register", discovery_id, A) == 0
    assert shell.lines == [A]
    assert shell("register", discovery_id, B) == 0
    assert shell.lines == [A, B]


def test_nodes_prints_addresses_in_the_form_that_is_asked_for(shell: Shell, some_id: str) -> None:
    shell("register", some_id, C, "--raft-addr", "10.0.0.3:4002", "--node-id", "n3")
    for arguments, lines in {
        (): [A, B, C],
        ("--http",): [A, B, C],
        ("--raft",): [RAFT_A, "10.0.0.3:4002"],
        ("--format", "join"): [f"{A},{B},{C}"],
        ("--raft", "--format", "join"): [f"{RAFT_A},10.0.0.3:4002"],
        ("--format", "json"): [json.dumps([A, B, C])],
        ("--format", "flags", "--raft"): [f"-join {RAFT_A},10.0.0.3:4002"],
    }.items():
        assert shell("nodes", some_id, *arguments) == 0
        assert shell.lines == lines


def test_nodes_without_a_raft_address_are_left_out_and_named(shell: Shell, some_id: str) -> None:
    assert shell("nodes", some_id, "--raft") == 0
    assert shell.said == f"rqdisco: left out: {B} has no Raft address\n"


@pytest.mark.parametrize("own", [A, f"http://{A}", RAFT_A])
def test_a_node_can_leave_itself_out_by_any_of_its_addresses(shell: Shell, some_id: str, own: str) -> None:
    assert shell("nodes", some_id, "--exclude-self", own) == 0
    assert shell.lines == [B]


def test_an_empty_list_prints_nothing_to_join(service: Service, shell: Shell) -> None:
    discovery_id = mint(service.daemon)
    for form in ("lines", "join", "flags"):
        assert shell("nodes", discovery_id, "--format", form) == 0
        assert shell.lines == []


def test_peers_json_is_what_rqlite_recovers_from_and_refuses_to_guess(shell: Shell, some_id: str) -> None:
    assert shell("nodes", some_id, "--format", "peers.json") == 1
    assert shell.lines == []
    assert f"{B} has no Raft address and node ID" in shell.said
    shell("register", some_id, B, "--raft-addr", RAFT_B, "--node-id", "n2")
    assert shell("nodes", some_id, "--format", "peers.json") == 0
    assert json.loads(shell.out.text) == [
        {"id": "n1", "address": RAFT_A, "non_voter": False},
        {"id": "n2", "address": RAFT_B, "non_voter": False},
    ]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(lambda a: "," not in a))
)
def test_joined_addresses_are_sorted_and_can_be_taken_apart(addrs: list[str]) -> None:
    lines = formatted([Registration(addr=addr) for addr in addrs], "join", raft=False)
    assert [addr for line in lines for addr in line.split(",")] == sorted(addrs)


def test_show_prints_all_that_is_known_with_tabs_between(shell: Shell, some_id: str) -> None:
    assert lead(shell, some_id) == 0
    assert shell("show", some_id) == 0
    assert shell.lines == [f"{A}\t{RAFT_A}\tn1\tleader", f"{B}\t-\t-\t-"]


def test_show_makes_a_table_on_a_terminal(service: Service, some_id: str) -> None:
    terminal = Shell(service, terminal=True)
    assert terminal("show", some_id) == 0
    assert some_id in terminal.lines[0]
    assert "RAFT ADDRESS" in terminal.lines[1]
    assert A in terminal.out.text


def test_no_color_is_honoured(service: Service, some_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Shell(service, terminal=True)
    terminal("show", some_id)
    assert "\x1b[3" not in terminal.out.text


def test_show_says_what_an_empty_list_means(service: Service, shell: Shell) -> None:
    assert shell("show", mint(service.daemon)) == 0
    assert "the next to ask is told that it is alone" in shell.said


def test_remove_prints_who_is_left(shell: Shell, some_id: str) -> None:
    assert shell("remove", some_id, f"http://{A}") == 0
    assert (shell.lines, shell.said) == ([B], "")


def test_removing_what_is_not_listed_is_done_already(shell: Shell, some_id: str) -> None:
    assert shell("remove", some_id, C) == 0
    assert shell.lines == [A, B]
    assert f"{C} is not listed" in shell.said


def test_removing_the_last_node_is_asked_about_on_a_terminal(service: Service, some_id: str) -> None:
    terminal = Shell(service, terminal=True, answers=(False, True))
    assert terminal("remove", some_id, A) == 0
    assert terminal.questions == []
    assert terminal("remove", some_id, B) == 1
    assert shown(service.daemon, some_id) == [B]
    assert terminal("remove", some_id, B) == 0
    assert shown(service.daemon, some_id) == []
    assert all("is told that it is alone" in question for question in terminal.questions)


def test_removing_the_last_node_is_said_where_nobody_can_be_asked_or_needs_to_be(
    service: Service, shell: Shell, some_id: str
) -> None:
    shell("remove", some_id, A)
    assert shell("remove", some_id, B) == 0
    assert "is told that it is alone" in shell.said
    shell("register", some_id, A)
    terminal = Shell(service, terminal=True)
    assert terminal("remove", some_id, A, "--yes") == 0
    assert "is told that it is alone" in terminal.said


def test_reset_takes_an_id_back_to_where_it_was_minted(service: Service, shell: Shell, some_id: str) -> None:
    lead(shell, some_id)
    assert shell("reset", some_id) == 2
    assert "Stop all nodes of the old cluster first" in shell.said
    assert shown(service.daemon, some_id) == [A, B]
    assert shell("reset", some_id, "--yes") == 0
    assert shell.lines == [A, B]
    assert "Stop all nodes" in shell.said
    assert shown(service.daemon, some_id) == []
    assert shell("leader", "show", some_id) == 1
    assert shell("register", some_id, C) == 0
    assert shell.lines == [C]


def test_reset_tells_of_nodes_that_still_run(service: Service, shell: Shell, some_id: str) -> None:
    ask = service.request

    def and_another_registers(method: str, *args: Any, **kwargs: Any) -> Any:
        answer = ask(method, *args, **kwargs)
        if method == "DELETE":
            register(service.daemon, some_id, C)
        return answer

    service.request = and_another_registers  # type: ignore[method-assign]
    assert shell("reset", some_id, "--yes") == 1
    assert f"not all nodes were stopped: {C}" in shell.said


def test_a_leader_can_be_set_shown_compared_and_cleared(shell: Shell, some_id: str) -> None:
    assert shell("leader", "show", some_id) == 1
    assert f"{some_id} has no leader record" in shell.said
    assert lead(shell, some_id, "--cas", "1") == 1
    assert "there is no leader record, its index is 0, not 1" in shell.said
    assert lead(shell, some_id) == 0
    assert shell("leader", "show", some_id) == 0
    ((*known, index, state),) = [line.split("\t") for line in shell.lines]
    assert (known, state) == ([RAFT_A, f"http://{A}", "n1"], "reported")
    assert shell("leader", "clear", some_id) == 2
    assert "stop all nodes" in shell.said
    assert shell("leader", "clear", some_id, "--yes", "--cas", "1") == 1
    assert f"the index is {index}, not 1" in shell.said
    assert shell("leader", "clear", some_id, "--yes", "--cas", index) == 0
    assert "while any is listed nobody is told that it is alone" in shell.said
    assert shell("leader", "clear", some_id, "--yes") == 0
    assert "has no leader record" in shell.said


def test_status_tells_that_the_service_is_there(service: Service, shell: Shell) -> None:
    assert shell("status") == 0
    assert shell.lines == [f"service {URL} is up for 0 s, version 0, 0 IDs"]
    service.away = True
    assert shell("status", "--service") == 3


def test_status_of_an_id_lists_its_nodes_its_leader_and_who_is_not_in_dns(shell: Shell, some_id: str) -> None:
    lead(shell, some_id)
    assert shell("status", some_id, "--service") == 0
    service, first, second, leader, dns, verdict = shell.lines
    assert service.startswith("service ")
    assert first == f"node {A} raft {RAFT_A} id n1 leader"
    assert second == f"node {B}"
    assert leader.startswith(f"leader {RAFT_A} reported itself, index ")
    assert dns == f"dns {B} is not in every answer: it has no Raft address"
    assert verdict == "healthy"


def test_an_unknown_id_is_not_healthy(shell: Shell) -> None:
    assert shell("status", "unknown") == 1
    assert "unknown does not exist" in shell.said


def test_an_id_without_nodes_is_not_healthy(service: Service, shell: Shell) -> None:
    assert shell("status", mint(service.daemon)) == 1
    assert shell.lines == ["unhealthy"]
    assert "no nodes are registered" in shell.said


def test_a_leader_that_claimed_and_never_reported_is_not_healthy(shell: Shell) -> None:
    assert lead(shell, "kv", "--cas", "0") == 0
    assert shell("status", "kv") == 1
    assert f"{RAFT_A} claimed to lead and never reported that it does" in shell.said
    assert lead(shell, "kv") == 0
    assert shell("status", "kv") == 0


@pytest.mark.parametrize(
    ("addrs", "status"),
    [
        (("localhost:4001", "localhost:4003"), 0),
        (("localhost:4001", B), 1),
        (("0.0.0.0:4001",), 1),
        (("opaque",), 0),
    ],
)
def test_an_address_that_others_cannot_reach_is_not_healthy(
    service: Service, shell: Shell, addrs: tuple[str, ...], status: int
) -> None:
    discovery_id = mint(service.daemon)
    for addr in addrs:
        register(service.daemon, discovery_id, addr)
    assert shell("status", discovery_id) == status
    assert ("-http-adv-addr" in shell.said) == bool(status)


def test_watch_prints_what_changes(service: Service, shell: Shell, some_id: str) -> None:
    watching = shell.start("watch", some_id, "--interval", "5")
    assert shell.lines == [f"+ {A}", f"+ {B}"]
    service.advance(5)
    assert shell.lines[2:] == []
    register(service.daemon, some_id, C)
    other = Shell(service)
    lead(other, some_id)
    other("remove", some_id, B)
    service.advance(5)
    assert shell.lines[2:] == [f"+ {C}", f"leader {A}", f"- {B}"]
    other("leader", "clear", some_id, "--yes")
    service.advance(5)
    assert shell.lines[5:] == ["leader -"]
    watching.interrupt()
    assert watching.status == 130


def test_watch_waits_for_a_service_that_is_away_and_says_so_once(service: Service, shell: Shell, some_id: str) -> None:
    watching = shell.start("watch", some_id)
    service.away = True
    service.let_go()
    service.advance(2)
    service.advance(2)
    assert shell.said.count("\n") == 1
    service.away = False
    service.advance(2)
    assert f"{URL} is back" in shell.said
    assert shell.lines == [f"+ {A}", f"+ {B}"]
    watching.interrupt()


def test_watch_hears_of_a_change_when_it_happens(service: Service, shell: Shell, some_id: str) -> None:
    watching = shell.start("watch", some_id, "--interval", "3600")
    register(service.daemon, some_id, C)
    service.advance(0.2)
    assert shell.lines[2:] == [f"+ {C}"]
    watching.interrupt()


def test_watch_looks_now_and_then_where_the_service_is_older_or_has_too_many_watchers(
    service: Service, shell: Shell, some_id: str
) -> None:
    for status, reason in ((404, b"{}"), (503, b'{"error": "too many watchers"}')):
        service.answers["/events"] = status, reason
        watching = shell.start("watch", some_id, "--interval", "5")
        assert shell.lines == [f"+ {each}" for each in shown(service.daemon, some_id)]
        register(service.daemon, some_id, f"10.0.1.{status % 250}:4001")
        service.advance(5)
        assert shell.lines[-1] == f"+ 10.0.1.{status % 250}:4001"
        assert shell.said == ""
        watching.interrupt()


def test_watch_goes_on_after_a_service_that_fell_silent(service: Service, shell: Shell, some_id: str) -> None:
    watching = shell.start("watch", some_id)
    service.deaf = True
    service.advance(45)
    assert "no answer within 45 s; watching on" in shell.said
    service.deaf = False
    service.advance(2)
    assert f"{URL} is back" in shell.said
    watching.interrupt()


def test_watch_ends_where_there_is_nothing_to_watch(shell: Shell) -> None:
    assert shell("watch", "unknown") == 1


def test_a_claim_is_watched_as_such(service: Service, shell: Shell) -> None:
    lead(shell, "kv", "--cas", "0")
    watching = shell.start("watch", "kv")
    assert shell.lines == [f"+ {A}", f"claimed {A}"]
    watching.interrupt()


@pytest.mark.parametrize("command", ["register", "create", "status"])
def test_a_service_that_is_not_there_yet_is_waited_for(service: Service, shell: Shell, command: str) -> None:
    arguments = {"register": ("register", mint(service.daemon), A), "create": ("create",), "status": ("status",)}
    service.away = True
    waiting = shell.start(*arguments[command], "--wait", "60")
    service.advance(20)
    assert waiting.status is None
    assert "trying again for 60 s" in shell.said
    assert shell.said.count("\n") == 1
    service.away = False
    service.advance(8)
    assert waiting.status == 0
    assert len(shell.lines) == 1


def test_waiting_asks_ever_less_often_and_gives_up_in_time(service: Service, shell: Shell) -> None:
    service.away = True
    waiting = shell.start("create", "--wait", "60")
    asked = []
    for _ in range(480):
        service.advance(0.125)
        asked.append(service.asked)
    assert waiting.status == 3
    # Half of 0.25, 0.5, 1, 2, 4 and 8 seconds, then every 4 seconds, and at the very end.
    assert asked[31] == 6
    assert asked[-1] == 21


def test_waiting_is_as_long_as_an_unavailable_service_asks_for(service: Service, shell: Shell) -> None:
    service.daemon.disk.room = 0
    waiting = shell.start("create", "--wait", "60")
    service.advance(5)
    assert service.asked == 1
    service.daemon.disk.room = 1 << 20
    service.advance(0.2)
    assert waiting.status == 0


def test_a_refusal_is_not_waited_on(shell: Shell) -> None:
    assert shell("register", "unknown", A, "--wait", "60") == 1
    assert shell.said == "rqdisco: unknown does not exist; `rqdisco create` mints an ID\n"


def test_ctrl_c_ends_a_wait(service: Service, shell: Shell) -> None:
    service.away = True
    waiting = shell.start("create", "--wait", "60")
    waiting.interrupt()
    assert waiting.status == 130
    assert service.clock.getDelayedCalls() == []


def test_without_wait_an_unreachable_service_is_status_3_at_once(service: Service, shell: Shell) -> None:
    service.away = True
    assert shell("create") == 3
    assert shell.said.startswith(f"rqdisco: cannot reach {URL}: ")


def test_a_pipe_that_nobody_reads_ends_a_command_quietly(service: Service, shell: Shell) -> None:
    watched = mint(service.daemon)
    running = shell.start("watch", watched)
    shell.out.broken = True
    register(service.daemon, watched, A)
    service.advance(2)
    assert (running.status, shell.said) == (141, "")


def test_what_came_from_elsewhere_cannot_move_the_cursor(service: Service, some_id: str) -> None:
    terminal = Shell(service, terminal=True, answers=(False,))
    terminal("remove", some_id, A)
    terminal("remove", some_id, "\x1b[2Jx")
    assert "\x1b" not in terminal.said
