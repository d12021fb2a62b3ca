"""A foreign service cannot control the terminal of a client, begin a line, or add a cell to one."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from twisted.internet.defer import Deferred

import rqdisco.cli
from rqdisco.cli.app import App, run_with_traceback
from rqdisco.cli.commands import cli
from rqdisco.cli.output import CommandOutput
from tests.support.command import Service, Shell
from tests.support.hostile import NASTY, Hostile, export, record

LEADER = ("--id", "n", "--api-addr", "http://h:1", "--addr", "h:2")
# The command lines of each command; {file} is a file to import, {tokens} one of tokens.
LINES: dict[str, list[str]] = {
    "create": ["create"],
    "register": ["register x a:1"],
    "nodes": ["nodes x", "nodes x --raft", "nodes x --format join", "nodes x --format flags --raft"],
    "list": ["list", "list --format ids", "list --format json --search x --limit 1"],
    "show": ["show x"],
    "remove": ["remove x a:1", "remove x a:1 --yes"],
    "prune": ["prune x --down-for 0s --yes", "prune x --down-for 0s --dry-run", "prune x --down-for 0s"],
    "reset": ["reset x", "reset x --yes"],
    "leader show": ["leader show x"],
    "leader set": [f"leader set x {' '.join(LEADER)}{cas}" for cas in ("", " --cas 0", " --cas 3")],
    "leader clear": ["leader clear x --yes", "leader clear x --yes --cas 3"],
    "watch": ["watch x"],
    "status": ["status", "status x", "status x --service"],
    "flags": ["flags x --rqlite 8 --mode consul-kv --for k8s"],
    "export": ["export", "export -o -"],
    "import": ["import {file}", "import {file} --dry-run"],
    "freeze": ["freeze x", "freeze"],
    "thaw": ["thaw", "thaw --yes"],
    "migrate": [
        "migrate --from http://a:4000 --to http://b:4000",
        "migrate --from http://a:4000 --to http://b:4000 --yes",
    ],
    "etcd restored": ["etcd restored --etcd http://e1:2379"],
    "peers": ["peers"],
    "peers forget": ["peers forget b", "peers forget b --yes"],
    "drain": ["drain --yes"],
    "token new": ["token new n --file {tokens}"],
    "token list": ["token list --file {tokens}"],
    "token revoke": ["token revoke n --file {tokens}"],
    "completion": ["completion bash"],
}


def leaves(group: click.Group, above: str = "") -> Iterator[str]:
    """Return the names of all commands that do something by themselves."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield f"{above}{name}"
            yield from leaves(command, f"{above}{name} ")
        else:
            yield f"{above}{name}"


def typed(line: str, directory: Path) -> list[str]:
    (directory / "file").write_bytes(export(record("one")))
    return line.format(file=directory / "file", tokens=directory / "tokens").split()


def check(shell: Shell) -> None:
    """Assert that both streams have nothing but text on lines of our own."""
    for stream in (shell.out, shell.err):
        text = stream.text
        assert [c for c in text if not c.isprintable() and c not in "\n\t"] == []
        assert not [line for line in text.splitlines() if line.startswith("INJECTED")]
    assert all(question.isprintable() for question in shell.questions)


def test_every_command_is_tested_here() -> None:
    assert sorted(LINES) == sorted(leaves(cli))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    "hostile",
    [
        Hostile(),
        Hostile(up=None),
        Hostile(led=False),
        Hostile(name=NASTY),
        *(Hostile(status) for status in (302, 401, 404, 409, 429, 500, 502, 503)),
    ],
    ids=lambda each: (
        f"{each.status}{'' if each.up else ' unseen'}{'' if each.led else ' claimed'}"
        f"{'' if len(each.name) == 7 else ' named'}"
    ),
)
def test_no_answer_moves_the_cursor_or_begins_a_line(
    hostile: Hostile, terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A terminal without capabilities, so that any escape sequence is not our own.
    monkeypatch.setenv("TERM", "dumb")
    shell = Shell(Service(hostile.resource()), terminal=terminal, answers=(True,) * 99)
    for line in [line for lines in LINES.values() for line in lines]:
        running = shell.start(*typed(line, tmp_path))
        if running.status is None:
            # These ask again after a while.
            assert line.split()[0] in ("watch", "freeze", "thaw", "migrate"), line
            running.interrupt()
        check(shell)


def test_rows_have_exactly_their_cells(tmp_path: Path) -> None:
    shell = Shell(Service(Hostile().resource()))
    for line, cells in {"show x": 5, "leader show x": 5, "peers": 7, "list": 6}.items():
        shell(*line.split())
        assert {len(row.split("\t")) for row in shell.lines} == {cells}


def test_json_stays_json_and_has_the_same_content() -> None:
    shell = Shell(Service(Hostile().resource()))
    assert shell("nodes", "x", "--format", "json") == 0
    assert json.loads(shell.out.text) == [f"{NASTY}1", f"{NASTY}2"]
    check(shell)
    assert shell("nodes", "x", "--format", "peers.json") == 0
    assert json.loads(shell.out.text) == [{"id": NASTY, "address": NASTY, "non_voter": False}] * 2
    check(shell)


def test_an_export_escapes_control_characters_and_can_be_imported(tmp_path: Path) -> None:
    shell = Shell(Service(Hostile().resource()))
    file = tmp_path / "export.json"
    assert shell("export", "-o", str(file)) == 0
    assert shell("export") == 0
    check(shell)
    assert shell.out.text == file.read_text()
    assert [each["nodes"][0]["addr"] for each in json.loads(shell.out.text)["records"]] == [NASTY, NASTY]
    assert shell("import", str(file), "--dry-run") == 0


@pytest.mark.parametrize("raw", [b"\x1b[2J", b"\t", b"\x9b", b"\xc2"])
def test_an_export_with_a_raw_control_character_is_malformed(tmp_path: Path, raw: bytes) -> None:
    hostile = Hostile()
    hostile.export = export(record("one"), b'{"id":"' + raw + b'"}')
    shell = Shell(Service(hostile.resource()))
    assert shell("export") == 3
    assert "the export is incomplete: line 3: " in shell.messages
    assert raw not in shell.out.text.encode()
    assert shell("export", "-o", str(tmp_path / "file")) == 3
    assert not (tmp_path / "file").exists()


def test_an_internal_error_that_repeats_an_answer_moves_no_cursor_either() -> None:
    async def fails(_: App) -> int:
        raise RuntimeError(NASTY)

    out, err = io.StringIO(), io.StringIO()
    app: Any = App(None, "", None, None, None, CommandOutput(out, err), None, None)  # type: ignore[arg-type]
    ended: list[int] = []
    Deferred.fromCoroutine(run_with_traceback(app, fails)).addCallback(ended.append)
    assert ended == [1]
    assert out.getvalue() == ""
    assert "RuntimeError: a\\r\n" in err.getvalue().replace("\\n", "\n")
    assert [c for c in err.getvalue() if not c.isprintable() and c != "\n"] == []


WRITERS = {"print", "pprint", "echo", "secho", "confirm", "prompt", "input", "progressbar", "echo_via_pager"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
LIBRARIES = {"rich", "logging", "warnings"}
# Only `output` writes; `main` constructs it and asks its questions.
MAIN = {"sys.stdout", "sys.stderr", "sys.stdout.flush", "click.confirm"}


def ways_to_write(source: str) -> set[str]:
    """Return the ways in which a module may write to a terminal."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        text = ast.unparse(node)
        if isinstance(node, (ast.Attribute, ast.Name)) and set(text.split(".")) & (WRITERS | STREAMS):
            found.add(text)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & LIBRARIES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module).partition(".")[0]} & LIBRARIES
        elif isinstance(node, ast.Call) and text.endswith(".show()"):
            # The show method of click's errors writes to stderr by default.
            found.add(text)
        elif isinstance(node, ast.Call) and text.startswith("os.write("):
            found.add(text)
    return found


@pytest.mark.parametrize("path", sorted(Path(rqdisco.cli.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_screen_writes_to_the_terminal(path: Path) -> None:
    found = ways_to_write(path.read_text())
    assert found <= MAIN if path.stem == "main" else not found or path.stem == "output"


@pytest.mark.parametrize(
    "line",
    [
        "print(x)",
        "click.echo(x)",
        "echo(x)",
        "sys.stderr.write(x)",
        "stdout.write(x)",
        "sys.stdout.buffer.write(x)",
        "os.write(1, x)",
        "error.show()",
        "from rich.console import Console",
        "import rich",
        "import logging",
    ],
)
def test_each_way_to_write_past_the_screen_is_noticed(line: str) -> None:
    assert ways_to_write(line) - MAIN
