"""The command prune: removes the nodes that have been down for long."""

from __future__ import annotations

from rqdisco.cli.app import DONE, REFUSED, App, Failed, Misused
from rqdisco.cli.durations import format_duration
from rqdisco.cli.nodes import state
from rqdisco.client import Document, NodeRegistration

_MEANS = "a node that is removed and runs after all stays in its cluster, but others are not sent to it any more"


async def prune(app: App, discovery_id: str, down_for: float, *, dry_run: bool, sure: bool) -> int:
    """Print the nodes that the daemon has seen down for `down_for` seconds, and remove them unless
    it is a `dry_run`.

    Never all nodes, and none as long as no other is up: then it may be the daemon that is cut off.
    Never one whose name does not resolve: whether it is down is not known.
    """
    document = await app.client.get(discovery_id)
    found = _pruned(document, down_for)
    for node in document.registrations:
        if node.unresolved:
            app.screen.say(f"{node.addr} is {state(node)}, so it may be up and stays")
    if not found or dry_run:
        app.screen.lines([node.addr for node in found])
        return DONE
    if not sure:
        _ask(app, found)
    status = DONE
    for node in found:
        # It may have come back while we asked, and the others may have gone.
        again = _pruned(await app.client.get(discovery_id), down_for)
        if node.addr not in [each.addr for each in again]:
            app.screen.say(f"{node.addr} is no longer down for that long, it stays")
            status = REFUSED
            continue
        await app.client.remove(discovery_id, node.addr)
        app.screen.line(node.addr)
    return status


def _pruned(document: Document, down_for: float) -> list[NodeRegistration]:
    """The nodes to remove. Raises Failed where it cannot be known."""
    nodes = document.registrations
    if nodes and all(state(node) is None for node in nodes):
        raise Failed("the service has seen none of the nodes: it does not --probe, or not for long enough yet")
    down = [node for node in nodes if node.up is False and node.since is not None and node.since >= down_for]
    if down and not any(node.up for node in nodes):
        raise Failed("no node is up, so it may be the service that is cut off: nothing is removed")
    return down


def _ask(app: App, found: list[NodeRegistration]) -> None:
    """Have somebody say that it is meant. Raises Misused, Failed."""
    if app.screen.ask is None:
        raise Misused(f"{_MEANS}; say --yes if that is meant")
    for node in found:
        app.screen.say(f"{node.addr} is down for {format_duration(node.since or 0.0)}")
    if not app.screen.ask(f"Remove {'it' if len(found) == 1 else f'these {len(found)}'}? {_MEANS}"):
        raise Failed("not removed")
