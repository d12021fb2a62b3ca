"""The definition of the commands about this machine, which ask no service: `config` and
`systemd`. As in `commands`, implementations are imported only when a command needs them.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from rqdisco.cli.options import FilePath
from rqdisco.cli.static_output import StaticOutput


@click.group()
def config() -> None:
    """Check or show the configuration of a daemon."""


@config.command()
@click.argument("file", type=FilePath(), metavar="FILE")
def check(file: Path) -> StaticOutput:
    """Check a configuration file.

    Prints every problem. The exit status is 1 if a daemon would refuse the file. Variables of the
    environment count as they would for the daemon; the files that the options name are not opened.
    """
    from rqdisco.cli import config as commands

    if problems := commands.check(file, os.environ):
        raise click.ClickException("\n".join(problems))
    return StaticOutput(f"{file}: valid")


@config.command()
@click.argument("file", type=FilePath(), metavar="[FILE]", required=False)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="Output format.")
def show(file: Path | None, form: str) -> StaticOutput:
    """Show the value of each option and where it is from.

    From the environment, the configuration FILE (default: that of RQDISCO_CONFIG), or the default.
    Text has the format of a configuration file.
    """
    from rqdisco.cli import config as commands
    from rqdisco.service.config_file import BadConfigFile

    try:
        return StaticOutput((commands.show_json if form == "json" else commands.show_text)(file, os.environ))
    except BadConfigFile as error:
        raise click.ClickException("\n".join(error.problems)) from None
