"""The definition of the commands about this machine, which ask no service: `config` and
`systemd`. As in `commands`, implementations are imported only when a command needs them.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from rqdisco.cli.command_classes import LocalGroup
from rqdisco.cli.options import example, format_option
from rqdisco.cli.parameter_types import FilePath
from rqdisco.cli.static_output import StaticOutput


@click.group(cls=LocalGroup, epilog=example("rqdisco config check /etc/rqdisco/rqdisco.toml"))
def config() -> None:
    """Check or show the configuration of a daemon."""


@config.command(epilog=example("rqdisco config check /etc/rqdisco/rqdisco.toml"))
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


@config.command(epilog=example("rqdisco config show --format json"))
@click.argument("file", type=FilePath(), metavar="[FILE]", required=False)
@format_option
def show(file: Path | None, as_json: bool) -> StaticOutput:
    """Show the value of each option and where it is from.

    From the environment, the configuration FILE (default: that of RQDISCO_CONFIG), or the default.
    Text has the format of a configuration file.
    """
    from rqdisco.cli import config as commands
    from rqdisco.service.config_file import BadConfigFile

    try:
        return StaticOutput((commands.show_json if as_json else commands.show_text)(file, os.environ))
    except BadConfigFile as error:
        raise click.ClickException("\n".join(error.problems)) from None


@click.group(cls=LocalGroup, epilog=example("rqdisco systemd install --user"))
def systemd() -> None:
    """Run the daemon as a service of systemd."""


@systemd.command(epilog=example("rqdisco systemd install --user", "rqdisco systemd install --system --dry-run"))
@click.option("--user", "scope", flag_value="user", help="For the service manager of your user.")
@click.option("--system", "scope", flag_value="system", help="For the system; as root.")
@click.option("--etcd", is_flag=True, help="The unit of a daemon with its records in etcd.")
@click.option("--dry-run", is_flag=True, help="Print the files instead of writing them.")
@click.option("--force", is_flag=True, help="Replace units that were changed.")
@click.pass_context
def install(ctx: click.Context, scope: str | None, etcd: bool, dry_run: bool, force: bool) -> StaticOutput:
    """Write the units for this installation of rqdisco, and completions for bash, zsh and fish.

    The units run the twistd beside this command. Nothing is started: the command prints how. Change
    units by drop-ins (`systemctl edit`), which stay when the unit is replaced; a unit that differs
    is only replaced with --force.
    """
    from rqdisco.cli import systemd_units as units
    from rqdisco.cli.completion_scripts import completion_script

    if scope not in ("user", "system"):
        raise click.UsageError("choose --user or --system")
    names = units.ETCD_UNITS if etcd else units.UNITS
    kind: units.Scope = "user" if scope == "user" else "system"

    def script(shell: str) -> str:
        return completion_script(ctx.find_root().command, shell)

    try:
        planned = units.plan(kind, units.find_installation(), os.environ, script, names)
        if dry_run:
            return StaticOutput("\n".join(f"# {each.path}\n{each.content}" for each in planned))
        if not force and (changed := units.find_changed(planned)):
            listed = ", ".join(map(str, changed))
            raise click.ClickException(f"{listed}: exists with another content; replace it with --force")
        done = units.write(planned)
        units.cache_plugins()
    except units.CannotInstall as error:
        raise click.ClickException(str(error)) from None
    return StaticOutput("\n".join(done), ("now run:", *(f"    {step}" for step in units.next_steps(kind, names))))
