"""The command line of who operates a daemon: all its records, its peers, its tokens. As `commands`,
it only says what there is to be said; what that does is elsewhere, and is loaded when it is needed.
"""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rqdisco.cli.options import DISCOVERY_ID, TEXT, CommandGroup, File, LeafCommand, sure, token_file
from rqdisco.security.tokens import SCOPES

if TYPE_CHECKING:
    from rqdisco.cli.app import Command


@click.command(cls=LeafCommand)
@click.option("-o", "--output", type=File(dir_okay=False), metavar="FILE", help="Else stdout.")
def export(output: Path | None) -> Command:
    """Write all IDs of the daemon to a file.

    Through its operator socket: --url unix:/run/rqdisco/operator.sock. IDs are secrets: whoever
    knows one can register under it.
    """
    from rqdisco.cli import transfer

    return partial(transfer.export, output=None if str(output) == "-" else output)


@click.command(cls=LeafCommand, name="import")
@click.argument("path", type=File(exists=True, allow_dash=True), metavar="FILE|DIR|-")
@click.option("--adopt", is_flag=True, help="Become the home of IDs that another daemon minted; that one must be gone.")
@click.option("--dry-run", is_flag=True, help="Read and check, send nothing.")
def import_records(path: Path, adopt: bool, dry_run: bool) -> Command:
    """Take in IDs from elsewhere.

    Through the operator socket: --url unix:/run/rqdisco/operator.sock. From an export or snapshot
    of rqdisco, documents of the original service ("created_at", "disco_id", "nodes"), or a
    directory of rqlite-disco-express. Without --adopt, IDs of another daemon stay its own: they are
    served, but never tell a node to bootstrap.
    """
    from rqdisco.cli import transfer

    stdin = BytesIO() if sys.stdin is None else sys.stdin.buffer
    return partial(transfer.import_, path=path, stdin=stdin, adopt=adopt, dry_run=dry_run)


@click.group(cls=CommandGroup, invoke_without_command=True)
@click.pass_context
def peers(ctx: click.Context) -> Command | None:
    """Show the peers of the daemon: state, last contact, changes they lack, and how far their
    clocks are off.

    Through its operator socket: --url unix:/run/rqdisco/operator.sock. Exit status 1 where
    something is amiss.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from rqdisco.cli import peers

    return peers.show


@peers.command()
@click.argument("name", type=TEXT)
@sure("It is lost for good.")
def forget(name: str, sure: bool) -> Command:
    """Forget a peer that is lost for good, and take over its IDs."""
    from rqdisco.cli import peers

    return partial(peers.forget, name=name, sure=sure)


@click.command(cls=LeafCommand)
@click.option("--to", type=TEXT, metavar="NAME", help="The peer that becomes their home. Else any that answers.")
@sure("It is to decide nothing any more.")
def drain(to: str | None, sure: bool) -> Command:
    """Hand all IDs of the daemon to a peer, before it is taken away."""
    from rqdisco.cli import peers

    return partial(peers.drain, to=to, sure=sure)


@click.group(cls=CommandGroup)
def token() -> None:
    """Make, list and revoke tokens, in the file that the daemon is given as --tokens.

    The daemon reads it again at SIGHUP.
    """


@token.command(name="new")
@click.argument("name", type=TEXT)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What its owner may do; repeatable.  [default: read and write]",
)
@click.option("--id", "discovery_id", type=DISCOVERY_ID, metavar="ID", help="Only with this ID.")
@token_file
def new_token(name: str, scopes: tuple[str, ...], discovery_id: str | None, file: Path) -> Command:
    """Make a token, add its digest to the file, and print it.

    It is kept nowhere: what is printed is all there is of it.
    """
    from rqdisco.cli import tokens

    chosen = scopes or ("read", "write")
    return partial(tokens.new, file=file, name=name, scopes=chosen, discovery_id=discovery_id)


@token.command(name="list")
@token_file
def list_tokens(file: Path) -> Command:
    """Print the tokens of the file: name, scopes, and the ID that a token is bound to."""
    from rqdisco.cli import tokens

    return partial(tokens.show, file=file)


@token.command()
@click.argument("name", type=TEXT)
@token_file
def revoke(name: str, file: Path) -> Command:
    """Take a token out of the file."""
    from rqdisco.cli import tokens

    return partial(tokens.revoke, file=file, name=name)
