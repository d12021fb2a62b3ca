"""The help: commands by task, an example for each, and addresses in one piece on any terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rqdisco.cli.command_classes import TASKS, CommandGroup, LeafCommand, RootCommand
from rqdisco.cli.commands import cli
from tests.support.command import Shell


def commands(group: click.Group = cli, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Return all commands and groups, with the words that name them."""
    for name, command in group.commands.items():
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


ALL = list(commands())
NAMES = [" ".join(words) for words, _ in ALL]


def examples_in(text: str) -> list[list[str]]:
    """Return the command lines at the end of a help, without the program."""
    lines = re.split(r"(?m)^  Examples?:\n", text)[1].splitlines()
    return [shlex.split(line.replace('eval "$(', "").replace(')"', ""))[1:] for line in lines if line.strip()]


def test_every_command_is_listed_under_one_task() -> None:
    listed = [name for names in TASKS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(cli.commands) <= set(listed)


def test_the_help_lists_commands_by_task(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("--help") == 0
    text = capsys.readouterr().out
    places = [text.index(f"{title}:\n") for title in TASKS]
    assert places == sorted(places)
    assert "..." not in text.partition("\n")[2]
    assert text.index("Look:") < text.index("\n  list ") < text.index("Repair:")


def parse(line: list[str]) -> None:
    """Parse a command line, and run nothing."""
    context, command, rest = click.Context(cli), cli.commands[line[0]], line[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        context = click.Context(command, parent=context)
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(line[0], rest, parent=context)


@pytest.mark.parametrize(("words", "command"), ALL, ids=NAMES)
def test_each_command_has_an_example_that_works(
    shell: Shell,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    command: click.Command,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ids.json", "rqdisco.backup"):
        (tmp_path / name).touch()
    assert shell(*words, "--help") == 0
    examples = examples_in(capsys.readouterr().out)
    assert examples
    for line in examples:
        assert tuple(line[: len(words)]) == words
        parse(line)


@pytest.mark.parametrize("columns", [60, 200])
@pytest.mark.parametrize(("words", "command"), [((), cli), *ALL], ids=["rqdisco", *NAMES])
def test_no_address_in_a_help_is_split(
    shell: Shell,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    command: click.Command,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert shell(*words, "--help") == 0
    text = capsys.readouterr().out
    params = command.get_params(click.Context(command))
    source = " ".join(
        [command.help or "", command.epilog or "", *(getattr(each, "help", None) or "" for each in params)]
    )
    urls = re.findall(r"(?:https?://|unix:/)[^\s,)]+", source)
    assert urls or not isinstance(command, (LeafCommand, CommandGroup, RootCommand)) or words[0] == "token"
    for url in urls:
        assert text.count(url) >= source.count(url)
