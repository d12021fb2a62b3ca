"""Commands on IDs and their nodes and their output, against a whole daemon in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rqdisco.cli.node_formats import format_nodes
from rqdisco.client import NodeRegistration
from tests.support.command import RAFT_A, RAFT_B, A, B, C, Service, Shell, lead
from tests.support.daemon import create_id, register, shown

OTHER = ("--id", "n2", "--api-addr", f"http://{B}", "--addr", RAFT_B)


def test_create_prints_an_id_and_nothing_else(service: Service, shell: Shell) -> None:
    assert shell("create") == 0
    (discovery_id,) = shell.lines
    assert shown(service.daemon, discovery_id) == []
    assert shell.messages == ""


def test_create_prints_the_name_that_it_was_given_and_refuses_one_that_exists(service: Service, shell: Shell) -> None:
    assert shell("create", "--name", "orders") == 0
    assert (shell.lines, shell.messages) == (["orders"], "")
    assert shown(service.daemon, "orders") == []
    assert shell("create", "--name", "orders") == 1
    assert (shell.lines, shell.messages) == ([], "rqdisco: orders exists already\n")


def test_create_waits_for_a_daemon_that_cannot_create_a_name_yet(service: Service, shell: Shell) -> None:
    service.daemon.fill()
    waiting = shell.start("create", "--name", "orders", "--wait", "60")
    assert not waiting.has_ended
    service.daemon.empty()
    service.advance(10)
    assert (waiting.status, shell.lines) == (0, ["orders"])


@pytest.mark.parametrize("status", [404, 405])
def test_create_says_that_an_earlier_release_cannot_create_names(service: Service, shell: Shell, status: int) -> None:
    service.answers["/orders"] = status, b'{"error": "orders does not exist"}'
    assert shell("create", "--name", "orders") == 1
    assert shell.messages == "rqdisco: this service cannot create IDs of a given name: it is too old\n"


def test_register_prints_the_list_that_the_node_must_act_on(service: Service, shell: Shell) -> None:
    discovery_id = create_id(service.daemon)
    assert shell("register", discovery_id, A) == 0
    assert shell.lines == [A]
    assert shell("register", discovery_id, B) == 0
    assert shell.lines == [A, B]


def test_nodes_prints_addresses_in_the_requested_form(shell: Shell, some_id: str) -> None:
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
    assert shell.messages == f"rqdisco: omitted {B}: it has no Raft address\n"


@pytest.mark.parametrize("own", [A, f"http://{A}", RAFT_A])
def test_a_node_can_leave_itself_out_by_any_of_its_addresses(shell: Shell, some_id: str, own: str) -> None:
    assert shell("nodes", some_id, "--exclude-self", own) == 0
    assert shell.lines == [B]


def test_an_empty_list_prints_nothing_to_join(service: Service, shell: Shell) -> None:
    discovery_id = create_id(service.daemon)
    for form in ("lines", "join", "flags"):
        assert shell("nodes", discovery_id, "--format", form) == 0
        assert shell.lines == []


def test_peers_json_is_what_rqlite_recovers_from_and_is_refused_where_it_would_be_a_guess(
    shell: Shell, some_id: str
) -> None:
    assert shell("nodes", some_id, "--format", "peers.json") == 1
    assert shell.lines == []
    assert f"{B} has no Raft address and node ID" in shell.messages
    shell("register", some_id, B, "--raft-addr", RAFT_B, "--node-id", "n2")
    assert shell("nodes", some_id, "--format", "peers.json") == 0
    assert json.loads(shell.out.text) == [
        {"id": "n1", "address": RAFT_A, "non_voter": False},
        {"id": "n2", "address": RAFT_B, "non_voter": False},
    ]


def test_read_replicas_are_named_for_peers_json_because_the_service_does_not_know_them(
    shell: Shell, some_id: str
) -> None:
    shell("register", some_id, B, "--raft-addr", RAFT_B, "--node-id", "n2")
    shell("register", some_id, C, "--raft-addr", "10.0.0.3:4002", "--node-id", "n3")
    assert shell("nodes", some_id, "--format", "peers.json", "--non-voter", "n3", "--non-voter", "n1") == 0
    assert [(node["id"], node["non_voter"]) for node in json.loads(shell.out.text)] == [
        ("n1", True),
        ("n2", False),
        ("n3", True),
    ]
    assert shell.messages == ""
    assert shell("nodes", some_id, "--format", "peers.json") == 0
    assert "name them with --non-voter" in shell.messages


def test_peers_json_refuses_a_read_replica_that_is_not_listed(shell: Shell, some_id: str) -> None:
    shell("register", some_id, B, "--raft-addr", RAFT_B, "--node-id", "n2")
    assert shell("nodes", some_id, "--format", "peers.json", "--non-voter", "n9") == 1
    assert shell.lines == []
    assert "cannot make peers.json: no node has the node ID n9" in shell.messages


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(lambda a: "," not in a))
)
def test_joined_addresses_are_sorted_and_can_be_split(addrs: list[str]) -> None:
    lines = format_nodes([NodeRegistration(addr=addr) for addr in addrs], "join", raft=False)
    assert [addr for line in lines for addr in line.split(",")] == sorted(addrs)


def test_show_prints_everything_separated_by_tabs(shell: Shell, some_id: str) -> None:
    assert lead(shell, some_id) == 0
    assert shell("show", some_id) == 0
    assert shell.lines == [f"{A}\t{RAFT_A}\tn1\tleader", f"{B}\t-\t-\t-"]


def test_show_prints_a_table_on_a_terminal(service: Service, some_id: str) -> None:
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


def test_show_explains_an_empty_list(service: Service, shell: Shell) -> None:
    assert shell("show", create_id(service.daemon)) == 0
    assert "the next node to register is told to bootstrap" in shell.messages


def test_remove_prints_the_remaining_nodes(shell: Shell, some_id: str) -> None:
    assert shell("remove", some_id, f"http://{A}") == 0
    assert (shell.lines, shell.messages) == ([B], "")


def test_removing_an_unlisted_node_succeeds(shell: Shell, some_id: str) -> None:
    assert shell("remove", some_id, C) == 0
    assert shell.lines == [A, B]
    assert shell.messages == f"rqdisco: {C} was not listed\n"


def test_removing_the_last_node_asks_on_a_terminal(service: Service, some_id: str) -> None:
    terminal = Shell(service, terminal=True, answers=(False, True))
    assert terminal("remove", some_id, A) == 0
    assert terminal.questions == []
    assert terminal("remove", some_id, B) == 1
    assert shown(service.daemon, some_id) == [B]
    assert terminal("remove", some_id, B) == 0
    assert shown(service.daemon, some_id) == []
    assert all("is told to bootstrap" in question for question in terminal.questions)


def test_removing_the_last_node_warns_where_it_does_not_ask(service: Service, shell: Shell, some_id: str) -> None:
    shell("remove", some_id, A)
    assert shell("remove", some_id, B) == 0
    assert "is told to bootstrap" in shell.messages
    shell("register", some_id, A)
    terminal = Shell(service, terminal=True)
    assert terminal("remove", some_id, A, "--yes") == 0
    assert "is told to bootstrap" in terminal.messages


def test_reset_returns_an_id_to_its_state_at_creation(service: Service, shell: Shell, some_id: str) -> None:
    lead(shell, some_id)
    assert shell("reset", some_id) == 2
    assert "Stop all nodes of the old cluster first" in shell.messages
    assert shown(service.daemon, some_id) == [A, B]
    assert shell("reset", some_id, "--yes") == 0
    assert shell.lines == [A, B]
    assert shell.messages == (
        f"rqdisco: {some_id}: removed 2 nodes and the leader key; the next node to register is told to bootstrap\n"
    )
    assert shown(service.daemon, some_id) == []
    assert shell("leader", "show", some_id) == 1
    assert shell("register", some_id, C) == 0
    assert shell.lines == [C]


def test_reset_warns_of_nodes_that_still_run(service: Service, shell: Shell, some_id: str) -> None:
    ask = service.request

    def and_another_registers(method: str, *args: Any, **kwargs: Any) -> Any:
        answer = ask(method, *args, **kwargs)
        if method == "DELETE":
            register(service.daemon, some_id, C)
        return answer

    service.request = and_another_registers  # type: ignore[method-assign]
    assert shell("reset", some_id, "--yes") == 1
    assert f"not all nodes were stopped, registered meanwhile: {C}" in shell.messages


def test_a_leader_can_be_set_shown_compared_and_cleared(shell: Shell, some_id: str) -> None:
    assert shell("leader", "show", some_id) == 1
    assert f"{some_id} has no leader key" in shell.messages
    assert lead(shell, some_id, "--cas", "1") == 1
    assert "there is no leader key, its index is 0, not 1" in shell.messages
    assert lead(shell, some_id, "--cas", "0") == 1
    assert "not set: nodes are registered, and one of them may lead" in shell.messages
    assert lead(shell, some_id) == 0
    assert shell("leader", "show", some_id) == 0
    ((*known, index, state),) = [line.split("\t") for line in shell.lines]
    assert (known, state) == ([RAFT_A, f"http://{A}", "n1"], "reported")
    assert shell("leader", "clear", some_id) == 2
    assert "stop all nodes" in shell.messages
    assert shell("leader", "clear", some_id, "--yes", "--cas", "1") == 1
    assert f"the index is {index}, not 1" in shell.messages
    assert shell("leader", "clear", some_id, "--yes", "--cas", index) == 0
    assert f"{some_id}: removed the leader key ({RAFT_A} led); 2 nodes stay listed, so no node is" in shell.messages
    assert shell("leader", "clear", some_id, "--yes") == 0
    assert "has no leader key" in shell.messages


def test_clearing_ends_a_claim_after_a_warning_about_its_node_and_the_next_one_wins(shell: Shell) -> None:
    assert lead(shell, "kv", "--cas", "0") == 0
    assert shell("leader", "show", "kv") == 1
    assert "kv has no leader key yet: a node claimed to lead at 2026-11-18T11:06:40Z" in shell.messages
    assert shell("show", "kv") == 0
    assert "no nodes are registered, and a node that claimed to lead has not reported yet" in shell.messages
    assert shell("leader", "clear", "kv") == 2
    assert shell.messages.startswith("rqdisco: a node claimed to lead under kv, and the daemon's log names it: stop")
    assert "all nodes of kv" not in shell.messages
    assert shell("leader", "set", "kv", *OTHER, "--cas", "0") == 1
    assert shell.messages.startswith("rqdisco: not set: a node claimed to lead at ")
    assert shell("leader", "clear", "kv", "--yes", "--cas", "1") == 1
    assert "not cleared: there is no leader key" in shell.messages
    assert shell("leader", "clear", "kv", "--yes") == 0
    assert shell.messages == "rqdisco: kv: ended the unreported claim\n"
    assert shell("leader", "set", "kv", *OTHER, "--cas", "0") == 0


def test_reset_ends_a_claim_and_reports_it(shell: Shell) -> None:
    assert lead(shell, "kv", "--cas", "0") == 0
    assert shell("reset", "kv") == 2
    assert "an unreported claim" in shell.messages
    assert shell("reset", "kv", "--yes") == 0
    assert shell.messages == (
        "rqdisco: kv: removed the unreported claim; the next node to register is told to bootstrap\n"
    )
    assert shell("reset", "kv", "--yes") == 0
    assert shell.messages.startswith("rqdisco: kv has nothing to remove: the next node")
    assert shell("leader", "set", "kv", *OTHER, "--cas", "0") == 0


def test_removing_the_node_that_claimed_ends_its_claim(shell: Shell) -> None:
    assert lead(shell, "kv", "--cas", "0") == 0
    assert shell("remove", "kv", A) == 0
    assert f"{A} was not listed; any claim of that node has ended" in shell.messages
    assert shell("leader", "set", "kv", *OTHER, "--cas", "0") == 0


def test_a_closed_pipe_ends_a_command_quietly(service: Service, shell: Shell) -> None:
    watched = create_id(service.daemon)
    running = shell.start("watch", watched)
    shell.out.broken = True
    register(service.daemon, watched, A)
    service.advance(2)
    assert (running.status, shell.messages) == (141, "")


def test_external_text_cannot_move_the_cursor(service: Service, some_id: str) -> None:
    terminal = Shell(service, terminal=True, answers=(False,))
    terminal("remove", some_id, A)
    terminal("remove", some_id, "\x1b[2Jx")
    assert "\x1b" not in terminal.messages
