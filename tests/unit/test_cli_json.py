"""`--format json`: one document on stdout, with the API's names, and everything else as before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from rqdisco.cli.commands import cli
from tests.support.command import RAFT_A, A, B, C, Service, Shell, lead
from tests.support.daemon import create_id

# Commands without data for a program: they print nothing, a script, or what is JSON already.
WITHOUT = {"completion", "export", "freeze", "leader clear", "leader set", "migrate", "thaw", "token revoke"}
WITHOUT |= {"etcd restored"}


def forms(group: click.Group, above: str = "") -> Iterator[tuple[str, bool]]:
    """Return the name of each command that does something, and whether it prints JSON."""
    for name, command in group.commands.items():
        has_json = any(each.name in ("as_json", "form") for each in command.params)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield f"{above}{name}", has_json
        if isinstance(command, click.Group):
            yield from forms(command, f"{above}{name} ")


def printed(shell: Shell, *line: str, status: int = 0) -> Any:
    """Return the JSON that a command prints."""
    assert shell(*line, "--format", "json") == status, shell.messages
    assert shell.out.text.endswith("\n")
    return json.loads(shell.out.text)


def test_every_command_that_prints_data_prints_it_as_json() -> None:
    assert {name for name, has_json in forms(cli) if not has_json} == WITHOUT


def test_an_id_and_its_nodes(service: Service, shell: Shell) -> None:
    created = printed(shell, "create", "--name", "orders")
    assert (created["disco_id"], created["nodes"]) == ("orders", [])
    listed = printed(shell, "register", "orders", A, "--raft-addr", RAFT_A, "--node-id", "n1")
    assert (listed["disco_id"], listed["nodes"]) == ("orders", [A])
    printed(shell, "register", "orders", B)
    lead(shell, "orders")
    shown = printed(shell, "show", "orders")
    assert [node["addr"] for node in shown["registrations"]] == [A, B]
    assert (
        shown["registrations"][0] | {"raft_addr": RAFT_A, "node_id": "n1", "leader": True} == shown["registrations"][0]
    )
    assert printed(shell, "leader", "show", "orders") == shown["leader"]
    assert shown["leader"]["addr"] == RAFT_A
    assert printed(shell, "nodes", "orders") == [A, B]
    assert printed(shell, "remove", "orders", B)["nodes"] == [A]
    assert printed(shell, "reset", "orders", "--yes") == {
        "disco_id": "orders",
        "removed": [A],
        "leader_removed": True,
        "claim_ended": False,
        "nodes": [],
    }
    assert shell.messages.startswith("rqdisco: orders: removed 1 node and the leader key; ")


def test_a_status_has_the_answers_of_the_service_and_the_same_exit_status(service: Service, shell: Shell) -> None:
    assert printed(shell, "status")["service"]["name"] == "rqdisco"
    discovery_id = create_id(service.daemon)
    document = printed(shell, "status", discovery_id)
    assert (document["service"], document["cluster"]["health"]["verdict"]) == (None, "forming")
    assert lead(shell, "kv", "--cas", "0") == 0
    service.advance(61)
    assert printed(shell, "status", "kv", status=1)["cluster"]["health"]["verdict"] == "waiting"


def test_flags_are_a_list_of_arguments_and_of_notes(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("flags", "orders", "--rqlite", "8", "--mode", "consul-kv", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["arguments"][:2] == ["-disco-mode=consul-kv", "-disco-key=orders"]
    assert isinstance(document["notes"], list)


def test_watch_prints_an_object_for_each_change(service: Service, shell: Shell, some_id: str) -> None:
    watching = shell.start("watch", some_id, "--format", "json")
    client = service.client()
    for changing in (client.register(some_id, C), client.remove(some_id, B)):
        service.advance(5)
        service.get(changing)
    service.advance(5)
    watching.interrupt()
    assert [json.loads(line) for line in shell.lines] == [
        *({"change": "added", "addr": addr} for addr in (A, B)),
        {"change": "added", "addr": C},
        {"change": "removed", "addr": B},
    ]


def test_tokens(shell: Shell, tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "tokens"))
    created = printed(shell, "token", "new", "web", "--scope", "read", "--id", "orders", *file)
    assert created.pop("token").startswith("rqd_")
    assert created == {"name": "web", "scopes": ["read"], "id": "orders"}
    assert printed(shell, "token", "list", *file) == [created]


def test_an_import_counts(tmp_path: Path) -> None:
    shell = Shell(Service(operator=True))
    source = tmp_path / "documents"
    source.write_text(json.dumps({"created_at": "2017-02-20 01:25:45", "disco_id": "orders", "nodes": [A]}))
    assert printed(shell, "import", str(source), "--dry-run")["count"] == 1
    assert printed(shell, "import", str(source)) == {"imported": 1, "unchanged": 0, "refused": []}


def test_an_error_leaves_stdout_empty_and_is_the_same(shell: Shell) -> None:
    assert shell("show", "unknown", "--format", "json") == 1
    assert (shell.out.text, "unknown does not exist" in shell.messages) == ("", True)


def test_a_list_is_one_array_with_an_id_a_line_however_many_there_are() -> None:
    service = Service(operator=True)
    shell = Shell(service)
    assert printed(shell, "list") == []
    created = sorted(create_id(service.daemon) for _ in range(1001))
    listed = printed(shell, "list")
    assert [each["disco_id"] for each in listed] == created
    assert len(shell.lines) == 1003
    assert listed[0] | {"nodes": 0, "health": "forming", "leader": None} == listed[0]


def test_a_list_is_searched_filtered_and_limited() -> None:
    service = Service(operator=True)
    shell = Shell(service)
    for name in ("orders", "orders-2", "users"):
        assert shell("create", "--name", name) == 0
    assert shell("register", "users", A, "--raft-addr", RAFT_A) == 0
    assert shell("list", "--search", "ORDER", "--format", "ids") == 0
    assert shell.lines == ["orders", "orders-2"]
    assert shell("list", "--search", "0.0.1:4002", "--format", "ids") == 0
    assert shell.lines == ["users"]
    assert shell("list", "--limit", "2", "--format", "ids") == 0
    assert shell.lines == ["orders", "orders-2"]
    assert shell("list", "--health", "forming", "--limit", "1") == 0
    assert shell.lines == ["orders\tforming\t0\t0 s\t-\t-"]
    assert shell("list", "--health", "no quorum") == 0
    assert (shell.lines, shell.messages) == ([], "rqdisco: no IDs match\n")


def test_a_list_that_does_not_end_is_no_list() -> None:
    service = Service(operator=True)
    service.answers["limit=1000"] = 200, b'{"clusters": [], "next": ""}'
    shell = Shell(service)
    assert shell("list") == 3
    assert "not a response from rqdisco: the list does not end" in shell.messages
