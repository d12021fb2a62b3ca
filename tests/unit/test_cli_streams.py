"""Output to a terminal or a program of any encoding, and to one that reads nothing more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import A, Service, Shell
from tests.support.daemon import create_id, register, shown

CHINESE = "节点.example:4001"
FRENCH = "é.example:4001"


@pytest.mark.parametrize(
    ("encoding", "first", "second"),
    [
        ("utf-8", CHINESE, FRENCH),
        ("latin-1", r"\u8282\u70b9.example:4001", FRENCH),
        ("ascii", r"\u8282\u70b9.example:4001", r"\xe9.example:4001"),
    ],
)
def test_characters_that_stdout_cannot_encode_are_escaped_and_that_is_reported(
    service: Service, encoding: str, first: str, second: str
) -> None:
    discovery_id = create_id(service.daemon)
    shell = Shell(service, encoding=encoding)
    assert shell("register", discovery_id, CHINESE) == 0
    assert shell.lines == [first]
    is_lossy = f"stdout cannot encode U+8282 in {encoding} and shows an escape instead"
    assert shell.messages == ("" if first == CHINESE else f"rqdisco: {is_lossy}\n")
    assert shell("register", discovery_id, FRENCH) == 0
    assert shell.lines == [first, second]
    assert shell.messages.count("\n") == (first != CHINESE)
    assert shown(service.daemon, discovery_id) == [CHINESE, FRENCH]


@pytest.mark.parametrize("terminal", [False, True])
def test_no_command_fails_because_of_an_encoding(
    service: Service, terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    discovery_id = create_id(service.daemon)
    register(service.daemon, discovery_id, A)
    shell = Shell(service, encoding="ascii", terminal=terminal, answers=(True,) * 9)
    assert shell("register", discovery_id, CHINESE, "--raft-addr", CHINESE, "--node-id", "ñ") == 0
    for line in ("show", "nodes", "nodes --raft", "status", "remove"):
        command, *options = line.split()
        more = [CHINESE] if command == "remove" else options
        assert shell(command, discovery_id, *more) == 0
        assert shell.out.text.isascii()
    assert shell("leader", "show", discovery_id, "--url", f"http://{FRENCH}") == 1
    assert shell("show", "é") == 2


def test_json_loses_nothing_to_an_encoding(service: Service) -> None:
    discovery_id = create_id(service.daemon)
    shell = Shell(service, encoding="ascii")
    shell("register", discovery_id, CHINESE, "--raft-addr", FRENCH, "--node-id", "\U0001f600")
    assert shell("nodes", discovery_id, "--format", "json") == 0
    assert (json.loads(shell.out.text), shell.messages) == ([CHINESE], "")
    assert shell("nodes", discovery_id, "--format", "peers.json") == 0
    assert json.loads(shell.out.text) == [{"id": "\U0001f600", "address": FRENCH, "non_voter": False}]
    operators = Shell(Service(operator=True), encoding="ascii")
    made = create_id(operators.service.daemon)
    register(operators.service.daemon, made, CHINESE)
    assert operators("export") == 0
    assert json.loads(operators.out.text)["records"][0]["nodes"] == [{"addr": CHINESE}]


def test_flags_are_ascii_where_rqlited_takes_escapes(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("flags", "x", "--rqlite", "8", "--mode", "consul-kv", "--url", "http://é:p@h:1") == 0
    line = capsys.readouterr().out
    assert line.isascii()
    config = json.loads(line.partition("-disco-config=")[2].rstrip("'\n"))
    assert config["basic_auth"]["username"] == "é"


def test_a_message_that_cannot_be_written_changes_nothing(service: Service, shell: Shell) -> None:
    service.away = True
    running = shell.start("create", "--wait", "1")
    shell.err.broken = True
    service.away = False
    service.advance(2)
    assert running.status == 0
    assert len(shell.lines) == 1
