"""The definition of `rqdisco leader`. As in `commands`, implementations are imported only when a
command needs them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from rqdisco.cli.command_classes import CommandGroup
from rqdisco.cli.options import cas_option, example, format_option, id_argument, yes_option
from rqdisco.cli.parameter_types import TEXT

if TYPE_CHECKING:
    from rqdisco.cli.app import Command


@click.group(cls=CommandGroup, epilog=example("rqdisco leader show orders"))
def leader() -> None:
    """Manage the leader key of rqlite 7 and later."""


@leader.command(name="show", epilog=example("rqdisco leader show orders"))
@id_argument
@format_option
def show_leader(discovery_id: str, as_json: bool) -> Command:
    """Show the leader key of ID."""
    from rqdisco.cli import leader

    return partial(leader.show, discovery_id=discovery_id, as_json=as_json)


@leader.command(
    name="set",
    epilog=example("rqdisco leader set orders --id n1 --api-addr http://10.0.0.1:4001 --addr 10.0.0.1:4002"),
)
@id_argument
@click.option("--id", "node_id", required=True, type=TEXT, metavar="N", help="Node ID.")
@click.option("--api-addr", required=True, type=TEXT, metavar="URL", help="HTTP address, with http:// or https://.")
@click.option("--addr", required=True, type=TEXT, metavar="ADDR", help="Raft address.")
@cas_option("only if there is no key")
def set_leader(discovery_id: str, node_id: str, api_addr: str, addr: str, cas: int | None) -> Command:
    """Set the leader key of ID, which nodes that join are sent to."""
    if not api_addr.startswith(("http://", "https://")):
        raise click.BadParameter("must start with http:// or https://", param_hint="--api-addr")
    if "://" in addr:
        raise click.BadParameter("must be HOST:PORT", param_hint="--addr")
    from rqdisco.cli import leader
    from rqdisco.client import LeaderValue

    value = LeaderValue(id=node_id, api_addr=api_addr, addr=addr)
    return partial(leader.set_record, discovery_id=discovery_id, value=value, cas=cas)


@leader.command(name="clear", epilog=example("rqdisco leader clear orders --yes"))
@id_argument
@cas_option("only if there is neither a key nor a claim")
@yes_option("Confirm that all nodes, or the one that claimed to lead, are stopped.")
def clear_leader(discovery_id: str, cas: int | None, yes: bool) -> Command:
    """Delete the leader key of ID, or end an unreported claim.

    Stop all nodes of ID first. To end a claim, stop the node that claimed to lead for good, or wipe
    its data directory; the daemon's log names it.
    """
    from rqdisco.cli import leader

    return partial(leader.clear, discovery_id=discovery_id, cas=cas, yes=yes)
