"""The command status: whether the service answers, and whether an ID is well."""

from __future__ import annotations

from rqdisco.cli.app import DONE, REFUSED, App, patiently
from rqdisco.cli.claims import summarize_claim
from rqdisco.cli.nodes import state
from rqdisco.cli.screen import ids_in_words
from rqdisco.cli.verdict import remarks
from rqdisco.client import NodeRegistration


async def status(app: App, discovery_id: str | None, patience: float, *, service: bool) -> int:
    """Print how the service is, or an ID, or both; REFUSED if the ID is not well.

    While the service is away it is waited for, `patience` seconds.
    """
    if service or discovery_id is None:
        info = await patiently(app, app.client.service, patience)
        ids = "" if info.ids is None else f", {ids_in_words(info.ids)}"
        app.screen.line(f"service {app.url} is up for {info.uptime:.0f} s, version {info.version}{ids}")
    if discovery_id is None:
        return DONE
    document = await patiently(app, lambda: app.client.get(discovery_id), patience)
    app.screen.lines([_node_line(node) for node in document.registrations])
    if document.leader is not None:
        state = "reported itself" if document.leader.reported else "claimed, never reported itself"
        app.screen.line(f"leader {document.leader.addr} {state}, index {document.leader.index}")
    elif document.claim is not None:
        app.screen.line(f"claim {summarize_claim(document.claim)}")
    found = remarks(document, app.wall())
    app.screen.lines([remark.text for remark in found if not remark.needs_a_hand])
    problems = [remark.text for remark in found if remark.needs_a_hand]
    for problem in problems:
        app.screen.say(f"{discovery_id}: {problem}")
    app.screen.line("unhealthy" if problems else "healthy")
    return REFUSED if problems else DONE


def _node_line(node: NodeRegistration) -> str:
    known = [("raft", node.raft_addr), ("id", node.node_id)]
    words = ["node", node.addr, *(f"{name} {value}" for name, value in known if value is not None)]
    seen = state(node)
    return " ".join(words + ["leader"] * node.leader + ([] if seen is None else [seen]))
