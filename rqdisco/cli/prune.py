"""The command `rqdisco prune`, which removes nodes that have been down for long."""

from __future__ import annotations

import msgspec

from rqdisco.cli.app import DONE, FAILED, App, CommandFailed, UsageError
from rqdisco.cli.durations import format_duration
from rqdisco.cli.nodes import describe_health
from rqdisco.client import Document, NodeRegistration

_WARNING = "a removed node that still runs stays in its cluster, but new nodes do not join through it any more"


class _Result(msgspec.Struct, kw_only=True):
    """The addresses that were removed, or would be, and those that came up before."""

    disco_id: str
    removed: list[str] = msgspec.field(default_factory=list)
    kept: list[str] = msgspec.field(default_factory=list)
    dry_run: bool


async def prune(app: App, discovery_id: str, down_for: float, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Remove the nodes that the daemon's probes have found down for `down_for` seconds, and print
    them. With `dry_run`, only print them.

    Nothing is removed while no node is up, since then the daemon itself may be cut off. A node
    whose name does not resolve may be up and is not removed.
    """
    document = await app.client.get(discovery_id)
    selected = _select(document, down_for)
    for node in document.registrations:
        if node.unresolved:
            app.output.message(f"kept {node.addr}: it is {describe_health(node)}, so it may be up")
    result = _Result(disco_id=discovery_id, dry_run=dry_run)
    if not selected or dry_run:
        result.removed += [node.addr for node in selected]
        if as_json:
            app.output.document(result)
        else:
            app.output.lines(result.removed)
        return DONE
    if not yes:
        _confirm_removal(app, selected)
    for node in selected:
        # Nodes may have come back up, or gone down, since the confirmation.
        again = _select(await app.client.get(discovery_id), down_for)
        if node.addr not in [each.addr for each in again]:
            app.output.message(f"kept {node.addr}: it is no longer down for that long")
            result.kept.append(node.addr)
            continue
        await app.client.remove(discovery_id, node.addr)
        result.removed.append(node.addr)
        if not as_json:
            app.output.line(node.addr)
    if as_json:
        app.output.document(result)
    return FAILED if result.kept else DONE


def _select(document: Document, down_for: float) -> list[NodeRegistration]:
    """Return the nodes to remove. Raises CommandFailed if the probes do not suffice."""
    nodes = document.registrations
    if nodes and all(describe_health(node) is None for node in nodes):
        raise CommandFailed("the service has probed none of the nodes: it runs without --probe, or has just started")
    down = [node for node in nodes if node.up is False and node.since is not None and node.since >= down_for]
    if down and not any(node.up for node in nodes):
        raise CommandFailed("nothing removed: no node is up, so the service itself may be cut off")
    return down


def _confirm_removal(app: App, selected: list[NodeRegistration]) -> None:
    """Ask for confirmation. Raises UsageError without a terminal, CommandFailed if the user
    declines.
    """
    if app.output.ask is None:
        raise UsageError(f"{_WARNING}; confirm with --yes")
    for node in selected:
        app.output.message(f"{node.addr} is down for {format_duration(node.since or 0.0)}")
    if not app.output.ask(f"Remove {'it' if len(selected) == 1 else f'these {len(selected)}'}? {_WARNING}"):
        raise CommandFailed("not removed")
