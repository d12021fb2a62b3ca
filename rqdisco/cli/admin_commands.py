"""The definition of the administrative commands: export and import, peers, tokens. As in
`commands`, implementations are imported only when a command needs them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rqdisco.cli.command_classes import CommandGroup, LeafCommand, LocalCommand
from rqdisco.cli.options import F, example, format_option, service_token, token_file_option, yes_option
from rqdisco.cli.parameter_types import DISCOVERY_ID, SERVICE, TEXT, FilePath
from rqdisco.security.tokens import SCOPES

if TYPE_CHECKING:
    from rqdisco.cli.app import Command

_FROM = "The old daemon; repeat it to name every peer."
_TO = "The new daemon; repeat it to name every peer. The first one becomes the owner of the IDs."


@click.command(cls=LeafCommand, epilog=example("rqdisco export -o ids.json --url unix:/run/rqdisco/operator.sock"))
@click.option("-o", "--output", type=FilePath(), metavar="FILE", help="Output file.  [default: stdout]")
def export(output: Path | None) -> Command:
    """Export all IDs of the daemon.

    Needs the operator socket: --url unix:/run/rqdisco/operator.sock. Keep exports secret: anyone
    who has an ID can register nodes under it.
    """
    from rqdisco.cli import transfer

    return partial(transfer.export, output=None if str(output) == "-" else output)


@click.command(
    cls=LeafCommand,
    name="import",
    epilog=example("rqdisco import ids.json --adopt --url unix:/run/rqdisco/operator.sock"),
)
@click.argument(
    "path", type=FilePath(exists=True, dir_okay=True, allow_dash=True), metavar="FILE|DIR|-", required=False
)
@click.option("--adopt", is_flag=True, help="Become the owner of another daemon's IDs; that daemon must be gone.")
@click.option("--dry-run", is_flag=True, help="Check the source without sending anything.")
@format_option
def import_records(path: Path | None, adopt: bool, dry_run: bool, as_json: bool) -> Command:
    """Import IDs.

    Needs the operator socket: --url unix:/run/rqdisco/operator.sock. The source is an rqdisco
    export or snapshot, documents of the original service ("created_at", "disco_id", "nodes"), or a
    directory of rqlite-disco-express; by default it is what is piped in. Without --adopt, another
    daemon's IDs keep their owner: they are served, but no node is told to bootstrap under them.
    """
    from rqdisco.cli import transfer

    if path is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("Missing argument 'FILE|DIR|-'.")
    stdin = BytesIO() if sys.stdin is None else sys.stdin.buffer
    return partial(transfer.import_, path=path or Path("-"), stdin=stdin, adopt=adopt, dry_run=dry_run, as_json=as_json)


@click.command(
    cls=LeafCommand, epilog=example("rqdisco migrate --from unix:/run/old/operator.sock --to https://new:4000")
)
@click.option("--from", "sources", type=SERVICE, multiple=True, required=True, metavar="URL", help=_FROM)
@click.option("--to", "targets", type=SERVICE, multiple=True, required=True, metavar="URL", help=_TO)
@click.option("--abort", is_flag=True, help="Return to the old daemons, unless the new ones have decided anything.")
def migrate(sources: tuple[str, ...], targets: tuple[str, ...], abort: bool) -> Command:
    """Move all IDs from one daemon, or all peers, to another service.

    At no moment do both grant: first the new daemons are frozen, then the old ones, for good; then
    the IDs are copied and compared, and the new daemons thawed. Until then nodes get 503. Run the
    command again after a failure; it continues. Needs the operator sockets, or tokens with the scope
    admin: RQDISCO_FROM_TOKEN for the old daemons, RQDISCO_TO_TOKEN for the new ones.
    """
    from rqdisco.cli import migration
    from rqdisco.cli.participants import Services

    services = Services(
        sources, targets, service_token("FROM_TOKEN", "the old daemons"), service_token("TO_TOKEN", "the new daemons")
    )
    return partial(migration.abort if abort else migration.migrate, services=services)


@click.command(cls=LeafCommand, epilog=example("rqdisco freeze 'moving to other machines'"))
@click.argument("reason", type=TEXT)
def freeze(reason: str) -> Command:
    """Freeze the daemon: it answers lookups, and every change with 503 and REASON.

    Survives restarts; `thaw` ends it. Needs the operator socket.
    """
    from rqdisco.cli import freezing

    return partial(freezing.freeze, reason=reason)


@click.command(cls=LeafCommand, epilog=example("rqdisco thaw --yes"))
@yes_option("Confirm that the IDs are not served by another daemon.")
def thaw(yes: bool) -> Command:
    """Let a frozen daemon change records again.

    Never do this after a migration whose target is in use: both would tell nodes to bootstrap.
    """
    from rqdisco.cli import freezing

    return partial(freezing.thaw, yes=yes)


@click.group(cls=CommandGroup, epilog=example("rqdisco etcd restored --etcd http://10.0.0.1:2379 --yes"))
def etcd() -> None:
    """Manage the store of daemons that run with --etcd."""


def _etcd_option(name: str, metavar: str, help_text: str) -> Callable[[F], F]:
    return click.option(f"--{name}", type=TEXT, metavar=metavar, envvar=f"RQDISCO_{name.upper().replace('-', '_')}",
                        help=help_text)  # fmt: skip


# Without --url, since it sends nothing to a daemon.
@etcd.command(cls=LocalCommand, epilog=example("rqdisco etcd restored --etcd http://10.0.0.1:2379 --yes"))
@click.option("--etcd", "urls", multiple=True, type=TEXT, metavar="URL", envvar="RQDISCO_ETCD", help="Member of etcd.")
@_etcd_option("etcd-prefix", "PREFIX", "Prefix of the keys, as for the daemons.  [default: /rqdisco/]")
@_etcd_option("etcd-user", "NAME", "User name at etcd.")
@_etcd_option("etcd-password-file", "FILE", "File with the password of --etcd-user.")
@_etcd_option("etcd-ca", "FILE", "CA file to verify etcd's certificates.")
@_etcd_option("etcd-cert", "FILE", "Certificate file for connections to etcd.")
@_etcd_option("etcd-key", "FILE", "Key file of --etcd-cert.")
@yes_option("Confirm that all daemons of the store are stopped.")
def restored(urls: tuple[str, ...], yes: bool, **files: str | None) -> Command:
    """Begin a new epoch after etcd was restored from a backup.

    In this order: stop all daemons of the store, restore etcd, run this command, start the daemons.
    What was granted after the backup is not known any more, so nodes are listed and join under the
    IDs of before, but none of these IDs tells a node to bootstrap: create new ones. The options are
    those of the daemons, also in the environment.
    """
    from twisted.python import usage

    from rqdisco.cli import etcd as commands
    from rqdisco.service.etcd_options import etcd_config

    values: dict[str, Any] = {name.replace("_", "-"): value for name, value in files.items()}
    # Options of daemons only.
    values |= {"etcd": urls, "dns": (), "wait-for-etcd": None, "dns-serve-stale": None, "grant-ack": "if-up"}
    if not urls:
        raise click.UsageError("--etcd: at least one member of etcd is needed")
    try:
        config = etcd_config(values)
    except usage.UsageError as error:
        raise click.UsageError(str(error)) from None
    assert config is not None
    return partial(commands.restored, etcd=config, yes=yes)


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    epilog=example(
        "rqdisco peers --url unix:/run/rqdisco/operator.sock",
        "rqdisco peers forget c --url unix:/run/rqdisco/operator.sock",
    ),
)
@format_option
@click.pass_context
def peers(ctx: click.Context, as_json: bool) -> Command | None:
    """List the peers of the daemon, or forget one.

    Prints state, last contact, replication lag and clock offset. Needs the operator socket: --url
    unix:/run/rqdisco/operator.sock. The exit status is 1 if something needs attention.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from rqdisco.cli import peers

    return partial(peers.show, as_json=as_json)


@peers.command(epilog=example("rqdisco peers forget c --url unix:/run/rqdisco/operator.sock"))
@click.argument("name", type=TEXT)
@yes_option("Confirm that the peer is lost for good, without a question.")
@format_option
def forget(name: str, yes: bool, as_json: bool) -> Command:
    """Forget a peer that is lost for good and take over its IDs.

    Of several daemons of one NAME it is the one that does not answer. NAME may also be an
    incarnation, or the 4 or more digits of it that `rqdisco peers` shows. On a terminal the command
    first says which daemon it is and what becomes of its IDs, and asks.
    """
    from rqdisco.cli import peers

    return partial(peers.forget, name=name, yes=yes, as_json=as_json)


@click.command(cls=LeafCommand, epilog=example("rqdisco drain --to b --yes --url unix:/run/rqdisco/operator.sock"))
@click.option("--to", type=TEXT, metavar="NAME", help="Peer that becomes their owner.  [default: any that responds]")
@yes_option("Confirm that the daemon is to be removed.")
@format_option
def drain(to: str | None, yes: bool, as_json: bool) -> Command:
    """Hand all IDs of the daemon over to a peer.

    Do this before removing the daemon. Prints the name of the peer.
    """
    from rqdisco.cli import peers

    return partial(peers.drain, to=to, yes=yes, as_json=as_json)


@click.group(cls=CommandGroup, epilog=example("rqdisco token new ansible --file /etc/rqdisco/tokens"))
def token() -> None:
    """Manage tokens in the file that the daemon reads (--tokens).

    The daemon reloads the file on SIGHUP.
    """


@token.command(
    name="new",
    epilog=example(
        "rqdisco token new ansible --file /etc/rqdisco/tokens",
        "rqdisco token new web-1 --scope read --scope write --id orders --file /etc/rqdisco/tokens",
    ),
)
@click.argument("name", type=TEXT)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="Permission of the token; repeatable.  [default: read and write]",
)
@click.option("--id", "discovery_id", type=DISCOVERY_ID, metavar="ID", help="Restrict the token to this ID.")
@token_file_option
@format_option
def new_token(name: str, scopes: tuple[str, ...], discovery_id: str | None, file: Path, as_json: bool) -> Command:
    """Create a token, add its digest to the file, and print the token.

    The token itself is not stored anywhere and cannot be shown again.
    """
    from rqdisco.cli import tokens

    chosen = scopes or ("read", "write")
    return partial(tokens.new, file=file, name=name, scopes=chosen, discovery_id=discovery_id, as_json=as_json)


@token.command(name="list", epilog=example("rqdisco token list --file /etc/rqdisco/tokens"))
@token_file_option
@format_option
def list_tokens(file: Path, as_json: bool) -> Command:
    """List the tokens: name, scopes, and the ID that a token is restricted to."""
    from rqdisco.cli import tokens

    return partial(tokens.show, file=file, as_json=as_json)


@token.command(epilog=example("rqdisco token revoke ansible --file /etc/rqdisco/tokens"))
@click.argument("name", type=TEXT)
@token_file_option
def revoke(name: str, file: Path) -> Command:
    """Remove a token from the file."""
    from rqdisco.cli import tokens

    return partial(tokens.revoke, file=file, name=name)
