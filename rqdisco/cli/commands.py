"""The command line: what there is to be said, checked. What it does is elsewhere, loaded when it is
needed.

Each callback returns what is to be run with an `App`, or what to print where no service is needed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click
from click.shell_completion import get_completion_class

from rqdisco import __version__
from rqdisco.cli.listing import FORMS, Form
from rqdisco.cli.operating import drain, export, import_records, peers, token
from rqdisco.cli.options import DISCOVERY_ID, DURATION, TEXT, CommandGroup, RootCommand, cas, sure, the_id, url_of, wait
from rqdisco.cli.screen import NAME
from rqdisco.recipes import DEFAULT_EXPECT, MODES, TARGETS, Impossible, Mode, Target, Wanted, quoted, recipe

if TYPE_CHECKING:
    from rqdisco.cli.app import Command

_COMPLETE = "_RQDISCO_COMPLETE"
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ParsedCommand(NamedTuple):
    """What a command prints that needs no service: text for stdout, and notes for stderr."""

    text: str
    notes: tuple[str, ...] = ()


class Invocation(NamedTuple):
    """A command line that was understood: what to run or to print, None if all is done, and where
    the service is.
    """

    command: Command | ParsedCommand | None
    url: str


def parse_arguments(arguments: list[str]) -> Invocation | int:
    """What the command line asks for, or an exit status where click has answered it.

    Raises click.ClickException, and click.Abort where the user gave up.
    """
    answer: Invocation | int = cli.main(arguments, NAME, _COMPLETE, standalone_mode=False)
    return answer


@click.group(cls=RootCommand, context_settings=_SETTINGS)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """Ask and operate rqdisco, the discovery service for rqlite.

    Results are on stdout, messages on stderr. Exit status: 0 done, 1 refused or not healthy, 2 not
    understood, 3 the service cannot be reached.
    """


@cli.result_callback()
@click.pass_context
def _understood(ctx: click.Context, command: Command | ParsedCommand | None) -> Invocation:
    return Invocation(command, url_of(ctx))


for _command in (drain, export, import_records, peers, token):
    cli.add_command(_command)


@cli.command()
@wait
def create(wait: float) -> Command:
    """Mint a discovery ID and print it."""
    from rqdisco.cli import nodes

    return partial(nodes.create, patience=wait)


@cli.command()
@the_id
@click.argument("addr", type=TEXT)
@click.option("--raft-addr", type=TEXT, metavar="ADDR", help="The node's Raft address.")
@click.option("--node-id", type=TEXT, metavar="N", help="The node's ID.")
@wait
def register(discovery_id: str, addr: str, raft_addr: str | None, node_id: str | None, wait: float) -> Command:
    """Register a node and print the list that it gets.

    For rqlite in DNS modes. rqlite 3.12 to 6.10 registers itself and acts on the list: one node
    gets a list of nobody else, and bootstraps.
    """
    from rqdisco.cli import nodes

    return partial(
        nodes.register, discovery_id=discovery_id, addr=addr, raft_addr=raft_addr, node_id=node_id, patience=wait
    )


@cli.command(name="nodes")
@the_id
@click.option("--raft/--http", default=False, help="Raft addresses, as rqlite 8 and later join by, or HTTP addresses.")
@click.option("--exclude-self", type=TEXT, metavar="ADDR", help="Leave out the node at ADDR, its HTTP or Raft address.")
@click.option("--format", "form", type=click.Choice(FORMS), default="lines", show_default=True)
@click.option(
    "--non-voter",
    "non_voters",
    multiple=True,
    type=TEXT,
    metavar="N",
    help="The node ID of a read replica, for peers.json; repeatable. The service does not know which nodes these are.",
)
def list_nodes(
    discovery_id: str, raft: bool, exclude_self: str | None, form: Form, non_voters: tuple[str, ...]
) -> Command:
    """Print the addresses of the nodes of ID.

    In the order of their first registration. join: h1:4002,h2:4002, sorted; flags: the same behind
    -join; peers.json: what rqlite recovers a cluster from.
    """
    if non_voters and form != "peers.json":
        raise click.UsageError("--non-voter is for --format peers.json")
    from rqdisco.cli import nodes

    return partial(
        nodes.nodes, discovery_id=discovery_id, form=form, own=exclude_self, raft=raft, non_voters=non_voters
    )


@cli.command()
@the_id
def show(discovery_id: str) -> Command:
    """Print all that is known of the nodes of ID."""
    from rqdisco.cli import nodes

    return partial(nodes.show, discovery_id=discovery_id)


@cli.command()
@the_id
@click.argument("addr", type=TEXT)
@sure("Do not ask before the last node is removed.")
def remove(discovery_id: str, addr: str, sure: bool) -> Command:
    """Remove the node at ADDR and print who is left."""
    from rqdisco.cli import nodes

    return partial(nodes.remove, discovery_id=discovery_id, addr=addr, sure=sure)


@cli.command()
@the_id
@click.option(
    "--down-for", required=True, type=DURATION, metavar="TIME", help="How long they have been down: 90s, 15m, 24h, 7d."
)
@click.option("--dry-run", is_flag=True, help="Print which these are, and remove none.")
@sure("Do not ask.")
def prune(discovery_id: str, down_for: float, dry_run: bool, sure: bool) -> Command:
    """Remove the nodes of ID that have been down for long, and print them.

    As the asked daemon has seen it since its own start, if it probes nodes (--probe). Nothing is
    removed while no node is up, and no node whose host name does not resolve.
    """
    from rqdisco.cli import prune

    return partial(prune.prune, discovery_id=discovery_id, down_for=down_for, dry_run=dry_run, sure=sure)


@cli.command()
@the_id
@sure("All nodes of the cluster are stopped.")
def reset(discovery_id: str, sure: bool) -> Command:
    """Let ID seed a new cluster.

    Removes its leader record, a claim that waits for its leader's first report, and all its nodes.
    Stop all nodes of the old cluster first, for good, or wipe their data directories.
    """
    from rqdisco.cli import nodes

    return partial(nodes.reset, discovery_id=discovery_id, sure=sure)


@cli.group(cls=CommandGroup)
def leader() -> None:
    """Show, set and clear the leader record of rqlite 7 and later."""


@leader.command(name="show")
@the_id
def show_leader(discovery_id: str) -> Command:
    """Print the leader record of ID."""
    from rqdisco.cli import leader

    return partial(leader.show, discovery_id=discovery_id)


@leader.command(name="set")
@the_id
@click.option("--id", "node_id", required=True, type=TEXT, metavar="N", help="The node's ID.")
@click.option("--api-addr", required=True, type=TEXT, metavar="URL", help="http:// or https:// and its HTTP address.")
@click.option("--addr", required=True, type=TEXT, metavar="ADDR", help="Its Raft address.")
@cas("if there is none")
def set_leader(discovery_id: str, node_id: str, api_addr: str, addr: str, cas: int | None) -> Command:
    """Set the leader record of ID; who joins is sent there."""
    if not api_addr.startswith(("http://", "https://")):
        raise click.BadParameter("it begins with http:// or https://", param_hint="--api-addr")
    if "://" in addr:
        raise click.BadParameter("it is HOST:PORT", param_hint="--addr")
    from rqdisco.cli import leader
    from rqdisco.client import LeaderValue

    value = LeaderValue(id=node_id, api_addr=api_addr, addr=addr)
    return partial(leader.put, discovery_id=discovery_id, value=value, cas=cas)


@leader.command(name="clear")
@the_id
@cas("only if there is neither a record nor a claim that waits")
@sure("All nodes of the cluster are stopped, or the one that claimed is stopped for good or wiped.")
def clear_leader(discovery_id: str, cas: int | None, sure: bool) -> Command:
    """Delete the leader record of ID, or end a claim that waits for its leader's first report.

    Stop all nodes of ID first. For a claim it is enough to stop that node for good, or wipe its
    data directory: the daemon's log names it.
    """
    from rqdisco.cli import leader

    return partial(leader.clear, discovery_id=discovery_id, cas=cas, sure=sure)


@cli.command()
@the_id
@click.option(
    "--interval", type=click.FloatRange(0.1), default=2, show_default=True, metavar="S", help="Seconds between looks."
)
def watch(discovery_id: str, interval: float) -> Command:
    """Print what changes about ID, until interrupted.

    `+ ADDR` and `- ADDR`: a node was added or removed. `leader ADDR`: it leads; `leader -`: none
    does. `claimed ADDR`: it claimed to lead and has not reported itself; `claimed -`: the same, of
    a node that is not shown yet.
    """
    from rqdisco.cli import watch

    return partial(watch.watch, discovery_id=discovery_id, interval=interval)


@cli.command()
@click.argument("discovery_id", metavar="[ID]", required=False, type=DISCOVERY_ID)
@click.option("--service", is_flag=True, help="The service itself, also where an ID is given.")
@wait
def status(discovery_id: str | None, service: bool, wait: float) -> Command:
    """Print whether the service answers, and how ID is.

    Exit status 1 if ID is not healthy, as far as the service knows.
    """
    from rqdisco.cli import status

    return partial(status.status, discovery_id=discovery_id, patience=wait, service=service)


@cli.command()
@the_id
@click.option("--rqlite", "version", required=True, metavar="VERSION", help="Of rqlited: 8, or 7.21.4.")
@click.option("--mode", type=click.Choice(MODES), required=True)
@click.option("--for", "target", type=click.Choice(TARGETS), default="shell", show_default=True)
@click.option("--dns-zone", type=TEXT, metavar="ZONE", help="The zone that the service answers for, in DNS modes.")
@click.option("--expect", type=int, metavar="N", help=f"Nodes that form the cluster, in DNS modes.  [{DEFAULT_EXPECT}]")
@click.option("--port", type=int, metavar="PORT", help="The nodes' port in dns mode, if not the default.")
@click.option("--replica", is_flag=True, help="For a read replica, a node without a vote.")
@click.pass_context
def flags(
    ctx: click.Context,
    discovery_id: str,
    version: str,
    mode: Mode,
    target: Target,
    dns_zone: str | None,
    expect: int | None,
    port: int | None,
    replica: bool,
) -> ParsedCommand:
    """Print the flags for rqlited, quoted for where they are pasted."""
    wanted = Wanted(
        discovery_id=discovery_id,
        version=version,
        mode=mode,
        url=url_of(ctx),
        zone=dns_zone,
        expect=expect,
        port=port,
        replica=replica,
    )
    try:
        made = recipe(wanted)
    except Impossible as error:
        raise click.UsageError(str(error)) from None
    return ParsedCommand(quoted(target, made.arguments), made.notes)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> ParsedCommand:
    """Print what makes the shell complete commands and options."""
    kind = get_completion_class(shell)
    assert kind is not None
    return ParsedCommand(kind(cli, {}, NAME, _COMPLETE).source())
