"""The command `rqdisco flags`, which contacts no service."""

from __future__ import annotations

import json

import click

from rqdisco.cli.command_classes import LeafCommand
from rqdisco.cli.options import example, format_option, id_argument, service_url
from rqdisco.cli.parameter_types import TEXT
from rqdisco.cli.static_output import StaticOutput
from rqdisco.recipes.flags import DEFAULT_EXPECT, MODES, FlagsRequest, Mode, make_flags, usual_mode
from rqdisco.recipes.parsing import Unsupported
from rqdisco.recipes.quoting import TARGETS, Target, quote_flags


@click.command(
    cls=LeafCommand,
    epilog=example(
        "rqdisco flags orders --rqlite 10 --for systemd",
        "rqdisco flags orders --rqlite 10 --mode dns-srv --dns-zone rqdisco.example.com",
    ),
)
@id_argument
@click.option("--rqlite", "version", required=True, metavar="VERSION", help="Version of rqlited: 8, or 7.21.4.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="Discovery mode.  [default: legacy up to rqlite 6.10, else consul-kv]",
)
@click.option("--for", "target", type=click.Choice(TARGETS), default="shell", show_default=True, help="Quoting.")
@click.option("--dns-zone", type=TEXT, metavar="ZONE", help="DNS zone of the service, in DNS modes.")
@click.option(
    "--expect", type=int, metavar="N", help=f"Nodes that form the cluster, in DNS modes.  [default: {DEFAULT_EXPECT}]"
)
@click.option("--port", type=int, metavar="PORT", help="Port of the nodes in dns mode, if not the default.")
@click.option("--replica", is_flag=True, help="Print the flags of a read replica (non-voter).")
@format_option
@click.pass_context
def flags(
    ctx: click.Context,
    discovery_id: str,
    version: str,
    mode: Mode | None,
    target: Target,
    dns_zone: str | None,
    expect: int | None,
    port: int | None,
    replica: bool,
    as_json: bool,
) -> StaticOutput:
    """Print the flags for rqlited.

    They are quoted for a shell, systemd, Compose or Kubernetes. Advice is on stderr.
    """
    try:
        request = FlagsRequest(
            discovery_id=discovery_id,
            version=version,
            mode=usual_mode(version) if mode is None else mode,
            url=service_url(ctx),
            zone=dns_zone,
            expect=expect,
            port=port,
            replica=replica,
        )
        result = make_flags(request)
    except Unsupported as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        return StaticOutput(json.dumps({"arguments": result.arguments, "notes": result.notes}))
    return StaticOutput(quote_flags(target, result.arguments), result.notes)
