"""The definition of the command line. Implementations are imported only when a command needs them.

Each callback returns a function to call with an `App`, or the text to print if no service is
needed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from rqdisco import __version__
from rqdisco.cli.admin_commands import drain, etcd, export, freeze, import_records, migrate, peers, thaw, token
from rqdisco.cli.backup_commands import backup, restore
from rqdisco.cli.command_classes import RootCommand
from rqdisco.cli.completion_scripts import SHELLS, VARIABLE, completion_script
from rqdisco.cli.flags_command import flags
from rqdisco.cli.leader_commands import leader
from rqdisco.cli.local_commands import config, systemd
from rqdisco.cli.node_formats import FORMATS, LIST_FORMATS, ListFormat, NodeFormat
from rqdisco.cli.options import (
    ROOT_URL_OPTION,
    example,
    format_option,
    id_argument,
    service_url,
    wait_option,
    yes_option,
)
from rqdisco.cli.output import PROGRAM
from rqdisco.cli.parameter_types import DISCOVERY_ID, DURATION, NEW_NAME, TEXT
from rqdisco.cli.serve_command import ServeArguments, serve
from rqdisco.cli.static_output import StaticOutput
from rqdisco.core.verdicts import Health

if TYPE_CHECKING:
    from rqdisco.cli.app import Command

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Invocation(NamedTuple):
    """A parsed command line: what to run, print or serve, None if there is nothing left to do, and the
    URL of the service.
    """

    command: Command | StaticOutput | ServeArguments | None
    url: str


def parse_arguments(arguments: list[str]) -> Invocation | int:
    """Parse a command line. Return an exit status if click handled it, as for --help.

    Raises click.ClickException, and click.Abort if the user interrupts it.
    """
    result: Invocation | int = cli.main(arguments, PROGRAM, VARIABLE, standalone_mode=False)
    return result


@click.group(cls=RootCommand, context_settings=_SETTINGS)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Query and administer rqdisco, the rqlite cluster discovery service.

    Results go to stdout, messages to stderr. Exit status: 0 success, 1 failed or unhealthy, 2 usage
    error, 3 service unreachable.
    """


cli.params.append(ROOT_URL_OPTION)


@cli.result_callback()
@click.pass_context
def _to_invocation(ctx: click.Context, command: Command | StaticOutput | ServeArguments | None) -> Invocation:
    return Invocation(command, service_url(ctx))


_command: click.Command
for _command in (backup, config, drain, etcd, export, flags, freeze, import_records, leader, migrate):
    cli.add_command(_command)
for _command in (peers, restore, serve, systemd, thaw, token):
    cli.add_command(_command)


@cli.command(epilog=example("rqdisco create --name orders"))
@click.option("--name", type=NEW_NAME, metavar="NAME", help="Create the ID NAME, such as orders.")
@wait_option
@format_option
def create(name: str | None, wait: float, as_json: bool) -> Command:
    """Create a discovery ID and print it.

    Without --name it is a UUID that nobody can guess. A name that exists already is refused. With
    several daemons, all must be up to create a name; any number may be down later.
    """
    from rqdisco.cli import nodes

    return partial(nodes.create, patience=wait, name=name, as_json=as_json)


@cli.command(epilog=example("rqdisco register orders 10.0.0.1:4001 --raft-addr 10.0.0.1:4002 --node-id n1"))
@id_argument
@click.argument("addr", type=TEXT)
@click.option("--raft-addr", type=TEXT, metavar="ADDR", help="Raft address.")
@click.option("--node-id", type=TEXT, metavar="N", help="Node ID.")
@wait_option
@format_option
def register(
    discovery_id: str, addr: str, raft_addr: str | None, node_id: str | None, wait: float, as_json: bool
) -> Command:
    """Register a node and print the list of nodes in the response.

    Use it for rqlite in DNS modes. rqlite 3.12 to 6.10 registers itself and acts on the response:
    the one node whose list holds only itself bootstraps the cluster.
    """
    from rqdisco.cli import nodes

    return partial(
        nodes.register,
        discovery_id=discovery_id,
        addr=addr,
        raft_addr=raft_addr,
        node_id=node_id,
        patience=wait,
        as_json=as_json,
    )


@cli.command(
    name="list", epilog=example("rqdisco list --search 10.0.0.7", "rqdisco list --health 'no quorum' --format ids")
)
@click.option("--search", type=TEXT, metavar="TEXT", help="Only IDs that contain TEXT, or whose nodes' addresses do.")
@click.option("--health", type=click.Choice(tuple(each.value for each in Health)), help="Only IDs of this health.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Print at most N IDs.")
@click.option(
    "--format",
    "form",
    type=click.Choice(LIST_FORMATS),
    default="text",
    show_default=True,
    help="Form of the results on stdout.",
)
def list_clusters(search: str | None, health: str | None, limit: int | None, form: ListFormat) -> Command:
    """List all IDs: health, nodes, age, leader.

    Needs the operator socket, --url unix:/run/rqdisco/operator.sock, or a token with the scope
    admin: whoever knows an ID can register nodes under it.
    """
    from rqdisco.cli import clusters

    return partial(clusters.list_clusters, search=search or "", health=health or "", limit=limit, form=form)


@cli.command(name="nodes", epilog=example("rqdisco nodes orders --raft --format join"))
@id_argument
@click.option(
    "--raft/--http", default=False, help="Print Raft addresses, which rqlite 8 and later join by, or HTTP addresses."
)
@click.option("--exclude-self", type=TEXT, metavar="ADDR", help="Omit the node with this HTTP or Raft address.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="lines", show_default=True)
@click.option(
    "--non-voter",
    "non_voters",
    multiple=True,
    type=TEXT,
    metavar="N",
    help="Node ID of a read replica, for peers.json; repeatable. The service does not store which nodes these are.",
)
def list_nodes(
    discovery_id: str, raft: bool, exclude_self: str | None, form: NodeFormat, non_voters: tuple[str, ...]
) -> Command:
    """List the addresses of the nodes of ID.

    Nodes are listed in the order of their first registration. Formats: join is h1:4002,h2:4002,
    sorted; flags is the same after -join; peers.json is the file that rqlite recovers a cluster
    from.
    """
    if non_voters and form != "peers.json":
        raise click.UsageError("--non-voter requires --format peers.json")
    from rqdisco.cli import nodes

    return partial(
        nodes.nodes, discovery_id=discovery_id, form=form, excluded=exclude_self, raft=raft, non_voters=non_voters
    )


@cli.command(epilog=example("rqdisco show orders"))
@id_argument
@format_option
def show(discovery_id: str, as_json: bool) -> Command:
    """Show details of the nodes of ID."""
    from rqdisco.cli import nodes

    return partial(nodes.show, discovery_id=discovery_id, as_json=as_json)


@cli.command(epilog=example("rqdisco remove orders 10.0.0.1:4001"))
@id_argument
@click.argument("addr", type=TEXT)
@yes_option("Remove the last node without confirmation.")
@format_option
def remove(discovery_id: str, addr: str, yes: bool, as_json: bool) -> Command:
    """Remove the node at ADDR and print the remaining nodes."""
    from rqdisco.cli import nodes

    return partial(nodes.remove, discovery_id=discovery_id, addr=addr, yes=yes, as_json=as_json)


@cli.command(epilog=example("rqdisco prune orders --down-for 24h --dry-run"))
@id_argument
@click.option("--down-for", required=True, type=DURATION, metavar="TIME", help="Minimum time down: 90s, 15m, 24h, 7d.")
@click.option("--dry-run", is_flag=True, help="Print the nodes without removing them.")
@yes_option("Do not ask for confirmation.")
@format_option
def prune(discovery_id: str, down_for: float, dry_run: bool, yes: bool, as_json: bool) -> Command:
    """Remove the nodes of ID that have been down for long.

    Prints the removed nodes. The daemon must probe nodes (--probe), and counts from its own start.
    Nothing is removed while no node is up. Nodes whose host name does not resolve are kept.
    """
    from rqdisco.cli import prune

    return partial(prune.prune, discovery_id=discovery_id, down_for=down_for, dry_run=dry_run, yes=yes, as_json=as_json)


@cli.command(epilog=example("rqdisco reset orders --yes"))
@id_argument
@yes_option("Confirm that all nodes of the cluster are stopped.")
@format_option
def reset(discovery_id: str, yes: bool, as_json: bool) -> Command:
    """Prepare ID for a new cluster.

    Removes the leader key, an unreported claim, and all nodes. Stop all nodes of
    the old cluster first, for good, or wipe their data directories.
    """
    from rqdisco.cli import nodes

    return partial(nodes.reset, discovery_id=discovery_id, yes=yes, as_json=as_json)


@cli.command(epilog=example("rqdisco watch orders"))
@id_argument
@click.option(
    "--interval", type=click.FloatRange(0.1), default=2, show_default=True, metavar="S", help="Seconds between polls."
)
@format_option
def watch(discovery_id: str, interval: float, as_json: bool) -> Command:
    """Print changes to ID until interrupted.

    `+ ADDR` and `- ADDR`: a node was added or removed. `leader ADDR`: the node leads; `leader -`:
    no node leads. `claimed ADDR`: the node claimed to lead and has not reported; `claimed -`: the
    same of a hidden node.
    """
    from rqdisco.cli import watch

    return partial(watch.watch, discovery_id=discovery_id, interval=interval, as_json=as_json)


@cli.command(epilog=example("rqdisco status orders", "rqdisco status --service --wait 120"))
@click.argument("discovery_id", metavar="[ID]", required=False, type=DISCOVERY_ID)
@click.option("--service", is_flag=True, help="Report the service too if an ID is given.")
@wait_option
@format_option
def status(discovery_id: str | None, service: bool, wait: float, as_json: bool) -> Command:
    """Report whether the service responds, and the service's verdict on the cluster under ID.

    The exit status is 1 if an operator has to act: no quorum, waiting, two leaders, ownerless.
    """
    from rqdisco.cli import status

    return partial(status.status, discovery_id=discovery_id, patience=wait, service=service, as_json=as_json)


@cli.command(epilog=example('eval "$(rqdisco completion bash)"'))
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> StaticOutput:
    """Print the completion script for a shell."""
    return StaticOutput(completion_script(cli, shell))
