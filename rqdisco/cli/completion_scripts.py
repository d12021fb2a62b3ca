"""Completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rqdisco.cli.output import PROGRAM

# The variable by which a shell asks the command for completions.
VARIABLE = "_RQDISCO_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def completion_script(command: click.Command, shell: str) -> str:
    """Return the completion script of the root command for one of SHELLS."""
    kind = get_completion_class(shell)
    assert kind is not None
    return kind(command, {}, PROGRAM, VARIABLE).source()
