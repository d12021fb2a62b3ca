"""The definition of `rqdisco backup` and `rqdisco restore`. As in `commands`, implementations are
imported only when a command needs them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rqdisco.cli.command_classes import LeafCommand, LocalCommand
from rqdisco.cli.options import example
from rqdisco.cli.parameter_types import FilePath

if TYPE_CHECKING:
    from rqdisco.cli.app import Command


@click.command(
    cls=LeafCommand,
    epilog=example("rqdisco backup /var/backups/rqdisco.json --url unix:/run/rqdisco/operator.sock"),
)
@click.argument("file", type=FilePath(allow_dash=True), metavar="FILE|-")
def backup(file: Path) -> Command:
    """Back up the daemon to FILE, or to stdout, while it runs.

    FILE has everything that was acknowledged before, as of one moment, with checksums. Only its
    owner can read it: anyone who has an ID can register nodes under it. Needs the operator socket,
    --url unix:/run/rqdisco/operator.sock, or a token with the scope admin. `rqdisco restore` makes a
    state directory from it.
    """
    from rqdisco.cli import backup

    return partial(backup.back_up, path=None if str(file) == "-" else file)


# Without --url, since it sends nothing to a daemon.
@click.command(
    cls=LocalCommand, epilog=example("rqdisco restore /var/backups/rqdisco.json --data-dir /var/lib/rqdisco")
)
@click.argument("file", type=FilePath(), metavar="FILE")
@click.option(
    "--data-dir",
    type=FilePath(dir_okay=True),
    required=True,
    envvar="RQDISCO_DATA_DIR",
    show_envvar=True,
    metavar="DIR",
    help="The state directory to make; it must be empty or not exist.",
)
@click.option(
    "--original-is-gone",
    is_flag=True,
    help="Confirm that the daemon that FILE is from will never run again, and continue as that daemon.",
)
def restore(file: Path, data_dir: Path, original_is_gone: bool) -> Command:
    """Make a state directory from a backup.

    Run it as the user of the daemon, before the daemon is started. With --original-is-gone, or if
    that is confirmed on a terminal, nodes are told to bootstrap under the IDs as before. Otherwise
    the IDs are ownerless: nodes are listed and join, and none is told to bootstrap.
    """
    from rqdisco.cli import backup

    return partial(backup.restore, path=file, directory=data_dir, original_is_gone=original_is_gone)
